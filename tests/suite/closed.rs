//! A ledger that may have gone back in time (S3): closed for everybody, the reason said wherever somebody looks, and the pods serve on.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::Value;

use crate::support::caller::{Caller, Outcome, Transport};
use crate::support::cluster::Plan;
use crate::support::http::Connection;
use crate::support::load::Running;
use crate::support::postgres::Postgres;
use crate::support::process::{self, Process};
use crate::support::{Cluster, http, wait};

/// How long processes may take to notice that the ledger is another.
const NOTICE: Duration = Duration::from_secs(20);
/// Between two requests of a caller: what lies in the pods is to outlast a slow machine.
const PACE: Duration = Duration::from_millis(10);

/// With a second hydrator, that doesn't lead. An allocator whose pods have blocks hears of its ledger by exercises: many, so
/// that each does at once.
fn exercised() -> Plan {
    Cluster::usual().hydrator().set("exercise.ratio = 0.2").set("exercise.max_per_minute = 600.0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_in_the_primarys_place_is_closed_and_the_pods_serve_on() {
    let mut cluster = exercised().start().await;
    let load = cluster.load().counts(1..=500).pace(PACE).start();
    load.until_answered(300).await;

    // Replication is asynchronous: what the standby hasn't got when the primary dies is lost.
    let mut primary = cluster.postgres.take().expect("the plan has a ledger");
    let mut standby = primary.standby();
    standby.fall_behind();
    let replicated = counters(&standby);
    wait::until(NOTICE, "grants that only the primary has", async || counters(&primary) != replicated).await;
    primary.crash();
    standby.promote();
    let promoted = counters(&standby);
    standby.replace(&mut primary);
    cluster.postgres = Some(standby);

    assert_closed_for_everybody(&mut cluster, load, "was promoted").await;
    assert_eq!(counters(cluster.ledger()), promoted, "a closed ledger grants nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_restored_over_the_ledger_is_closed_and_the_pods_serve_on() {
    let mut cluster = exercised().start().await;
    let load = cluster.load().counts(1..=500).pace(PACE).start();
    load.until_answered(300).await;
    let dump = cluster.ledger().dump();
    let dumped = counters(cluster.ledger());
    wait::until(NOTICE, "grants that the dump lacks", async || counters(cluster.ledger()) != dumped).await;

    // Read in the transaction that restores, before anybody else can see the ledger again.
    let mut more = File::options().append(true).open(dump.path()).expect("the dump can be added to");
    writeln!(more, "CREATE TABLE public.restored AS {COUNTERS};").expect("the dump can be added to");
    cluster.ledger().restore(&dump);

    assert_closed_for_everybody(&mut cluster, load, "restoring a dump").await;
    let restored = cluster.ledger().psql("SELECT counters FROM public.restored");
    assert_eq!(counters(cluster.ledger()), restored, "a closed ledger grants nothing");
}

/// What every sequence has granted, and in how many grants.
const COUNTERS: &str = "SELECT string_agg(format('%s: %s IDs in %s grants', name, granted, grants), ', ' \
    ORDER BY name) AS counters FROM blockhouse.sequences";

fn counters(ledger: &Postgres) -> String {
    ledger.psql(COUNTERS)
}

/// Sees the ledger closed by every process, also by one that starts then, and takes the pods away last. Their IDs and what
/// is in memory is all that anybody gets.
async fn assert_closed_for_everybody(cluster: &mut Cluster, load: Running, why: &str) {
    for process in cluster.allocators.iter().chain(&cluster.hydrators) {
        until_closed(process).await;
    }
    let mut late = cluster.process("late", "allocator");
    late.ready().await;
    until_closed(&late).await;
    cluster.allocators.push(late);
    load.until_answered(300).await;
    load.stop().await.assert_flawless();
    let load = cluster.load().counts(1..=500).pace(PACE).start();
    load.until_answered(300).await;
    load.stop().await.assert_flawless();

    let reason = cluster.ledger().psql("SELECT reason FROM blockhouse.ledger");
    assert!(reason.contains(why), "{reason}");
    for process in cluster.allocators.iter().chain(&cluster.hydrators) {
        assert_operators_are_told(process, &reason).await;
    }
    cluster.pods.iter_mut().for_each(|pod| pod.kill());
    for allocator in &cluster.allocators {
        use_up(cluster, allocator).await;
        assert_callers_are_told(allocator, &reason).await;
    }
    for process in cluster.allocators.iter().chain(&cluster.hydrators) {
        assert_probes_are_told(process, &reason).await;
    }
    cluster.assert_unique();
}

async fn until_closed(process: &Process) {
    wait::until(NOTICE, &format!("{} sees the ledger closed", process.name()), async || {
        process.status().await["ledger"]["state"] == "closed"
    })
    .await;
}

/// The status, its problems, the metrics, the log and `blockhouse status`.
async fn assert_operators_are_told(process: &Process, reason: &str) {
    let (name, status) = (process.name(), process.status().await);
    assert_eq!(status["ledger"]["state"], "closed", "{name}: {status}");
    assert_eq!(status["ledger"]["last_error"], reason, "{name}: {status}");
    let problems = status["problems"].as_array().cloned().unwrap_or_default();
    let [problem] = &problems[..] else { panic!("{name} has one problem: {status}") };
    assert_eq!(problem["what"], format!("the ledger is closed: {reason}"), "{name}");
    assert!(problem["do"].as_str().is_some_and(|what| what.contains("blockhouse ledger show")), "{problem}");

    let metrics = process.metrics().await;
    assert_eq!(metrics.sum("blockhouse_ledger_up", &[]), 0.0, "{name}");
    let trips = metrics.sum("blockhouse_fence_trips_total", &[("fence", "incarnation")]);
    assert_eq!(trips, 1.0, "{name} sees one fence trip, however often it asks");

    let warned = |record: &Value| record["state"] == "closed" && record["error"] == reason;
    assert_eq!(records(process).filter(warned).count(), 1, "{name} says it once:\n{}", process.log());

    let shown = process::run(&["status", "--admin", &process.admin_url()]);
    let page = String::from_utf8_lossy(&shown.stdout);
    assert_eq!(shown.status.code(), Some(1), "{page}");
    assert!(page.contains(&format!("{name}: the ledger is closed: {reason}")), "{page}");
}

/// What it logged.
fn records(process: &Process) -> impl Iterator<Item = Value> {
    let log = process.log();
    let records: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    records.into_iter()
}

/// Takes whatever memory still holds.
async fn use_up(cluster: &Cluster, allocator: &Process) {
    let mut caller = Caller::new(Transport::Grpc, allocator.port());
    for sequence in cluster.sequences() {
        for count in [256, 64, 16, 4, 1] {
            let reason = loop {
                match caller.ask(sequence, count, Duration::from_secs(2)).await {
                    Outcome::Given { spans, .. } => {
                        spans.into_iter().for_each(|span| cluster.checker.record(sequence, span));
                    }
                    Outcome::Refused { reason, .. } => break reason,
                    Outcome::Lost(what) => panic!("{}: {what}", allocator.name()),
                }
            };
            assert_eq!(reason, "LEDGER_CLOSED", "{} of {sequence}", allocator.name());
        }
    }
}

async fn assert_callers_are_told(allocator: &Process, reason: &str) {
    let mut connection = Connection::open(allocator.port()).await.expect("it listens");
    // As much as one request may ask for: more than another worker's rest of a block.
    let answer = connection.send(Method::POST, "/v1/sequences/tasks/ids", r#"{"count":5000}"#).await;
    let answer = answer.expect("an answer");
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let error = &body["error"];
    assert_eq!((answer.status, &error["reason"]), (StatusCode::SERVICE_UNAVAILABLE, &"LEDGER_CLOSED".into()));
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains(reason) && message.contains("blockhouse ledger show"), "{error}");
    assert!(error["retryAfter"].is_string(), "{error}");
    let refusals = allocator.metrics().await.sum("blockhouse_refusals_total", &[("reason", "LEDGER_CLOSED")]);
    assert!(refusals >= 1.0, "{} counts them", allocator.name());
    let logged = records(allocator).any(|record| record["reason"] == "LEDGER_CLOSED");
    assert!(logged, "{} logs them", allocator.name());
}

/// `/readyz`, once there is nothing left to serve from.
async fn assert_probes_are_told(process: &Process, reason: &str) {
    let mut said = String::new();
    wait::until(NOTICE, &format!("{} is not ready any more", process.name()), async || {
        let answer = http::get(process.admin_port(), "/readyz").await.expect("the admin port answers");
        said = String::from_utf8_lossy(&answer.body).into_owned();
        answer.status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    assert!(said.contains("the ledger is closed") && said.contains(reason), "{}: {said}", process.name());
}
