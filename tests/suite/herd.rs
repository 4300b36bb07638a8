//! Many processes that come at once: a cold start without any pod is harmless to the ledger.

use std::time::Duration;

use futures_util::future::join_all;

use crate::support::Cluster;
use crate::support::caller::{Caller, Outcome, Transport};
use crate::support::checker::Checker;
use crate::support::process::Process;
use crate::support::watch::Watch;

const PROCESSES: usize = 30;
const CALLERS: usize = 3;
const REQUESTS: usize = 5;

/// The machine is busy with thirty starts: that one takes long is no reason to connect twice.
const OWN: &[&str] = &["grpc.workers=1", "ledger.connect_timeout=20s"];

/// Several requests, one after the other, as soon as the others may ask too.
async fn ask(port: u16, checker: &Checker) {
    let mut caller = Caller::new(Transport::Grpc, port);
    for _ in 0..REQUESTS {
        match caller.ask("tasks", 100, Duration::from_secs(5)).await {
            Outcome::Given { spans, .. } => spans.into_iter().for_each(|span| checker.record("tasks", span)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_processes_at_once_need_one_connection_and_one_grant_each() {
    let cluster = Cluster::new().postgres().sequence("tasks").start().await;
    cluster.ledger().log_connections();
    let watch = Watch::over(cluster.ledger(), Duration::ZERO).await;
    let start = |number| cluster.process_with(&format!("herd-{number}"), "allocator", OWN);
    let mut herd: Vec<Process> = (0..PROCESSES).map(start).collect();
    join_all(herd.iter_mut().map(Process::ready)).await;

    let callers = herd.iter().flat_map(|process| [process.port(); CALLERS]);
    join_all(callers.map(|port| ask(port, &cluster.checker))).await;
    let seen = watch.stop().await;

    let most = PROCESSES as i64;
    seen.assert_one_at_a_time();
    assert!(seen.together.sessions <= most && seen.together.requests <= most, "{:?}", seen.together);
    // Between two looks something may hide; the server itself misses no session, and each has one request at a time.
    let log = cluster.ledger().log();
    let opened = log.matches("application_name=blockhouse/herd-").count();
    assert_eq!(opened, PROCESSES, "one connection each is enough");
    assert_eq!(cluster.grants("fallback"), most, "one grant each is enough");
    cluster.assert_unique();
    assert_eq!(cluster.checker.ids("tasks"), (PROCESSES * CALLERS * REQUESTS * 100) as i64);
}
