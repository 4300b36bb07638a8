//! A new generation meets whatever is under way: a process that knows of it gives nothing out that was granted before.

use std::time::Duration;

use blockhouse::block::{Cause, Span, Tier};
use blockhouse::config::Settings;
use blockhouse::ledger::Ledger;
use futures_util::future::{join, join_all};
use tokio::time::{Instant, sleep};

use crate::faults::Line;
use crate::world::{ALLOCATOR, HYDRATOR, PATIENCE, Process, World, settings, until, with};

const SECOND: Duration = Duration::from_secs(1);

/// Far above what any test here grants.
const START: i64 = 1_000_000_000;

/// Pods and ledger that may take seconds over a call, so that much can happen meanwhile.
fn patient() -> Settings {
    let mut settings = settings();
    settings.redis.timeout = 10 * SECOND;
    settings.ledger.timeout = 20 * SECOND;
    settings
}

/// A hydrator that filled the pods and ended, and a process.
async fn filled(world: &World) -> Process {
    world.start_hydrator().await.crash().await;
    let process = world.start("allocator", ALLOCATOR);
    process.ready().await;
    process
}

async fn knows(process: &Process, generation: i64) {
    until("it knows the new generation", PATIENCE, async || process.generation() == generation).await;
}

#[track_caller]
fn assert_new(spans: &[Span]) {
    let old: Vec<_> = spans.iter().filter(|span| span.first() <= START).collect();
    assert!(old.is_empty(), "{old:?} was granted before the advance");
}

/// Two requests at one worker: one that takes until the process knows of an advance, and one after it.
async fn around_an_advance(world: &World, process: &Process, count: u32) {
    let during = process.take_within(0, count, 30 * SECOND);
    let after = async {
        sleep(SECOND / 10).await;
        world.advance(START).await;
        knows(process, 2).await;
        process.take_within(0, count, 30 * SECOND).await.unwrap()
    };
    let (during, after) = join(during, after).await;
    assert_new(&after.0);
    assert_new(&during.unwrap().0);
    for _ in 0..5 {
        assert_new(&process.take_within(0, count, 30 * SECOND).await.unwrap().0);
    }
    world.assert_unique();
}

#[test]
fn a_pop_begun_before_brings_nothing_to_anyone() {
    with(patient(), 2, 1, async |world| {
        let process = filled(&world).await;
        world.pods.iter().for_each(|pod| pod.set_for("pop", Line::Late(3 * SECOND)));
        around_an_advance(&world, &process, 10).await;
        assert_eq!(process.discarded_for(Cause::Advanced), 1_000, "the block that came too late");
    });
}

#[test]
fn a_grant_made_before_brings_nothing_to_anyone() {
    with(patient(), 1, 1, async |world| {
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        process.link.line.set(Line::Late(5 * SECOND));
        around_an_advance(&world, &process, 10).await;
        assert_eq!(process.discarded_for(Cause::Advanced), 10_000, "the grant that came too late");
    });
}

#[test]
fn an_exercise_begun_before_brings_nothing_to_anyone() {
    let mut plan = patient();
    plan.exercise.ratio = 1.0;
    plan.exercise.max_per_minute = 60_000.0;
    plan.fallback.max_wait = 20 * SECOND;
    // The exercise waits for half of that: in time, or too late and kept in the reserve.
    for patience in [30 * SECOND, 4 * SECOND] {
        with(plan.clone(), 1, 1, async |world| {
            let process = filled(&world).await;
            process.link.line.set(Line::Late(5 * SECOND));
            let during = process.take_within(0, 10, patience);
            let advance = async {
                sleep(SECOND / 10).await;
                world.advance(START).await;
                knows(&process, 2).await;
            };
            if let (Ok((spans, _)), ()) = join(during, advance).await {
                assert_new(&spans);
            }
            process.link.line.set(Line::Well);
            until("what came late is discarded", PATIENCE, async || {
                process.discarded_for(Cause::Advanced) > 0
            })
            .await;
            for _ in 0..50 {
                assert_new(&process.take(1, 10).await.unwrap().0);
            }
        });
    }
}

#[test]
fn leftovers_and_the_reserve_are_given_up_also_where_nobody_asks() {
    with(patient(), 1, 1, async |world| {
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        // The grant lies in the reserve, and a rest of what was drawn from it at the worker.
        process.take(0, 10).await.unwrap();
        world.advance(START).await;
        knows(&process, 2).await;
        process.stop().await;
        assert_eq!(world.granted().await, START);
        assert_eq!(world.empty_pods().await, 0, "nothing of it is handed back");
        assert_eq!(process.discarded_for(Cause::Advanced) + world.given(), 10_000);
    });
}

#[test]
fn an_allocation_that_comes_back_is_given_to_nobody() {
    with(patient(), 1, 1, async |world| {
        let process = filled(&world).await;
        let unissued = process.allocate("tasks", 600, Instant::now() + SECOND).await.unwrap();
        world.advance(START).await;
        knows(&process, 2).await;
        drop(unissued);
        let (spans, tier) = process.take(0, 600).await.unwrap();
        assert_new(&spans);
        assert_eq!((tier, process.discarded_for(Cause::Advanced)), (Tier::Ledger, 1_000));
    });
}

