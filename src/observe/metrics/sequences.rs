//! What a process counts of each sequence.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{counters, gauges, locked};
use crate::block::catalogue::is_valid_name;
use crate::block::{Cause, Counters, Tier};

/// What a name that can't be a sequence's counts as. No sequence can be called that.
pub const UNKNOWN: &str = "_unknown";

/// Every sequence's counters, by name.
#[derive(Debug)]
pub(super) struct Sequences {
    workers: usize,
    known: Mutex<BTreeMap<Arc<str>, Arc<Counters>>>,
}

impl Sequences {
    pub(super) fn new(workers: usize) -> Sequences {
        Sequences { workers, known: Mutex::default() }
    }

    /// Two names never share their counters, which also carry facts that decide (the high water, whether it is
    /// halted); only names that no sequence can have do.
    pub(super) fn get(&self, name: &str) -> Arc<Counters> {
        let name = if is_valid_name(name) { name } else { UNKNOWN };
        let mut known = locked(&self.known);
        if let Some(counters) = known.get(name) {
            return Arc::clone(counters);
        }
        let counters = Arc::new(Counters::new(self.workers));
        known.insert(Arc::from(name), Arc::clone(&counters));
        counters
    }
}

impl Collector for Sequences {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let known = locked(&self.known).clone();
        let by_tier = |of: fn(&Counters, Tier) -> u64| {
            known.iter().flat_map(move |(name, counters)| {
                Tier::ALL
                    .map(|tier| ([("sequence", name.as_ref()), ("tier", tier.name())], of(counters, tier)))
            })
        };
        counters(
            encoder,
            "blockhouse_allocations",
            "Requests answered with IDs, by the farthest tier that the answer needed.",
            by_tier(Counters::allocations),
        )?;
        counters(
            encoder,
            "blockhouse_allocated_ids",
            "IDs handed out, by the farthest tier that the answer needed.",
            by_tier(Counters::allocated_ids),
        )?;
        counters(
            encoder,
            "blockhouse_discarded_ids",
            "IDs that nobody will get, by cause.",
            known.iter().flat_map(|(name, counters)| {
                Cause::ALL.iter().map(|cause| {
                    let labels = [("sequence", name.as_ref()), ("cause", cause.name())];
                    (labels, counters.tally.discarded(*cause))
                })
            }),
        )?;
        counters(
            encoder,
            "blockhouse_duplicate_ranges",
            "Ranges that overlapped what this process served before (S6). Anything but 0 needs a person.",
            known.iter().map(|(name, counters)| {
                ([("sequence", name.as_ref())], counters.duplicate_ranges.load(Ordering::Relaxed))
            }),
        )?;
        gauges(
            encoder,
            "blockhouse_reserve_ids",
            "IDs in the process's reserve.",
            known.iter().map(|(name, counters)| {
                ([("sequence", name.as_ref())], counters.reserve_ids.load(Ordering::Relaxed))
            }),
        )?;
        gauges(
            encoder,
            "blockhouse_sequence_halted",
            "Whether tier 3 of the sequence is stopped.",
            known.iter().map(|(name, counters)| {
                ([("sequence", name.as_ref())], i64::from(counters.halted.load(Ordering::Relaxed)))
            }),
        )
    }
}
