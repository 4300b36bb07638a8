//! The one place where the parts are put together: build → bind → start, then run until the end.
//!
//! The same for `serve`, `dev` and tests. Everything lives in one actix system: this thread is the **control** arbiter
//! (supervisor, database, buffer, hydrator, acceptor, admin HTTP); each **worker** arbiter serves its share of the
//! connections with an allocator and a router of its own. What the actors are to each other is `actor/wiring.rs`.

mod drilled;
mod reload;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::{Arbiter, System};
use fastrand::Rng;
use futures_util::future::join_all;
use slog::{Logger, info, warn};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::actor::process::{Fatal, Process};
use crate::actor::wiring::{Actors, Seat, WorkerActors};
use crate::admin;
use crate::config::Settings;
use crate::ledger::{self, Admin, Expected, Ledger, LedgerError};
use crate::observe::Metrics;
use crate::observe::log::LogLevel;
use crate::pods::discovery::{self, Roster, Servers};
use crate::role::Roles;
use crate::rpc::listen::{self, BindError, Listener, Watched};
use crate::rpc::server::{Acceptor, Connections, Worker};
use crate::shutdown::{Phase, Phases};
use drilled::Drilled;
pub use reload::Reloader;

/// How often it is looked whether a starting process is ready.
const READY_EVERY: Duration = Duration::from_millis(2);
/// For the last steps of a stop, inside `drain.timeout`: what is left in memory goes back to the pods.
const HAND_BACK: Duration = Duration::from_secs(2);

/// What a process is made from.
pub struct Plan {
    /// Everything it is told.
    pub settings: Arc<Settings>,
    /// What it does.
    pub roles: Roles,
    /// Where it counts.
    pub metrics: Metrics,
    /// Where it writes.
    pub log: Logger,
    /// Of all randomness in it.
    pub seed: u64,
}

/// Why a process doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something in the configuration can't be used.
    #[error("{0}")]
    Config(String),
    /// A listener can't be had.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// All parts resolved; nothing runs.
pub struct App {
    plan: Plan,
    rng: Rng,
    roster: Roster,
    pods: Servers,
    /// For `dev`, which makes it ready first.
    pub ledger: Rc<dyn Admin>,
    /// Whether the role chaos runs beside the others.
    chaos: bool,
}

/// Its listeners are open; nothing runs yet.
pub struct Bound {
    app: App,
    grpc: Vec<Listener>,
    admin: Vec<Listener>,
}

/// A running process.
pub struct Running {
    /// What its actors share.
    pub process: Arc<Process>,
    /// Those of the control thread.
    pub actors: Actors,
    /// Every worker.
    pub workers: Vec<RunningWorker>,
    /// Where clients connect.
    pub grpc: Vec<String>,
    /// Where operators connect.
    pub admin: String,
    phase: watch::Sender<Phase>,
    asked_to_drain: watch::Receiver<bool>,
    ledger: Rc<dyn Ledger>,
    pods: Servers,
    token: admin::Token,
    /// Dropped last: ends the admin servers.
    end_admin: watch::Sender<()>,
    admin_servers: Vec<JoinHandle<()>>,
    log: Logger,
}

/// One worker, on its thread.
pub struct RunningWorker {
    /// Its actors.
    pub actors: WorkerActors,
    served: oneshot::Receiver<()>,
    arbiter: Arbiter,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Drained.
    Drained,
    /// By the hard deadline.
    CutShort,
}

/// Runs `process` on this thread as the control arbiter of an actix system.
///
/// # Panics
/// There is no file descriptor left for a runtime.
pub fn block_on<T>(process: impl Future<Output = T>) -> T {
    System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime needs no more than a few file descriptors")
    })
    .block_on(process)
}

impl App {
    /// Resolves everything that can be wrong with the configuration. Must run in an actix system.
    ///
    /// # Errors
    /// What can't be used, for people.
    pub fn build(plan: Plan) -> Result<App, StartError> {
        let settings = &plan.settings;
        let mut rng = Rng::with_seed(plan.seed);
        let expected = Expected { environment: Arc::clone(&settings.environment), id: settings.ledger.id };
        let ledger = ledger::open(&settings.ledger, expected, &settings.instance, &plan.log)
            .map_err(|error: LedgerError| StartError::Config(format!("ledger.url: {error}")))?;
        let (roster, pods) = discovery::roster(&settings.redis, &mut rng, &plan.log)
            .map_err(|why| StartError::Config(format!("redis.pods: {why}")))?;
        Ok(App { rng, roster, pods, ledger, plan, chaos: false })
    }

