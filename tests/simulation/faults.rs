//! Lets the faults of a schedule happen, and undoes them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use blockhouse::block::Stamp;
use blockhouse::block::witness::{ClusterSeen, Kind as Kinds};
use blockhouse::ledger::{Admin, Ledger, SequenceChange};
use blockhouse::pods::Notice;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};

use crate::fault::{Fault, Kind};
use crate::schedule::Timed;
use crate::world::{World, cluster_name};

/// The faults of a run.
pub struct Faults {
    world: Rc<World>,
    fired: Rc<RefCell<BTreeMap<Kind, u64>>>,
    /// What undoes faults, and starts processes again, later.
    later: RefCell<Vec<JoinHandle<()>>>,
    springs: JoinHandle<()>,
}

impl Faults {
    /// `sprung` names the slots whose process walked into a trap.
    pub fn new(world: &Rc<World>, mut sprung: mpsc::UnboundedReceiver<usize>) -> Faults {
        let fired: Rc<RefCell<BTreeMap<Kind, u64>>> = Rc::default();
        let (of, counts) = (Rc::clone(world), Rc::clone(&fired));
        let springs = spawn_local(async move {
            while let Some(slot) = sprung.recv().await {
                if of.crash(slot).await {
                    count(&of, &counts, Kind::Trap);
                    let of = Rc::clone(&of);
                    spawn_local(async move {
                        sleep(Duration::from_millis(700)).await;
                        start(&of, slot);
                    });
                }
            }
        });
        Faults { world: Rc::clone(world), fired, later: RefCell::default(), springs }
    }

    pub fn fired(&self) -> BTreeMap<Kind, u64> {
        self.fired.borrow().clone()
    }

    pub fn start(&self, slot: usize) {
        start(&self.world, slot);
    }

    /// All of them, in time, until `end`.
    pub async fn happen(&self, end: Instant) {
        let began = Instant::now();
        let schedule = Rc::clone(&self.world.schedule);
        for (number, Timed { at, fault }) in schedule.faults.iter().enumerate() {
            sleep_until((began + *at).min(end)).await;
            self.world.journal.note(format_args!("fault {number}: {fault:?}"));
            if self.apply(number, fault).await && fault.kind() != Kind::Trap {
                count(&self.world, &self.fired, fault.kind());
            }
        }
    }

    /// Whether it made a difference.
    async fn apply(&self, number: usize, fault: &Fault) -> bool {
        let world = Rc::clone(&self.world);
        match fault.clone() {
            Fault::Weather { ways, weather, lasts } => {
                world.net.weather(number, ways, weather);
                self.after(lasts, async move || world.net.clear(number));
                true
            }
            Fault::Crash { slot, back_after } => {
                let crashed = world.crash(slot).await;
                self.after(back_after, async move || start(&world, slot));
                crashed
            }
            Fault::Trap { trap } => {
                world.net.set_trap(trap);
                true
            }
            Fault::Panic { slot, actor } => match world.present(slot) {
                Some(process) => {
                    process.panic(actor);
                    true
                }
                None => false,
            },
            Fault::Drain { slot, back_after } => {
                let there = world.present(slot).is_some();
                self.after(Duration::ZERO, async move || {
                    if world.drain(slot).await {
                        sleep(back_after).await;
                        start(&world, slot);
                    }
                });
                there
            }
            Fault::PodRestarts { pod } => {
                world.pods[pod].restart();
                true
            }
            Fault::PodAged { pod, lag } => {
                world.pods[pod].restart_with_older(lag);
                true
            }
            Fault::PodFlushed { pod } => {
                world.pods[pod].flush();
                true
            }
            Fault::PodDemoted { pod, lag, lasts } => {
                world.pods[pod].demote(lag);
                self.after(lasts, async move || world.pods[pod].promote());
                true
            }
            Fault::PodReplicated { pod, lasts } => {
                world.pods[pod].attach(1);
                self.after(lasts, async move || world.pods[pod].attach(0));
                true
            }
            Fault::PodRestored { pod, lag, lasts } => {
                let restored = world.pods[pod].restore(lag);
                if restored {
                    // Somebody reads why it is refused.
                    self.after(lasts, async move || world.pods[pod].flush());
                }
                restored
            }
            Fault::PodFull { pod, lasts } => {
                let was = world.pods[pod].is_full();
                world.pods[pod].set_full(true);
                self.after(lasts, async move || world.pods[pod].set_full(false));
                !was
            }
            Fault::PodGone { pod, lasts } => {
                let was = world.list(pod, false);
                self.after(lasts, async move || _ = world.list(pod, true));
                was
            }
            Fault::Advance { sequence, by } => {
                let name = world.schedule.sequences[sequence].name;
                let advanced = advance(&world, name, by).await;
                if advanced {
                    self.after(Duration::ZERO, async move || until_seen(&world, name).await);
                }
                advanced
            }
            Fault::Ledger { what } => {
                self.world.ledgers.befall(&what);
                true
            }
            Fault::BlockSize { sequence, to } => {
                let change = SequenceChange { block_size: Some(to), ..SequenceChange::default() };
                world.ledger().set(world.schedule.sequences[sequence].name, &change).await.is_ok()
            }
        }
    }

