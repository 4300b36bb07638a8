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
async fn a_rolling_restart_fails_no_request_and_hands_back_what_it_holds() {
    let mut cluster = Cluster::usual().start().await;
    let load = cluster.load().counts(1..=BLOCK as u32).retrying().start();
    let (rounds, workers) = (2, 2);
    for _ in 0..rounds {
        for number in 0..cluster.allocators.len() {
            load.until_answered(200).await;
            let status = cluster.allocators[number].terminate(END).await;
            assert_eq!(status.code(), Some(0), "a drain ends in order");
            cluster.allocators[number].start_again();
            cluster.allocators[number].ready().await;
        }
    }
    load.until_answered(200).await;
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "refused {:?}, lost {:?}", report.refused, report.lost);
    cluster.assert_unique();

    for process in cluster.allocators.iter_mut().chain(&mut cluster.hydrators) {
        assert_eq!(process.terminate(END).await.code(), Some(0));
    }
    let stops = (rounds + 1) * cluster.allocators.len() as i64;
    let in_flight: i64 = report.lost.values().map(|lost| *lost as i64).sum();
    for sequence in cluster.sequences() {
        let accounted = cluster.checker.ids(sequence) + cluster.in_pods(sequence);
        let discarded = cluster.granted(sequence) - accounted;
        let allowed = (2 * workers * stops + in_flight) * BLOCK;
        assert!(
            (0..=allowed).contains(&discarded),
            "{sequence}: {discarded} IDs discarded, {allowed} allowed"
        );
    }
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