    /// The same process with the role chaos beside its others.
    #[must_use]
    pub fn with_chaos(self) -> App {
        App { chaos: true, ..self }
    }

    /// Opens the listeners, so that a port in use is reported before anything else happens.
    ///
    /// # Errors
    /// Which one, and why.
    pub fn bind(self) -> Result<Bound, StartError> {
        let settings = &self.plan.settings;
        let grpc = if self.plan.roles.allocator { listen::bind(&settings.grpc)? } else { Vec::new() };
        let admin = listen::bind_one(&settings.admin.listen)?;
        Ok(Bound { app: self, grpc, admin })
    }
}

impl Bound {
    /// Starts every part. Returns at once; [`Running::ready`] waits until it can serve.
    pub fn start(self) -> Running {
        let Bound { app, grpc, admin } = self;
        let App { plan, mut rng, roster, pods, ledger, chaos } = app;
        let (settings, log) = (Arc::clone(&plan.settings), plan.log.clone());
        let addresses = grpc.iter().map(Listener::address).collect();
        let admin_address = admin.first().map_or_else(String::new, Listener::address);
        let workers = if plan.roles.allocator { worker_count(&settings) } else { 0 };
        let process = Arc::new(Process::new(
            Arc::clone(&settings),
            plan.roles,
            workers,
            plan.metrics.clone(),
            log.clone(),
        ));
        let (phase, phases) = watch::channel(Phase::Starting);
        let (drain, asked_to_drain) = watch::channel(false);

        let drills = chaos.then(|| Drilled::new(&settings, &roster, &phases));
        let (ledger, roster) = match &drills {
            Some(drills) => drills.lined(&settings, ledger, roster),
            None => (ledger as Rc<dyn Ledger>, roster),
        };
        let mut actors = Actors::start(&process, Rc::clone(&ledger), roster, phases.clone(), drain, &mut rng);
        let (acceptor, dealt) = Acceptor::new(grpc, &settings.grpc, workers.max(1), log.clone());
        let workers: Vec<RunningWorker> = dealt
            .into_iter()
            .take(workers)
            .enumerate()
            .map(|(index, connections)| {
                start_worker(actors.seat(index, rng.fork()), &process, connections, &phases, rng.fork())
            })
            .collect();
        if let Some(drills) = drills {
            drills.start(&mut actors, &workers, rng.fork());
        }
        let accepting = acceptor.run(phases);
        let accept_log = log.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = accepting.await {
                slog::error!(accept_log, "accepting connections failed"; "error" => %error);
            }
        });
        let end_admin = watch::Sender::new(());
        let token = admin::Token::new(settings.admin.token.clone());
        let routes = admin::router(actors.control.clone(), plan.metrics, token.clone());
        let admin_servers = admin
            .into_iter()
            .filter_map(|listener| watched(listener, &log))
            .map(|listener| {
                let mut end = end_admin.subscribe();
                let until = async move { while end.changed().await.is_ok() {} };
                tokio::task::spawn_local(admin::serve(listener, routes.clone(), until, log.clone()))
            })
            .collect();
        Running {
            process,
            actors,
            workers,
            grpc: addresses,
            admin: admin_address,
            phase,
            asked_to_drain,
            ledger,
            pods,
            token,
            end_admin,
            admin_servers,
            log,
        }
    }
}

/// An admin listener as its server takes it.
fn watched(listener: Listener, log: &Logger) -> Option<admin::Listener> {
    match listener.watch() {
        Ok(Watched::Tcp(tcp)) => Some(admin::Listener::Tcp(tcp)),
        Ok(Watched::Unix(unix)) => Some(admin::Listener::Unix(unix)),
        Err(error) => {
            slog::error!(log, "the admin listener can't be watched"; "error" => %error);
            None
        }
    }
}

