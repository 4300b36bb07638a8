//! How much one fallback grant asks for.

use std::time::Duration;

/// The bounds of a fallback grant, and what an unanswered one taught.
///
/// After a grant in doubt the next asks for no more than what is waited for, and each success
/// doubles that again: a ledger that answers too late burns only what was needed (S1).
#[derive(Debug, Clone)]
pub struct GrantSize {
    cover: Duration,
    min_ids: i64,
    max_ids: i64,
    /// While set, the most that may be asked for beyond the need.
    cap: Option<i64>,
}

impl GrantSize {
    /// `cover` worth of demand, within `min_ids..=max_ids`.
    pub fn new(cover: Duration, min_ids: i64, max_ids: i64) -> GrantSize {
        GrantSize { cover, min_ids, max_ids: max_ids.max(min_ids), cap: None }
    }

    /// What a fallback asks for, given what is waited for and the present demand.
    pub fn cover(&self, need: i64, ids_per_second: f64) -> i64 {
        let covered = (ids_per_second.max(0.0) * self.cover.as_secs_f64()).min(self.max_ids as f64) as i64;
        self.capped(need, covered.clamp(self.min_ids, self.max_ids))
    }

    /// `want`, or what an unanswered grant left of it, but `need` in any case.
    pub fn capped(&self, need: i64, want: i64) -> i64 {
        self.cap.map_or(want, |cap| want.min(cap)).max(need)
    }

    /// A grant of `asked` IDs committed.
    pub fn granted(&mut self, asked: i64) {
        if let Some(cap) = self.cap {
            let doubled = cap.max(asked).saturating_mul(2);
            self.cap = (doubled < self.max_ids).then_some(doubled);
        }
    }

    /// A grant got no answer.
    pub fn in_doubt(&mut self) {
        self.cap = Some(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_covers_minutes_of_demand_within_its_bounds() {
        let size = GrantSize::new(Duration::from_secs(300), 10_000, 1_000_000);
        assert_eq!(size.cover(1, 0.0), 10_000);
        assert_eq!(size.cover(1, 100.0), 30_000);
        assert_eq!(size.cover(1, 1e18), 1_000_000);
        assert_eq!(size.cover(5_000_000, 0.0), 5_000_000);
    }

    #[test]
    fn after_doubt_it_asks_for_the_need_and_doubles_back() {
        let mut size = GrantSize::new(Duration::from_secs(300), 10_000, 1_000_000);
        size.in_doubt();
        assert_eq!(size.cover(7, 1000.0), 7);
        size.granted(7);
        assert_eq!(size.cover(7, 1000.0), 14);
        for _ in 0..30 {
            let asked = size.cover(7, 1000.0);
            size.granted(asked);
        }
        assert_eq!(size.cover(7, 1000.0), 300_000);
    }

    #[test]
    fn doubt_is_forgotten_once_the_most_is_granted_again() {
        let mut size = GrantSize::new(Duration::ZERO, 1, 1_000);
        size.in_doubt();
        size.granted(499);
        assert_eq!(size.capped(1, 5_000), 998);
        size.granted(998);
        assert_eq!(size.capped(1, 5_000), 5_000);
        size.in_doubt();
        size.granted(500);
        assert_eq!(size.capped(1, 5_000), 5_000, "twice that is the most");
    }
}
