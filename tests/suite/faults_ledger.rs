//! A ledger that fails: pods and reserve serve on, nothing is given twice, and it is spared when it comes back.

use std::time::Duration;

use crate::support::caller::{Caller, Outcome, Transport};
use crate::support::process::Process;
use crate::support::proxy::Mode;
use crate::support::{Cluster, wait};

/// How long processes may take to notice that the ledger is back, or is another.
const NOTICE: Duration = Duration::from_secs(20);

/// Waits for a pass of the hydrator that needed the ledger and got what it asked.
async fn until_hydrated_again(cluster: &Cluster) {
    let last_success = async || cluster.hydrators[0].status().await["hydrator"]["last_success"].clone();
    let before = last_success().await;
    wait::until(NOTICE, "the hydrator makes another pass", async || last_success().await != before).await;
}

async fn until_ledger_is(process: &Process, state: &str) {
    wait::until(NOTICE, &format!("{} sees the ledger {state}", process.name()), async || {
        process.status().await["ledger"]["state"] == state
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_ledger_away_pods_serve_on_and_the_hydrator_recovers_by_itself() {
    let mut cluster = Cluster::usual().start().await;
    let load = cluster.load().counts(1..=500).start();
    load.until_answered(300).await;
    cluster.postgres.as_mut().expect("the plan has a ledger").stop();
    load.go_on(Duration::from_secs(4)).await;
    load.until_answered(300).await;
    cluster.postgres.as_mut().expect("the plan has a ledger").launch();
    until_hydrated_again(&cluster).await;
    load.stop().await.assert_flawless();
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_started_while_the_ledger_is_away_serves_from_the_pods() {
    let mut cluster = Cluster::usual().start().await;
    cluster.postgres.as_mut().expect("the plan has a ledger").stop();
    let mut late = cluster.process("late", "allocator");
    late.ready().await;
    cluster.allocators.push(late);
    let load = cluster.load().counts(1..=500).start();
    load.until_answered(500).await;
    load.stop().await.assert_flawless();

    cluster.postgres.as_mut().expect("the plan has a ledger").launch();
    let load = cluster.load().start();
    until_hydrated_again(&cluster).await;
    load.stop().await.assert_flawless();
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_ledger_goes_on_without_anybody() {
    let mut cluster = Cluster::usual().start().await;
    let load = cluster.load().counts(1..=500).start();
    for _ in 0..3 {
        load.until_answered(200).await;
        cluster.postgres.as_mut().expect("the plan has a ledger").restart();
        until_hydrated_again(&cluster).await;
    }
    load.stop().await.assert_flawless();
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_replies_of_grants_repeat_nothing() {
    let cluster =
        Cluster::usual().proxies().set("hydrator.interval = '100ms'").set("ledger.timeout = '500ms'");
    let cluster = cluster.start().await;
    let load = cluster.load().retrying().start();
    let proxy = cluster.ledger_proxy.as_ref().expect("the plan has proxies");
    for round in 0..6 {
        // Every other time the pods are gone as well, so that callers' own grants are lost too.
        let pods = if round % 2 == 0 { Mode::Pass } else { Mode::Reset };
        cluster.pod_proxies.iter().for_each(|pod| pod.set(pods));
        let before = proxy.dropped_bytes();
        proxy.set(Mode::DropReplies);
        wait::until(NOTICE, "a reply is lost", async || proxy.dropped_bytes() > before).await;
        load.go_on(Duration::from_millis(700)).await;
        proxy.set(Mode::Pass);
        cluster.pod_proxies.iter().for_each(|pod| pod.set(Mode::Pass));
        load.until_answered(200).await;
    }
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "refused {:?}, lost {:?}", report.refused, report.lost);
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_answers_too_late_burns_no_more_than_what_is_waited_for() {
    let plan = Cluster::new().postgres().proxies().allocators(1).sequence("tasks");
    let cluster = plan.set("ledger.timeout = '200ms'").set("fallback.max_wait = '1s'").start().await;
    let proxy = cluster.ledger_proxy.as_ref().expect("the plan has proxies");
    let mut caller = Caller::new(Transport::Grpc, cluster.allocators[0].port());

    let before = cluster.granted("tasks");
    proxy.set(Mode::Latency(Duration::from_millis(500)));
    let mut late = 0;
    while late < 10 {
        match caller.ask("tasks", 10, Duration::from_secs(1)).await {
            Outcome::Given { spans, .. } => panic!("{spans:?} from a ledger that answers too late"),
            Outcome::Refused { .. } | Outcome::Lost(_) => late += 1,
        }
    }
    let burnt = cluster.granted("tasks") - before;
    // The first was sized for minutes of traffic, before anybody knew; those after it for one caller each.
    assert!(burnt <= 10_000 + 10 * 10, "{burnt} IDs burnt by ten requests for 10 IDs");

    proxy.set(Mode::Pass);
    wait::until(NOTICE, "the ledger is used again", async || {
        matches!(caller.ask("tasks", 10, Duration::from_secs(1)).await, Outcome::Given { .. })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exercise_never_costs_a_caller_its_request_or_its_deadline() {
    let plan = Cluster::usual().set("exercise.ratio = 1.0").set("exercise.max_per_minute = 60000.0");
    let mut cluster = plan.start().await;
    let load = cluster.load().grpc().callers(4).counts(1..=100).deadline(Duration::from_millis(100));
    let load = load.pace(Duration::from_millis(20)).start();
    load.until_answered(200).await;
    assert!(cluster.grants("exercise") > 0, "requests are exercised at all");

    cluster.postgres.as_mut().expect("the plan has a ledger").stop();
    load.go_on(Duration::from_secs(3)).await;
    cluster.postgres.as_mut().expect("the plan has a ledger").launch();
    load.until_answered(100).await;
    cluster.ledger().pause();
    load.go_on(Duration::from_secs(3)).await;
    cluster.ledger().resume();
    load.until_answered(100).await;
    let report = load.stop().await;
    report.assert_flawless();
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_restored_from_a_dump_is_closed_and_the_pods_serve_on() {
    let cluster = Cluster::usual().start().await;
    let dump = cluster.ledger().client("pg_dump").args(["--clean", "--schema=blockhouse"]).output();
    let dump = String::from_utf8(dump.expect("pg_dump runs").stdout).expect("a dump is text");
    let load = cluster.load().counts(1..=500).start();
    load.until_answered(300).await;

    cluster.ledger().give("dump.sql", &dump);
    let mut restore = cluster.ledger().client("psql");
    restore.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f"]);
    let restored = restore.arg(cluster.ledger().data().join("dump.sql")).output().expect("psql runs");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let granted = cluster.granted("tasks");

    for process in &cluster.hydrators {
        until_ledger_is(process, "closed").await;
        let status = process.status().await;
        assert!(!status["problems"].as_array().expect("a list").is_empty(), "{status}");
    }
    load.until_answered(300).await;
    load.stop().await.assert_flawless();
    cluster.assert_unique();
    assert_eq!(cluster.granted("tasks"), granted, "a closed ledger grants nothing");
}
