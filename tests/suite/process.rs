//! One process: how it starts, refuses to, and ends.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;

use crate::support::caller::{Caller, Outcome, Transport};
use crate::support::process::Process;
use crate::support::{Cluster, http, wait};

const END: Duration = Duration::from_secs(20);

/// A cluster without a process, for tests that start their own.
async fn servers() -> Cluster {
    Cluster::new().pods(1).postgres().sequence("tasks").start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_signal_drains_and_the_second_ends_at_once() {
    let cluster = servers().await;
    for (first, second, code) in [(Signal::TERM, Signal::TERM, 143), (Signal::INT, Signal::INT, 130)] {
        let settings = ["drain.delay=\"20s\"", "drain.timeout=\"25s\""];
        let mut process = cluster.process_with(&format!("ends-{code}"), "allocator", &settings);
        process.ready().await;
        process.signal(first);
        wait::until(END, "it is no longer ready", async || !process.is_ready().await).await;
        let began = Instant::now();
        process.signal(second);
        assert_eq!(process.exit(END).await.code(), Some(code));
        assert!(began.elapsed() < Duration::from_secs(5), "at once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_does_not_hold_a_drain() {
    let cluster = servers().await;
    let mut process = cluster.process("quiet", "allocator");
    process.ready().await;
    let _silent = TcpStream::connect(("127.0.0.1", process.port())).expect("it listens");
    assert_eq!(process.terminate(END).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_environments_ledger_and_another_pin_are_refused() {
    let cluster = servers().await;
    let refusals = [
        ("environment", "environment=\"beta\"", "beta"),
        ("pin", "ledger.id=\"00000000-0000-4000-8000-000000000000\"", "00000000-0000-4000-8000-000000000000"),
    ];
    for (name, setting, said) in refusals {
        let mut process = cluster.process_with(name, "allocator", &[setting]);
        assert_eq!(process.exit(END).await.code(), Some(78), "{}", process.log());
        let log = process.log();
        assert!(log.lines().last().is_some_and(|last| last.contains(said)), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_cluster_on_the_same_pods_is_refused_by_them() {
    let mut cluster = Cluster::usual().start().await;
    let mut stranger = cluster.process_with("stranger", "allocator", &["cluster=\"elsewhere\""]);
    stranger.ready().await;
    wait::until(END, "every pod is refused", async || {
        let status = stranger.status().await;
        let pods = status["pods"].as_array().cloned().unwrap_or_default();
        pods.len() == 3 && pods.iter().all(|pod| pod["state"] == "refused")
    })
    .await;
    let log = stranger.log();
    assert!(log.contains("cluster"), "{log}");

    // Nobody else takes from the pods, or fills them.
    cluster.hydrators[0].kill();
    let before = cluster.in_pods("tasks");
    let mut caller = Caller::new(Transport::Grpc, stranger.port());
    for _ in 0..20 {
        let outcome = caller.ask("tasks", 900, Duration::from_secs(2)).await;
        let Outcome::Given { spans, tier } = outcome else { panic!("{outcome:?}") };
        assert!(["TIER_MEMORY", "TIER_LEDGER"].contains(&tier.as_str()), "{tier}");
        spans.into_iter().for_each(|span| cluster.checker.record("tasks", span));
    }
    assert_eq!(cluster.in_pods("tasks"), before, "it took nothing from the pods");
    let load = cluster.load().counts(1..=500).start();
    load.until_answered(300).await;
    load.stop().await.assert_flawless();
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_reported_before_anything_else_happens() {
    let cluster = servers().await;
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = holder.local_addr().expect("bound").to_string();
    let mut process = cluster.process_with("late", "allocator", &[&format!("grpc.listen=[\"{taken}\"]")]);
    let status = process.exit(END).await;
    assert_eq!(status.code(), Some(78));
    let log = process.log();
    assert!(log.lines().last().is_some_and(|last| last.contains(&taken)), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_names_cost_the_ledger_one_request_in_ten_seconds() {
    const AT_ONCE: usize = 64;
    let cluster = Cluster::usual().start().await;
    let asked = async |process: &Process| {
        process.metrics().await.sum("blockhouse_ledger_requests_total", &[("purpose", "other")])
    };
    let mut before = Vec::new();
    for allocator in &cluster.allocators {
        wait::until(END, "it has read the ledger once", async || asked(allocator).await >= 1.0).await;
        before.push(asked(allocator).await);
    }
    let began = Instant::now();
    let callers = (0..AT_ONCE).map(|number| {
        let port = cluster.allocators[number % cluster.allocators.len()].port();
        async move {
            let mut caller = Caller::new(Transport::Grpc, port);
            for nth in 0..40 {
                let outcome = caller.ask(&format!("unknown-{number}-{nth}"), 1, END).await;
                let Outcome::Refused { reason, .. } = outcome else { panic!("{outcome:?}") };
                assert_eq!(reason, "SEQUENCE_UNKNOWN");
            }
        }
    });
    join_all(callers).await;
    let allowed = 1 + began.elapsed().as_secs() / 10;
    for (allocator, before) in cluster.allocators.iter().zip(before) {
        let asked = asked(allocator).await - before;
        assert!(asked <= allowed as f64, "{}: {asked} requests, {allowed} allowed", allocator.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_holds_on_is_cut_by_the_drain_timeout_and_the_log_says_so() {
    let cluster = Cluster::new().postgres().sequence("tasks").start().await;
    // The ledger neither answers nor refuses, and the caller would wait for a minute.
    let patience = ["ledger.timeout='60s'", "fallback.max_wait='60s'", "grpc.request_timeout='60s'"];
    let settings = [&patience[..], &["drain.delay='100ms'", "drain.timeout='4s'"]].concat();
    let mut process = cluster.process_with("held", "allocator", &settings);
    process.ready().await;
    cluster.ledger().pause();
    let port = process.port();
    let asking = tokio::spawn(async move {
        Caller::new(Transport::Grpc, port).ask("tasks", 1, Duration::from_secs(60)).await
    });
    wait::until(END, "the request is under way", async || {
        process.metrics().await.sum("blockhouse_in_flight_requests", &[]) > 0.0
    })
    .await;
    assert_eq!(process.terminate(END).await.code(), Some(0), "a drain, if a short one");
    let log = process.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("drain.timeout passed"), "{log}");
    let outcome = asking.await.expect("no panic");
    assert!(!matches!(outcome, Outcome::Given { .. }), "{outcome:?}");
    cluster.ledger().resume();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_request_does_not_hold_a_drain() {
    let cluster = servers().await;
    let settings = ["grpc.request_timeout='60s'", "drain.timeout='4s'"];
    let mut process = cluster.process_with("half", "allocator", &settings);
    process.ready().await;
    let mut half = TcpStream::connect(("127.0.0.1", process.port())).expect("it listens");
    half.write_all(b"POST /v1/sequences/tasks/ids HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{")
        .expect("it reads");
    assert_eq!(process.terminate(END).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_binary_refuses_a_newer_file_and_a_newer_ledger() {
    let cluster = servers().await;
    let newer = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(newer.path(), "cluster = \"here\"\n[redis]\ntimeuot = \"50ms\"\n")
        .expect("it can be written");
    let ended = cluster.command(&["serve", "--config", &newer.path().to_string_lossy()]);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(78), "{said}");
    assert!(said.contains("did you mean redis.timeout"), "{said}");
    assert!(said.contains(&format!("{}:3", newer.path().display())), "it names the place: {said}");

    cluster.ledger().psql("UPDATE blockhouse.ledger SET schema_version = 9, readable_from = 8");
    let mut older = cluster.process("older", "allocator");
    assert_eq!(older.exit(END).await.code(), Some(78), "{}", older.log());
    let log = older.log();
    assert!(log.lines().last().is_some_and(|last| last.contains("schema 8 or newer")), "{log}");
}

/// Whatever a process says, somewhere, to anybody.
async fn everything_said(process: &Process) -> String {
    let mut said = process.log();
    for path in ["/", "/metrics", "/readyz", "/api/v1/status"] {
        let answer = http::get(process.admin_port(), path).await.expect("the admin port answers");
        said += &String::from_utf8_lossy(&answer.body);
    }
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_never_shown() {
    let cluster = Cluster::new().pods(1).unguarded().postgres().sequence("tasks").start().await;
    let (ledger, pod) = (cluster.ledger(), &cluster.pods[0]);
    ledger.psql("ALTER ROLE postgres PASSWORD 'ledger-pass'");
    ledger.give("pg_hba.conf", "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
    // The last statement that needs no password.
    ledger.psql("SELECT pg_reload_conf()");
    pod.run::<()>(&["CONFIG", "SET", "requirepass", "redis-pass"]);

    let url = |password| {
        format!("ledger.url='postgres://postgres:{password}@127.0.0.1:{}/postgres'", ledger.port())
    };
    let (right, wrong) = (url("ledger-pass"), url("wrong-ledger-pass"));
    let welcome = [right.as_str(), "redis.password='redis-pass'", "admin.token='admin-pass'"];
    let turned_away = [wrong.as_str(), "redis.password='wrong-redis-pass'", "admin.token='admin-pass'"];

    let mut served = cluster.process_with("served", "all", &welcome);
    served.ready().await;
    let refused = cluster.process_with("refused", "all", &turned_away);
    wait::until(END, "it says how it is doing", async || {
        http::get(refused.admin_port(), "/livez").await.is_ok()
    })
    .await;
    wait::until(END, "ledger and pod refuse the password", async || {
        let status = refused.status().await;
        let errors = [&status["ledger"]["last_error"], &status["pods"][0]["last_error"]];
        errors.iter().all(|error| error.is_string())
    })
    .await;
    let status = refused.status().await;
    let why = status["ledger"]["last_error"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("password authentication failed"), "{why}");
    let mut said = vec![everything_said(&served).await, everything_said(&refused).await];
    for settings in [&welcome, &turned_away] {
        for command in [&["config", "print"][..], &["config", "print", "--json"], &["sequence", "list"]] {
            let set = settings.iter().flat_map(|setting| ["--set", *setting]);
            let output = cluster.command(&command.iter().copied().chain(set).collect::<Vec<_>>());
            assert!(output.status.success() || command[0] == "sequence", "{command:?}: {output:?}");
            said.extend(
                [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()),
            );
        }
    }
    for said in said {
        for secret in ["ledger-pass", "redis-pass", "admin-pass"] {
            assert!(!said.contains(secret), "{secret}: {said}");
        }
    }
}
