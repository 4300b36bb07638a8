//! One sequence at one worker: what is at hand, who waits, and what to do next. Decides; waits for nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::buffer::Drawn;
use super::handle::{Allocation, Home};
use crate::block::line::Line;
use crate::block::{Refusal, Stash};

/// One sequence at this worker.
pub(super) struct Desk {
    /// The sequence as it is known here, and where its IDs go back to if they aren't issued.
    pub(super) home: Arc<Home>,
    /// Less than one block, once nobody waits.
    pub(super) leftovers: Stash,
    pub(super) line: Line<Caller>,
    /// Pops under way, and the IDs they are to bring.
    pub(super) pops: usize,
    pub(super) popping_ids: i64,
    /// How many pops may be under way: as many as there are pods.
    pub(super) pops_at_once: usize,
    /// A draw from the reserve, or a fetch from the ledger, is under way.
    pub(super) drawing: bool,
    /// Since the line formed: the reserve had nothing, or every pod was tried in vain.
    pub(super) reserve_dry: bool,
    pub(super) pods_dry: bool,
}

/// Who waits, and its place among `grpc.max_in_flight`.
pub(super) struct Caller {
    pub(super) reply: oneshot::Sender<Result<Allocation, Refusal>>,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// What a desk does next for those who wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Enough is under way.
    Wait,
    /// IDs from the reserve.
    Draw(i64),
    /// Blocks from the pods.
    Pop(usize),
    /// IDs from the ledger.
    Fetch {
        /// For all who wait.
        need: i64,
        /// For the first of them.
        least: i64,
    },
}

impl Desk {
    pub(super) fn new(home: Home) -> Desk {
        let mut leftovers = Stash::default();
        leftovers.follow(home.sequence.facts.generation);
        Desk {
            home: Arc::new(home),
            leftovers,
            line: Line::default(),
            pops: 0,
            popping_ids: 0,
            pops_at_once: 1,
            drawing: false,
            reserve_dry: false,
            pods_dry: false,
        }
    }

    /// The catalogue changed. What was granted before a new generation must not be used any more.
    pub(super) fn follow(&mut self, home: Home) {
        self.leftovers.follow(home.sequence.facts.generation);
        self.home = Arc::new(home);
    }

    pub(super) fn put(&mut self, drawn: Drawn) {
        for range in drawn.ranges {
            self.leftovers.put(range, drawn.tier);
        }
    }

    pub(super) fn next_step(&self) -> Step {
        let missing = self.line.ids() - self.leftovers.ids() - self.popping_ids;
        if missing <= 0 || self.drawing {
            return Step::Wait;
        }
        let block = self.home.sequence.facts.block_size.max(1);
        // Whole blocks, so that the next small request finds something without crossing threads.
        let whole = (missing.saturating_add(block - 1) / block).saturating_mul(block).max(missing);
        if !self.reserve_dry && self.home.sequence.counters.reserve_ids.load(Ordering::Relaxed) > 0 {
            return Step::Draw(whole);
        }
        if !self.pods_dry {
            let blocks = usize::try_from(whole / block).unwrap_or(usize::MAX).max(1);
            return if self.pops < self.pops_at_once { Step::Pop(blocks) } else { Step::Wait };
        }
        if self.pops > 0 {
            return Step::Wait;
        }
        let least = self.line.first().unwrap_or(1) - self.leftovers.ids();
        // Nothing beyond what is waited for: how much more is welcome depends on whether the ledger answers (S1).
        Step::Fetch { need: missing, least: least.max(1) }
    }
}
