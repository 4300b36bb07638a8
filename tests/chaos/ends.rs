//! A fault ends before its time where it must, whoever still lives.

use std::time::Duration;

use blockhouse::block::chaos::Fault;
use blockhouse::observe::metrics::Method;
use blockhouse::shutdown::Phase;

use crate::world::{World, settings, until, with};

/// Far longer than any test waits.
const LONG: u64 = 300;
const ALL: [&str; 3] = ["memory:1", "memory:2", "memory:3"];

async fn all_pods_gone(world: &World) {
    world.inject(Fault::PodsGone, None, LONG).await.unwrap();
    world.until_pods_down(&ALL).await;
}

/// Asserts that the drill ended early and why, and that the pods are back.
async fn assert_ended(world: &World, why: &str) {
    let drill = world.over().await;
    assert_eq!(drill.outcome.as_deref(), Some("ended"), "{drill:?}");
    assert!(drill.why.as_deref().unwrap_or_default().contains(why), "{drill:?}");
    world.until_pods_down(&[]).await;
}

#[test]
fn a_role_that_panics_in_the_midst_of_a_drill_takes_it_back_and_goes_on() {
    with(settings(), async |world| {
        all_pods_gone(world).await;
        world.actors.panic("chaos");
        assert_ended(world, "panicked").await;
        assert_eq!(world.restarts("chaos"), 1);
        until("the next may come", async || world.inject(Fault::PodGone, None, 1).await.is_ok()).await;
    });
}

#[test]
fn a_role_that_is_dead_leaves_nothing_broken() {
    with(settings(), async |world| {
        all_pods_gone(world).await;
        for _ in 0..6 {
            world.actors.panic("chaos");
        }
        until("it is given up", async || world.shared.fatal.borrow().is_some()).await;
        world.until_pods_down(&[]).await;
    });
}

#[test]
fn the_stop_switch_ends_what_runs_and_nothing_follows() {
    with(settings(), async |world| {
        all_pods_gone(world).await;
        assert!(world.actors.control.stop_drills("stopped by an operator").await);
        assert_ended(world, "by an operator").await;
        let refused = world.inject(Fault::PodGone, None, 1).await.unwrap_err();
        assert!(!refused.for_now && refused.why.contains("only a restart"), "{refused}");
        assert!(world.chaos().stopped.unwrap().contains("by an operator"));
    });
}

#[test]
fn a_drill_ends_when_too_many_requests_fail() {
    with(settings(), async |world| {
        all_pods_gone(world).await;
        let callers = world.shared.metrics.worker();
        for number in 0..100 {
            let code = if number < 2 { "UNAVAILABLE" } else { "OK" };
            callers.request(Method::Http, code, None, Duration::ZERO);
        }
        assert_ended(world, "2.0 % of requests fail").await;
    });
}

#[test]
fn what_callers_do_wrong_ends_no_drill() {
    with(settings(), async |world| {
        all_pods_gone(world).await;
        let callers = world.shared.metrics.worker();
        (0..100).for_each(|_| callers.request(Method::Http, "NOT_FOUND", None, Duration::ZERO));
        crate::world::pass(Duration::from_secs(5)).await;
        assert!(world.chaos().running.is_some());
    });
}

#[test]
fn a_drill_ends_when_other_processes_are_no_longer_heard() {
    with(settings(), async |world| {
        all_pods_gone(world).await;
        world.peers.set(1);
        assert_ended(world, "other processes").await;
    });
}

#[test]
fn a_drill_ends_when_the_process_drains() {
    with(settings(), async |world| {
        all_pods_gone(world).await;
        world.phase.send_replace(Phase::Draining);
        assert_ended(world, "drains").await;
    });
}