/// Worker threads of an allocator: `grpc.workers`, or what the machine (the cgroup's quota) allows.
pub fn worker_count(settings: &Settings) -> usize {
    match settings.grpc.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

/// Starts one worker on a thread of its own and waits until its actors have addresses.
fn start_worker(
    seat: Seat,
    process: &Arc<Process>,
    connections: Connections,
    phases: &Phases,
    rng: Rng,
) -> RunningWorker {
    let arbiter = Arbiter::new();
    let (built, handles) = std::sync::mpsc::sync_channel(1);
    let (done, served) = oneshot::channel();
    let (process, phases) = (Arc::clone(process), phases.clone());
    arbiter.spawn_fn(move || {
        let actors = seat.start();
        let worker = Worker {
            allocator: actors.allocator.clone(),
            grpc: Arc::new(process.settings.grpc.clone()),
            slow: process.settings.log.slow,
            metrics: process.metrics.worker(),
            log: process.log.clone(),
            phases,
            rng,
        };
        let _ = built.send(actors);
        tokio::task::spawn_local(async move {
            worker.run(connections).await;
            let _ = done.send(());
        });
    });
    let actors = handles.recv().expect("a worker's thread starts its actors before anything can fail");
    RunningWorker { actors, served, arbiter }
}

impl RunningWorker {
    /// Runs something on the worker's thread.
    pub fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.arbiter.spawn(work);
    }
}

impl Running {
    /// What can change it while it runs, together with the level of its log.
    pub fn reloader(&self, level: LogLevel) -> Reloader {
        Reloader {
            settings: Arc::clone(&self.process.settings),
            ledger: Rc::clone(&self.ledger),
            pods: self.pods.clone(),
            token: self.token.clone(),
            level,
        }
    }

    /// Waits until some tier can answer, and says so to whoever looks.
    ///
    /// # Errors
    /// The process must end before it was ever ready.
    pub async fn ready(&self) -> Result<(), Fatal> {
        let mut fatal = self.process.fatal.subscribe();
        loop {
            if let Some(fatal) = fatal.borrow_and_update().clone() {
                return Err(fatal);
            }
            if self.process.ready().is_ok() {
                self.phase.send_replace(Phase::Serving);
                info!(self.log, "ready"; "after_ms" => u64::try_from(self.process.now().as_millis()).unwrap_or(u64::MAX));
                return Ok(());
            }
            if *self.asked_to_drain.borrow() {
                return Ok(());
            }
            sleep(READY_EVERY).await;
        }
    }

    /// Completes when somebody asked for a drain, or the process can't go on.
    pub async fn until_end(&self) -> Option<Fatal> {
        let mut fatal = self.process.fatal.subscribe();
        let mut asked = self.asked_to_drain.clone();
        tokio::select! {
            biased;
            found = fatal.wait_for(Option::is_some) => found.ok().and_then(|fatal| fatal.clone()),
            _ = asked.wait_for(|asked| *asked) => None,
        }
    }

    /// Stops in order, bounded by `drain.timeout`: not ready, wait for load balancers, finish what is in flight, then allocators,
    /// hydrator, database and buffer; what is left in memory goes back to the pods.
    pub async fn drain(self) -> Ended {
        let settings = Arc::clone(&self.process.settings);
        let deadline = Instant::now() + settings.drain.timeout;
        info!(self.log, "draining"; "delay_ms" => u64::try_from(settings.drain.delay.as_millis()).unwrap_or(u64::MAX));
        self.process.metrics.set_draining(true);
        // What is handed back must not meet a fault of ours.
        self.actors.control.stop_drills("the process drains").await;
        self.phase.send_replace(Phase::Draining);
        let log = self.log.clone();
        let drained = timeout_at(deadline, self.stop(settings.drain.delay, deadline)).await;
        match drained {
            Ok(()) => {
                info!(log, "drained");
                Ended::Drained
            }
            Err(_) => {
                warn!(
                    log,
                    "drain.timeout passed before everything was handed back: the rest ends with the process"
                );
                Ended::CutShort
            }
        }
    }

    async fn stop(self, delay: Duration, deadline: Instant) {
        sleep(delay).await;
        self.phase.send_replace(Phase::Closing);
        let mut workers = Vec::with_capacity(self.workers.len());
        let (mut arbiters, mut served) = (Vec::new(), Vec::new());
        for worker in self.workers {
            workers.push(worker.actors);
            arbiters.push(worker.arbiter);
            served.push(worker.served);
        }
        // Leave time to hand back what is in memory, whatever a client does.
        let _ = timeout_at(deadline - HAND_BACK.min(delay.max(HAND_BACK)), join_all(served)).await;
        self.actors.stop(&workers).await;
        drop(self.end_admin);
        let _ = timeout(Duration::from_secs(1), join_all(self.admin_servers)).await;
        for arbiter in arbiters {
            arbiter.stop();
        }
    }

    /// Makes the actors of one kind panic, for drills and tests.
    pub fn panic(&self, kind: &str) {
        self.actors.panic(kind);
        self.workers.iter().for_each(|worker| worker.actors.panic(kind));
    }
}
