//! IDs on their way to a caller.

use std::sync::Arc;

use super::allocator::{Allocator, TakeBack};
use super::known::{Known, Sequence};
use super::mailbox::Mailbox;
use crate::block::{Range, Span, Tier};
use crate::failpoint;

/// IDs that are about to be answered. Dropped before [`Allocation::issue`], they go back to the worker's memory (S2).
pub struct Allocation {
    ranges: Vec<Range>,
    tier: Tier,
    /// `None`: nowhere, so that they are discarded.
    home: Option<Arc<Home>>,
}

/// Where unissued IDs go back to.
pub(super) struct Home {
    pub(super) mailbox: Mailbox<Allocator>,
    pub(super) sequence: Arc<Sequence>,
    pub(super) worker: usize,
}

/// IDs that are the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Ascending, neither overlapping nor touching; the counts add up to what was asked.
    pub spans: Vec<Span>,
    /// The farthest tier that the answer needed.
    pub tier: Tier,
}

impl Allocation {
    /// Takes charge of what an answer is made of: ascending, neither overlapping nor touching.
    pub fn new(ranges: Vec<Range>, tier: Tier) -> Allocation {
        Allocation { ranges, tier, home: None }
    }

    pub(super) fn at_home(ranges: Vec<Range>, tier: Tier, home: Arc<Home>) -> Allocation {
        Allocation { ranges, tier, home: Some(home) }
    }

    /// Whether none of it was granted before the generation that is known now.
    pub(super) fn is_current(&self, known: &Known) -> bool {
        let Some(home) = &self.home else { return true };
        let generation = known.newest(&home.sequence).facts.generation;
        self.ranges.iter().all(|range| range.generation() >= generation)
    }

    /// The point of no return (S2): call it when the answer is handed to the transport.
    #[must_use]
    pub fn issue(mut self) -> Issued {
        let spans: Vec<Span> = std::mem::take(&mut self.ranges).into_iter().map(Range::issue).collect();
        failpoint::reach("answer.issued");
        if let Some(home) = &self.home {
            let ids: i64 = spans.iter().map(|span| span.count()).sum();
            home.sequence.counters.allocated(home.worker, self.tier, ids.unsigned_abs());
        }
        Issued { spans, tier: self.tier }
    }

    /// Takes the IDs out again: they are not issued.
    pub(super) fn take_back(mut self) -> Vec<Range> {
        std::mem::take(&mut self.ranges)
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let ranges = std::mem::take(&mut self.ranges);
        if let Some(home) = self.home.take().filter(|_| !ranges.is_empty()) {
            // An allocator that has ended drops the message, and with it the ranges, which counts them.
            home.mailbox.send(TakeBack { sequence: Arc::clone(&home.sequence), ranges });
        }
    }
}
