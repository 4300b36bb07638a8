//! A histogram of durations that costs two uncontended atomic additions an observation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets in nanoseconds, 50 µs to 5 s; one more bucket takes what is slower.
const BOUNDS_NS: [u64; 16] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
];
const BUCKETS: usize = BOUNDS_NS.len() + 1;

/// Durations seen so far.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub(super) fn observe(&self, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NS.partition_point(|bound| *bound < took_ns);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(took_ns, Ordering::Relaxed);
    }

    /// What it has seen.
    pub(super) fn read(&self) -> Distribution {
        Distribution::default().and(self)
    }
}

/// What one or more histograms had seen at one moment.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Distribution {
    buckets: [u64; BUCKETS],
    sum_ns: u64,
}

impl Distribution {
    /// Adds what another histogram has seen.
    pub(super) fn and(mut self, histogram: &Histogram) -> Distribution {
        for (total, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *total = total.wrapping_add(bucket.load(Ordering::Relaxed));
        }
        self.sum_ns = self.sum_ns.wrapping_add(histogram.sum_ns.load(Ordering::Relaxed));
        self
    }

    /// Upper bound in seconds and count of every bucket, not cumulated; the last is unbounded.
    pub(super) fn buckets(&self) -> [(f64, u64); BUCKETS] {
        std::array::from_fn(|bucket| {
            let bound = BOUNDS_NS.get(bucket).map_or(f64::INFINITY, |bound_ns| *bound_ns as f64 / 1e9);
            (bound, self.buckets[bucket])
        })
    }

    /// How many durations.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }

    /// Their sum.
    pub(super) fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_on_a_bound_belongs_below_it() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(50));
        histogram.observe(Duration::from_nanos(50_001));
        let seen = histogram.read().buckets();
        assert_eq!(seen[0], (0.000_05, 1));
        assert_eq!(seen[1], (0.000_1, 1));
    }

    #[test]
    fn what_is_slower_than_every_bound_is_still_counted() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_secs(6));
        let seen = histogram.read();
        assert_eq!(seen.buckets()[BUCKETS - 1], (f64::INFINITY, 1));
        assert_eq!((seen.count(), seen.sum_seconds()), (1, 6.0));
    }

    #[test]
    fn histograms_add_up() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.observe(Duration::from_millis(1));
        other.observe(Duration::from_millis(2));
        let both = one.read().and(&other);
        assert_eq!(both.count(), 2);
        assert!((both.sum_seconds() - 0.003).abs() < 1e-9);
    }
}
