//! What a hydrator shows: three families of these only while it leads its cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{counters, gauges, locked};

/// Nothing is shown by a process without the role.
#[derive(Debug, Default)]
pub(super) struct Hydration(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// `None` until the process is known to have the role.
    leads: Option<bool>,
    last_success_seconds: f64,
    supply_seconds: BTreeMap<Arc<str>, f64>,
    /// By address and sequence.
    filled: BTreeMap<(Arc<str>, Arc<str>), Filled>,
}

#[derive(Debug, Default)]
struct Filled {
    blocks: Option<u64>,
    hydrated_ids: u64,
}

impl State {
    /// Counts of one pod and sequence; `None` unless this process leads.
    fn filled(&mut self, address: &Arc<str>, sequence: &Arc<str>) -> Option<&mut Filled> {
        self.leads
            .unwrap_or_default()
            .then(|| self.filled.entry((Arc::clone(address), Arc::clone(sequence))).or_default())
    }
}

impl Hydration {
    pub(super) fn set_leader(&self, leads: bool) {
        let mut state = locked(&self.0);
        state.leads = Some(leads);
        if !leads {
            state.supply_seconds.clear();
            state.filled.clear();
        }
    }

    pub(super) fn succeeded(&self) {
        locked(&self.0).last_success_seconds = now_seconds();
    }

    pub(super) fn set_blocks(&self, address: &Arc<str>, sequence: &Arc<str>, blocks: u64) {
        if let Some(filled) = locked(&self.0).filled(address, sequence) {
            filled.blocks = Some(blocks);
        }
    }

    pub(super) fn hydrated(&self, address: &Arc<str>, sequence: &Arc<str>, ids: u64) {
        if let Some(filled) = locked(&self.0).filled(address, sequence) {
            filled.hydrated_ids = filled.hydrated_ids.wrapping_add(ids);
        }
    }

    pub(super) fn set_supply(&self, sequence: &Arc<str>, seconds: Option<f64>) {
        let mut state = locked(&self.0);
        match seconds {
            Some(seconds) if state.leads == Some(true) => {
                state.supply_seconds.insert(Arc::clone(sequence), seconds);
            }
            _ => {
                state.supply_seconds.remove(sequence);
            }
        }
    }

    /// Ends the series of a pod.
    pub(super) fn forget(&self, gone: &str) {
        locked(&self.0).filled.retain(|(address, _), _| address.as_ref() != gone);
    }
}

/// Seconds since 1970.
pub(super) fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Collector for Hydration {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let state = locked(&self.0);
        gauges(
            encoder,
            "blockhouse_hydrator_leader",
            "Whether this process leads its cluster's hydrators.",
            state.leads.map(|leads| ([], i64::from(leads))),
        )?;
        gauges(
            encoder,
            "blockhouse_hydrator_last_success_timestamp_seconds",
            "When the last pass succeeded; 0 before the first.",
            state.leads.map(|_| ([], state.last_success_seconds)),
        )?;
        gauges(
            encoder,
            "blockhouse_supply_seconds",
            "How long the cluster's pods last at the present demand.",
            state.supply_seconds.iter().map(|(name, seconds)| ([("sequence", name.as_ref())], *seconds)),
        )?;
        gauges(
            encoder,
            "blockhouse_pod_blocks",
            "Blocks in a pod.",
            state.filled.iter().filter_map(|((address, name), filled)| {
                Some(([("address", address.as_ref()), ("sequence", name.as_ref())], filled.blocks?))
            }),
        )?;
        counters(
            encoder,
            "blockhouse_hydrated_ids",
            "IDs pushed to a pod.",
            state.filled.iter().map(|((address, name), filled)| {
                ([("sequence", name.as_ref()), ("address", address.as_ref())], filled.hydrated_ids)
            }),
        )
    }
}
