//! Requests and the pods: every one is tried, a dead one costs little, and the ledger is left alone.

use std::time::Duration;

use blockhouse::block::Tier;
use blockhouse::ledger::{Admin, SequenceChange};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::faults::Line;
use crate::world::{ALLOCATOR, Process, World, settings, until, with};

const SECOND: Duration = Duration::from_secs(1);

/// A request of 10 IDs each 50 ms at each of two workers, for `time`.
async fn load(process: &Process, time: Duration) {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        for answer in join_all([0, 1].map(|worker| process.take(worker, 10))).await {
            answer.unwrap();
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn filled(world: &World) -> Process {
    world.start_hydrator().await.crash().await;
    let process = world.start("allocator", ALLOCATOR);
    process.ready().await;
    process
}

#[test]
fn whichever_pod_has_blocks_is_found_and_each_is_asked_once() {
    for alive in 1..16_u32 {
        with(settings(), 4, u64::from(alive), async |world| {
            let process = filled(&world).await;
            for (number, pod) in world.pods.iter().enumerate() {
                if alive & (1 << number) == 0 {
                    pod.set_for("pop", Line::Refuses);
                }
            }
            let began = Instant::now();
            let (_, tier) = process.take(0, 500).await.unwrap();
            assert_eq!(tier, Tier::Pods, "pods {alive:04b}");
            let asked: Vec<_> = world.pods.iter().map(|pod| pod.asked_since("pop", began)).collect();
            assert!(asked.iter().all(|asked| *asked <= 1), "pods {alive:04b} were asked {asked:?} times");
            assert_eq!(world.grants("fallback").await.len(), 0, "pods {alive:04b}");
        });
    }
}

#[test]
fn one_pod_left_among_dead_ones_serves_whosever_turn_it_is() {
    with(settings(), 4, 1, async |world| {
        let process = filled(&world).await;
        world.pods[1..].iter().for_each(|pod| pod.set(Line::Refuses));
        // Their heartbeats fail, so they are passed over.
        sleep(10 * SECOND).await;
        for turn in 0..5 {
            assert_eq!(process.take(0, 1_000).await.unwrap().1, Tier::Pods, "at turn {turn}");
        }
        assert_eq!(world.grants("fallback").await.len(), 0);
    });
}

#[test]
fn every_pod_that_is_up_is_told_of_a_grant_before_it_is_used() {
    with(settings(), 3, 1, async |world| {
        // Nobody fills them, so the ledger answers.
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        sleep(3 * SECOND).await;
        let began = Instant::now();
        assert_eq!(process.take(0, 500).await.unwrap().1, Tier::Ledger);
        let told: Vec<_> = world.pods.iter().map(|pod| pod.asked_since("raise", began)).collect();
        assert_eq!(told, [1, 1, 1]);
    });
}

#[test]
fn without_any_pod_the_ledger_is_asked_after_all_were_tried() {
    with(settings(), 4, 1, async |world| {
        let process = filled(&world).await;
        world.pods.iter().for_each(|pod| pod.set_for("pop", Line::Refuses));
        let began = Instant::now();
        let (_, tier) = process.take(0, 500).await.unwrap();
        assert_eq!(tier, Tier::Ledger);
        assert!(world.pods.iter().all(|pod| pod.asked_since("pop", began) == 1));
    });
}

#[test]
fn pods_that_swallow_everything_cost_each_worker_one_time_out_a_retry_period() {
    with(settings(), 3, 1, async |world| {
        let process = filled(&world).await;
        world.pods.iter().for_each(|pod| pod.set(Line::Swallows));
        let began = Instant::now();
        load(&process, Duration::from_secs(60)).await;
        let pops: usize = world.pods.iter().map(|pod| pod.asked_since("pop", began)).sum();
        // Only what was under way when they died: later requests don't even try, because heartbeats fail.
        assert!(pops <= 2 * 3, "{pops} pops of two workers to three pods");
        let beats: usize = world.pods.iter().map(|pod| pod.asked_since("heartbeat", began)).sum();
        assert!(beats <= 3 * 3 * 61, "{beats} heartbeats in a minute of three users of three pods");
        world.assert_unique();
    });
}

#[test]
fn with_all_pods_dead_each_sequence_costs_less_than_a_grant_a_minute_until_they_return() {
    let mut plan = settings();
    plan.fallback.min_ids = 1;
    with(plan, 3, 1, async |world| {
        let process = filled(&world).await;
        load(&process, 60 * SECOND).await;
        world.pods.iter().for_each(|pod| pod.set(Line::Refuses));
        load(&process, 60 * SECOND).await;
        let warm = Instant::now();
        load(&process, 600 * SECOND).await;
        let asked = process.link.asked_since("fallback", warm);
        assert!((1..10).contains(&asked), "{asked} grants in ten minutes");
        assert_eq!(process.link.most_under_way(), 1, "one request at a time");

        world.pods.iter().for_each(|pod| pod.set(Line::Well));
        world.start("hydrator", crate::world::HYDRATOR);
        until("the pods are used again", 600 * SECOND, async || {
            process.take(0, 1_000).await.unwrap().1 == Tier::Pods
        })
        .await;
        let returned = Instant::now();
        load(&process, 600 * SECOND).await;
        assert_eq!(process.link.asked_since("fallback", returned), 0, "the ledger is left alone again");
        world.assert_unique();
    });
}

#[test]
fn blocks_beyond_the_known_end_of_a_sequence_are_served_once_its_new_end_is_known() {
    with(settings(), 1, 1, async |world| {
        let small = blockhouse::ledger::NewSequence {
            name: "short".into(),
            last: 64_000,
            ..crate::world::sequence("short")
        };
        world.ledger.create(&small).await.unwrap();
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        // The heartbeat that would bring the new end is a while away.
        world
            .ledger
            .set("short", &SequenceChange { last: Some(1_000_000), ..SequenceChange::default() })
            .await
            .unwrap();
        let hydrator = world.start_hydrator().await;
        let deadline = Instant::now() + SECOND;
        let mut given = 0;
        while given < 100_000 {
            let allocation = process.allocate("short", 1_000, deadline + SECOND).await.unwrap();
            given += allocation.issue().spans.iter().map(|span| span.count()).sum::<i64>();
        }
        assert_eq!(process.shared.metrics.sequence("short").tally.discarded_in_all(), 0);
        hydrator.crash().await;
    });
}
