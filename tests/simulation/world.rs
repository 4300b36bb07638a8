//! The servers and processes of one run.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use blockhouse::actor::Allocation;
use blockhouse::block::{Cause, Refusal};
use blockhouse::config::Settings;
use blockhouse::ledger::memory::Memory;
use blockhouse::ledger::{Admin, Expected, Ledger, NewSequence, SequenceRow};
use blockhouse::pods::{List, Scope, Target};
use slog::Logger;
use tokio::sync::watch;
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, timeout};

use crate::journal::Journal;
use crate::ledgers::Ledgers;
use crate::log;
use crate::net::{Net, Server, Way};
use crate::pods::PodServer;
use crate::running::{ALLOCATOR, HYDRATOR, Running};
use crate::schedule::{Schedule, Slot};
use crate::ways::Link;

/// Everything of one run.
pub struct World {
    pub schedule: Rc<Schedule>,
    pub journal: Journal,
    pub net: Arc<Net>,
    pub ledgers: Arc<Ledgers>,
    pub pods: Vec<PodServer>,
    /// Pods that are among the pods of their cluster.
    listed: RefCell<Vec<bool>>,
    slots: Vec<Place>,
    started: Cell<u32>,
    rng: RefCell<fastrand::Rng>,
    logs: bool,
}

struct Place {
    slot: Slot,
    present: RefCell<Option<Rc<Process>>>,
}

/// One process, from its start to its end.
pub struct Process {
    /// Another one for each start.
    pub number: u32,
    pub slot: usize,
    running: RefCell<Option<Running>>,
    handles: Vec<blockhouse::actor::AllocatorHandle>,
    pub shared: Arc<blockhouse::actor::Process>,
    roster: watch::Sender<Arc<[Arc<dyn Target>]>>,
    life: AbortHandle,
    /// Set once it is draining or gone.
    pub over: Cell<bool>,
}

impl World {
    pub async fn new(schedule: Rc<Schedule>, journal: Journal, net: Arc<Net>, logs: bool) -> Rc<World> {
        let mut rng = fastrand::Rng::with_seed(schedule.seed ^ 0x5eed);
        let expected = Expected { environment: "simulation".into(), id: None };
        let ledger = Memory::new(expected, rng.fork());
        // Far from its beginning, so that a clock that is set back by a day still shows a time.
        ledger.step_clock(1_800_000_000_000_000);
        for sequence in &schedule.sequences {
            let new = NewSequence {
                name: sequence.name.into(),
                first: sequence.first,
                last: sequence.last,
                block_size: sequence.block_size,
                buffer: None,
                failover_gap: sequence.failover_gap,
                if_not_exists: false,
            };
            ledger.create(&new).await.unwrap();
            journal.lock().checker.bounds(sequence.name, sequence.first, sequence.last);
        }
        let pods: Vec<PodServer> =
            (0..schedule.pods()).map(|number| PodServer::new(number, &mut rng)).collect();
        let place = |slot: Slot| Place { slot, present: RefCell::default() };
        Rc::new(World {
            listed: RefCell::new(vec![true; pods.len()]),
            slots: schedule.slots().into_iter().map(place).collect(),
            journal,
            net,
            ledgers: Ledgers::new(ledger, schedule.slots().iter().map(|slot| slot.cluster).collect()),
            schedule,
            pods,
            started: Cell::new(0),
            rng: rng.into(),
            logs,
        })
    }

    /// The primary that operators take for the right one.
    pub fn ledger(&self) -> Memory {
        self.ledgers.present()
    }

    pub fn fork_rng(&self) -> fastrand::Rng {
        self.rng.borrow_mut().fork()
    }

    /// The process that is in a slot now.
    pub fn present(&self, slot: usize) -> Option<Rc<Process>> {
        self.slots[slot].present.borrow().clone()
    }

    /// Every process that is there now.
    pub fn processes(&self) -> Vec<Rc<Process>> {
        self.slots.iter().filter_map(|place| place.present.borrow().clone()).collect()
    }

    pub fn slot(&self, slot: usize) -> Slot {
        self.slots[slot].slot
    }

    /// Starts a process in an empty slot.
    pub fn start(&self, slot: usize) -> Option<Rc<Process>> {
        let Place { slot: Slot { cluster, hydrates }, present } = &self.slots[slot];
        if present.borrow().is_some() {
            return None;
        }
        let number = self.started.get();
        self.started.set(number + 1);
        let settings = self.settings(*cluster, slot);
        self.journal.note(format_args!("#{number} starts as {}", settings.instance));
        let link = Link::new(&self.net, slot, number, &self.ledgers);
        let (roster, listed) = watch::channel(self.targets(*cluster, slot, number));
        let roles = if *hydrates { HYDRATOR } else { ALLOCATOR };
        let log = if self.logs { log::to(&self.journal, number) } else { silent() };
        let running = Running::start(settings, roles, Rc::new(link), listed, self.fork_rng(), log);
        let process = Rc::new(Process {
            number,
            slot,
            handles: running.workers.iter().map(|worker| worker.allocator.clone()).collect(),
            shared: Arc::clone(&running.shared),
            life: running.life(),
            running: RefCell::new(Some(running)),
            roster,
            over: Cell::new(false),
        });
        *present.borrow_mut() = Some(Rc::clone(&process));
        Some(process)
    }

    /// Ends what is in a slot at once; `false` if nothing is.
    pub async fn crash(&self, slot: usize) -> bool {
        let Some(process) = self.slots[slot].present.borrow_mut().take() else { return false };
        process.over.set(true);
        process.life.abort();
        while !process.life.is_finished() {
            yield_now().await;
        }
        self.journal.note(format_args!("#{} crashed", process.number));
        self.journal.lock().crashed(process.number);
        true
    }

