//! Pods that fail under load, in every way of the fault table: no ID is given twice, and callers hardly notice.

use std::time::Duration;

use serde_json::Value;

use crate::support::caller::{Caller, Outcome, Transport};
use crate::support::cluster::pod_in;
use crate::support::load::{Report, Running};
use crate::support::proxy::Mode;
use crate::support::redis::{Redis, eventually};
use crate::support::{Cluster, wait};

/// How long a pod may take to be used again, or a process to notice that it must not be.
const NOTICE: Duration = Duration::from_secs(15);

/// Ends the load and checks what every fault here has in common: other pods and the ledger answer instead.
async fn ends_well(cluster: &Cluster, load: Running) -> Report {
    load.until_answered(500).await;
    let report = load.stop().await;
    report.assert_flawless();
    cluster.assert_unique();
    report
}

/// Waits until an allocator sees a pod in this state; gives the pod as it is then seen.
async fn seen(cluster: &Cluster, pod: usize, state: &str) -> Value {
    let (allocator, port) = (&cluster.allocators[0], cluster.pods[pod].port());
    let mut is = Value::Null;
    wait::until(NOTICE, &format!("pod {pod} is {state}"), async || {
        is = pod_in(&allocator.status().await, port);
        is["state"] == state
    })
    .await;
    is
}

async fn in_sync(replica: &Redis) {
    eventually("the replica is in sync", || replica.info("master_link_status").trim() == "up");
}

fn replicate(replica: &Redis, master: &Redis) {
    replica.run::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
}

