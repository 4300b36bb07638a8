//! How requests are answered.

use std::time::Duration;

use blockhouse::block::{Cause, Reason, Tier};
use blockhouse::ledger::{SequenceChange, State};
use blockhouse::role::Roles;
use tokio::time::Instant;

use crate::house::{House, settings, until, with};

const LAST: i64 = 1_000_000_000;
const ALLOCATOR: Roles = Roles { allocator: true, hydrator: false };

/// Reads what the ledger knows, as a heartbeat or a look-up would.
async fn learn(house: &House) {
    let facts = house.ledger.facts(None).await.unwrap();
    house.running.process.known.hear_ledger(facts).unwrap();
}

#[test]
fn a_block_is_cut_and_its_rest_is_memory() {
    with(settings(), Roles::ALL, LAST, async |house| {
        house.until_pods_hold(300).await;
        let (first, tier) = house.take(0, 4).await.unwrap();
        assert_eq!((first.len(), tier), (1, Tier::Pods));
        let (second, tier) = house.take(0, 6).await.unwrap();
        assert_eq!((second[0].first(), tier), (first[0].last() + 1, Tier::Memory));
        let (_, tier) = house.take(0, 25).await.unwrap();
        assert_eq!(tier, Tier::Pods);
        house.assert_unique();
    });
}

#[test]
fn many_callers_at_once_share_pops_and_get_ids_of_their_own() {
    with(settings(), Roles::ALL, LAST, async |house| {
        house.until_pods_hold(300).await;
        let calls = (0..200).map(|n| house.take(n % 2, 1 + n as u32 % 13));
        for answer in futures_util::future::join_all(calls).await {
            answer.unwrap();
        }
        house.assert_unique();
    });
}

#[test]
fn without_pods_one_grant_serves_many_callers_and_the_reserve() {
    let mut alone = settings();
    alone.redis.pods.clear();
    with(alone, ALLOCATOR, LAST, async |house| {
        let calls = (0..50).map(|n| house.take(n % 2, 1));
        let answers = futures_util::future::join_all(calls).await;
        assert!(answers.iter().all(|answer| answer.is_ok()), "{answers:?}");
        assert!(house.granted().await <= 200, "one grant of 100, or one for each worker");
        let (_, tier) = house.take(0, 1).await.unwrap();
        assert_eq!(tier, Tier::Memory);
        house.assert_unique();
    });
}

#[test]
fn a_caller_that_gives_up_loses_nothing() {
    with(settings(), Roles::ALL, LAST, async |house| {
        house.until_pods_hold(300).await;
        let deadline = Instant::now() + Duration::from_secs(2);
        let allocator = &house.running.workers[0].actors.allocator;
        let unissued = allocator.allocate("tasks", 5, deadline).await.unwrap();
        drop(unissued);
        let (spans, tier) = house.take(0, 10).await.unwrap();
        assert_eq!((spans.len(), tier), (1, Tier::Memory), "what went back is there for the next caller");
        assert_eq!(house.discarded(), 0);
        let waiting = |part: &std::sync::Arc<blockhouse::actor::process::Part>| part.queued.len();
        assert_eq!(
            house.running.process.parts().iter().map(waiting).min(),
            Some(0),
            "no message is counted twice"
        );
    });
}

#[test]
fn a_used_up_sequence_gives_the_last_ids_to_who_is_content_with_them() {
    let mut alone = settings();
    alone.redis.pods.clear();
    with(alone, ALLOCATOR, 25, async |house| {
        let refusal = house.take(0, 26).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::SequenceExhausted);
        assert_eq!(house.granted().await, 0, "nothing is taken");
        house.take(0, 20).await.unwrap();
        let refusal = house.take(0, 20).await.unwrap_err();
        assert_eq!((refusal.reason, refusal.retry_after), (Reason::SequenceExhausted, None));
        house.take(0, 5).await.unwrap();
        assert_eq!(house.take(0, 1).await.unwrap_err().reason, Reason::SequenceExhausted);
        house.assert_unique();
        assert_eq!((house.given(), house.discarded()), (25, 0));

        let more = SequenceChange { last: Some(100), ..SequenceChange::default() };
        house.ledger.set("tasks", &more).await.unwrap();
        learn(&house).await;
        house.take(0, 1).await.unwrap();
    });
}

#[test]
fn a_caller_who_wants_too_much_doesnt_take_others_down_with_it() {
    let mut alone = settings();
    alone.redis.pods.clear();
    with(alone, ALLOCATOR, 25, async |house| {
        let (greedy, modest) = tokio::join!(house.take(0, 26), house.take(0, 5));
        assert_eq!(greedy.unwrap_err().reason, Reason::SequenceExhausted);
        modest.unwrap();
        house.assert_unique();
    });
}

