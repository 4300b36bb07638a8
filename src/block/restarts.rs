//! How often an actor may fail before the process gives up.

use std::collections::VecDeque;
use std::time::Duration;

/// Failures within [`WINDOW`] that are still answered by a restart.
pub const LIMIT: usize = 5;
/// Over which failures are counted.
pub const WINDOW: Duration = Duration::from_secs(10);

/// The recent failures of one actor.
#[derive(Debug, Default)]
pub struct Restarts {
    recent: VecDeque<Duration>,
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on after a pause.
    Restart(Duration),
    /// It fails too often: the process must end.
    GiveUp,
}

impl Restarts {
    /// Notes a failure at `now` since the process started. Pauses double from 10 ms.
    pub fn failed(&mut self, now: Duration) -> Verdict {
        while self.recent.front().is_some_and(|then| now.saturating_sub(*then) > WINDOW) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        if self.recent.len() > LIMIT {
            return Verdict::GiveUp;
        }
        Verdict::Restart(Duration::from_millis(10 << (self.recent.len() - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_failure_within_ten_seconds_is_the_end() {
        let mut restarts = Restarts::default();
        for (n, pause) in [10, 20, 40, 80, 160].into_iter().enumerate() {
            let now = Duration::from_secs(n as u64);
            assert_eq!(restarts.failed(now), Verdict::Restart(Duration::from_millis(pause)));
        }
        assert_eq!(restarts.failed(Duration::from_secs(10)), Verdict::GiveUp);
    }

    #[test]
    fn old_failures_are_forgiven() {
        let mut restarts = Restarts::default();
        for n in 0..100 {
            let now = Duration::from_secs(n * 11);
            assert_eq!(restarts.failed(now), Verdict::Restart(Duration::from_millis(10)));
        }
    }
}
