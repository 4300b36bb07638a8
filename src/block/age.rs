//! How old what threads share is at most, without a lock.

use super::sync::{AtomicI64, Ordering};

/// When whatever it stands beside was last read at its source, in µs since 1970 by the source's clock.
///
/// Reports are judged by their age (S3): one that calls itself newer than what it says would let a ledger go on below what was
/// granted. So an age follows what it vouches for, and is looked at first.
#[derive(Debug, Default)]
pub struct Age(AtomicI64);

impl Age {
    /// Everything that was read at `at_us` is in its place by now. An older age than the present one changes nothing.
    pub fn vouch(&self, at_us: i64) {
        self.0.fetch_max(at_us, Ordering::AcqRel);
    }

    /// What `look` sees, and when that was read, or before; `None` if it never was.
    pub fn of<T>(&self, look: impl FnOnce() -> T) -> (Option<i64>, T) {
        let at_us = Some(self.0.load(Ordering::Acquire)).filter(|at_us| *at_us > 0);
        // Later than its age was looked at, so no older than that.
        (at_us, look())
    }
}
