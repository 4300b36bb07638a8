//! One line, and what a lease on it does to calls.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// What a line does to a call that begins under a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Fails it at once; it isn't sent.
    Refuses,
    /// Fails it when its time is over; it isn't sent.
    Gone,
    /// Carries it, and the answer is late by this.
    Slow(Duration),
}

/// For how long a line does what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What.
    pub effect: Effect,
    /// To calls of this address only; `None` = of all.
    pub only: Option<Arc<str>>,
    /// It is over then, whoever still lives.
    pub until: Instant,
}

/// A line, as every thread of the process shares it. Clones are the same line.
#[derive(Debug, Clone, Default)]
pub struct Line(Arc<watch::Sender<Option<Lease>>>);

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carried {
    /// It may be made; its answer is late by this.
    Through(Duration),
    /// It must not be made: nobody listens.
    Refused,
    /// It must not be made: nothing came back for so long.
    Lost(Duration),
}

impl Line {
    /// Lays a lease, in place of the one before.
    pub fn lay(&self, lease: Lease) {
        self.0.send_replace(Some(lease));
    }

    /// Ends the lease. Calls that wait for its end fail at once.
    pub fn mend(&self) {
        self.0.send_replace(None);
    }

    /// What is done to calls of `address` now.
    pub fn effect(&self, address: Option<&str>) -> Option<Effect> {
        let lease = self.0.borrow();
        let lease = lease.as_ref().filter(|lease| Instant::now() < lease.until)?;
        lease.only.as_deref().is_none_or(|only| address == Some(only)).then_some(lease.effect)
    }

    /// Passes a call on, or keeps it. One that is lost fails after `bound`, or when the line is mended.
    pub(super) async fn pass(&self, address: Option<&str>, bound: Duration) -> Carried {
        match self.effect(address) {
            None => Carried::Through(Duration::ZERO),
            Some(Effect::Slow(by)) => Carried::Through(by),
            Some(Effect::Refuses) => Carried::Refused,
            Some(Effect::Gone) => {
                let began = Instant::now();
                let mut lease = self.0.subscribe();
                let mended = lease.wait_for(Option::is_none);
                // Both ways out mean that the call was not made.
                let _ = timeout_at(began + bound, mended).await.is_ok();
                Carried::Lost(began.elapsed())
            }
        }
    }

    /// Waits until the lease's time is over or the line is mended, at most for `most`.
    pub async fn clear(&self, most: Duration) {
        let until = self.0.borrow().as_ref().map(|lease| lease.until);
        let Some(until) = until else { return };
        let mut lease = self.0.subscribe();
        let _ = timeout_at(until.min(Instant::now() + most), lease.wait_for(Option::is_none)).await.is_ok();
    }
}

/// An answer that is late.
pub(super) async fn late(by: Duration) {
    if !by.is_zero() {
        sleep(by).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(effect: Effect, only: Option<&str>) -> Lease {
        Lease { effect, only: only.map(Arc::from), until: Instant::now() + 10 * SECOND }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_at_its_deadline_though_nobody_mends_the_line() {
        let line = Line::default();
        line.lay(lease(Effect::Refuses, None));
        assert_eq!(line.effect(None), Some(Effect::Refuses));
        line.clear(60 * SECOND).await;
        assert_eq!(line.effect(None), None);
        assert_eq!(line.pass(None, SECOND).await, Carried::Through(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_for_one_address_leaves_the_others_alone() {
        let line = Line::default();
        line.lay(lease(Effect::Refuses, Some("a:1")));
        assert_eq!(line.effect(Some("a:1")), Some(Effect::Refuses));
        assert_eq!(line.effect(Some("b:1")), None);
        line.lay(lease(Effect::Slow(SECOND), None));
        assert_eq!(line.pass(Some("b:1"), SECOND).await, Carried::Through(SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_lost_fails_when_its_time_is_over_or_the_line_is_mended() {
        let line = Line::default();
        line.lay(lease(Effect::Gone, None));
        assert_eq!(line.pass(None, 2 * SECOND).await, Carried::Lost(2 * SECOND));
        let mends = line.clone();
        let mend = async {
            sleep(SECOND).await;
            mends.mend();
        };
        let (lost, ()) = futures_util::future::join(line.pass(None, 5 * SECOND), mend).await;
        assert_eq!(lost, Carried::Lost(SECOND));
    }
}
