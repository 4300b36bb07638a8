//! Whatever stops tier 3 names one cause and one command wherever somebody looks: status, page, metric, log and the caller's error.
//! That command, and nothing else, puts it right.

use std::time::Duration;

use blockhouse_client::v1::AllocateRequest;
use blockhouse_client::v1::allocation_service_client::AllocationServiceClient;
use hyper::{Method, StatusCode};
use serde_json::Value;
use tonic::transport::Endpoint;
use tonic_types::StatusExt;

use crate::support::caller::{Caller, Outcome, Transport};
use crate::support::http::Connection;
use crate::support::process::{self, Process};
use crate::support::{Cluster, http, wait};

const PATIENCE: Duration = Duration::from_secs(60);
/// As much as one request may ask for.
const MOST: u32 = 5_000;

/// What is said of one stop.
struct Said<'a> {
    /// In the problem.
    what: String,
    /// In the caller's error, for people: the cause in the problem's words.
    cause: String,
    /// In the caller's error, for programs.
    reason: &'a str,
    /// What puts it right, as it is named.
    command: &'a str,
    /// The metric that shows it, and its value meanwhile.
    metric: (&'a str, &'a [(&'a str, &'a str)], f64),
}

impl<'a> Said<'a> {
    fn halted(why: &str) -> Said<'a> {
        Said {
            what: format!("sequence 'tasks' is halted: {why}"),
            cause: format!("sequence 'tasks' is halted ({why})"),
            reason: "SEQUENCE_HALTED",
            command: "blockhouse sequence resume tasks",
            metric: ("blockhouse_sequence_halted", &[("sequence", "tasks")], 1.0),
        }
    }

    fn closed(why: &str) -> Said<'a> {
        Said {
            what: format!("the ledger is closed: {why}"),
            cause: format!("the ledger is closed: {why}"),
            reason: "LEDGER_CLOSED",
            command: "blockhouse ledger accept-failover",
            metric: ("blockhouse_ledger_up", &[], 0.0),
        }
    }
}

/// So few IDs in the pods that they are soon used up. Allocators hear of their ledger by exercises, many of them: one whose pods have
/// blocks again would else ask only now and then.
async fn little_in_the_pods() -> Cluster {
    let plan = Cluster::new().pods(3).postgres().allocators(2).hydrator().sequence("tasks");
    let plan = plan.set("exercise.ratio = 0.2").set("exercise.max_per_minute = 600.0");
    plan.set("hydrator.min_ids = 6000").set("hydrator.max_ids = 6000").start().await
}

fn processes(cluster: &Cluster) -> impl Iterator<Item = &Process> {
    cluster.allocators.iter().chain(&cluster.hydrators)
}

/// Sees that everybody says it, carries the named command out, and sees that all is well, with every process still in its first life.
async fn is_said_and_put_right(cluster: &Cluster, said: &Said<'_>) {
    is_said(cluster, said).await;
    cluster.succeed(&words(said.command));
    is_well_again(cluster, said).await;
}

async fn is_said(cluster: &Cluster, said: &Said<'_>) {
    for allocator in &cluster.allocators {
        assert_callers_are_told(cluster, allocator, said).await;
    }
    for process in processes(cluster) {
        assert_operators_are_told(process, said).await;
    }
}

/// What the named command is run with, confirmed beforehand.
fn words(command: &str) -> Vec<&str> {
    command.split(' ').skip(1).chain(["--yes"]).collect()
}

async fn is_well_again(cluster: &Cluster, said: &Said<'_>) {
    let before: Vec<_> = processes(cluster).map(Process::pid).collect();
    for allocator in &cluster.allocators {
        let mut caller = Caller::new(Transport::Grpc, allocator.port());
        wait::until(PATIENCE, &format!("{} hands out IDs again", allocator.name()), async || {
            matches!(ask(cluster, &mut caller).await, Outcome::Given { .. })
        })
        .await;
    }
    for process in processes(cluster) {
        let name = process.name();
        let mut caller = Caller::new(Transport::Grpc, process.port());
        wait::until(PATIENCE, &format!("{name} has no problem any more"), async || {
            // What is asked of an allocator is what makes it ask its ledger.
            ask(cluster, &mut caller).await;
            let status = process.status().await;
            let (name, labels, stopped) = said.metric;
            status["problems"].as_array().is_some_and(Vec::is_empty)
                && process.metrics().await.sum(name, labels) != stopped
        })
        .await;
        let first = |starts: &str| process.log().matches(starts).count() == 1;
        assert!(first("\"the ledger is known\"") || said.reason == "LEDGER_CLOSED", "{name} goes on");
    }
    assert_eq!(before, processes(cluster).map(Process::pid).collect::<Vec<_>>(), "nobody was restarted");
    cluster.assert_unique();
}

