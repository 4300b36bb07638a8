//! Which requests go straight to the ledger, to keep that path warm.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Share and cap of a process; shared by its workers.
#[derive(Debug)]
pub struct Exercise {
    ratio: f64,
    /// Between two exercises; `None` turns them off.
    period: Option<Duration>,
    /// When the next may start, in microseconds of the process's clock.
    next_us: AtomicU64,
}

impl Exercise {
    /// A share `ratio` of requests (0 to 1), at most `max_per_minute`; 0 in either turns it off.
    pub fn new(ratio: f64, max_per_minute: f64) -> Exercise {
        let on = ratio > 0.0 && max_per_minute > 0.0;
        let period = on.then(|| Duration::from_secs_f64((60.0 / max_per_minute).min(1e9)));
        Exercise { ratio, period, next_us: AtomicU64::new(0) }
    }

    /// Whether this request is one: `random` in `0.0..1.0`, `now` since the process started.
    pub fn pick(&self, random: f64, now: Duration) -> bool {
        let Some(period) = self.period else { return false };
        if random >= self.ratio {
            return false;
        }
        let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let period_us = u64::try_from(period.as_micros()).unwrap_or(u64::MAX);
        self.next_us
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                (now_us >= next).then(|| now_us.saturating_add(period_us))
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_holds_whatever_the_share() {
        let exercise = Exercise::new(1.0, 0.5);
        let picked = (0..600).filter(|s| exercise.pick(0.0, Duration::from_secs(*s)));
        assert_eq!(picked.collect::<Vec<_>>(), [0, 120, 240, 360, 480], "one in two minutes");
    }

    #[test]
    fn the_share_holds_below_the_cap() {
        let exercise = Exercise::new(0.25, 1e9);
        assert!(exercise.pick(0.24, Duration::from_secs(1)));
        assert!(!exercise.pick(0.25, Duration::from_secs(2)));
    }

    #[test]
    fn zero_turns_it_off() {
        assert!(!Exercise::new(0.0, 10.0).pick(0.0, Duration::ZERO));
        assert!(!Exercise::new(1.0, 0.0).pick(0.0, Duration::ZERO));
    }
}
