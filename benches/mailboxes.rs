//! Load that drives the actor mailboxes directly: requests to an allocator, without a wire.
//!
//! `cargo bench --bench mailboxes`. Each line is the mean over a bounded number of requests.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler, Message};
use blockhouse::actor::AllocatorHandle;
use blockhouse::app::{self, App, Plan};
use blockhouse::config::Settings;
use blockhouse::config::settings::Listen;
use blockhouse::ledger::NewSequence;
use blockhouse::observe::Metrics;
use blockhouse::observe::metrics::About;
use blockhouse::role::Roles;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use secrecy::SecretString;

const REQUESTS: u32 = 200_000;

struct Echo;

struct Ping(u64);

impl Message for Ping {
    type Result = u64;
}

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Ping> for Echo {
    type Result = u64;

    fn handle(&mut self, ping: Ping, _: &mut Context<Self>) -> u64 {
        ping.0
    }
}

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let requests = if std::env::args().any(|argument| argument == "--test") { 100 } else { REQUESTS };
    println!("{:<58} {:>10}", "", "µs each");
    app::block_on(async {
        let echo = Echo.start();
        for at_once in [1, 64] {
            let took = drive(requests, at_once, || async { _ = echo.send(Ping(1)).await.unwrap() }).await;
            report("a bare actix mailbox, same thread", at_once, took, requests);
        }
    });
    for (name, count, block) in [("from memory", 1, 1_000_000), ("a block from a pod for each", 1000, 1000)] {
        for across in [false, true] {
            for at_once in [1, 64] {
                let requests = if count == 1 { requests } else { requests / 20 };
                let took = allocate(requests, at_once, across, count, block);
                let thread = if across { "across threads" } else { "same thread" };
                report(&format!("an allocator, {thread}, {name}"), at_once, took, requests);
            }
        }
    }
}

fn report(what: &str, at_once: usize, took: Duration, requests: u32) {
    let each = took.as_secs_f64() * 1e6 / f64::from(requests);
    println!("{:<58} {each:>10.2}", format!("{what}, {at_once} in flight"));
}

/// Keeps `at_once` requests under way until `requests` are done.
async fn drive<F: Future<Output = ()>>(requests: u32, at_once: usize, request: impl Fn() -> F) -> Duration {
    let began = Instant::now();
    let mut under_way: FuturesUnordered<_> = (0..at_once).map(|_| request()).collect();
    for _ in 0..requests {
        under_way.next().await;
        under_way.push(request());
    }
    while under_way.next().await.is_some() {}
    began.elapsed()
}

async fn take(allocator: &AllocatorHandle, count: u32) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    let _ = allocator.allocate("tasks", count, deadline).await.unwrap().issue();
}

/// A process with one worker; requests come from the worker's thread or from this one.
fn allocate(requests: u32, at_once: usize, across: bool, count: u32, block: i64) -> Duration {
    app::block_on(async move {
        let mut settings = Settings::default();
        settings.ledger.url = Some(SecretString::from("memory:"));
        settings.redis.pods = vec![SecretString::from("memory:3")];
        settings.redis.timeout = Duration::from_secs(1);
        settings.grpc.listen = vec![Listen::Tcp("127.0.0.1:0".parse().unwrap())];
        settings.grpc.workers = 1;
        settings.admin.listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
        settings.exercise.ratio = 0.0;
        settings.drain.delay = Duration::ZERO;
        settings.hydrator.min_ids = 60_000 * block;
        settings.hydrator.interval = Duration::from_millis(50);
        let settings = Arc::new(settings);
        let about = About { environment: "bench".into(), stage: "bench".into(), cluster: "default".into() };
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let metrics = Metrics::new(&about, 1);
        let app = App::build(Plan { settings, roles: Roles::ALL, metrics, log, seed: 1 }).unwrap();
        let new = NewSequence {
            name: "tasks".into(),
            first: 1,
            last: i64::MAX,
            block_size: block,
            buffer: None,
            failover_gap: None,
            if_not_exists: false,
        };
        app.ledger.create(&new).await.unwrap();
        let running = app.bind().unwrap().start();
        running.ready().await.unwrap();
        let filled = || {
            running.process.supply(|supply| supply.sequences.get("tasks").is_some_and(|(ids, _)| *ids > 0))
        };
        while !filled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let allocator = running.workers[0].actors.allocator.clone();
        let work = async move { drive(requests, at_once, || take(&allocator, count)).await };
        let took = if across {
            work.await
        } else {
            let (done, took) = tokio::sync::oneshot::channel();
            running.workers[0].run(async move { _ = done.send(work.await) });
            took.await.unwrap()
        };
        running.drain().await;
        took
    })
}
