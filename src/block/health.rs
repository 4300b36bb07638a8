//! When to use something that fails, and when to try it again.

use std::time::Duration;

/// Exponential back-off with jitter: when something that failed may be tried again.
///
/// Times are since the process started; `random` is drawn from `0.0..1.0` by the caller.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    limit: Duration,
    failures: u32,
    not_before: Duration,
}

impl Backoff {
    /// Waits `base` after the first failure, twice as long after each further one, at most `limit`.
    pub fn new(base: Duration, limit: Duration) -> Backoff {
        Backoff { base, limit: limit.max(base), failures: 0, not_before: Duration::ZERO }
    }

    /// Notes a failure at `now`. The wait is drawn from the upper half of its length, so that many who failed
    /// together don't come back together.
    pub fn failed(&mut self, now: Duration, random: f64) {
        let doublings = self.failures.min(20);
        let full = self.base.saturating_mul(1 << doublings).min(self.limit);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + full.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0));
    }

    /// Notes a success.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.not_before = Duration::ZERO;
    }

    /// How long to wait at `now`; `None` if it may be tried.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        self.not_before.checked_sub(now).filter(|wait| !wait.is_zero())
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Whether a pod may be asked, as one thread sees it.
///
/// Only a heartbeat that succeeds brings a failed pod back, and heartbeats run beside the requests: so a dead pod
/// costs the requests under way when it died one time-out, and the later ones nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodHealth {
    /// No heartbeat was answered yet.
    Unknown,
    /// The last heartbeat was answered, and nothing failed since.
    Up,
    /// Something failed; counts as tried until a heartbeat at or after `retry_at` succeeds.
    Down {
        /// Since the process started.
        retry_at: Duration,
    },
    /// The server must not be used as a pod.
    Refused {
        /// Since the process started.
        retry_at: Duration,
    },
}

impl PodHealth {
    /// Whether pops and pushes may go there.
    pub fn usable(&self) -> bool {
        matches!(self, PodHealth::Up)
    }

    /// Whether a heartbeat is due at `now`.
    pub fn heartbeat_due(&self, now: Duration) -> bool {
        match self {
            PodHealth::Unknown | PodHealth::Up => true,
            PodHealth::Down { retry_at } | PodHealth::Refused { retry_at } => now >= *retry_at,
        }
    }

    /// `up`, `down` or `refused`, as the status shows it.
    pub fn name(&self) -> &'static str {
        match self {
            PodHealth::Up => "up",
            PodHealth::Unknown | PodHealth::Down { .. } => "down",
            PodHealth::Refused { .. } => "refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn waits_double_up_to_the_limit_and_end_with_a_success() {
        let mut backoff = Backoff::new(ms(100), ms(1000));
        assert_eq!(backoff.wait(ms(0)), None);
        for expected in [100, 200, 400, 800, 1000, 1000] {
            backoff.failed(ms(5000), 1.0);
            assert_eq!(backoff.wait(ms(5000)), Some(ms(expected)));
        }
        assert_eq!(backoff.failures(), 6);
        backoff.failed(ms(5000), 0.0);
        assert_eq!(backoff.wait(ms(5000)), Some(ms(500)));
        assert_eq!(backoff.wait(ms(5500)), None);
        backoff.succeeded();
        assert_eq!((backoff.wait(ms(0)), backoff.failures()), (None, 0));
    }

    #[test]
    fn a_pod_that_is_down_is_not_asked_before_its_time() {
        let down = PodHealth::Down { retry_at: ms(10) };
        assert!(!down.usable() && !down.heartbeat_due(ms(9)) && down.heartbeat_due(ms(10)));
        assert!(PodHealth::Unknown.heartbeat_due(ms(0)) && !PodHealth::Unknown.usable());
        let refused = PodHealth::Refused { retry_at: ms(10) };
        assert!(!refused.usable() && !refused.heartbeat_due(ms(9)));
        assert!(PodHealth::Up.usable() && PodHealth::Up.heartbeat_due(ms(0)));
        let names = [&PodHealth::Up, &PodHealth::Unknown, &down, &refused].map(PodHealth::name);
        assert_eq!(names, ["up", "down", "down", "refused"]);
    }
}
