//! The ledger's servers: a primary, what a standby or a backup has of it, and which of them each process reaches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use blockhouse::ledger::memory::Memory;
use blockhouse::ledger::{Admin, State};
use futures_util::FutureExt;

/// What befalls them. `lag` counts backups, one of each second, back from the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Befalls {
    /// The primary starts again; nothing is lost.
    Restart,
    /// A standby that lags is promoted. Whoever stays with the old primary is served by it, until an operator cuts it off.
    Failover { lag: usize, stay: Stay },
    /// Two standbys of the same state are promoted; `split` says who reaches which. An operator takes one for the right one.
    TwoPromotions { lag: usize, split: u64 },
    /// A dump is restored over the primary.
    Dump { lag: usize },
    /// The files of a backup are put in the place of the primary's, and brought to a point in time.
    Rewind { lag: usize },
    /// Its clock jumps.
    Clock { by_us: i64 },
}

/// Who still reaches the old primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    Nobody,
    Cluster(usize),
    /// The slots of these bits.
    Some(u64),
}

/// All of them.
pub struct Ledgers(Mutex<Inner>);

struct Inner {
    present: Memory,
    /// Of each slot.
    reached: Vec<Memory>,
    clusters: Vec<usize>,
    backups: VecDeque<Memory>,
}

/// Backups that are kept.
const KEPT: usize = 20;

impl Ledgers {
    /// All reach `primary`. `clusters` names the cluster of each slot.
    pub fn new(primary: Memory, clusters: Vec<usize>) -> Arc<Ledgers> {
        let reached = vec![primary.clone(); clusters.len()];
        Arc::new(Ledgers(Mutex::new(Inner { present: primary, reached, clusters, backups: VecDeque::new() })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nobody panics with it in hand")
    }

    /// The one that a slot's process reaches.
    pub fn of(&self, slot: usize) -> Memory {
        self.inner().reached[slot].clone()
    }

    /// The one that operators take for the right one.
    pub fn present(&self) -> Memory {
        self.inner().present.clone()
    }

    /// Whether the one that a slot's process reaches is open.
    pub fn serves(&self, slot: usize) -> bool {
        let history = self.of(slot).history().now_or_never();
        history.is_some_and(|history| history.is_ok_and(|history| history.state == State::Open))
    }

    /// Backs the primary up.
    pub fn back_up(&self) {
        let mut inner = self.inner();
        let copy = inner.present.copy();
        inner.backups.push_back(copy);
        if inner.backups.len() > KEPT {
            inner.backups.pop_front();
        }
    }

    /// What was backed up before a failover was accepted is of no use afterwards: it knows nothing of the life that began, whose first
    /// grants lie where the next acceptance would go on.
    pub fn begin_backups_anew(&self) {
        self.inner().backups.clear();
    }

    /// From now on everybody reaches the right one only.
    pub fn cut_off(&self) {
        let mut inner = self.inner();
        let present = inner.present.clone();
        inner.reached.iter_mut().for_each(|reached| reached.clone_from(&present));
    }

    pub fn befall(&self, what: &Befalls) {
        let mut inner = self.inner();
        match *what {
            Befalls::Restart => inner.present.restart(),
            Befalls::Clock { by_us } => inner.present.step_clock(by_us),
            Befalls::Failover { lag, stay } => {
                let (old, new) = (inner.present.clone(), inner.backup(lag));
                new.promote();
                inner.present = new.clone();
                for slot in 0..inner.reached.len() {
                    let stays = match stay {
                        Stay::Nobody => false,
                        Stay::Cluster(cluster) => inner.clusters[slot] == cluster,
                        Stay::Some(bits) => bits >> (slot % 64) & 1 == 1,
                    };
                    inner.reached[slot] = if stays { old.clone() } else { new.clone() };
                }
            }
            Befalls::TwoPromotions { lag, split } => {
                let one = inner.backup(lag);
                let other = one.copy();
                one.promote();
                other.promote();
                for slot in 0..inner.reached.len() {
                    let to = if split >> (slot % 63 + 1) & 1 == 1 { &one } else { &other };
                    inner.reached[slot].clone_from(to);
                }
                inner.present = if split & 1 == 1 { one } else { other };
            }
            Befalls::Dump { lag } => {
                let backup = inner.backup(lag);
                inner.present.restore_dump(&backup);
            }
            Befalls::Rewind { lag } => {
                let backup = inner.backup(lag);
                inner.present.restore(&backup);
                inner.present.promote();
            }
        }
    }
}

impl Inner {
    /// A copy of a backup; what came after it is no longer ahead of anything.
    fn backup(&mut self, lag: usize) -> Memory {
        let at = self.backups.len().saturating_sub(1 + lag);
        match self.backups.get(at) {
            Some(backup) => backup.copy(),
            None => self.present.copy(),
        }
    }
}
