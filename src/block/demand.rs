//! How fast IDs are used, and how many to keep at hand for it.

use std::time::Duration;

const BUCKETS: usize = 30;
const BUCKET_SECONDS: u64 = 10;

/// The recent demand of one process for one sequence: five minutes in buckets of ten seconds.
#[derive(Debug, Clone)]
pub struct Meter {
    /// The number of the ten seconds that `buckets` ends with, and of those it began with.
    newest: u64,
    oldest: u64,
    buckets: [i64; BUCKETS],
}

impl Meter {
    /// A meter that starts now; all times since the process started.
    pub fn new(now: Duration) -> Meter {
        let bucket = now.as_secs() / BUCKET_SECONDS;
        Meter { newest: bucket, oldest: bucket, buckets: [0; BUCKETS] }
    }

    /// Notes IDs used at `now`.
    pub fn add(&mut self, ids: i64, now: Duration) {
        self.move_to(now);
        let slot = &mut self.buckets[(self.newest % BUCKETS as u64) as usize];
        *slot = slot.saturating_add(ids);
    }

    /// IDs a second: the greater of the last five minutes' and the last twenty seconds' mean.
    pub fn per_second(&mut self, now: Duration) -> f64 {
        self.move_to(now);
        let known = (self.newest - self.oldest + 1).min(BUCKETS as u64);
        self.mean(known).max(self.mean(known.min(2)))
    }

    fn mean(&self, buckets: u64) -> f64 {
        let sum: f64 = (0..buckets)
            .map(|back| self.buckets[((self.newest - back) % BUCKETS as u64) as usize] as f64)
            .sum();
        sum / (buckets * BUCKET_SECONDS) as f64
    }

    fn move_to(&mut self, now: Duration) {
        let bucket = now.as_secs() / BUCKET_SECONDS;
        let steps = bucket.saturating_sub(self.newest);
        for step in 1..=steps.min(BUCKETS as u64) {
            self.buckets[((self.newest + step) % BUCKETS as u64) as usize] = 0;
        }
        self.newest = self.newest.max(bucket);
    }
}

/// What the hydrator knows of one sequence's use in its cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forecast {
    /// IDs used in each of the last 24 hours; 0 is the present one.
    pub hours: [i64; 24],
    /// IDs a second right now.
    pub ids_per_second: f64,
}

impl Forecast {
    /// IDs that `buffer` is expected to use: the last 24 hours' use scaled to it, or what
    /// the present rate would use where that is more, so that a growing cluster is not held to its past.
    pub fn ids(&self, buffer: Duration) -> i64 {
        let day: f64 = self.hours.iter().map(|ids| *ids as f64).sum();
        let by_history = day * buffer.as_secs_f64() / 86_400.0;
        let by_rate = self.ids_per_second * buffer.as_secs_f64();
        by_history.max(by_rate).min(i64::MAX as f64) as i64
    }

    /// IDs that an hour may use: as many as the busiest one of the last day did, or as the present rate would.
    pub fn busiest_hour(&self) -> i64 {
        let busiest = self.hours.iter().copied().max().unwrap_or(0);
        busiest.max(self.ids(Duration::from_secs(3600)))
    }
}

/// What the pods of a cluster are to hold of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// IDs in all pods together; 0 once the sequence has nothing left.
    pub ids: i64,
    /// IDs a block: the sequence's, or fewer where a block would be over 1/64 of what is left.
    pub block_size: i64,
}

