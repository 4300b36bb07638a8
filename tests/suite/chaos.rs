//! Drills in a whole process, among others, on real servers: by the commands that operators have.

use std::process::Output;
use std::time::Duration;

use crate::support::cluster::Plan;
use crate::support::process::{Process, run};
use crate::support::redis::Redis;
use crate::support::{Cluster, wait};

/// How long something may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Drills in earnest, by hand only. The limit of errors is wide: a busy machine refuses some callers at first.
const DRILLS: [&str; 7] = [
    "chaos.enabled=true",
    "chaos.dry_run=false",
    "chaos.quiet=[]",
    "chaos.every=0s",
    "chaos.terminate_every=0s",
    "chaos.pause=1ms",
    "chaos.max_errors=0.5",
];

fn plan() -> Plan {
    Cluster::new().pods(3).postgres().allocators(2).hydrator().sequence("tasks")
}

/// One more allocator, with the role chaos and these settings, that serves.
async fn with_chaos(cluster: &Cluster, settings: &[&str]) -> Process {
    let mut process = cluster.process_with("drilled", "allocator,chaos", settings);
    process.ready().await;
    process
}

fn chaos(process: &Process, arguments: &[&str]) -> Output {
    let admin = process.admin_url();
    run(&[&["chaos"], arguments, &["--admin", &admin]].concat())
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asserts that it failed with this exit code and this reason.
#[track_caller]
fn assert_refused(output: &Output, code: i32, says: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(says), "{said}");
    assert!(output.stdout.is_empty(), "{}", stdout(output));
}

/// Injects it, once the process has heard of all others.
async fn inject(process: &Process, fault: &[&str]) {
    let mut said = String::new();
    wait::until(PATIENCE, &format!("{fault:?} is injected"), async || {
        let output = chaos(process, &[&["inject"], fault, &["--yes"]].concat());
        said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 75)), "{said}");
        output.status.success()
    })
    .await;
}

async fn until_over(process: &Process) {
    wait::until(Duration::from_secs(60), "the drill is over", async || {
        process.status().await["chaos"]["running"].is_null()
    })
    .await;
}

async fn until_pods_are(process: &Process, state: &str) {
    wait::until(PATIENCE, &format!("all pods are {state}"), async || {
        let status = process.status().await;
        status["pods"].as_array().unwrap().iter().all(|pod| pod["state"] == state)
    })
    .await;
}

async fn until_ledger_is(process: &Process, state: &str) {
    wait::until(PATIENCE, &format!("the ledger is {state}"), async || {
        process.status().await["ledger"]["state"] == state
    })
    .await;
}

