//! The stop sequence: what is left in memory goes back to the pods, and nothing is issued afterwards.

use std::sync::Arc;
use std::time::Duration;

use blockhouse::app::Ended;
use blockhouse::block::{Cause, Reason};
use blockhouse::role::Roles;
use tokio::time::Instant;

use crate::house::{settings, with};

#[test]
fn a_drain_hands_everything_back() {
    with(settings(), Roles::ALL, 1_000_000_000, async |house| {
        house.until_pods_hold(300).await;
        for worker in [0, 1] {
            house.take(worker, 3).await.unwrap();
        }
        let process = Arc::clone(&house.running.process);
        let allocator = house.running.workers[0].actors.allocator.clone();
        assert_eq!(house.running.drain().await, Ended::Drained);
        let counters = process.metrics.sequence("tasks");
        assert_eq!(counters.tally.discarded(Cause::Stopped), 0);
        assert_eq!(counters.tally.discarded_in_all(), 0);
        let refusal =
            allocator.allocate("tasks", 1, Instant::now() + Duration::from_secs(1)).await.err().unwrap();
        assert_eq!(refusal.reason, Reason::Draining);
    });
}

#[test]
fn without_pods_what_is_left_is_discarded_and_counted() {
    let mut alone = settings();
    alone.redis.pods.clear();
    with(alone, Roles { allocator: true, hydrator: false }, 1_000_000_000, async |house| {
        house.take(0, 3).await.unwrap();
        let process = Arc::clone(&house.running.process);
        let granted = house.granted().await;
        assert_eq!(house.running.drain().await, Ended::Drained);
        let counters = process.metrics.sequence("tasks");
        assert_eq!(counters.tally.discarded(Cause::Stopped), (granted - 3).unsigned_abs());
        assert_eq!(counters.tally.discarded_in_all(), (granted - 3).unsigned_abs());
    });
}