    fn after(&self, wait: Duration, work: impl AsyncFnOnce() + 'static) {
        let task = spawn_local(async move {
            sleep(wait).await;
            work().await;
        });
        let mut later = self.later.borrow_mut();
        later.retain(|task| !task.is_finished());
        later.push(task);
    }

    /// Ends all of them, and starts every process that isn't there.
    pub async fn heal(&self) {
        let world = &self.world;
        world.journal.note(format_args!("the faults are over"));
        self.springs.abort();
        world.net.heal();
        for pod in 0..world.pods.len() {
            world.pods[pod].set_full(false);
            world.list(pod, true);
        }
        world.ledgers.cut_off();
        // Drains under way end by themselves.
        let later = std::mem::take(&mut *self.later.borrow_mut());
        for task in later {
            let _ = task.await;
        }
        for slot in 0..world.schedule.slots().len() {
            start(world, slot);
        }
    }
}

fn count(world: &World, fired: &RefCell<BTreeMap<Kind, u64>>, kind: Kind) {
    *fired.borrow_mut().entry(kind).or_default() += 1;
    world.journal.lock().checker.fault();
}

/// Starts a process where none is. One that must end, because an actor panics again and again, is started again.
pub fn start(world: &Rc<World>, slot: usize) {
    let Some(process) = world.start(slot) else { return };
    let world = Rc::clone(world);
    let mut fatal = process.shared.fatal.subscribe();
    spawn_local(async move {
        if fatal.wait_for(Option::is_some).await.is_err() {
            return;
        }
        drop(fatal);
        if world.present(slot).is_some_and(|now| now.number == process.number) && !process.over.get() {
            world.crash(slot).await;
            sleep(Duration::from_secs(1)).await;
            start_again(&world, slot);
        }
    });
}

/// By another name, because a task that starts itself has no type that could be written down.
fn start_again(world: &Rc<World>, slot: usize) {
    start(world, slot);
}

/// As the command does it: the ledger, then the pods that can be told.
async fn advance(world: &World, name: &'static str, by: i64) -> bool {
    let Some(row) = world.rows().await.into_iter().find(|row| *row.facts.name == *name) else { return false };
    let Some(above) = row.granted.checked_add(by).filter(|above| *above <= row.facts.last) else {
        return false;
    };
    if world.ledger().advance(name, above).await.is_err() {
        return false;
    }
    let facts = world.ledger().facts(None).await.unwrap();
    for (cluster, _) in world.schedule.clusters.iter().enumerate() {
        let notice = Notice {
            identity: facts.identity.clone(),
            cluster: cluster_name(cluster),
            catalogue: Arc::new(facts.catalogue.clone()),
            high_waters: facts.granted.clone(),
            read_at_us: facts.read_at_us,
        };
        for pod in world.pods_of(cluster) {
            let _ = pod.publish(&notice);
        }
    }
    true
}

/// Waits as the command does; once everybody has heard, nothing older may be given out.
async fn until_seen(world: &World, name: &'static str) {
    let Ok(facts) = world.ledger().facts(None).await else { return };
    let Some((_, up_to)) = facts.granted.iter().find(|(of, _)| **of == *name) else { return };
    let until = Instant::now() + Duration::from_secs(15);
    while Instant::now() < until {
        let Ok(present) = world.ledger().facts(None).await else { return };
        if present.identity.life != facts.identity.life {
            // It may have lost the change, and the command says so.
            return;
        }
        let clusters = world.ledger().seen().await.unwrap();
        let heard = clusters.iter().all(|cluster| has_heard(cluster, facts.catalogue.stamp));
        if heard && all_are_heard(world, &clusters) {
            let mut journal = world.journal.lock();
            let at = journal.now();
            journal.note(format_args!("everybody has heard that {name} goes on above {up_to}"));
            return journal.checker.moved(name, *up_to, at);
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// A process that no pod has heard since it started is not waited for: the command names it where the ledger remembers that it was
/// granted anything.
fn all_are_heard(world: &World, clusters: &[ClusterSeen]) -> bool {
    let seen =
        |name: &str| clusters.iter().any(|cluster| cluster.seen.iter().any(|witness| *witness.name == *name));
    world.processes().iter().all(|process| seen(&process.shared.settings.instance))
}

fn has_heard(cluster: &ClusterSeen, stamp: Stamp) -> bool {
    cluster.led
        && cluster.seen.iter().any(|witness| witness.kind == Kinds::Pod)
        && cluster.seen.iter().all(|witness| witness.stamp >= stamp)
}
