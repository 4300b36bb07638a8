//! A ledger that is late, silent, closed or wrong: callers hardly notice, and little is burnt.

use std::time::Duration;

use blockhouse::block::{Reason, Refusal, Tier};
use blockhouse::ledger::LedgerError;
use futures_util::future::{join, join_all};
use tokio::time::{Instant, sleep};

use crate::faults::Line;
use crate::world::{ALLOCATOR, PATIENCE, settings, until, with};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_late_ledger_burns_one_grant_of_normal_size_and_then_only_what_is_waited_for() {
    with(settings(), 0, 1, async |world| {
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        process.link.line.set(Line::Late(SECOND * 8));
        let began = Instant::now();
        while process.link.asked_since("fallback", began) < 11 {
            assert!(process.take_within(0, 7, SECOND * 20).await.is_err());
            sleep(SECOND / 10).await;
        }
        let grants = world.grants("fallback").await;
        let sizes: Vec<i64> = grants.iter().map(|grant| grant.span.count()).collect();
        assert_eq!(sizes[0], 10_000, "nobody could know");
        assert!(sizes.len() >= 10 && sizes[1..].iter().all(|size| *size == 7), "{sizes:?}");

        process.link.line.set(Line::Well);
        until("it answers in time again", PATIENCE, async || process.take(0, 7).await.is_ok()).await;
        for _ in 0..1_000 {
            process.take(0, 7).await.unwrap();
        }
        let sizes: Vec<i64> = world.grants("fallback").await.iter().map(|grant| grant.span.count()).collect();
        let back = &sizes[sizes.len() - 6..];
        assert!(back.windows(2).all(|two| two[0] < two[1]), "sizes double back: {sizes:?}");
        world.assert_unique();
    });
}