fn promote(replica: &Redis) {
    replica.run::<()>(&["REPLICAOF", "NO", "ONE"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_restarted_from_an_old_snapshot_serves_nothing_of_it() {
    let mut cluster = Cluster::usual().start().await;
    let load = cluster.load().start();
    cluster.pods[0].run::<()>(&["SAVE"]);
    load.until_answered(800).await;
    cluster.pods[0].kill();
    load.until_answered(200).await;
    cluster.pods[0].restart();
    seen(&cluster, 0, "up").await;
    cluster.hydrated().await;
    ends_well(&cluster, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_paused_for_three_seconds_is_passed_over() {
    let cluster = Cluster::usual().start().await;
    let load = cluster.load().start();
    load.until_answered(200).await;
    cluster.pods[0].pause();
    load.go_on(Duration::from_secs(3)).await;
    cluster.pods[0].resume();
    seen(&cluster, 0, "up").await;
    ends_well(&cluster, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_pod_is_filled_again() {
    let cluster = Cluster::usual().start().await;
    let load = cluster.load().start();
    for _ in 0..3 {
        load.until_answered(200).await;
        cluster.pods[0].run::<()>(&["FLUSHALL"]);
        cluster.hydrated().await;
    }
    ends_well(&cluster, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_out_of_memory_goes_on_serving_its_own_blocks() {
    let mut cluster = Cluster::usual().start().await;
    cluster.pods[0].run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let full = cluster.pods.remove(0);
    // The others are gone: what is not served from memory or the full pod comes from the ledger.
    for pod in &mut cluster.pods {
        pod.kill();
    }
    let load = cluster.load().counts(1..=100).start();
    load.until_answered(500).await;
    let report = load.stop().await;
    report.assert_flawless();
    assert!(report.tiers.contains_key("TIER_PODS"), "{:?}", report.tiers);
    cluster.assert_unique();
    assert_eq!(full.run::<String>(&["PING"]), "PONG");
}

/// The pod refuses writes from `refuse` to `heal`: it is passed over, keeps its blocks, and gives them once it is well again.
async fn passed_over_while_it_refuses_writes(
    refuse: impl FnOnce(&Redis),
    why: &str,
    heal: impl FnOnce(&Redis),
) {
    // Where a slow machine lets pods time out, a reserve for minutes would hide that this one is used again.
    let cluster = Cluster::usual().set("fallback.cover = '1s'").set("fallback.min_ids = 1").start().await;
    let load = cluster.load().start();
    load.until_answered(200).await;
    let pod = &cluster.pods[0];
    refuse(pod);
    wait::until(NOTICE, &format!("the pod is down because of {why}"), async || {
        let is = pod_in(&cluster.allocators[0].status().await, pod.port());
        is["state"] == "down" && is["last_error"].as_str().is_some_and(|said| said.contains(why))
    })
    .await;
    let popped = popped_from(pod);
    load.until_answered(800).await;
    assert_eq!(popped_from(pod), popped, "a pod that refuses writes gave blocks");

    heal(pod);
    seen(&cluster, 0, "up").await;
    wait::until(NOTICE, "its blocks are used again", async || popped_from(pod) > popped).await;
    ends_well(&cluster, load).await;
}

/// Entries that the pod has given away in all.
fn popped_from(pod: &Redis) -> u64 {
    let life = format!("blockhouse:pod:{}:{}", pod.info("run_id"), pod.info("master_replid"));
    pod.run(&["HGET", &life, "popped"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_misses_its_replicas_is_passed_over_until_it_needs_none() {
    let need = |replicas| move |pod: &Redis| pod.run(&["CONFIG", "SET", "min-replicas-to-write", replicas]);
    passed_over_while_it_refuses_writes(need("1"), "NOREPLICAS", need("0")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_snapshots_fail_is_passed_over_until_one_succeeds() {
    let snapshot = |pod: &Redis, outcome: &str| {
        pod.run::<()>(&["BGSAVE"]);
        eventually("the snapshot ended", || {
            pod.info("rdb_bgsave_in_progress") == "0" && pod.info("rdb_last_bgsave_status") == outcome
        });
    };
    // A folder in the place of the file that a snapshot is to become.
    let in_the_way = |pod: &Redis| pod.folder().join("dump.rdb");
    let refuse = |pod: &Redis| {
        // Redis refuses writes for want of a snapshot only where it is to make any.
        pod.run::<()>(&["CONFIG", "SET", "save", "3600 1000000"]);
        std::fs::create_dir_all(in_the_way(pod).join("full")).expect("the server's folder can be written to");
        snapshot(pod, "err");
    };
    let heal = |pod: &Redis| {
        std::fs::remove_dir_all(in_the_way(pod)).expect("it is there");
        snapshot(pod, "ok");
    };
    passed_over_while_it_refuses_writes(refuse, "MISCONF", heal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_with_a_replica_is_refused_until_the_replica_is_gone() {
    let cluster = Cluster::usual().unguarded().start().await;
    let load = cluster.load().start();
    let replica = Redis::vanilla();
    replicate(&replica, &cluster.pods[0]);
    in_sync(&replica).await;
    let refused = seen(&cluster, 0, "refused").await;
    assert!(refused["last_error"].as_str().is_some_and(|why| why.contains("replica")), "{refused}");
    load.until_answered(300).await;
    drop(replica);
    seen(&cluster, 0, "up").await;
    ends_well(&cluster, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_demoted_and_promoted_again_serves_nothing_that_came_back() {
    let cluster = Cluster::usual().unguarded().start().await;
    let load = cluster.load().start();
    let copy = Redis::vanilla();
    replicate(&copy, &cluster.pods[0]);
    in_sync(&copy).await;
    promote(&copy);
    seen(&cluster, 0, "up").await;
    // What is popped from here on lies in the copy still.
    load.until_answered(800).await;
    replicate(&cluster.pods[0], &copy);
    in_sync(&cluster.pods[0]).await;
    promote(&cluster.pods[0]);
    seen(&cluster, 0, "up").await;
    cluster.hydrated().await;
    ends_well(&cluster, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_memory_was_restored_is_refused_until_it_is_emptied() {
    let cluster = Cluster::usual().unguarded().start().await;
    let load = cluster.load().start();
    load.until_answered(200).await;
    let pod = &cluster.pods[0];
    let dump = |key: String| (pod.run::<Vec<u8>>(&["DUMP", &key]), key);
    let dumped: Vec<_> = pod.keys("*").into_iter().map(dump).collect();
    load.until_answered(800).await;
    for (value, key) in &dumped {
        pod.run::<()>(&[b"RESTORE", key.as_bytes(), b"0", value, b"REPLACE"]);
    }
    seen(&cluster, 0, "refused").await;
    load.until_answered(300).await;
    cluster.pods[0].run::<()>(&["FLUSHALL"]);
    seen(&cluster, 0, "up").await;
    ends_well(&cluster, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_replies_of_pops_and_pushes_repeat_nothing() {
    let cluster = Cluster::usual()
        .proxies()
        .set("hydrator.interval = '100ms'")
        .set("redis.timeout = '50ms'")
        .start()
        .await;
    let load = cluster.load().start();
    for round in 0..6 {
        let proxy = &cluster.pod_proxies[round % cluster.pods.len()];
        let before = proxy.dropped_bytes();
        proxy.set(Mode::DropReplies);
        wait::until(NOTICE, "a reply is lost", async || proxy.dropped_bytes() > before).await;
        load.go_on(Duration::from_millis(300)).await;
        proxy.set(Mode::Pass);
        load.until_answered(100).await;
    }
    ends_well(&cluster, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_written_by_hand_are_discarded_with_a_cause_and_stop_nothing() {
    let plan = Cluster::new().pods(1).postgres().allocators(1).hydrator().sequence("tasks");
    let cluster = plan.start().await;
    let (pod, allocator) = (&cluster.pods[0], &cluster.allocators[0]);
    let lists: Vec<String> = pod.run(&["KEYS", "blockhouse:*:tasks:1"]);
    let [list] = &lists[..] else { panic!("{lists:?}") };
    let served: String = pod.run(&["LINDEX", list, "0"]);
    let mut caller = Caller::new(Transport::Http, allocator.port());
    let mut take = async |count| match caller.ask("tasks", count, Duration::from_secs(2)).await {
        Outcome::Given { spans, .. } => {
            spans.into_iter().for_each(|span| cluster.checker.record("tasks", span))
        }
        other => panic!("{other:?}"),
    };
    take(1_000).await;

    let outside = "9223372036854775000:10";
    let above = "9000000000000000:20";
    for entry in ["nonsense", "-5:10", "0:10", "5:0", "7", outside, above, &served] {
        pod.run::<i64>(&["LPUSH", list, entry]);
    }
    take(12_000).await;

    let metrics = allocator.metrics().await;
    let discarded = |cause| metrics.sum("blockhouse_discarded_ids_total", &[("cause", cause)]);
    let found = ["malformed", "outside", "above_high_water", "duplicate"].map(discarded);
    assert_eq!(found, [5.0, 10.0, 20.0, 1_000.0]);
    assert_eq!(metrics.sum("blockhouse_duplicate_ranges_total", &[]), 1.0);
    cluster.assert_unique();
}
