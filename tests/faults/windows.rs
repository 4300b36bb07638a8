//! Whether somebody was served while something was broken and somebody could be: the rule, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A window that is shorter is not judged: a process needs its time-outs to notice what broke.
pub const GRACE: Duration = Duration::from_secs(2);

/// Fault windows. **The rule:** a window that lasted [`GRACE`] or longer, and throughout which one and the same allocator could reach a tier
/// that holds IDs, has at least one answer of that allocator in it. What counts as reachable is [`crate::reach`]'s.
#[derive(Debug, Default)]
pub struct Windows {
    open: BTreeMap<u64, Window>,
    /// Closed so far.
    pub closed: u64,
    /// Of these, such that the rule speaks of.
    pub judged: u64,
}

#[derive(Debug)]
struct Window {
    since: Duration,
    /// Allocators that could reach a tier at every moment so far.
    able: BTreeSet<usize>,
    served: BTreeSet<usize>,
}

impl Windows {
    /// A fault begins; `able` says which allocators can reach a tier now.
    pub fn open(&mut self, number: u64, at: Duration, able: &BTreeSet<usize>) {
        self.open.insert(number, Window { since: at, able: able.clone(), served: BTreeSet::new() });
    }

    /// Which allocators can reach a tier now.
    pub fn reach(&mut self, able: &BTreeSet<usize>) {
        self.open.values_mut().for_each(|window| window.able.retain(|allocator| able.contains(allocator)));
    }

    /// An allocator answered with IDs.
    pub fn served(&mut self, by: usize) {
        for window in self.open.values_mut() {
            window.served.insert(by);
        }
    }

    /// A fault is over; what to say if the rule was broken.
    pub fn close(&mut self, number: u64, at: Duration) -> Option<String> {
        let Window { since, able, served } = self.open.remove(&number)?;
        let lasted = at.saturating_sub(since);
        self.closed += 1;
        if able.is_empty() || lasted < GRACE {
            return None;
        }
        self.judged += 1;
        let silent: Vec<_> = able.difference(&served).collect();
        (!silent.is_empty())
            .then(|| format!("allocators {silent:?} answered nothing in a fault window of {lasted:?}"))
    }
}
