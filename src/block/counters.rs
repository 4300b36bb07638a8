//! What a process counts of one sequence: atomics only, sharded by worker, read when somebody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::{Tally, Tier};

/// Everything one process counts of one sequence. Shared by all its threads.
#[derive(Debug)]
pub struct Counters {
    /// IDs discarded, by cause. Every [`Range`](super::Range) of the sequence points here.
    pub tally: Arc<Tally>,
    shards: Box<[Shard]>,
    /// IDs in the process's reserve: lets a worker see 'empty' without crossing threads.
    pub reserve_ids: AtomicI64,
    /// Ranges that overlapped what this process served before (S6).
    pub duplicate_ranges: AtomicU64,
    /// The high water, as known here; 0 if it isn't.
    pub high_water: AtomicI64,
    /// Bits of the recent demand in IDs a second.
    ids_per_second: AtomicU64,
    /// Whether tier 3 of the sequence is stopped.
    pub halted: AtomicBool,
}

/// One worker's share, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    allocations: [AtomicU64; Tier::ALL.len()],
    ids: [AtomicU64; Tier::ALL.len()],
}

impl Counters {
    /// All zero, for `workers` workers (1 or more).
    pub fn new(workers: usize) -> Counters {
        Counters {
            tally: Arc::default(),
            shards: (0..workers.max(1)).map(|_| Shard::default()).collect(),
            reserve_ids: AtomicI64::new(0),
            duplicate_ranges: AtomicU64::new(0),
            high_water: AtomicI64::new(0),
            ids_per_second: AtomicU64::new(0),
            halted: AtomicBool::new(false),
        }
    }

    /// Counts one answer of `ids` IDs by `worker`.
    pub fn allocated(&self, worker: usize, tier: Tier, ids: u64) {
        let shard = &self.shards[worker % self.shards.len()];
        shard.allocations[tier as usize].fetch_add(1, Ordering::Relaxed);
        shard.ids[tier as usize].fetch_add(ids, Ordering::Relaxed);
    }

    /// Answers so far from `tier`.
    pub fn allocations(&self, tier: Tier) -> u64 {
        self.sum(|shard| &shard.allocations[tier as usize])
    }

    /// IDs handed out so far from `tier`.
    pub fn allocated_ids(&self, tier: Tier) -> u64 {
        self.sum(|shard| &shard.ids[tier as usize])
    }

    /// IDs handed out so far.
    pub fn allocated_ids_in_all(&self) -> u64 {
        Tier::ALL.iter().map(|tier| self.allocated_ids(*tier)).sum()
    }

    /// Recent demand of this process, as last measured.
    pub fn ids_per_second(&self) -> f64 {
        f64::from_bits(self.ids_per_second.load(Ordering::Relaxed))
    }

    /// Notes the recent demand of this process.
    pub fn set_ids_per_second(&self, rate: f64) {
        self.ids_per_second.store(rate.to_bits(), Ordering::Relaxed);
    }

    fn sum(&self, of: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| of(shard).load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_count_adds_up() {
        let counters = Counters::new(2);
        for (worker, tier, ids) in
            [(0, Tier::Pods, 5), (1, Tier::Pods, 7), (1, Tier::Ledger, 11), (5, Tier::Pods, 1)]
        {
            counters.allocated(worker, tier, ids);
        }
        assert_eq!(Tier::ALL.map(|tier| counters.allocations(tier)), [0, 3, 1]);
        assert_eq!(Tier::ALL.map(|tier| counters.allocated_ids(tier)), [0, 13, 11]);
        assert_eq!(counters.allocated_ids_in_all(), 24);
        let shares =
            counters.shards.iter().map(|shard| shard.ids[Tier::Pods as usize].load(Ordering::Relaxed));
        assert_eq!(shares.collect::<Vec<_>>(), [5, 8], "each on cache lines of its own");
    }

    #[test]
    fn the_rate_reads_back() {
        let counters = Counters::new(0);
        assert_eq!(counters.ids_per_second(), 0.0);
        counters.set_ids_per_second(2.5);
        assert_eq!(counters.ids_per_second(), 2.5);
    }
}
