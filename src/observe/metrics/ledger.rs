//! What a process counts of its ledger requests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{counters, gauges, histograms, locked};
use super::histogram::Histogram;
use super::hydration::now_seconds;

const PURPOSES: [&str; 4] = ["fallback", "exercise", "hydrate", "other"];
const OUTCOMES: [&str; 4] = ["ok", "failed", "in_doubt", "refused"];

/// One lock is enough: the process has one request under way at a time.
#[derive(Debug)]
pub(super) struct Ledger(Mutex<State>);

#[derive(Debug)]
struct State {
    up: bool,
    last_success_seconds: f64,
    /// By purpose and outcome.
    requests: BTreeMap<(&'static str, &'static str), u64>,
    /// By purpose.
    durations: BTreeMap<&'static str, Histogram>,
}

impl Default for Ledger {
    fn default() -> Ledger {
        let cells = PURPOSES.iter().flat_map(|purpose| OUTCOMES.map(|outcome| ((*purpose, outcome), 0)));
        Ledger(Mutex::new(State {
            up: false,
            last_success_seconds: 0.0,
            requests: cells.collect(),
            durations: PURPOSES.map(|purpose| (purpose, Histogram::default())).into(),
        }))
    }
}

impl Ledger {
    pub(super) fn set_up(&self, up: bool) {
        locked(&self.0).up = up;
    }

    pub(super) fn request(&self, purpose: &'static str, outcome: &'static str, took: Duration) {
        let mut state = locked(&self.0);
        *state.requests.entry((purpose, outcome)).or_default() += 1;
        state.durations.entry(purpose).or_default().observe(took);
        if outcome == "ok" {
            state.last_success_seconds = now_seconds();
        }
    }
}

impl Collector for Ledger {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let state = locked(&self.0);
        gauges(
            encoder,
            "blockhouse_ledger_up",
            "Whether the ledger can be used.",
            [([], i64::from(state.up))],
        )?;
        gauges(
            encoder,
            "blockhouse_ledger_last_success_timestamp_seconds",
            "When the last ledger request succeeded; 0 before the first.",
            [([], state.last_success_seconds)],
        )?;
        counters(
            encoder,
            "blockhouse_ledger_requests",
            "Requests to the ledger.",
            state
                .requests
                .iter()
                .map(|((purpose, outcome), count)| ([("purpose", *purpose), ("outcome", *outcome)], *count)),
        )?;
        histograms(
            encoder,
            "blockhouse_ledger_request_duration_seconds",
            "Time that requests to the ledger took, answered or not.",
            state.durations.iter().map(|(purpose, seen)| ([("purpose", *purpose)], seen.read())),
        )
    }
}
