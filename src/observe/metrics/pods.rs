//! What a process counts of each pod, and for how long after the pod is gone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::time::Instant;

use super::families::{counters, gauges, histograms, locked};
use super::histogram::Histogram;

/// How long the series of a gone pod are still shown.
pub(super) const GONE_FOR: Duration = Duration::from_secs(600);

const OPERATIONS: [&str; 8] = ["heartbeat", "pop", "push", "publish", "inspect", "raise", "sweep", OTHER];
const OUTCOMES: [&str; 6] = ["ok", "empty", "failed", "in_doubt", "refused", OTHER];
const OTHER: &str = "other";

/// Every pod's counts, by address. Looking one up takes no lock, since pops come from all workers at once; the counts of one pod
/// are shared between them, which costs little beside the network round trip that each stands for.
#[derive(Debug, Default)]
pub(super) struct Pods {
    known: ArcSwap<BTreeMap<Arc<str>, Arc<Series>>>,
    durations: [Histogram; OPERATIONS.len()],
}

#[derive(Debug, Default)]
struct Series {
    up: AtomicBool,
    requests: [[AtomicU64; OUTCOMES.len()]; OPERATIONS.len()],
    gone_since: Mutex<Option<Instant>>,
}

impl Pods {
    pub(super) fn request(&self, address: &Arc<str>, operation: &str, outcome: &str, took: Duration) {
        let operation = position(&OPERATIONS, operation);
        let outcome = position(&OUTCOMES, outcome);
        self.durations[operation].observe(took);
        self.series(address, |series| series.requests[operation][outcome].fetch_add(1, Ordering::Relaxed));
    }

    pub(super) fn set_up(&self, address: &Arc<str>, up: bool) {
        self.series(address, |series| {
            series.up.store(up, Ordering::Relaxed);
            // Only what answers is back: a late failure of a pod that is gone doesn't keep it.
            if up {
                *locked(&series.gone_since) = None;
            }
        });
    }

    pub(super) fn gone(&self, address: &Arc<str>) {
        if let Some(series) = self.known.load().get(address) {
            series.up.store(false, Ordering::Relaxed);
            locked(&series.gone_since).get_or_insert_with(Instant::now);
        }
    }

    /// Forgets the pods that have been gone for long enough, and names them.
    pub(super) fn prune(&self) -> Vec<Arc<str>> {
        let is_over =
            |series: &Series| locked(&series.gone_since).is_some_and(|since| since.elapsed() >= GONE_FOR);
        let over: Vec<Arc<str>> = self
            .known
            .load()
            .iter()
            .filter(|(_, series)| is_over(series))
            .map(|(address, _)| Arc::clone(address))
            .collect();
        if !over.is_empty() {
            self.known.rcu(|known| {
                let mut known = BTreeMap::clone(known);
                known.retain(|address, _| !over.contains(address));
                known
            });
        }
        over
    }

    /// Does something with one pod's counts, made when first needed.
    fn series<T>(&self, address: &Arc<str>, what: impl Fn(&Series) -> T) -> T {
        if let Some(series) = self.known.load().get(address) {
            return what(series);
        }
        self.known.rcu(|known| {
            let mut known = BTreeMap::clone(known);
            known.entry(Arc::clone(address)).or_default();
            known
        });
        self.series(address, what)
    }
}

/// Where `name` stands in a list whose last entry takes what the others don't.
fn position(names: &[&str], name: &str) -> usize {
    names.iter().position(|known| *known == name).unwrap_or(names.len() - 1)
}

/// Which counters exist at 0: only a pop finds a list empty, and nothing should be `other`.
fn is_expected(operation: &str, outcome: &str) -> bool {
    operation != OTHER && outcome != OTHER && (outcome != "empty" || operation == "pop")
}

impl Collector for Pods {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let known = self.known.load();
        gauges(
            encoder,
            "blockhouse_pod_up",
            "Whether the pod's last heartbeat succeeded.",
            known.iter().map(|(address, series)| {
                ([("address", address.as_ref())], i64::from(series.up.load(Ordering::Relaxed)))
            }),
        )?;
        counters(
            encoder,
            "blockhouse_pod_requests",
            "Requests to pods.",
            known.iter().flat_map(|(address, series)| {
                cells().filter_map(|(operation, outcome)| {
                    let count = series.requests[operation][outcome].load(Ordering::Relaxed);
                    let (operation, outcome) = (OPERATIONS[operation], OUTCOMES[outcome]);
                    let labels =
                        [("address", address.as_ref()), ("operation", operation), ("outcome", outcome)];
                    (count > 0 || is_expected(operation, outcome)).then_some((labels, count))
                })
            }),
        )?;
        histograms(
            encoder,
            "blockhouse_pod_request_duration_seconds",
            "Time that requests to pods took, answered or not.",
            OPERATIONS
                .into_iter()
                .zip(self.durations.iter().map(Histogram::read))
                .filter(|(operation, seen)| *operation != OTHER || seen.count() > 0)
                .map(|(operation, seen)| ([("operation", operation)], seen)),
        )
    }
}

/// Every pair of an operation and an outcome.
fn cells() -> impl Iterator<Item = (usize, usize)> {
    (0..OPERATIONS.len()).flat_map(|operation| (0..OUTCOMES.len()).map(move |outcome| (operation, outcome)))
}
