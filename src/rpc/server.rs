//! Accepting connections, dealing them to workers, and a worker's life.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use slog::{Logger, error, warn};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep};

use super::connection::{self, Shared};
use super::desk::{Counted, Desk};
use super::listen::{Listener, Watched};
use super::socket::Accepted;
use super::{Allocate, route};
use crate::actor::AllocatorHandle;
use crate::config::settings::Grpc;
use crate::observe::metrics::WorkerMetrics;
use crate::shutdown::{Phase, Phases, reached};

/// How long accepting pauses when the process is out of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// How often the same trouble of accepting is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Accepts connections and deals them to the workers in turn. Lives on the control thread.
pub struct Acceptor {
    listeners: Vec<Listener>,
    workers: Vec<mpsc::Sender<Connection>>,
    places: Arc<Semaphore>,
    log: Logger,
}

/// What one worker is dealt.
pub struct Connections(mpsc::Receiver<Connection>);

/// A connection and its place among `grpc.max_connections`, which it holds to its end.
struct Connection {
    socket: Accepted,
    place: OwnedSemaphorePermit,
}

impl Acceptor {
    /// For `workers` workers, 1 or more; with what each of them is dealt.
    pub fn new(
        listeners: Vec<Listener>,
        grpc: &Grpc,
        workers: usize,
        log: Logger,
    ) -> (Acceptor, Vec<Connections>) {
        // As long as every connection there can be, so that dealing never waits and never fails for want of room.
        let channel = || mpsc::channel(grpc.max_connections.max(1));
        let (workers, dealt) =
            (0..workers.max(1)).map(|_| channel()).map(|(to, of)| (to, Connections(of))).unzip();
        let places = Arc::new(Semaphore::new(grpc.max_connections));
        (Acceptor { listeners, workers, places, log }, dealt)
    }

    /// Accepts until [`Phase::Closing`], then closes the listeners.
    ///
    /// # Errors
    /// The runtime can't watch a listener.
    pub async fn run(self, mut phases: Phases) -> io::Result<()> {
        let dealer = Dealer::new(self.workers, self.places, self.log);
        let listeners = self.listeners.into_iter().map(Listener::watch).collect::<io::Result<Vec<_>>>()?;
        tokio::select! {
            biased;
            () = reached(&mut phases, Phase::Closing) => {}
            _ = join_all(listeners.iter().map(|listener| dealer.accept(listener))) => {}
        }
        Ok(())
    }
}

struct Dealer {
    workers: Vec<mpsc::Sender<Connection>>,
    places: Arc<Semaphore>,
    log: Logger,
    next: Cell<usize>,
    logged: Cell<Option<Instant>>,
}

impl Dealer {
    fn new(workers: Vec<mpsc::Sender<Connection>>, places: Arc<Semaphore>, log: Logger) -> Dealer {
        Dealer { workers, places, log, next: Default::default(), logged: Default::default() }
    }

    /// Accepts from one listener for ever.
    async fn accept(&self, listener: &Watched) {
        loop {
            match listener.accept().await {
                Ok(socket) => self.deal(socket),
                Err(error) if is_peers(&error) => {}
                Err(error) => {
                    self.complain("cannot accept connections", &error);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// To the next worker in turn that lives. Over `grpc.max_connections` the connection is closed at once: its client
    /// then tries another server instead of waiting here.
    fn deal(&self, socket: Accepted) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return self.complain("connection closed", &"grpc.max_connections is reached");
        };
        let mut connection = Connection { socket, place };
        for _ in 0..self.workers.len() {
            let turn = self.next.get();
            self.next.set((turn + 1) % self.workers.len());
            match self.workers[turn].try_send(connection) {
                Ok(()) => return,
                Err(refused) => connection = refused.into_inner(),
            }
        }
    }

    fn complain(&self, what: &'static str, why: &dyn std::fmt::Display) {
        if self.logged.get().is_some_and(|at| at.elapsed() < LOG_EVERY) {
            return;
        }
        self.logged.set(Some(Instant::now()));
        warn!(self.log, "{}", what; "error" => %why);
    }
}

/// Whether accepting failed because of one peer that has gone again.
fn is_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Serves its share of the connections. Lives on a worker's arbiter.
pub struct Worker<A = AllocatorHandle> {
    /// The worker's allocator.
    pub allocator: A,
    /// `grpc.*`
    pub grpc: Arc<Grpc>,
    /// `log.slow`
    pub slow: Duration,
    /// The worker's share of the request metrics.
    pub metrics: WorkerMetrics,
    /// Where refused and slow requests are logged.
    pub log: Logger,
    /// Of the process.
    pub phases: Phases,
    /// Spreads connection ages and waits.
    pub rng: Rng,
}

impl<A: Allocate> Worker<A> {
    /// Serves until [`Phase::Closing`], then until its connections have ended: bounded by `grpc.request_timeout` and two
    /// seconds. Must run in a [`LocalSet`](tokio::task::LocalSet), as an arbiter's futures do. Not cancel safe: dropped,
    /// it drops its connections.
    pub async fn run(mut self, connections: Connections) {
        let Connections(mut dealt) = connections;
        let mut phases = self.phases.clone();
        let mut rng = self.rng.fork();
        let (max_age, log) = (self.grpc.max_connection_age, self.log.clone());
        let shared = Rc::new(self.share());
        let mut served = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = reached(&mut phases, Phase::Closing) => break,
                Some(ended) = served.join_next() => note_panic(&log, ended),
                Some(connection) = dealt.recv() => {
                    let age = max_age.mul_f64(0.8 + 0.4 * rng.f64());
                    served.spawn_local(serve(Rc::clone(&shared), connection, age));
                }
            }
        }
        shared.desk.close();
        drop(dealt);
        while let Some(ended) = served.join_next().await {
            note_panic(&log, ended);
        }
    }

    fn share(self) -> Shared<A> {
        let protocol = connection::protocol(&self.grpc);
        let desk = Desk::new(self.allocator, &self.grpc, self.slow, self.metrics, self.log, self.rng);
        Shared {
            desk: Arc::new(desk),
            reflection: route::reflection(),
            protocol,
            phases: self.phases,
            request_timeout: self.grpc.request_timeout,
        }
    }
}

async fn serve<A: Allocate>(shared: Rc<Shared<A>>, connection: Connection, age: Duration) {
    let _counted = Counted::new(shared.desk.metrics(), WorkerMetrics::connections);
    let Connection { socket, place: _place } = connection;
    // A peer that is gone already has nobody to tell.
    if let Ok(socket) = socket.open() {
        connection::serve(&shared, socket, age).await;
    }
}

/// A panic in one connection ends that connection; what it held is discarded and counted (S2).
fn note_panic(log: &Logger, ended: Result<(), JoinError>) {
    if let Err(failed) = ended
        && failed.is_panic()
    {
        error!(log, "a connection's task panicked"; "error" => %failed);
    }
}