async fn ask(cluster: &Cluster, caller: &mut Caller) -> Outcome {
    let outcome = caller.ask("tasks", MOST, Duration::from_secs(2)).await;
    if let Outcome::Given { spans, .. } = &outcome {
        spans.iter().for_each(|span| cluster.checker.record("tasks", *span));
    }
    outcome
}

/// Over gRPC and over HTTP, once nothing is left in pods and memory.
async fn assert_callers_are_told(cluster: &Cluster, allocator: &Process, said: &Said<'_>) {
    let name = allocator.name();
    let mut caller = Caller::new(Transport::Grpc, allocator.port());
    wait::until(PATIENCE, &format!("{name} refuses with {}", said.reason), async || {
        matches!(ask(cluster, &mut caller).await, Outcome::Refused { reason, .. } if reason == said.reason)
    })
    .await;
    for (reason, message) in [refusal_over_grpc(allocator).await, refusal_over_http(allocator).await] {
        assert_eq!(reason, said.reason, "{name}: {message}");
        assert!(message.contains(&said.cause), "{name}: {:?} is not in {message:?}", said.cause);
        assert!(message.contains(said.command), "{name}: {message}");
    }
    let logged = records(allocator)
        .any(|record| record["detail"].as_str().is_some_and(|detail| detail.contains(&said.cause)));
    assert!(logged, "{name} logs what it refuses with");
    let refused = allocator.metrics().await.sum("blockhouse_refusals_total", &[("reason", said.reason)]);
    assert!(refused >= 1.0, "{name} counts what it refuses with");
}

async fn refusal_over_grpc(allocator: &Process) -> (String, String) {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", allocator.port()));
    let channel = endpoint.expect("a valid address").connect().await.expect("it listens");
    let request = AllocateRequest { sequence: "tasks".to_owned(), count: MOST };
    let status = AllocationServiceClient::new(channel).allocate(request).await.expect_err("nothing is left");
    let info = status.get_details_error_info().expect("a refusal has its reason");
    (info.reason, status.message().to_owned())
}

