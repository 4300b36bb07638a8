//! A server of the wire alone: real sockets, threads and connections, and an allocator that hands out from a counter and
//! does as a test tells it.

#![allow(dead_code)] // Each target uses its part.

pub mod frames;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use blockhouse::actor::Allocation;
use blockhouse::block::{Cause, Range, Refusal, Span, Tally, Tier};
use blockhouse::config::settings::{Grpc, Listen};
use blockhouse::observe::metrics::{About, Metrics, WorkerMetrics};
use blockhouse::rpc::server::{Acceptor, Worker};
use blockhouse::rpc::{Allocate, listen};
use blockhouse::shutdown::Phase;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long anything in these tests may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Hands out consecutive IDs from 1. Requests for `held` wait until they are released.
#[derive(Clone)]
pub struct Counter(Arc<State>);

struct State {
    granted: AtomicI64,
    tally: Arc<Tally>,
    /// Requests that have reached the allocator, and those of them that it hasn't answered.
    asked: AtomicUsize,
    waiting: AtomicUsize,
    refusal: watch::Sender<Option<Refusal>>,
    released: watch::Sender<bool>,
}

impl Counter {
    pub fn new() -> Counter {
        Counter(Arc::new(State {
            granted: AtomicI64::new(0),
            tally: Arc::default(),
            asked: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            refusal: watch::Sender::new(None),
            released: watch::Sender::new(false),
        }))
    }

    /// From now on every request is refused, or none.
    pub fn refuse(&self, refusal: impl Into<Option<Refusal>>) {
        self.0.refusal.send_replace(refusal.into());
    }

    /// Answers those who wait for `held`, and all who come later.
    pub fn release(&self) {
        self.0.released.send_replace(true);
    }

    pub fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::SeqCst)
    }

    /// IDs that were taken and never issued: with the real allocator they go back to memory.
    pub fn given_back(&self) -> u64 {
        self.0.tally.discarded(Cause::Dropped)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Allocate for Counter {
    async fn allocate(&self, sequence: &str, count: u32, _deadline: Instant) -> Result<Allocation, Refusal> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.0.waiting);
        if sequence == "held" {
            let mut released = self.0.released.subscribe();
            released.wait_for(|released| *released).await.expect("the sender lives in self");
        }
        if let Some(refusal) = self.0.refusal.borrow().clone() {
            return Err(refusal);
        }
        let first = self.0.granted.fetch_add(i64::from(count), Ordering::SeqCst) + 1;
        let span = Span::new(first, i64::from(count)).expect("a positive span");
        Ok(Allocation::new(vec![Range::hold(span, 1, Arc::clone(&self.0.tally))], Tier::Pods))
    }
}

/// What a test would find in the file.
pub fn grpc() -> Grpc {
    Grpc {
        listen: vec![Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))],
        workers: 2,
        max_in_flight: 1024,
        max_count: 1_000_000,
        request_timeout: Duration::from_secs(5),
        max_connections: 1000,
        max_streams: 1024,
        max_stream_in_flight: 1024,
        max_connection_age: Duration::from_secs(1800),
        keepalive: Duration::from_secs(30),
    }
}

/// A process's wire, in threads of its own.
pub struct Server {
    pub counter: Counter,
    pub addresses: Vec<String>,
    phases: watch::Sender<Phase>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Serving, with the test's settings.
    pub fn start() -> Server {
        Server::with(|_| {})
    }

    /// The same, after a change of the settings.
    pub fn with(change: impl FnOnce(&mut Grpc)) -> Server {
        let mut grpc = grpc();
        change(&mut grpc);
        let listeners = listen::bind(&grpc).expect("a free address");
        let addresses = listeners.iter().map(|listener| listener.address()).collect();
        let (phases, phase) = watch::channel(Phase::Serving);
        let counter = Counter::new();
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let (acceptor, dealt) = Acceptor::new(listeners, &grpc, grpc.workers, log.clone());
        let grpc = Arc::new(grpc);
        let metrics = metrics(dealt.len());
        let mut threads: Vec<JoinHandle<()>> = dealt
            .into_iter()
            .map(|connections| {
                let worker = Worker {
                    allocator: counter.clone(),
                    grpc: Arc::clone(&grpc),
                    slow: Duration::from_millis(50),
                    metrics: metrics.clone(),
                    log: log.clone(),
                    phases: phase.clone(),
                    rng: fastrand::Rng::with_seed(7),
                };
                thread::spawn(move || block_on(worker.run(connections)))
            })
            .collect();
        threads.push(thread::spawn(move || block_on(async { acceptor.run(phase).await.expect("watched") })));
        Server { counter, addresses, phases, threads }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> &str {
        &self.addresses[0]
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub fn enter(&self, phase: Phase) {
        self.phases.send_replace(phase);
    }

    /// Closes, waits for the last connection, and says how long that took.
    pub fn stop(mut self) -> Duration {
        let began = std::time::Instant::now();
        self.enter(Phase::Closing);
        for thread in self.threads.drain(..) {
            thread.join().expect("no panic");
        }
        began.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.enter(Phase::Closing);
        self.counter.release();
    }
}

/// A worker's metrics, of a process that nobody scrapes.
pub fn metrics(workers: usize) -> WorkerMetrics {
    let about = About { environment: "test".into(), stage: "test".into(), cluster: "test".into() };
    Metrics::new(&about, workers).worker()
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, future);
}

/// Waits until `condition` holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The workspace's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
