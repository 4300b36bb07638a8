//! What each fault does to the process, that it is counted, and that it is over when its time is.

use std::time::Duration;

use blockhouse::block::chaos::Fault;
use blockhouse::block::{Reason, Tier};
use tokio::time::Instant;

use crate::world::{World, settings, until, with};

/// More than the pods hold.
const MORE: u32 = 500;

/// Asserts that the fault was counted once, and ended when its time was over.
async fn assert_done(world: &World, fault: Fault) {
    let drill = world.over().await;
    assert_eq!((drill.fault.as_str(), drill.outcome.as_deref()), (fault.name(), Some("done")));
    assert_eq!(world.counted(fault), 1);
}

#[test]
fn a_pod_that_refuses_or_is_gone_is_left_out_and_comes_back_by_itself() {
    for fault in [Fault::PodRefused, Fault::PodGone] {
        with(settings(), async |world| {
            let drill = world.inject(fault, Some("memory:2"), 10).await.unwrap();
            assert_eq!((drill.target.as_deref(), drill.seconds), (Some("memory:2"), 10.0));
            world.until_pods_down(&["memory:2"]).await;
            assert_eq!(world.take(25).await, Ok(Tier::Pods));
            assert_done(world, fault).await;
            world.until_pods_down(&[]).await;
        });
    }
}

#[test]
fn a_pod_that_is_slow_answers_late_and_stays_in_use() {
    let mut slow = settings();
    slow.chaos.pod_latency = Duration::from_millis(40);
    with(slow, async |world| {
        world.inject(Fault::PodSlow, Some("memory:3"), 10).await.unwrap();
        let began = Instant::now();
        world.take(MORE).await.unwrap();
        assert!(
            began.elapsed() >= Duration::from_millis(40),
            "every pod was asked, in {:?}",
            began.elapsed()
        );
        assert_eq!(world.pods_down().await, [""; 0]);
        assert_done(world, Fault::PodSlow).await;
        let began = Instant::now();
        world.take(MORE).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(40), "{:?}", began.elapsed());
    });
}

#[test]
fn an_answer_of_a_slow_pod_that_comes_too_late_is_lost_like_any_other() {
    let mut slow = settings();
    slow.chaos.pod_latency = 2 * slow.redis.timeout;
    with(slow, async |world| {
        world.inject(Fault::PodSlow, Some("memory:1"), 10).await.unwrap();
        world.until_pods_down(&["memory:1"]).await;
        world.take(MORE).await.unwrap();
        assert_done(world, Fault::PodSlow).await;
        world.until_pods_down(&[]).await;
    });
}

#[test]
fn with_all_pods_gone_callers_are_served_by_the_ledger_and_then_by_pods_again() {
    with(settings(), async |world| {
        world.inject(Fault::PodsGone, None, 10).await.unwrap();
        world.until_pods_down(&["memory:1", "memory:2", "memory:3"]).await;
        assert_eq!(world.take(MORE).await, Ok(Tier::Ledger));
        assert_done(world, Fault::PodsGone).await;
        world.until_pods_down(&[]).await;
        until("pods serve again", async || world.take(35).await == Ok(Tier::Pods)).await;
    });
}

#[test]
fn with_the_ledger_gone_pods_serve_on_and_it_comes_back_by_itself() {
    with(settings(), async |world| {
        world.inject(Fault::LedgerGone, None, 20).await.unwrap();
        world.until_ledger_is("down").await;
        assert_eq!(world.take(25).await, Ok(Tier::Pods));
        assert_done(world, Fault::LedgerGone).await;
        world.until_ledger_is("up").await;
        world.take(MORE).await.unwrap();
    });
}

#[test]
fn a_ledger_that_is_slow_answers_late() {
    with(settings(), async |world| {
        world.inject(Fault::LedgerSlow, None, 10).await.unwrap();
        let began = Instant::now();
        assert_eq!(world.take(MORE).await, Ok(Tier::Ledger));
        assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(world.ledger_state(), "up");
        assert_done(world, Fault::LedgerSlow).await;
    });
}

#[test]
fn while_the_slot_is_held_who_needs_the_ledger_is_refused_at_once_and_served_afterwards() {
    with(settings(), async |world| {
        world.inject(Fault::SlotHeld, None, 10).await.unwrap();
        let began = Instant::now();
        let refusal = world.take(MORE).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::LedgerBusy, "{refusal}");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(world.ledger_state(), "up", "nothing is said of the ledger that isn't so");
        assert_done(world, Fault::SlotHeld).await;
        until("the ledger serves again", async || world.take(MORE).await.is_ok()).await;
    });
}

#[test]
fn every_actor_can_be_made_to_panic_and_goes_on() {
    with(settings(), async |world| {
        until("it was seen who there is", async || !world.chaos().faults[0].targets.is_empty()).await;
        let targets = world.chaos().faults[0].targets.clone();
        assert_eq!(
            targets,
            [
                "allocator-0",
                "allocator-1",
                "buffer",
                "database",
                "hydrator",
                "router-0",
                "router-1",
                "supervisor"
            ]
        );
        for (number, name) in (1..).zip(&targets) {
            until(&format!("{name} may panic"), async || {
                world.inject(Fault::ActorPanic, Some(name), 1).await.is_ok()
            })
            .await;
            until(&format!("{name} is restarted"), async || world.restarts(name) == 1).await;
            assert_eq!(world.counted(Fault::ActorPanic), number);
            until("it serves again", async || world.take(7).await.is_ok()).await;
        }
    });
}

#[test]
fn a_process_is_terminated_by_a_drain() {
    with(settings(), async |world| {
        let drill = world.inject(Fault::ProcessTerminated, None, 1).await.unwrap();
        assert_eq!(drill.outcome.as_deref(), Some("done"));
        assert!(*world.drain.borrow());
        assert_eq!(world.counted(Fault::ProcessTerminated), 1);
    });
}