    /// Stops what is in a slot in order, which takes no longer than it may; `false` if nothing is there, or it stops already.
    pub async fn drain(&self, slot: usize) -> bool {
        let Some(process) = self.present(slot).filter(|process| !process.over.get()) else { return false };
        process.over.set(true);
        self.journal.note(format_args!("#{} drains", process.number));
        let running = process.running.borrow_mut().take();
        let Some(running) = running else { return false };
        let limit = Duration::from_secs(25);
        let in_order = timeout(limit, running.stop()).await.is_ok();
        if self.present(slot).is_none_or(|now| now.number != process.number) {
            // It crashed meanwhile.
            return false;
        }
        running.crash().await;
        let mut journal = self.journal.lock();
        journal.note(format_args!("#{} stopped{}", process.number, if in_order { "" } else { ", too late" }));
        if in_order {
            for sequence in &self.schedule.sequences {
                let tally = &process.shared.metrics.sequence(sequence.name).tally;
                let all = tally.discarded_in_all() - tally.discarded(Cause::InDoubt);
                journal.ended(process.number, sequence.name, i128::from(all));
            }
        }
        journal.crashed(process.number);
        drop(journal);
        *self.slots[slot].present.borrow_mut() = None;
        true
    }

    /// Adds a pod to its cluster's pods, or takes it from them; `false` if nothing changes.
    pub fn list(&self, pod: usize, listed: bool) -> bool {
        let was = std::mem::replace(&mut self.listed.borrow_mut()[pod], listed);
        for process in self.processes() {
            let cluster = self.slot(process.slot).cluster;
            if self.schedule.pods_of(cluster).contains(&pod) {
                process.roster.send_replace(self.targets(cluster, process.slot, process.number));
            }
        }
        was != listed
    }

    /// Pods of a cluster that are among its pods now.
    pub fn pods_of(&self, cluster: usize) -> Vec<&PodServer> {
        let listed = self.listed.borrow();
        self.schedule.pods_of(cluster).filter(|pod| listed[*pod]).map(|pod| &self.pods[pod]).collect()
    }

    /// The list of a sequence on the pods of a cluster.
    pub fn list_of(&self, row: &SequenceRow, cluster: usize) -> List {
        let scope = Scope { ledger: self.ledger_id(), cluster: cluster_name(cluster) };
        List { scope, sequence: Arc::clone(&row.facts.name), generation: row.facts.generation }
    }

    /// Whether a process can reach a tier that has plenty of a sequence.
    pub fn can_serve(&self, process: &Process, row: &SequenceRow) -> bool {
        let plenty = i64::from(self.schedule.load.most) * 200;
        let way = |server| Way { slot: process.slot, process: process.number, server };
        let left = row.facts.last - row.granted;
        if self.net.is_clear(way(Server::Ledger)) && self.ledgers.serves(process.slot) && left > plenty {
            return true;
        }
        let cluster = self.slot(process.slot).cluster;
        let list = self.list_of(row, cluster);
        let blocks = i64::from(self.schedule.load.most) * 200 / row.facts.block_size + 50;
        let mut pods = self.pods_of(cluster).into_iter();
        pods.any(|pod| {
            let reached = self.net.is_clear(way(Server::Pod(pod.number)));
            reached && pod.is_pod() && pod.blocks(&list) >= blocks.unsigned_abs()
        })
    }

    /// Every sequence as the ledger has it.
    pub async fn rows(&self) -> Vec<SequenceRow> {
        self.ledger().history().await.unwrap().sequences
    }

    fn ledger_id(&self) -> uuid::Uuid {
        use futures_util::FutureExt;
        let ledger = self.ledger();
        let facts = ledger.facts(None).now_or_never();
        facts.expect("a ledger in memory answers at once").unwrap().identity.ledger
    }

    fn targets(&self, cluster: usize, slot: usize, process: u32) -> Arc<[Arc<dyn Target>]> {
        let target = |pod: &PodServer| pod.target(&self.net, slot, process, self.fork_rng());
        self.pods_of(cluster).into_iter().map(target).collect()
    }

    fn settings(&self, cluster: usize, slot: usize) -> Settings {
        let tuning = &self.schedule.tuning;
        let mut settings = Settings::default();
        settings.environment = "simulation".into();
        settings.cluster = cluster_name(cluster);
        settings.instance = format!("slot-{slot}").into();
        settings.grpc.workers = tuning.workers;
        settings.redis.timeout = tuning.pod_timeout;
        settings.ledger.timeout = tuning.ledger_timeout;
        settings.ledger.connect_spread = tuning.connect_spread;
        settings.hydrator.interval = tuning.interval;
        settings.hydrator.min_ids = tuning.min_ids;
        settings.fallback.min_ids = tuning.fallback_min_ids;
        settings.fallback.cover = tuning.cover;
        settings.fallback.max_waiters = tuning.max_waiters;
        settings.exercise.ratio = tuning.exercise;
        settings.exercise.max_per_minute = 30.0;
        settings
    }
}

pub fn cluster_name(cluster: usize) -> Arc<str> {
    ["east", "west", "north"][cluster].into()
}

fn silent() -> Logger {
    Logger::root(slog::Discard, slog::o!())
}

impl Process {
    /// Takes IDs at one worker, not yet issued.
    pub async fn allocate(
        &self,
        worker: usize,
        sequence: &str,
        count: u32,
        deadline: Instant,
    ) -> Result<Allocation, Refusal> {
        self.handles[worker].allocate(sequence, count, deadline).await
    }

    pub fn panic(&self, actor: &str) {
        if let Some(running) = &*self.running.borrow() {
            running.panic(actor);
        }
    }

    pub fn workers(&self) -> usize {
        self.handles.len()
    }
}
