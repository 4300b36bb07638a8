//! An actor that panics: restarted, counted, served again, and nothing is issued twice.

use std::sync::atomic::Ordering;

use blockhouse::actor::process::Fatal;
use blockhouse::block::Cause;
use blockhouse::role::Roles;

use crate::house::{House, settings, until, with};

const LAST: i64 = 1_000_000_000;

fn restarts(house: &House, kind: &str) -> u64 {
    let parts = house.running.process.parts();
    let of_kind = parts.iter().filter(|part| part.kind == kind);
    of_kind.map(|part| part.restarts.load(Ordering::Relaxed)).sum()
}

fn an_actor_that_panics_serves_again(kind: &'static str) {
    with(settings(), Roles::ALL, LAST, async |house| {
        house.until_pods_hold(200).await;
        for round in 1..=3 {
            for worker in [0, 1] {
                house.take_at_last(worker, 7).await;
                house.take_at_last(worker, 25).await;
            }
            let before = restarts(&house, kind);
            house.running.panic(kind);
            until(&format!("{kind} is restarted"), || restarts(&house, kind) > before).await;
            // More than all tiers nearer than the ledger hold, so that every actor is needed again.
            house.take_at_last(round % 2, 500).await;
        }
        house.assert_unique();
        let text = house.running.process.metrics.encode(false);
        let counted = format!("blockhouse_actor_restarts_total{{actor=\"{kind}\",cause=\"panic\"}}");
        assert!(text.contains(&counted), "{text}");
    });
}

#[test]
fn an_allocator_that_panics_serves_again() {
    an_actor_that_panics_serves_again("allocator");
}

#[test]
fn a_router_that_panics_serves_again() {
    an_actor_that_panics_serves_again("router");
}

#[test]
fn a_buffer_that_panics_serves_again() {
    an_actor_that_panics_serves_again("buffer");
}

#[test]
fn a_database_that_panics_serves_again() {
    an_actor_that_panics_serves_again("database");
}

#[test]
fn a_hydrator_that_panics_hydrates_again() {
    an_actor_that_panics_serves_again("hydrator");
}

#[test]
fn a_supervisor_that_panics_looks_on_again() {
    an_actor_that_panics_serves_again("supervisor");
}

#[test]
fn what_a_panicking_allocator_held_is_discarded_and_counted() {
    with(settings(), Roles::ALL, LAST, async |house| {
        house.until_pods_hold(200).await;
        house.take_at_last(0, 3).await;
        house.running.workers[0].actors.allocator.panic();
        until("the rest of the block is given up", || house.discarded() == 7).await;
        house.take_at_last(0, 3).await;
        house.assert_unique();
    });
}

#[test]
fn what_a_panicking_buffer_held_is_counted_as_that() {
    let mut alone = settings();
    alone.redis.pods.clear();
    with(alone, Roles { allocator: true, hydrator: false }, LAST, async |house| {
        house.take_at_last(0, 3).await;
        let counters = house.running.process.metrics.sequence("tasks");
        let reserve = counters.reserve_ids.load(Ordering::Relaxed);
        assert!(reserve > 0, "the rest of the grant");
        house.running.panic("buffer");
        until("the reserve is given up", || house.discarded() == reserve).await;
        assert_eq!(counters.tally.discarded(Cause::Panic), reserve.unsigned_abs());
    });
}

#[test]
fn an_actor_that_panics_again_and_again_ends_the_process() {
    with(settings(), Roles::ALL, LAST, async |house| {
        for _ in 0..6 {
            house.running.panic("buffer");
        }
        let fatal = house.running.until_end().await;
        let Some(Fatal::Broken(why)) = fatal else { panic!("{fatal:?}") };
        assert!(why.contains("buffer") && why.contains("asked to"), "{why}");
    });
}
