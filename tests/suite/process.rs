//! One process: how it starts, refuses to, and ends.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::caller::{Caller, Outcome, Transport};
use crate::support::{Cluster, wait};

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
    let cluster = Cluster::usual().start().await;
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
    let cluster = Cluster::usual().start().await;
    let allocator = &cluster.allocators[0];
    let mut caller = Caller::new(Transport::Grpc, allocator.port());
    let asked =
        async || allocator.metrics().await.sum("blockhouse_ledger_requests_total", &[("purpose", "other")]);
    wait::until(END, "the process has read the ledger once", async || asked().await >= 1.0).await;
    let (before, began) = (asked().await, Instant::now());
    for number in 0..2_000 {
        let outcome = caller.ask(&format!("unknown-{number}"), 1, Duration::from_secs(2)).await;
        let Outcome::Refused { reason, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(reason, "SEQUENCE_UNKNOWN");
    }
    let allowed = 1 + began.elapsed().as_secs() / 10;
    let asked = asked().await - before;
    assert!(asked <= allowed as f64, "{asked} ledger requests for 2,000 unknown names, {allowed} allowed");
}