async fn faults(process: &Process, fault: &str) -> f64 {
    process.metrics().await.sum("blockhouse_chaos_faults_total", &[("fault", fault)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_outage_drill_under_load_fails_no_caller() {
    let cluster = plan().start().await;
    let process = with_chaos(&cluster, &DRILLS).await;
    let load = cluster.load_on(std::slice::from_ref(&process)).retrying().start();
    load.until_answered(200).await;
    inject(&process, &["pods_gone", "--for", "10s"]).await;
    until_pods_are(&process, "down").await;
    load.until_answered(200).await;
    until_over(&process).await;
    until_pods_are(&process, "up").await;
    load.until_answered(200).await;
    let report = load.stop().await;
    cluster.assert_unique();
    assert_eq!((report.given_up, report.lost.len()), (0, 0), "{:?}", report.lost);
    assert!(report.tiers.contains_key("TIER_LEDGER"), "{:?}", report.tiers);

    let status = process.status().await;
    let drill = &status["chaos"]["history"][0];
    assert_eq!(
        (drill["fault"].as_str(), drill["outcome"].as_str()),
        (Some("pods_gone"), Some("done")),
        "{drill}"
    );
    assert_eq!(faults(&process, "pods_gone").await, 1.0);
    let log = process.log();
    assert!(log.contains("a drill begins") && log.contains("a drill is over"), "{log}");
    for other in &cluster.allocators {
        let down = other.metrics().await.sum("blockhouse_pod_up", &[]);
        assert_eq!(down, 3.0, "{} lost a pod by a drill of another's", other.name());
    }
}

async fn exercises(process: &Process, outcome: &str) -> f64 {
    process.metrics().await.sum("blockhouse_exercises_total", &[("outcome", outcome)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_ledger_gone_by_a_drill_no_caller_notices_and_it_comes_back() {
    let cluster = plan().start().await;
    // Requests that go straight to the ledger: somebody has to miss it.
    let exercised = ["exercise.ratio=0.2", "exercise.max_per_minute=600"];
    let process = with_chaos(&cluster, &[&DRILLS[..], &exercised].concat()).await;
    until_ledger_is(&process, "up").await;
    let load = cluster.load_on(std::slice::from_ref(&process)).start();
    load.until_answered(100).await;
    inject(&process, &["ledger_gone", "--for", "15s"]).await;
    until_ledger_is(&process, "down").await;
    load.until_answered(100).await;
    until_over(&process).await;
    until_ledger_is(&process, "up").await;
    let worked = exercises(&process, "ok").await;
    wait::until(PATIENCE, "grants are had again", async || exercises(&process, "ok").await > worked).await;
    load.stop().await.assert_flawless();
    cluster.assert_unique();
    assert_eq!(faults(&process, "ledger_gone").await, 1.0);
    let log = process.log();
    assert!(log.contains("no connection within 3.0s (a drill)"), "it says that it is a drill");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stop_switch_ends_a_drill_and_keeps_the_process_from_more() {
    let cluster = plan().start().await;
    let process = with_chaos(&cluster, &DRILLS).await;
    inject(&process, &["pods_gone", "--for", "5m"]).await;
    until_pods_are(&process, "down").await;
    let listed = stdout(&chaos(&process, &["list"]));
    assert!(listed.contains("pods_gone for 5m runs since"), "{listed}");
    assert_refused(&chaos(&process, &["inject", "pod_slow", "--yes"]), 75, "one fault at once");

    let stopped = chaos(&process, &["stop"]);
    assert!(
        stopped.status.success() && stdout(&stopped).contains("until it is started again"),
        "{stopped:?}"
    );
    until_pods_are(&process, "up").await;
    assert_refused(&chaos(&process, &["inject", "pod_slow", "--yes"]), 1, "stopped by an operator");
    assert!(chaos(&process, &["stop"]).status.success(), "twice is as good as once");
    let status = process.status().await;
    let drill = &status["chaos"]["history"][0];
    assert_eq!(
        (drill["outcome"].as_str(), drill["why"].as_str()),
        (Some("ended"), Some("stopped by an operator"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_says_why_and_whether_to_try_again() {
    let cluster = plan().start().await;
    let plain = &cluster.allocators[0];
    assert_refused(&chaos(plain, &["inject", "pod_gone", "--yes"]), 1, "has not the role chaos");
    assert_refused(&chaos(plain, &["list"]), 1, "has not the role chaos");
    assert_refused(&chaos(plain, &["stop"]), 1, "has not the role chaos");

    let disabled = with_chaos(&cluster, &[]).await;
    assert_refused(&chaos(&disabled, &["inject", "pod_gone", "--yes"]), 1, "chaos.enabled");
    assert!(stdout(&chaos(&disabled, &["list"])).contains("not enabled"));
    drop(disabled);

    let process = with_chaos(&cluster, &DRILLS).await;
    inject(&process, &["pod_slow", "--for", "1s"]).await;
    until_over(&process).await;
    for (arguments, code, says) in [
        (&["inject", "pod_gone"][..], 2, "--yes"),
        (&["inject", "pod_gone", "--yes", "--for", "2h"], 1, "chaos.max_duration"),
        (&["inject", "pod_gone", "--yes", "--target", "nowhere:1"], 1, "is no pod that answers"),
        (&["inject", "actor_panic", "--yes", "--target", "nobody"], 1, "allocator-0, allocator-1, buffer"),
    ] {
        assert_refused(&chaos(&process, arguments), code, says);
    }
    assert_refused(&run(&["chaos", "list", "--admin", "127.0.0.1:1"]), 69, "can't reach");

    drop(cluster.allocators);
    wait::until(PATIENCE, "two processes are too few", async || {
        let refused = chaos(&process, &["inject", "pod_slow", "--for", "1s", "--yes"]);
        refused.status.code() == Some(75) && String::from_utf8_lossy(&refused.stderr).contains("min_peers")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let cluster = plan().start().await;
    let process = with_chaos(&cluster, &[&DRILLS[..], &["chaos.dry_run=true"]].concat()).await;
    inject(&process, &["pods_gone"]).await;
    let said = stdout(&chaos(&process, &["inject", "process_terminated", "--yes"]));
    assert!(said.contains("would be injected (dry run): process_terminated"), "{said}");
    let listed = stdout(&chaos(&process, &["list"]));
    assert!(listed.contains("dry run (chaos.dry_run)") && listed.contains("dry_run\n"), "{listed}");
    assert_eq!(faults(&process, "pods_gone").await, 0.0);
    until_pods_are(&process, "up").await;
    assert!(process.is_ready().await);
    assert!(process.log().contains("were this not a dry run"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_terminated_drains_and_ends_well() {
    let cluster = plan().start().await;
    let mut process = with_chaos(&cluster, &DRILLS).await;
    inject(&process, &["process_terminated"]).await;
    let status = process.exit(PATIENCE).await;
    assert_eq!(status.code(), Some(0), "{}", process.log());
    assert!(process.log().contains("drained"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_really_dies_ends_a_drill_that_takes_another() {
    let mut cluster = plan().start().await;
    let process = with_chaos(&cluster, &DRILLS).await;
    let target = format!("127.0.0.1:{}", cluster.pods[0].port());
    inject(&process, &["pod_gone", "--target", &target, "--for", "5m"]).await;
    Redis::kill(&mut cluster.pods[1]);
    until_over(&process).await;
    let status = process.status().await;
    let drill = &status["chaos"]["history"][0];
    assert!(drill["why"].as_str().is_some_and(|why| why.contains("other pods answer")), "{drill}");
}
