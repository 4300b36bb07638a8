//! Which allocators can reach a tier that holds IDs: what a fault window is judged by.
//!
//! An allocator counts where it has been ready, and its callers' line clean, for [`SETTLED`]; and for at least one tier this holds:
//! a pod that runs and holds blocks, with a clean line to it, for [`POD`]; or a ledger that runs, with a clean line to it, for [`LEDGER`]
//! (a process that could not reach it tries again at most 10 s later). Clean means that no toxic lies on it, not even a mild one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Since when an allocator and its callers' line are well.
const SETTLED: Duration = Duration::from_secs(2);

/// Since when a pod is.
const POD: Duration = Duration::from_secs(5);

/// Since when the ledger is.
const LEDGER: Duration = Duration::from_secs(15);

/// What is well, since when.
#[derive(Debug, Clone, Copy, Default)]
pub struct Well(Option<Instant>);

impl Well {
    /// It was seen to be so.
    pub fn see(&mut self, well: bool, now: Instant) {
        self.0 = well.then(|| self.0.unwrap_or(now));
    }

    fn for_long(self, time: Duration, now: Instant) -> bool {
        self.0.is_some_and(|since| now - since >= time)
    }
}

/// An allocator and its lines.
#[derive(Debug, Clone, Default)]
pub struct Allocator {
    pub ready: Well,
    pub front: Well,
    pub to_pods: Vec<Well>,
    pub to_ledger: Well,
}

/// Everything that matters to callers.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    pub allocators: Vec<Allocator>,
    pub pods: Vec<Well>,
    pub ledger: Well,
}

impl Reach {
    pub fn new(allocators: usize, pods: usize) -> Reach {
        let allocator = Allocator { to_pods: vec![Well::default(); pods], ..Allocator::default() };
        Reach {
            allocators: vec![allocator; allocators],
            pods: vec![Well::default(); pods],
            ledger: Well::default(),
        }
    }

    /// Allocators that can answer.
    pub fn able(&self, now: Instant) -> BTreeSet<usize> {
        let able = |allocator: &Allocator| {
            let pods = self.pods.iter().zip(&allocator.to_pods);
            let mut pods = pods.filter(|(pod, line)| pod.for_long(POD, now) && line.for_long(POD, now));
            let ledger = self.ledger.for_long(LEDGER, now) && allocator.to_ledger.for_long(LEDGER, now);
            allocator.ready.for_long(SETTLED, now)
                && allocator.front.for_long(SETTLED, now)
                && (pods.next().is_some() || ledger)
        };
        (0..self.allocators.len()).filter(|number| able(&self.allocators[*number])).collect()
    }
}