#[test]
fn an_exercise_that_fails_or_is_late_is_no_callers_business() {
    let mut plan = settings();
    plan.exercise.ratio = 1.0;
    plan.exercise.max_per_minute = 60_000.0;
    with(plan, 3, 1, async |world| {
        let _hydrator = world.start_hydrator().await;
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        let lines =
            [Line::Well, Line::Refuses, Line::Swallows, Line::LosesReply, Line::Late(SECOND), Line::Well];
        for line in lines {
            process.link.line.set(line);
            let until = Instant::now() + 30 * SECOND;
            while Instant::now() < until {
                let calls = [0, 1].map(|worker| process.take_within(worker, 10, Duration::from_millis(100)));
                for answer in join_all(calls).await {
                    answer.unwrap_or_else(|refusal| panic!("{line:?}: {refusal}"));
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        assert!(!world.grants("exercise").await.is_empty());
        world.assert_unique();
    });
}

#[test]
fn a_late_exercise_is_kept_in_the_reserve() {
    let mut plan = settings();
    plan.exercise.ratio = 1.0;
    with(plan, 0, 1, async |world| {
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        process.link.line.set(Line::Late(SECOND));
        // It waits half its time for the exercise, and then in vain for the ledger, which is busy with it.
        assert!(process.take_within(0, 10, Duration::from_millis(300)).await.is_err());
        until("the late grant is kept", PATIENCE, async || {
            process.shared.metrics.sequence("tasks").reserve_ids.load(std::sync::atomic::Ordering::Relaxed)
                >= 10
        })
        .await;
        process.link.line.set(Line::Refuses);
        assert_eq!(process.take(0, 10).await.unwrap().1, Tier::Memory);
        assert_eq!(process.discarded(), 0);
    });
}

#[test]
fn what_the_ledger_refuses_is_said_to_the_caller_with_its_reason() {
    with(settings(), 0, 1, async |world| {
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        let refusals = [
            (LedgerError::RateCapped { allowed: 0, wait: 60 * SECOND }, Reason::SequenceRateCapped),
            (LedgerError::Halted("a fence tripped".to_owned()), Reason::SequenceHalted),
            (LedgerError::Closed("promoted".to_owned()), Reason::LedgerClosed),
        ];
        for (error, reason) in refusals {
            *process.link.refusal.borrow_mut() = Some(error);
            let refusal = process.take(0, 10).await.unwrap_err();
            assert_eq!(refusal.reason, reason, "{refusal}");
        }
        *process.link.refusal.borrow_mut() = None;
        sleep(SECOND).await;
        assert_eq!(process.take(0, 10).await.unwrap().1, Tier::Ledger, "and nothing of it lasts");
    });
}

#[test]
fn a_closed_ledger_is_asked_once_a_second_however_many_callers_there_are() {
    with(settings(), 0, 1, async |world| {
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        *process.link.refusal.borrow_mut() = Some(LedgerError::Closed("promoted".to_owned()));
        let began = Instant::now();
        for _ in 0..200 {
            assert_eq!(process.take(0, 10).await.unwrap_err().reason, Reason::LedgerClosed);
            sleep(SECOND / 50).await;
        }
        let asked = process.link.asked_since("fallback", began);
        assert!((2..=6).contains(&asked), "asked {asked} times in 4 seconds");
    });
}

#[test]
fn a_ledger_that_comes_back_is_not_asked_by_all_at_once() {
    with(settings(), 0, 1, async |world| {
        let processes: Vec<_> = (0..20).map(|number| world.start(&format!("p{number}"), ALLOCATOR)).collect();
        for process in &processes {
            process.ready().await;
            process.link.line.set(Line::Refuses);
        }
        sleep(60 * SECOND).await;
        let since = Instant::now();
        sleep(60 * SECOND).await;
        for process in &processes {
            let asked = process.link.asked_since("facts", since);
            assert!((3..=30).contains(&asked), "{asked} tries in a minute of back-off");
        }
        let back = Instant::now();
        processes.iter().for_each(|process| process.link.line.set(Line::Well));
        sleep(SECOND).await;
        let at_once = processes.iter().filter(|process| process.link.asked_since("facts", back) > 0).count();
        assert!(at_once < 10, "{at_once} of 20 came in the first second");
        for process in &processes {
            until("it grants again", 20 * SECOND, async || process.take(0, 1).await.is_ok()).await;
        }
    });
}

#[test]
fn a_drain_waits_for_a_refill_under_way_and_hands_it_back() {
    with(settings(), 2, 1, async |world| {
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        // The pods are there and empty: the process lives on the ledger, and refills before it runs dry.
        process.take(0, 9_000).await.unwrap();
        process.link.line.set(Line::Late(2 * SECOND));
        until("a refill is under way", PATIENCE, async || world.grants("fallback").await.len() == 2).await;
        process.stop().await;
        assert_eq!(world.empty_pods().await + world.given(), world.granted().await);
        assert_eq!(process.discarded(), 0);
    });
}

#[test]
fn an_unknown_name_is_refused_at_once_even_where_the_ledger_is_stuck() {
    with(settings(), 0, 1, async |world| {
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        let ask = async |name: &str| {
            let began = Instant::now();
            let refusal = process.allocate(name, 1, began + 10 * SECOND).await.err().unwrap();
            (refusal.reason, began.elapsed())
        };
        assert_eq!(ask("nobody").await.0, Reason::SequenceUnknown);
        process.link.line.set(Line::Swallows);
        let stuck = process.take(0, 10);
        let others = async {
            until("the ledger is asked", PATIENCE, async || process.link.most_under_way() > 0).await;
            ask("nobody-else").await
        };
        let (stuck, (reason, took)) = futures_util::future::join(stuck, others).await;
        assert!(stuck.is_err());
        assert_eq!(reason, Reason::SequenceUnknown);
        assert!(took < SECOND, "it waited {took:?}");
    });
}

/// It is to show that the ledger would answer.
#[test]
fn an_exercise_leaves_the_reserve_alone() {
    let mut plan = settings();
    plan.exercise.ratio = 1.0;
    plan.exercise.max_per_minute = 1.0;
    with(plan, 0, 1, async |world| {
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        let reserve = || {
            process.shared.metrics.sequence("tasks").reserve_ids.load(std::sync::atomic::Ordering::Relaxed)
        };
        // The first is an exercise, the second falls back, and leaves something.
        for _ in 0..2 {
            assert_eq!(process.take(0, 10).await.unwrap().1, Tier::Ledger);
        }
        let kept = reserve();
        assert!(kept >= 10, "a fallback covers more than its caller: {kept}");
        sleep(70 * SECOND).await;
        let exercises = world.grants("exercise").await.len();
        assert_eq!(process.take(1, 10).await.unwrap().1, Tier::Ledger);
        assert_eq!(world.grants("exercise").await.len(), exercises + 1);
        assert!(reserve() >= kept, "it took from the reserve");
    });
}

#[test]
fn more_callers_than_may_wait_are_refused_at_once() {
    let mut plan = settings();
    // Of two workers: three at each, beside the one that asks.
    plan.fallback.max_waiters = 6;
    with(plan, 0, 1, async |world| {
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        process.link.line.set(Line::Late(SECOND / 2));
        let busy = |answer: &Result<_, Refusal>| {
            answer.as_ref().is_err_and(|refusal| refusal.reason == Reason::LedgerBusy)
        };
        let later = async {
            sleep(SECOND / 4).await;
            assert!(busy(&process.take(0, 10).await), "the line is full");
        };
        let (answers, ()) = join(join_all((0..20).map(|_| process.take(0, 10))), later).await;
        let refused = answers.iter().filter(|answer| busy(answer)).count();
        let served = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!((served, refused), (4, 16));
        world.assert_unique();
    });
}
