//! How often processes ask the ledger, and whether they serve while they could.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What a process may do, and must.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// At most so many requests to the ledger …
    pub requests: usize,
    /// … of one process within this time. Zero: as many as it likes.
    pub within: Duration,
    /// A tier that can be reached for so long, without a break, serves; zero: nobody looks.
    pub grace: Duration,
    /// Of so many callers in a row, one is served.
    pub callers: u32,
}

/// Who can be served with what: the number of a process, and that of a sequence.
pub type Reach = (u32, u32);

#[derive(Debug, Default)]
pub(super) struct Watch {
    limits: Limits,
    /// When each process asked the ledger.
    asked: BTreeMap<u32, VecDeque<Duration>>,
    windows: BTreeMap<Reach, Window>,
}

/// Since when a tier can be reached, and how many were turned away since it should serve.
#[derive(Debug, Default)]
struct Window {
    since: Option<Duration>,
    refused: u32,
}

impl Watch {
    pub fn new(limits: Limits) -> Watch {
        Watch { limits, ..Watch::default() }
    }

    pub fn request(&mut self, process: u32, at: Duration) -> Option<String> {
        let Limits { requests, within, .. } = self.limits;
        if within.is_zero() {
            return None;
        }
        let asked = self.asked.entry(process).or_default();
        asked.push_back(at);
        while asked.front().is_some_and(|first| *first + within <= at) {
            asked.pop_front();
        }
        if asked.len() <= requests {
            return None;
        }
        let count = asked.len();
        // Begins anew: one burst is told once.
        asked.clear();
        Some(format!("process {process} sent {count} requests within {within:?}"))
    }

    pub fn reach(&mut self, reach: Reach, possible: bool, at: Duration) {
        let window = self.windows.entry(reach).or_default();
        if possible != window.since.is_some() {
            *window = Window { since: possible.then_some(at), refused: 0 };
        }
    }

    pub fn tried(&mut self, reach: Reach, served: bool, at: Duration) -> Option<String> {
        let Limits { grace, callers, .. } = self.limits;
        let window = self.windows.get_mut(&reach)?;
        let since = window.since.filter(|_| !grace.is_zero())?;
        if served || at < since + grace {
            window.refused = 0;
            return None;
        }
        window.refused += 1;
        if window.refused < callers {
            return None;
        }
        *window = Window { since: Some(at), refused: 0 };
        let (process, sequence) = reach;
        let lasted = at - since;
        Some(format!(
            "{callers} callers in a row got nothing of sequence {sequence} from process {process}, which could reach a tier for \
             {lasted:?}"
        ))
    }
}