#[test]
fn who_has_heard_nothing_for_seconds_listens_before_it_answers_from_memory() {
    with(patient(), 1, 1, async |world| {
        let process = filled(&world).await;
        process.take(0, 10).await.unwrap();
        let slow = 5 * SECOND;
        world.pods[0].set_for("heartbeat", Line::Late(slow));
        sleep(2 * slow).await;
        // The heartbeat under way is of before.
        world.advance(START).await;
        let (began, mut waits) = (Instant::now(), 0);
        while began.elapsed() < 2 * slow {
            let asked = Instant::now();
            assert_new(&process.take_within(0, 10, 30 * SECOND).await.unwrap().0);
            waits += usize::from(asked.elapsed() > SECOND);
            sleep(SECOND / 10).await;
        }
        assert!(waits > 0, "it listened");
    });
}

#[test]
fn a_hydrators_push_and_what_it_holds_reach_no_list_that_is_read() {
    with(patient(), 2, 1, async |world| {
        // One pod takes its time, the other refuses: the hydrator holds the load of the second meanwhile.
        world.pods[0].set_for("push", Line::Late(4 * SECOND));
        world.pods[1].set_for("push", Line::Refuses);
        let hydrator = world.start("hydrator", HYDRATOR);
        until("a push is under way", PATIENCE, async || world.granted().await > 10_000).await;
        world.advance(START).await;
        world.pods.iter().for_each(|pod| pod.set(Line::Well));
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        knows(&process, 2).await;
        until("the pods are filled again", PATIENCE, async || world.in_pods().await >= 30_000).await;
        let before = world.given();
        while world.given() < before + 60_000 {
            assert_new(&process.take(0, 1_000).await.unwrap().0);
        }
        assert!(hydrator.discarded_for(Cause::Advanced) > 0, "what it held is discarded");
        world.assert_unique();
    });
}

#[test]
fn a_grant_for_a_pod_made_before_is_not_pushed() {
    with(patient(), 1, 1, async |world| {
        let hydrator = world.start("hydrator", HYDRATOR);
        hydrator.ready().await;
        hydrator.link.line.set(Line::Late(3 * SECOND));
        until("a grant is under way", PATIENCE, async || world.granted().await > 0).await;
        world.advance(START).await;
        hydrator.link.line.set(Line::Well);
        until("the pod is filled", PATIENCE, async || world.in_pods().await >= 30_000).await;
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        for _ in 0..30 {
            assert_new(&process.take(0, 1_000).await.unwrap().0);
        }
        world.assert_unique();
    });
}

#[test]
fn whatever_goes_wrong_nothing_old_is_given_by_a_process_that_knows() {
    let lines =
        [Line::Well, Line::Refuses, Line::LosesReply, Line::Late(SECOND / 40), Line::Late(SECOND / 4)];
    for seed in 0..6 {
        let mut plan = settings();
        plan.exercise.ratio = 0.1;
        plan.exercise.max_per_minute = 60_000.0;
        with(plan, 3, seed, async |world| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let hydrator = world.start_hydrator().await;
            let processes = [world.start("a", ALLOCATOR), world.start("b", ALLOCATOR)];
            join_all(processes.iter().map(Process::ready)).await;
            for generation in 2..12 {
                let start = START * generation;
                for step in 0..40 {
                    let known = processes.each_ref().map(Process::generation);
                    let line = lines[rng.usize(..lines.len())];
                    match rng.u32(..12) {
                        0 => world.pods[rng.usize(..3)].set_for("pop", line),
                        1 => world.pods[rng.usize(..3)].set_for("push", line),
                        2 => processes[rng.usize(..2)].link.line.set(line),
                        3 => hydrator.link.line.set(line),
                        _ => {}
                    }
                    if step == 20 {
                        world.advance(start).await;
                    }
                    let calls =
                        (0..rng.usize(1..8)).map(|_| (rng.usize(..2), rng.usize(..2), rng.u32(1..2_500)));
                    let calls: Vec<_> = calls.collect();
                    let taken = join_all(calls.iter().map(|(process, worker, count)| {
                        processes[*process].take_within(*worker, *count, SECOND / 2)
                    }));
                    for ((process, ..), answer) in calls.iter().zip(taken.await) {
                        let old =
                            answer.iter().flat_map(|(spans, _)| spans).any(|span| span.first() <= start);
                        assert!(!old || known[*process] < generation, "seed {seed}: {answer:?}");
                    }
                    sleep(SECOND / 10).await;
                }
                world.pods.iter().for_each(|pod| pod.set(Line::Well));
                processes.iter().chain([&hydrator]).for_each(|process| process.link.line.set(Line::Well));
                join_all(processes.iter().map(|process| knows(process, generation))).await;
            }
            world.assert_unique();
        });
    }
}

#[test]
fn a_ledger_that_lost_an_advance_learns_of_it_from_whoever_knows() {
    with(settings(), 1, 1, async |world| {
        let knowing = world.start("knowing", ALLOCATOR);
        knowing.ready().await;
        knowing.take(0, 10).await.unwrap();
        let (backup, granted) = (world.ledger.copy(), world.ledger.facts(None).await.unwrap().granted[0].1);
        world.advance(granted).await;
        knows(&knowing, 2).await;

        // It is restored, and opens by what one says who knows nothing of the advance.
        world.pods[0].set(Line::Refuses);
        knowing.link.line.set(Line::Refuses);
        world.ledger.restore(&backup);
        let other = world.start("other", ALLOCATOR);
        until("it opens", PATIENCE, async || other.take(0, 10).await.is_ok()).await;
        assert_eq!(other.generation(), 1);

        knowing.link.line.set(Line::Well);
        until("it serves", PATIENCE, async || knowing.take(0, 10_000).await.is_ok()).await;
        let serves_in_it = async || other.take(0, 10_000).await.is_ok() && other.generation() == 2;
        until("so does the other", PATIENCE, serves_in_it).await;
        world.assert_unique();
    });
}
