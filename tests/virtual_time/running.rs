//! One process of the real actors, on whatever time and in whatever thread it is started.

use std::rc::Rc;
use std::sync::Arc;

use blockhouse::actor;
use blockhouse::actor::wiring::{Actors, WorkerActors};
use blockhouse::config::Settings;
use blockhouse::ledger::Ledger;
use blockhouse::observe::Metrics;
use blockhouse::observe::metrics::About;
use blockhouse::pods::discovery::Roster;
use blockhouse::role::Roles;
use blockhouse::shutdown::Phase;
use slog::Logger;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, LocalSet};

pub const ALLOCATOR: Roles = Roles { allocator: true, hydrator: false };
pub const HYDRATOR: Roles = Roles { allocator: false, hydrator: true };

/// A process under way.
pub struct Running {
    pub shared: Arc<actor::Process>,
    pub actors: Actors,
    pub workers: Vec<WorkerActors>,
    _phase: watch::Sender<Phase>,
    /// Every task of it. Ending it is a crash, at whatever await each of them stands.
    life: JoinHandle<()>,
}

impl Running {
    pub fn start(
        settings: Settings,
        roles: Roles,
        ledger: Rc<dyn Ledger>,
        roster: Roster,
        mut rng: fastrand::Rng,
        log: Logger,
    ) -> Running {
        let about = About {
            environment: Arc::clone(&settings.environment),
            stage: "test".into(),
            cluster: Arc::clone(&settings.cluster),
        };
        let workers = if roles.allocator { settings.grpc.workers } else { 0 };
        let metrics = Metrics::new(&about, workers);
        let local = LocalSet::new();
        let inside = local.enter();
        let shared = Arc::new(actor::Process::new(Arc::new(settings), roles, workers, metrics, log));
        let (phase, phases) = watch::channel(Phase::Serving);
        let (drain, _) = watch::channel(false);
        let actors = Actors::start(&shared, ledger, roster, phases, drain, &mut rng);
        let workers = (0..workers).map(|worker| actors.seat(worker, rng.fork()).start()).collect();
        drop(inside);
        let life = tokio::task::spawn_local(local);
        Running { shared, actors, workers, _phase: phase, life }
    }

    /// Makes the actors of one kind panic.
    pub fn panic(&self, kind: &str) {
        self.actors.panic(kind);
        self.workers.iter().for_each(|worker| worker.panic(kind));
    }

    /// Stops it in order: afterwards it holds nothing.
    pub async fn stop(&self) {
        self.actors.stop(&self.workers).await;
    }

    /// For whoever ends it while somebody else has it in hand.
    #[allow(dead_code, reason = "not every test does")]
    pub fn life(&self) -> AbortHandle {
        self.life.abort_handle()
    }

    /// Ends it at once.
    pub async fn crash(self) {
        self.life.abort();
        let _ = self.life.await;
    }
}
