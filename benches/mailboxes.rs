//! Load that drives the actor mailboxes directly: requests to an allocator, without a wire.
//!
//! `cargo bench --bench mailboxes`. Each line is the mean over a bounded number of requests: its time, the median of several rounds in
//! which all lines take turns, and its allocations on the heap.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails fails")]

use std::alloc::System;
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
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

const REQUESTS: u32 = 100_000;
const ROUNDS: usize = 5;

/// Counts what is taken from the heap, on all threads.
#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One line: its name, and what each round gave.
#[derive(Default)]
struct Line {
    name: String,
    micros: Vec<f64>,
    allocations: Vec<f64>,
}

/// What some requests cost.
struct Cost {
    took: Duration,
    allocations: usize,
}

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
    let smoke = std::env::args().any(|argument| argument == "--test");
    let (requests, rounds) = if smoke { (100, 1) } else { (REQUESTS, ROUNDS) };
    let mut lines: Vec<Line> = Vec::new();
    for _ in 0..rounds {
        let mut at = 0;
        let mut note = |name: String, requests: u32, cost: Cost| {
            if lines.len() <= at {
                lines.push(Line { name, ..Line::default() });
            }
            lines[at].micros.push(cost.took.as_secs_f64() * 1e6 / f64::from(requests));
            lines[at].allocations.push(cost.allocations as f64 / f64::from(requests));
            at += 1;
        };
        round(requests, &mut note);
    }
    println!("{:<72} {:>8} {:>12}", "median of each request", "µs", "allocations");
    for line in &mut lines {
        println!(
            "{:<72} {:>8.2} {:>12.1}",
            line.name,
            median(&mut line.micros),
            median(&mut line.allocations)
        );
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Every line once.
fn round(requests: u32, note: &mut impl FnMut(String, u32, Cost)) {
    for at_once in [1, 64] {
        let cost = app::block_on(async {
            let echo = Echo.start();
            drive(requests, at_once, || async { _ = echo.send(Ping(1)).await.unwrap() }).await
        });
        note(format!("a bare actix mailbox, same thread, {at_once} in flight"), requests, cost);
    }
    for (name, count, block) in [("from memory", 1, 1_000_000), ("a block from a pod for each", 1000, 1000)] {
        for across in [false, true] {
            for at_once in [1, 64] {
                let requests = if count == 1 { requests } else { requests / 10 };
                let cost = allocate(requests, at_once, across, count, block);
                let thread = if across { "across threads" } else { "same thread" };
                note(format!("an allocator, {thread}, {name}, {at_once} in flight"), requests, cost);
            }
        }
    }
}

/// Keeps `at_once` requests under way until `requests` are done.
async fn drive<F: Future<Output = ()>>(requests: u32, at_once: usize, request: impl Fn() -> F) -> Cost {
    let (began, heap) = (Instant::now(), Region::new(HEAP));
    let mut under_way: FuturesUnordered<_> = (0..at_once).map(|_| request()).collect();
    for _ in 0..requests {
        under_way.next().await;
        under_way.push(request());
    }
    while under_way.next().await.is_some() {}
    let change = heap.change();
    Cost { took: began.elapsed(), allocations: change.allocations + change.reallocations }
}

async fn take(allocator: &AllocatorHandle, count: u32) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    let _ = allocator.allocate("tasks", count, deadline).await.unwrap().issue();
}

/// A process with one worker; requests come from the worker's thread or from this one.
fn allocate(requests: u32, at_once: usize, across: bool, count: u32, block: i64) -> Cost {
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
        let cost = if across {
            work.await
        } else {
            let (done, cost) = tokio::sync::oneshot::channel();
            running.workers[0].run(async move { _ = done.send(work.await) });
            cost.await.unwrap()
        };
        running.drain().await;
        cost
    })
}
