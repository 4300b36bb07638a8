//! What is done again and again is done once each time, whatever happened to the actor that does it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::world::{ALLOCATOR, settings, with};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn work_of_each_second_is_not_doubled_by_panics() {
    with(settings(), 1, 1, async |world| {
        let hydrator = world.start_hydrator().await;
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        let in_a_minute = async || {
            let since = Instant::now();
            sleep(MINUTE).await;
            (world.pods[0].asked_since("heartbeat", since), hydrator.link.asked_since("lead", since))
        };
        let before = in_a_minute().await;
        for kind in ["supervisor", "router", "buffer", "database", "allocator"] {
            process.panic(kind);
        }
        for kind in ["supervisor", "hydrator", "database"] {
            hydrator.panic(kind);
        }
        sleep(MINUTE).await;
        let after = in_a_minute().await;
        assert!(
            after.0.abs_diff(before.0) <= 4,
            "heartbeats in a minute: {before:?} before, {after:?} after"
        );
        assert!(after.1.abs_diff(before.1) <= 1, "passes in a minute: {before:?} before, {after:?} after");
    });
}
