//! A whole minute without any pod: the process lives on its grants, callers are answered in time, and the ledger hardly notices.

use std::collections::BTreeMap;
use std::time::Duration;

use blockhouse::config::Settings;

use crate::support::load::{Load, Running};
use crate::support::process::Process;
use crate::support::proxy::{Mode, Proxy};
use crate::support::redis::Redis;
use crate::support::watch::Watch;
use crate::support::{Cluster, wait};

const MINUTE: Duration = Duration::from_secs(60);

/// Of the demand that a process has, the last twenty seconds count most: after them a grant covers what it should.
const KNOWN: Duration = Duration::from_secs(20);

/// Callers over gRPC, which tells the server how long they wait, at a pace that leaves a busy machine some time.
fn load(cluster: &Cluster, deadline: Duration) -> Load {
    cluster.load().grpc().deadline(deadline).pace(Duration::from_millis(30))
}

/// Grants on record, by holder and sequence.
fn grants(cluster: &Cluster) -> BTreeMap<String, i64> {
    let record = cluster.ledger().psql(
        "SELECT holder || ' of ' || sequence, count(*) FROM blockhouse.grants \
         WHERE purpose <> 'hydrate' GROUP BY 1",
    );
    let line = |line: &str| {
        let (who, count) = line.split_once('|').expect("two columns");
        (who.to_owned(), count.parse().expect("a number"))
    };
    record.lines().map(line).collect()
}

/// Requests for grants that the process has sent, whatever came of them.
async fn asked(process: &Process) -> f64 {
    process.metrics().await.sum("blockhouse_ledger_requests_total", &[("purpose", "fallback")])
}

/// Waits until the load is known and a minute of it lies in each reserve.
async fn warm(cluster: &Cluster, load: &Running) {
    load.go_on(KNOWN).await;
    wait::until(KNOWN, "every reserve holds a minute's IDs", async || {
        let mut covered = true;
        for process in &cluster.allocators {
            let status = process.status().await;
            for sequence in status["sequences"].as_array().expect("a list") {
                let held = sequence["reserve_ids"].as_f64().expect("a number");
                covered &=
                    held > MINUTE.as_secs_f64() * sequence["ids_per_second"].as_f64().expect("a number");
            }
        }
        covered
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_pods_dead_for_a_minute_a_process_asks_less_than_once_for_each_sequence() {
    let deadline = Duration::from_secs(1);
    let mut cluster = Cluster::usual().start().await;
    let load = load(&cluster, deadline).start();
    load.until_answered(100).await;
    let watch = Watch::over(cluster.ledger(), Duration::from_millis(1)).await;
    load.forget();
    cluster.pods.iter_mut().for_each(Redis::kill);
    warm(&cluster, &load).await;
    let cold = load.forget();

    let (before, used) = (grants(&cluster), cluster.checker.ids("tasks"));
    let requests = [asked(&cluster.allocators[0]).await, asked(&cluster.allocators[1]).await];
    load.go_on(MINUTE).await;
    let after = grants(&cluster);
    let used = cluster.checker.ids("tasks") - used;
    let report = load.stop().await;
    let seen = watch.stop().await;

    // Before a process knows what is asked of it, it may refuse; but nobody waits in vain.
    assert!(cold.lost.is_empty(), "{:?}", cold.lost);
    cold.assert_within(deadline);
    report.assert_flawless();
    report.assert_within(deadline);
    cluster.assert_unique();

    assert_eq!(before.len(), 2 * cluster.sequences().len(), "every process lives on the ledger: {before:?}");
    let more: BTreeMap<_, _> = after.iter().map(|(who, count)| (who, count - before[who])).collect();
    // Each covers five minutes, give or take what the load does; so a minute sees one or none.
    assert!(more.values().all(|grants| *grants <= 1), "in one minute: {more:?}");
    for (process, before) in cluster.allocators.iter().zip(requests) {
        let sent = asked(process).await - before;
        assert!(
            sent <= cluster.sequences().len() as f64,
            "{} asked {sent} times in a minute",
            process.name()
        );
    }
    let least = Settings::default().fallback.min_ids;
    assert!(used > 20 * least, "{used} IDs used: one grant of the least size each would have done");
    seen.assert_one_at_a_time();
    assert_eq!(seen.processes.len(), 3, "two allocators and the hydrator: {:?}", seen.processes);
}

/// Pops that the allocators have sent, whatever came of them.
async fn pops(cluster: &Cluster) -> f64 {
    let mut pops = 0.0;
    for process in &cluster.allocators {
        pops += process.metrics().await.sum("blockhouse_pod_requests_total", &[("operation", "pop")]);
    }
    pops
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_swallow_everything_for_a_minute_cost_hardly_a_caller_two_time_outs() {
    let time_out = Settings::default().redis.timeout;
    // Grants for seconds, so that processes come by the pods again and again: a reserve for minutes would hide them.
    let plan = Cluster::usual().proxies().set("fallback.cover = '5s'").set("fallback.min_ids = 1");
    let plan = plan.set(&format!("redis.timeout = '{}ms'", time_out.as_millis()));
    let cluster = plan.start().await;
    let load = load(&cluster, Duration::from_secs(2)).start();
    load.until_answered(100).await;
    let passed = || cluster.pod_proxies.iter().map(Proxy::sent_bytes).sum::<u64>();
    let tried = || cluster.pod_proxies.iter().map(Proxy::connections).sum::<u64>();
    load.forget();
    cluster.pod_proxies.iter().for_each(|pod| pod.set(Mode::Blackhole));
    let (connections, popped) = (tried(), pops(&cluster).await);
    wait::until(KNOWN, "a pod is tried anew", async || tried() > connections).await;
    let (before, granted) = ((passed(), tried()), cluster.grants("fallback"));
    load.go_on(MINUTE).await;
    let report = load.stop().await;
    let (passed, tried) = (passed() - before.0, tried() - before.1);
    let (popped, granted) = (pops(&cluster).await - popped, cluster.grants("fallback") - granted);

    report.assert_flawless();
    cluster.assert_unique();
    assert_eq!(passed, 0, "bytes got through");
    assert!(tried > 60, "{tried} connections of two processes to three pods in a minute");
    // Two workers and the reserve of two processes, three sequences, three pods: one pop each was under way, or next.
    let under_way = 3 * 2 * 3 * 3;
    assert!(
        popped <= f64::from(under_way),
        "{popped} pops: a pod that answers nothing is asked again and again"
    );
    assert!(3 * granted > 2 * i64::from(under_way), "only {granted} times somebody came by the three pods");
    let p99 = report.quantile(0.99);
    assert!(p99 < 2 * time_out, "p99 {p99:?} of {} answers", report.answered);
}
