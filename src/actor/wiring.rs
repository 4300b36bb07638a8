//! The actors of one process: how they are started, who knows whom, and in what order they stop.
//!
//! Everything outside comes in from outside: the ledger, the pods, time (tokio's) and randomness. So the same actors run in
//! a process of their own and, many processes at once, on the virtual time of one thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::sleep;

use super::allocator::{self, AllocatorHandle, Tiers};
use super::buffer::{self, BufferHandle};
use super::chaos::{self, Outlook, Tools, Victims};
use super::database::{self, DatabaseHandle};
use super::hydration::Hydration;
use super::hydrator::{self, HydratorHandle};
use super::pod_set::PodSet;
use super::process::Process;
use super::router::{self, RouterHandle};
use super::supervisor::{self, ControlHandle};
use crate::chaos::Lines;
use crate::ledger::Ledger;
use crate::pods::discovery::Roster;
use crate::shutdown::Phases;

/// The actors of the control thread.
pub struct Actors {
    /// The process as its admin pages see it.
    pub control: ControlHandle,
    process: Arc<Process>,
    roster: Roster,
    pods: Rc<PodSet>,
    buffer: BufferHandle,
    database: DatabaseHandle,
    hydrator: Option<HydratorHandle>,
}

/// What one worker's actors are made from; goes to the worker's thread.
pub struct Seat {
    worker: usize,
    process: Arc<Process>,
    roster: Roster,
    buffer: BufferHandle,
    database: DatabaseHandle,
    rng: Rng,
}

/// One worker's actors.
#[derive(Clone)]
pub struct WorkerActors {
    /// Answers its requests.
    pub allocator: AllocatorHandle,
    /// Its way to the pods.
    pub router: RouterHandle,
}

impl Actors {
    /// Starts them on the present thread, and makes the process known to its pods and its ledger. `asked_to_drain` is set when
    /// somebody asks for a drain.
    pub fn start(
        process: &Arc<Process>,
        ledger: Rc<dyn Ledger>,
        roster: Roster,
        phases: Phases,
        asked_to_drain: watch::Sender<bool>,
        rng: &mut Rng,
    ) -> Actors {
        let pods = Rc::new(PodSet::new(Arc::clone(process), roster.clone(), rng.fork(), true));
        let database = database::start(process, ledger, Rc::clone(&pods), rng.fork());
        let buffer = buffer::start(process, database.clone(), Rc::clone(&pods));
        let control = supervisor::start(process, Rc::clone(&pods), database.clone(), phases, asked_to_drain);
        meet(process, &pods, &database, rng);
        let hydrator = process.roles.hydrator.then(|| {
            let seeds = RefCell::new(rng.fork());
            let (of, database, pods) = (Arc::clone(process), database.clone(), Rc::clone(&pods));
            let rebuild = move || {
                Hydration::new(Arc::clone(&of), database.clone(), Rc::clone(&pods), seeds.borrow_mut().fork())
            };
            hydrator::start(process, rebuild, rng.fork())
        });
        Actors { control, process: Arc::clone(process), roster, pods, buffer, database, hydrator }
    }

    /// A place for the actors of worker number `worker`.
    pub fn seat(&self, worker: usize, rng: Rng) -> Seat {
        Seat {
            worker,
            process: Arc::clone(&self.process),
            roster: self.roster.clone(),
            buffer: self.buffer.clone(),
            database: self.database.clone(),
            rng,
        }
    }

    /// Stops them in order, so that nothing comes back to one that has ended: the allocators, the hydrator, the database; last
    /// the buffer, which hands everything that is left back to the pods. Nobody waits for this process from then on.
    ///
    /// # Cancel safety
    /// What was not handed back ends with the process.
    pub async fn stop(&self, workers: &[WorkerActors]) {
        join_all(workers.iter().map(|worker| worker.allocator.drain())).await;
        if let Some(hydrator) = &self.hydrator {
            hydrator.drain().await;
        }
        self.database.drain().await;
        self.buffer.hand_back().await;
        self.pods.leave().await;
    }

    /// Starts the role chaos beside them: from now on the admin pages know of it.
    pub fn start_chaos(&mut self, workers: &[WorkerActors], lines: Lines, outlook: Outlook, rng: Rng) {
        let control = self.control.clone();
        let tools = Tools {
            lines,
            victims: self.victims(workers),
            database: self.database.clone(),
            ledger_timeout: self.process.settings.ledger.timeout,
            terminate: Box::new(move || control.drain()),
        };
        self.control = self.control.clone().with_chaos(chaos::start(&self.process, tools, outlook, rng));
    }

    fn victims(&self, workers: &[WorkerActors]) -> Victims {
        let mut victims = Victims::default();
        let (buffer, database, control) = (self.buffer.clone(), self.database.clone(), self.control.clone());
        victims.add("buffer", move || buffer.panic());
        victims.add("database", move || database.panic());
        victims.add("supervisor", move || control.panic());
        if let Some(hydrator) = self.hydrator.clone() {
            victims.add("hydrator", move || hydrator.panic());
        }
        for (number, WorkerActors { allocator, router }) in workers.iter().cloned().enumerate() {
            victims.add(format!("allocator-{number}"), move || allocator.panic());
            victims.add(format!("router-{number}"), move || router.panic());
        }
        victims
    }

    /// Makes the actor of this kind panic, for drills; one that isn't here doesn't.
    pub fn panic(&self, kind: &str) {
        match kind {
            "chaos" => self.control.panic_chaos(),
            "buffer" => self.buffer.panic(),
            "database" => self.database.panic(),
            "hydrator" => self.hydrator.iter().for_each(HydratorHandle::panic),
            "supervisor" => self.control.panic(),
            _ => {}
        }
    }
}

impl Seat {
    /// Starts the worker's actors on the present thread.
    pub fn start(self) -> WorkerActors {
        let Seat { worker, process, roster, buffer, database, mut rng } = self;
        let router = router::start(&process, worker, roster, rng.fork());
        let tiers = Tiers { buffer, router: router.clone(), database };
        WorkerActors { allocator: allocator::start(&process, worker, tiers, rng), router }
    }
}

impl WorkerActors {
    /// Makes the actor of this kind panic, for drills; one that isn't here doesn't.
    pub fn panic(&self, kind: &str) {
        match kind {
            "allocator" => self.allocator.panic(),
            "router" => self.router.panic(),
            _ => {}
        }
    }
}

/// Asks the pods first. The ledger's connection is opened at once where no pod says what must be known, else some time within
/// `ledger.connect_spread`.
fn meet(process: &Arc<Process>, pods: &Rc<PodSet>, database: &DatabaseHandle, rng: &mut Rng) {
    let spread = process.settings.ledger.connect_spread.mul_f64(rng.f64());
    let (process, pods, database) = (Arc::clone(process), Rc::clone(pods), database.clone());
    tokio::task::spawn_local(async move {
        pods.heartbeat().await;
        if process.known.load().identity.is_some() {
            sleep(spread).await;
        }
        // Why it failed is in the status, and the supervisor goes on trying.
        let _ = database.refresh(spread.max(Duration::from_secs(1))).await;
    });
}
