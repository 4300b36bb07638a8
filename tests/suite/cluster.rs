//! Whole clusters under load: what callers get, and what becomes of it when processes come and go.

use std::time::Duration;

use serde_json::Value;

use crate::support::process::Process;
use crate::support::{Cluster, wait};

/// A process may need its whole `drain.timeout` to end.
const END: Duration = Duration::from_secs(15);

/// IDs in a block, unless a sequence says otherwise.
const BLOCK: i64 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_serves_from_its_pods_and_gives_no_id_twice() {
    let cluster = Cluster::usual().start().await;
    let load = cluster.load().start();
    load.until_answered(3_000).await;
    let report = load.stop().await;

    report.assert_flawless();
    cluster.assert_unique();
    let from = |tier: &str| report.tiers.get(tier).copied().unwrap_or(0);
    assert!(from("TIER_PODS") > 0, "{:?}", report.tiers);
    assert!(from("TIER_LEDGER") <= report.answered / 100, "{:?}", report.tiers);
    let (sessions, _) = cluster.sessions();
    assert!(sessions <= 3, "{sessions} ledger connections of 3 processes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allocator_killed_at_any_time_repeats_nothing() {
    let mut cluster = Cluster::usual().start().await;
    let load = cluster.load().start();
    for _ in 0..6 {
        load.until_answered(fastrand::u64(20..300)).await;
        let victim = fastrand::usize(..cluster.allocators.len());
        cluster.allocators[victim].kill();
        cluster.allocators[victim].start_again();
        cluster.allocators[victim].ready().await;
    }
    load.until_answered(300).await;
    load.stop().await;
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hydrator_killed_at_any_time_repeats_nothing() {
    // A small supply, so that there is always something to lay in.
    let plan = Cluster::usual().set("hydrator.interval = '100ms'");
    let mut cluster = plan.set("hydrator.min_ids = 300000").set("hydrator.max_ids = 300000").start().await;
    let load = cluster.load().start();
    for _ in 0..6 {
        let enough = cluster.grants("hydrate") + fastrand::i64(1..6);
        wait::until(END, "the hydrator grants", async || cluster.grants("hydrate") >= enough).await;
        cluster.hydrators[0].kill();
        load.until_answered(100).await;
        cluster.hydrators[0].start_again();
    }
    load.until_answered(300).await;
    load.stop().await.assert_flawless();
    cluster.assert_unique();
}

async fn leads(hydrator: &Process) -> bool {
    hydrator.is_ready().await && hydrator.status().await["hydrator"]["leader"] == Value::Bool(true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_from_a_killed_hydrator_within_fifteen_seconds() {
    let mut cluster = Cluster::usual().hydrator().start().await;
    let leader = usize::from(leads(&cluster.hydrators[1]).await);
    assert!(leads(&cluster.hydrators[leader]).await, "one of the two leads");
    assert!(!leads(&cluster.hydrators[1 - leader]).await, "only one of the two leads");

    cluster.hydrators[leader].kill();
    let standby = &cluster.hydrators[1 - leader];
    wait::until(Duration::from_secs(15), "the standby leads", async || leads(standby).await).await;
    let before = cluster.grants("hydrate");
    let load = cluster.load().start();
    wait::until(END, "the standby fills the pods", async || cluster.grants("hydrate") > before).await;
    load.stop().await.assert_flawless();
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_request() {
    let mut cluster = Cluster::usual().start().await;
    let load = cluster.load().counts(1..=BLOCK as u32).retrying().start();
    for number in [0, 1, 0, 1] {
        load.until_answered(200).await;
        stop(&mut cluster, number).await;
        cluster.allocators[number].start_again();
        cluster.allocators[number].ready().await;
    }
    load.until_answered(200).await;
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "refused {:?}, lost {:?}", report.refused, report.lost);
    cluster.assert_unique();
}

async fn stop(cluster: &mut Cluster, number: usize) {
    let status = cluster.allocators[number].terminate(END).await;
    assert_eq!(status.code(), Some(0), "a drain ends in order");
}

/// IDs by sequence that neither a pod nor a caller has; callers come last, for they may still be noting what they got.
fn nowhere(cluster: &Cluster) -> Vec<i64> {
    let missing = |sequence: &String| {
        cluster.granted(sequence) - cluster.in_pods(sequence) - cluster.checker.ids(sequence)
    };
    cluster.sequences().iter().map(missing).collect()
}

/// Stops an allocator and starts it again; panics if the stop discarded more than `most` IDs of a sequence. `before` is what was
/// nowhere before it began to serve, and becomes what is nowhere now.
async fn stop_discarding(most: i64, cluster: &mut Cluster, number: usize, before: &mut Vec<i64>) {
    stop(cluster, number).await;
    let now = nowhere(cluster);
    let discarded: Vec<i64> = now.iter().zip(&*before).map(|(now, before)| now - before).collect();
    assert!(discarded.iter().all(|ids| (0..=most).contains(ids)), "{discarded:?} IDs of {most} allowed");
    *before = now;
    cluster.allocators[number].start_again();
    cluster.allocators[number].ready().await;
}

/// One allocator at a time has the load, and no hydrator runs. So once the allocator has ended, no process holds an ID, and what
/// is nowhere was discarded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_discards_two_blocks_a_worker_and_sequence_at_most_and_one_at_rest_nothing() {
    let two_blocks_a_worker = 2 * 2 * BLOCK;
    let mut cluster = Cluster::usual().start().await;
    assert_eq!(cluster.hydrators[0].terminate(END).await.code(), Some(0));
    let mut before = nowhere(&cluster);
    for number in [0, 1, 0, 1] {
        let load = cluster.load_on(&cluster.allocators[number..=number]);
        let load = load.counts(1..=BLOCK as u32).retrying().start();
        load.until_answered(200).await;
        stop_discarding(two_blocks_a_worker, &mut cluster, number, &mut before).await;
        load.until_answered(200).await;
        assert_eq!(load.stop().await.given_up, 0);
        stop_discarding(0, &mut cluster, number, &mut before).await;
    }
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_blocks_are_in_the_pods_two_seconds_after_a_hydrator_started() {
    // Production's pace, which the first pass doesn't wait for.
    let plan =
        Cluster::new().pods(3).postgres().sequence("tasks").sequence("comments").sequence("attachments");
    let cluster = plan.set("hydrator.interval = '5s'").set("hydrator.min_ids = 1000000").start().await;
    let _hydrator = cluster.process("hydrator", "hydrator");
    cluster.filled_within(Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequence_can_be_used_as_soon_as_it_is_created() {
    let cluster = Cluster::usual().start().await;
    cluster.succeed(&["sequence", "create", "late", "--yes"]);
    let server = format!("127.0.0.1:{}", cluster.allocators[0].port());
    let taken = crate::support::process::run(&["take", "late", "--server", &server]);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    assert_eq!(String::from_utf8_lossy(&taken.stdout).lines().count(), 1);
}