impl Target {
    /// `forecast_ids` within `min_ids..=max_ids`, at most 1/64 of what the sequence has left, at least
    /// a block.
    pub fn new(forecast_ids: i64, min_ids: i64, max_ids: i64, left: i64, block_size: i64) -> Target {
        let share = left / 64;
        let block_size = block_size.min(share.max(1)).max(1);
        if left < 1 {
            return Target { ids: 0, block_size };
        }
        let ids = forecast_ids.clamp(min_ids, max_ids.max(min_ids)).min(share).max(block_size);
        Target { ids: ids.min(left), block_size }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_meter_follows_a_rise_within_seconds_and_remembers_minutes() {
        let mut meter = Meter::new(at(0));
        for second in 0..300 {
            meter.add(100, at(second));
        }
        assert!((90.0..=101.0).contains(&meter.per_second(at(299))));
        for second in 300..320 {
            meter.add(1000, at(second));
        }
        assert!(meter.per_second(at(319)) > 900.0);
        assert!(meter.per_second(at(500)) > 50.0, "minutes later the peak still counts");
        assert_eq!(meter.per_second(at(5000)), 0.0);
    }

    #[test]
    fn a_young_meter_knows_no_more_than_its_age() {
        let mut meter = Meter::new(at(95));
        meter.add(100, at(95));
        assert_eq!(meter.per_second(at(99)), 10.0);
        assert_eq!(meter.per_second(at(100)), 5.0);
        assert_eq!(meter.per_second(at(129)), 2.5);
    }

    #[test]
    fn a_day_of_history_outlives_a_quiet_hour() {
        let mut forecast = Forecast::default();
        forecast.hours[12] = 86_400;
        assert_eq!(forecast.ids(at(86_400)), 86_400);
        forecast.ids_per_second = 10.0;
        assert_eq!(forecast.ids(at(86_400)), 864_000);
        assert_eq!(forecast.busiest_hour(), 86_400);
        forecast.ids_per_second = 100.0;
        assert_eq!(forecast.busiest_hour(), 360_000);
    }

    #[test]
    fn small_sequences_get_small_blocks() {
        let target = Target::new(0, 1_000_000, 10_000_000_000, 1000, 1000);
        assert_eq!(target, Target { ids: 15, block_size: 15 });
        assert_eq!(Target::new(0, 1_000_000, 10, 5, 1000), Target { ids: 1, block_size: 1 });
        assert_eq!(Target::new(0, 1_000_000, 10, 0, 1000).ids, 0);
        assert_eq!(Target::new(0, 1_000_000, 10, 1, 1000).ids, 1);
    }

    #[test]
    fn a_target_is_the_forecast_within_its_bounds() {
        let ids = |forecast| Target::new(forecast, 1_000, 10_000, 1 << 40, 100).ids;
        assert_eq!((ids(0), ids(5_000), ids(50_000)), (1_000, 5_000, 10_000));
    }

    proptest! {
        /// Ten seconds each, the newest first: what it says of any history is what a list would.
        #[test]
        fn a_meter_agrees_with_a_plain_list(
            steps in prop::collection::vec((0u64..40, 0i64..100), 1..60), later in 0u64..700,
        ) {
            let (mut meter, mut now) = (Meter::new(at(0)), 0);
            let mut used: Vec<(u64, i64)> = Vec::new();
            for (pause, ids) in steps {
                now += pause;
                meter.add(ids, at(now));
                used.push((now / 10, ids));
            }
            now += later;
            let mean = |buckets: u64| {
                let oldest = now / 10 + 1 - buckets;
                let ids: i64 = used.iter().filter(|(bucket, _)| *bucket >= oldest).map(|(_, ids)| ids).sum();
                ids as f64 / (buckets * 10) as f64
            };
            let known = (now / 10 + 1).min(30);
            prop_assert_eq!(meter.per_second(at(now)), mean(known).max(mean(known.min(2))));
        }

        #[test]
        fn a_target_is_at_most_a_64th_of_what_is_left_but_a_block(
            forecast in 0i64.., left in 0i64.., block in 1i64..1_000_000,
        ) {
            let target = Target::new(forecast, 1_000_000, 10_000_000_000, left, block);
            prop_assert!(target.block_size <= block);
            prop_assert!(target.ids <= left);
            prop_assert!(target.ids <= (left / 64).max(target.block_size));
            prop_assert_eq!(target.ids == 0, left == 0);
        }
    }
}