async fn refusal_over_http(allocator: &Process) -> (String, String) {
    let mut connection = Connection::open(allocator.port()).await.expect("it listens");
    let body = format!("{{\"count\":{MOST}}}");
    let answer = connection.send(Method::POST, "/v1/sequences/tasks/ids", body).await.expect("an answer");
    assert_ne!(answer.status, StatusCode::OK, "nothing is left");
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let text = |key: &str| body["error"][key].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

/// In `/api/v1/status`, on the page, by `blockhouse status` with and without `--json`, in the metrics and in the log.
async fn assert_operators_are_told(process: &Process, said: &Said<'_>) {
    let (name, command) = (process.name(), said.command);
    let told = |problems: &Value| {
        let of = |problem: &Value, key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        let is_it = |problem: &Value| of(problem, "what") == said.what && of(problem, "do").contains(command);
        problems.as_array().is_some_and(|problems| problems.iter().any(is_it))
    };
    let mut problems = Value::Null;
    let why = format!("{name} says: {}, and {command}", said.what);
    let told_in_time = wait::until(PATIENCE, &why, async || {
        problems = process.status().await["problems"].clone();
        told(&problems)
    });
    told_in_time.await;

    let page = http::get(process.admin_port(), "/").await.expect("the admin port answers");
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(page.contains(&said.what) && page.contains(command), "{name}: {page}");
    let shown = process::run(&["status", "--admin", &process.admin_url()]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.status.code(), Some(1), "{name}: {text}");
    assert!(text.contains(&format!("{name}: {}", said.what)) && text.contains(command), "{text}");
    let listed = process::run(&["status", "--json", "--admin", &process.admin_url()]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert!(told(&listed[0]["problems"]), "{name}: {listed}");

    let (metric, labels, stopped) = said.metric;
    wait::until(PATIENCE, &format!("{metric} of {name} is {stopped}"), async || {
        process.metrics().await.sum(metric, labels) == stopped
    })
    .await;
    let logged = records(process).any(|record| {
        record["what"] == said.what.as_str()
            && record["do"].as_str().is_some_and(|what| what.contains(command))
    });
    assert!(logged, "{name} logs it:\n{}", process.log());
}

fn records(process: &Process) -> impl Iterator<Item = Value> {
    let log = process.log();
    let records: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    records.into_iter()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequence_halted_by_an_operator_or_by_a_tripwire_is_put_right_by_resume() {
    let cluster = little_in_the_pods().await;
    cluster.succeed(&["sequence", "halt", "tasks", "--reason", "IDs above 7 are being checked", "--yes"]);
    is_said_and_put_right(&cluster, &Said::halted("IDs above 7 are being checked")).await;
    // As a process does whose grant overlaps what it has served.
    let why = "grant 7 (1:10) overlaps 5:3, which was served before";
    cluster.ledger().psql(&format!("SELECT blockhouse.halt('tasks', '{why}')"));
    is_said_and_put_right(&cluster, &Said::halted(why)).await;
}

/// Why the ledger is closed, once somebody has closed it.
async fn reason(cluster: &Cluster, contains: &str) -> String {
    let mut reason = String::new();
    wait::until(PATIENCE, "the ledger is closed", async || {
        reason = cluster.ledger().psql("SELECT reason FROM blockhouse.ledger");
        !reason.is_empty()
    })
    .await;
    assert!(reason.contains(contains), "{reason}");
    reason
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_went_back_is_closed_and_put_right_by_accepting() {
    let cluster = little_in_the_pods().await;
    // As older files would have it.
    cluster.ledger().psql(
        "ALTER TABLE blockhouse.sequences DISABLE TRIGGER forward_only;
         UPDATE blockhouse.sequences SET granted = 5000, newest_first = 1, newest_last = 5000;
         ALTER TABLE blockhouse.sequences ENABLE ALWAYS TRIGGER forward_only;",
    );
    use_up(&cluster).await;
    let why = reason(&cluster, "the ledger went back in time").await;
    is_said_and_put_right(&cluster, &Said::closed(&why)).await;
}

/// What the pods still hold, so that somebody has to ask the ledger.
async fn use_up(cluster: &Cluster) {
    let mut caller = Caller::new(Transport::Grpc, cluster.allocators[0].port());
    wait::until(PATIENCE, "the pods are used up", async || {
        !matches!(ask(cluster, &mut caller).await, Outcome::Given { .. })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_was_promoted_is_closed_and_put_right_by_accepting() {
    let cluster = little_in_the_pods().await;
    // It remembers another timeline than it runs on.
    cluster.ledger().psql("UPDATE blockhouse.ledger SET timeline = '000000FF'");
    let why = reason(&cluster, "was promoted").await;
    is_said_and_put_right(&cluster, &Said::closed(&why)).await;
}

/// It is open, in a life that theirs did not lead to: as an old primary is, or a copy that somebody accepted elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_of_another_line_of_history_is_refused_and_put_right_by_the_right_one() {
    let cluster = little_in_the_pods().await;
    let ledger = cluster.ledger();
    ledger.psql(
        "CREATE TABLE public.right_one AS SELECT epoch, token FROM blockhouse.ledger;
         ALTER TABLE blockhouse.ledger DISABLE TRIGGER ALL;
         ALTER TABLE blockhouse.lives DISABLE TRIGGER ALL;
         BEGIN;
         DELETE FROM blockhouse.lives;
         UPDATE blockhouse.ledger SET epoch = 7, token = gen_random_uuid();
         INSERT INTO blockhouse.lives (epoch, token, reason) SELECT epoch, token, 'accepted' FROM blockhouse.ledger;
         COMMIT",
    );
    let why = "the ledger is in life 7 of another line of history than life 1, which this process follows: it may be an old primary \
               or a restored copy";
    let said = Said {
        what: format!("the ledger is refused: {why}"),
        cause: format!("the ledger is refused: {why}"),
        reason: "LEDGER_UNREACHABLE",
        command: "point ledger.url, environment and ledger.id at the right ledger",
        metric: ("blockhouse_ledger_up", &[], 0.0),
    };
    is_said(&cluster, &said).await;
    ledger.psql(
        "BEGIN;
         UPDATE blockhouse.ledger AS l SET epoch = r.epoch, token = r.token FROM public.right_one AS r;
         INSERT INTO blockhouse.lives (epoch, token, reason) SELECT epoch, token, 'created' FROM public.right_one;
         COMMIT",
    );
    is_well_again(&cluster, &said).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_ledger_that_waits_for_a_cluster_says_for_which_and_goes_on_without_it() {
    let mut cluster = little_in_the_pods().await;
    cluster.ledger().psql(
        "INSERT INTO blockhouse.clusters (name, leader, renewed_at, lease_ends)
         VALUES ('elsewhere', 'gone', clock_timestamp(), clock_timestamp())",
    );
    cluster.postgres.as_mut().expect("the plan has a ledger").restart();
    let why = reason(&cluster, "the server was restarted").await;
    let said = Said::closed(&why);
    is_said(&cluster, &said).await;
    let refused = cluster.command(&words(said.command));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("cluster elsewhere has not reported") && told.contains("--without"), "{told}");
    cluster.succeed(&[&words(said.command)[..], &["--without", "elsewhere"]].concat());
    is_well_again(&cluster, &said).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequence_that_is_used_up_is_put_right_by_a_higher_maximum() {
    let cluster = little_in_the_pods().await;
    let granted = cluster.granted("tasks");
    cluster.succeed(&[
        "sequence",
        "advance",
        "tasks",
        "--to",
        &((1_i64 << 53) - 20_000).to_string(),
        "--yes",
    ]);
    assert!(cluster.granted("tasks") > granted);
    let said = Said {
        what: "sequence 'tasks' has used 100 % of its IDs".to_owned(),
        cause: "sequence 'tasks' has 0 IDs left in the ledger".to_owned(),
        reason: "SEQUENCE_EXHAUSTED",
        command: "blockhouse sequence set tasks --max N",
        metric: ("blockhouse_sequence_used_ratio", &[("sequence", "tasks")], 1.0),
    };
    is_said(&cluster, &said).await;
    let command = said.command.replace('N', &i64::MAX.to_string());
    cluster.succeed(&words(&command));
    is_well_again(&cluster, &said).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_that_is_used_up_is_put_right_by_a_wider_gap() {
    let cluster = little_in_the_pods().await;
    let gap = cluster.granted("tasks") + 100_000;
    cluster.succeed(&["sequence", "set", "tasks", "--failover-gap", &gap.to_string(), "--yes"]);
    cluster.succeed(&["ledger", "set", "--on-failover", "jump", "--yes"]);
    let said = Said {
        // Only the leader knows whether that is a problem: `capped` shows it.
        what: String::new(),
        cause: format!("sequence 'tasks' was granted what its failover_gap of {gap} allows in an hour"),
        reason: "SEQUENCE_RATE_CAPPED",
        command: "blockhouse sequence set tasks --failover-gap N",
        metric: ("blockhouse_ledger_up", &[], 0.0),
    };
    for allocator in &cluster.allocators {
        assert_callers_are_told(&cluster, allocator, &said).await;
    }
    let command = said.command.replace('N', "1000000000");
    cluster.succeed(&words(&command));
    is_well_again(&cluster, &said).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_sequence_is_no_problem_and_says_so_everywhere_else() {
    let cluster = little_in_the_pods().await;
    cluster.succeed(&["sequence", "retire", "tasks", "--yes"]);
    for allocator in &cluster.allocators {
        let mut caller = Caller::new(Transport::Grpc, allocator.port());
        wait::until(PATIENCE, &format!("{} hears of it", allocator.name()), async || {
            matches!(ask(&cluster, &mut caller).await, Outcome::Refused { reason, .. } if reason == "SEQUENCE_RETIRED")
        })
        .await;
        let told = [refusal_over_grpc(allocator).await, refusal_over_http(allocator).await];
        assert_eq!(told[0], told[1]);
        assert!(told[0].1.contains("sequence 'tasks' was retired"), "{}", told[0].1);
    }
    for process in processes(&cluster) {
        let name = process.name();
        wait::until(PATIENCE, &format!("{name} shows it"), async || {
            let status = process.status().await;
            status["sequences"][0]["state"] == "retired" && status["problems"] == Value::Array(Vec::new())
        })
        .await;
        let shown = process::run(&["status", "--admin", &process.admin_url()]);
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.status.success() && text.contains("retired"), "{name}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_names_another_ledger_is_put_right_by_restarting_that_redis() {
    let mut cluster = little_in_the_pods().await;
    let ours = cluster.ledger().psql("SELECT id FROM blockhouse.ledger");
    let theirs = uuid::Uuid::new_v4().to_string();
    // As if it had been filled from there.
    let pod = &cluster.pods[0];
    // Beside it lie those of its high waters and of who was heard, whose names go on.
    let key = &pod.keys("*:pod:*").into_iter().min_by_key(String::len).expect("it was told whose it is");
    let identity = pod.run::<String>(&["HGET", key, "identity"]).replace(&ours, &theirs);
    pod.run::<()>(&["HSET", key, "ledger", &theirs, "identity", &identity]);
    let who = format!("127.0.0.1:{}", pod.port());
    let cause = format!("{who} names ledger {theirs}, others name {ours}");
    let said = Said {
        what: format!("two ledgers are named, so nothing is taken from tier 3: {cause}"),
        cause,
        reason: "LEDGER_UNREACHABLE",
        command: "set ledger.id to the right one, or restart that Redis empty",
        metric: ("blockhouse_pod_up", &[("address", &who)], 0.0),
    };
    is_said(&cluster, &said).await;
    cluster.pods[0].kill();
    cluster.pods[0].restart();
    is_well_again(&cluster, &said).await;
}