#[test]
fn a_sequence_that_others_used_up_is_refused_without_asking_the_ledger_again() {
    let mut alone = settings();
    alone.redis.pods.clear();
    with(alone, ALLOCATOR, 25, async |house| {
        let facts = house.ledger.facts(None).await.unwrap();
        let all = blockhouse::ledger::GrantRequest {
            sequence: "tasks".into(),
            generation: 1,
            life: facts.identity.life,
            least: 25,
            need: 25,
            want: 25,
            known_high_water: 0,
            purpose: blockhouse::ledger::Purpose::Fallback,
            holder: "another".into(),
            cluster: "default".into(),
            pod: None,
        };
        house.ledger.grant(&all).await.unwrap();
        let asked = || {
            let text = house.running.process.metrics.encode(false);
            let of_fallback = text.lines().filter(|line| {
                line.starts_with("blockhouse_ledger_requests_total{") && line.contains("fallback")
            });
            of_fallback.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
        };
        assert_eq!(house.take(0, 1).await.unwrap_err().reason, Reason::SequenceExhausted);
        let before = asked();
        for _ in 0..10 {
            assert_eq!(house.take(0, 1).await.unwrap_err().reason, Reason::SequenceExhausted);
        }
        assert_eq!((before, asked()), (1.0, 1.0));
    });
}

#[test]
fn a_halted_sequence_serves_what_is_at_hand_and_names_the_command() {
    let mut alone = settings();
    alone.redis.pods.clear();
    with(alone, ALLOCATOR, LAST, async |house| {
        house.take(0, 1).await.unwrap();
        house.ledger.halt("tasks", "an operator said so").await.unwrap();
        learn(&house).await;
        let mut served = 0;
        let refusal = loop {
            match house.take(0, 10).await {
                Ok(_) => served += 10,
                Err(refusal) => break refusal,
            }
        };
        assert!(served >= 90, "the reserve serves on: {served}");
        assert_eq!(refusal.reason, Reason::SequenceHalted);
        assert!(refusal.message.contains("blockhouse sequence resume tasks"), "{refusal}");
        house.ledger.resume("tasks").await.unwrap();
        learn(&house).await;
        house.take(0, 10).await.unwrap();
        house.assert_unique();
    });
}

#[test]
fn a_retired_sequence_hands_out_nothing() {
    with(settings(), Roles::ALL, LAST, async |house| {
        house.take_at_last(0, 1).await;
        house.ledger.retire("tasks").await.unwrap();
        learn(&house).await;
        assert_eq!(house.take(0, 1).await.unwrap_err().reason, Reason::SequenceRetired);
    });
}

#[test]
fn an_unknown_name_is_refused_and_a_new_one_is_found_at_once() {
    with(settings(), ALLOCATOR, LAST, async |house| {
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut new = crate::house::tasks(1000);
        new.name = "comments".into();
        house.ledger.create(&new).await.unwrap();
        let allocator = &house.running.workers[1].actors.allocator;
        let _ = allocator.allocate("comments", 1, deadline).await.unwrap().issue();
        let refusal = allocator.allocate("nobodys", 1, deadline).await.err().unwrap();
        assert_eq!(refusal.reason, Reason::SequenceUnknown);
        assert!(refusal.message.contains("blockhouse sequence create nobodys"), "{refusal}");
    });
}

#[test]
fn exercises_go_to_the_ledger_and_are_capped() {
    let mut eager = settings();
    eager.exercise.ratio = 1.0;
    eager.exercise.max_per_minute = 1.0;
    with(eager, Roles::ALL, LAST, async |house| {
        house.until_pods_hold(300).await;
        let (spans, tier) = house.take(0, 3).await.unwrap();
        assert_eq!((spans[0].count(), tier), (3, Tier::Ledger));
        for _ in 0..20 {
            assert_ne!(house.take(0, 3).await.unwrap().1, Tier::Ledger);
        }
    });
}

#[test]
fn every_id_is_accounted_for_to_the_unit() {
    with(settings(), Roles::ALL, LAST, async |house| {
        house.until_pods_hold(300).await;
        for n in 0..100u32 {
            house.take(n as usize % 2, 1 + n % 37).await.unwrap();
        }
        let running = &house.running;
        let process = std::sync::Arc::clone(&running.process);
        let granted_before = house.granted().await;
        assert!(granted_before >= house.given());
        let counters = process.metrics.sequence("tasks");
        assert_eq!(counters.allocated_ids_in_all(), house.given().unsigned_abs());
        assert_eq!(counters.tally.discarded(Cause::Duplicate), 0);
        until("nothing was lost", || counters.tally.discarded_in_all() == 0).await;
        house.assert_unique();
    });
}

#[test]
fn a_ledger_below_what_is_known_grants_nothing_and_is_closed() {
    let mut alone = settings();
    alone.redis.pods.clear();
    with(alone, ALLOCATOR, LAST, async |house| {
        house.take(0, 100).await.unwrap();
        // Somebody knows of more than this ledger has granted: it went back in time.
        let counters = house.running.process.metrics.sequence("tasks");
        counters.high_water.fetch_max(50_000, std::sync::atomic::Ordering::Relaxed);
        let before = house.granted().await;
        let refusal = house.take(0, 500).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::LedgerClosed);
        assert!(refusal.message.contains("went back in time"), "{refusal}");
        assert_eq!(house.granted().await, before);
        let state = house.ledger.facts(None).await.unwrap().state;
        assert!(matches!(&state, State::Closed(why) if why.contains("went back in time")), "{state:?}");
        let text = house.running.process.metrics.encode(false);
        assert!(text.contains("blockhouse_fence_trips_total{fence=\"high_water\"} 1"), "{text}");
        house.assert_unique();
    });
}
