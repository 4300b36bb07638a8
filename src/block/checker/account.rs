//! One sequence's IDs: committed, issued, and the sum of it all.

use std::time::Duration;

use super::Rule;
use crate::block::{Span, SpanSet};

/// What is known of one sequence.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub bounds: Option<(i64, i64)>,
    pub issued: SpanSet,
    pub committed: Option<Committed>,
    /// Since when nothing up to which ID may be given out.
    pub moved: Vec<(Duration, i64)>,
}

/// Everything that was ever committed. A ledger that lost commits may commit the same again, which is no fault of its
/// own: what counts is that nobody is given it twice.
#[derive(Debug, Default)]
pub(super) struct Committed(SpanSet);

impl Committed {
    pub fn push(&mut self, span: Span) {
        let mut from = span;
        while let Err(known) = self.0.insert(from) {
            let before = from.first() < known.first();
            if before && let Some(head) = Span::new(from.first(), known.first() - from.first()) {
                self.push(head);
            }
            if from.last() <= known.last() {
                return;
            }
            match Span::new(known.last() + 1, from.last() - known.last()) {
                Some(rest) => from = rest,
                None => return,
            }
        }
    }
}

impl Account {
    /// Notes that `span` was given out on a request made at `since`; every rule that this breaks, and what to say of it.
    pub fn issue(&mut self, span: Span, since: Duration) -> Vec<(Rule, String)> {
        let mut broken = Vec::new();
        if let Some((first, last)) = self.bounds.filter(|(first, last)| !span.within(*first, *last)) {
            broken.push((Rule::Outside, format!("{span}, of {first} to {last},")));
        }
        if self.committed.as_ref().is_some_and(|committed| !committed.0.contains(span)) {
            broken.push((Rule::Uncommitted, span.to_string()));
        }
        let moved = self.moved.iter().filter(|(at, _)| *at <= since).map(|(_, up_to)| *up_to).max();
        if let Some(up_to) = moved.filter(|up_to| span.first() <= *up_to) {
            broken.push((Rule::Stale, format!("{span}, not above {up_to},")));
        }
        if let Err(before) = self.issued.insert(span) {
            broken.push((Rule::Twice, format!("{span}, of which {before} was given out before,")));
        }
        broken
    }
}

/// Where a sequence's IDs are once everything has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// Committed by the ledger, whoever heard of it.
    pub granted: i128,
    /// In lists of pods that can be popped.
    pub in_pods: i128,
    /// Held by processes.
    pub held: i128,
    /// Discarded by processes that held them.
    pub discarded: i128,
    /// On their way when an answer or a push was lost.
    pub in_doubt: i128,
    /// Gone with processes that crashed.
    pub crashed: i128,
    /// Gone with pods, or with lists of earlier lives and generations.
    pub with_pods: i128,
}

impl Balance {
    /// Whether the parts add up to what was granted.
    pub(super) fn check(&self, issued: i128) -> Result<(), String> {
        let Balance { granted, in_pods, held, discarded, in_doubt, crashed, with_pods } = *self;
        let sum = issued + in_pods + held + discarded + in_doubt + crashed + with_pods;
        if sum == granted {
            return Ok(());
        }
        Err(format!(
            "{granted} granted, but {sum} = {issued} issued + {in_pods} in pods + {held} held + {discarded} discarded + \
             {in_doubt} in doubt + {crashed} crashed + {with_pods} gone with pods"
        ))
    }
}
