//! Every metric of the contract.
//!
//! Nothing on the path of a request locks or allocates: workers count in atomics on cache lines of their own
//! ([`WorkerMetrics`], [`Counters`], [`Queue`]), and collectors add them up when somebody scrapes.

mod families;
mod histogram;
mod hydration;
mod ledger;
mod pods;
mod process;
mod queues;
mod sequences;
mod text;
mod workers;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use self::hydration::Hydration;
use self::ledger::Ledger;
use self::pods::Pods;
use self::process::Process;
use self::queues::Queues;
use self::sequences::Sequences;
use self::workers::Workers;
use crate::block::Counters;
use crate::block::chaos::Requests;

pub use self::queues::Queue;
pub use self::sequences::UNKNOWN;
pub use self::workers::{Method, WorkerMetrics};
pub use prometheus_client::metrics::counter::Counter;

/// Registry of everything a process counts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

/// A family with one label.
type By<L, M> = Family<[(&'static str, L); 1], M>;

#[derive(Debug)]
struct Inner {
    registry: Registry,
    series: Series,
}

#[derive(Debug)]
struct Series {
    workers: Arc<Workers>,
    sequences: Arc<Sequences>,
    hydration: Arc<Hydration>,
    ledger: Arc<Ledger>,
    pods: Arc<Pods>,
    queues: Arc<Queues>,
    used_ratio: By<Arc<str>, Gauge<f64, AtomicU64>>,
    fence_trips: By<&'static str, Counter>,
    restarts: Family<[(&'static str, Arc<str>); 2], Counter>,
    exercises: By<&'static str, Counter>,
    reloads: By<&'static str, Counter>,
    chaos_faults: By<&'static str, Counter>,
    draining: Gauge,
    unknown_keys: Gauge,
    log_records_dropped: Counter,
}

/// What stands in `blockhouse_build_info` and `blockhouse_process_info`.
#[derive(Debug, Clone)]
pub struct About {
    /// `environment`
    pub environment: Arc<str>,
    /// `stage`
    pub stage: Arc<str>,
    /// `cluster`
    pub cluster: Arc<str>,
}

impl Collector for About {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let build = [("version", super::VERSION), ("revision", super::REVISION)];
        let process = [
            ("environment", self.environment.as_ref()),
            ("stage", self.stage.as_ref()),
            ("cluster", self.cluster.as_ref()),
        ];
        families::gauges(&mut encoder, "blockhouse_build_info", "Which build this is.", [(build, 1)])?;
        families::gauges(&mut encoder, "blockhouse_process_info", "Whom this process serves.", [(process, 1)])
    }
}

impl Metrics {
    /// All of them, at zero.
    pub fn new(about: &About, workers: usize) -> Metrics {
        let series = Series::new(workers);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(about.clone()));
        series.register(&mut registry);
        registry.register_collector(Box::new(Process));
        Metrics(Arc::new(Inner { registry, series }))
    }

    /// The counters of one sequence: made at 0 when first asked for, kept for the process's life. Ask as soon as a sequence
    /// is known, so that its series exist before something happens, and keep what you get: this locks.
    ///
    /// A name that no sequence can have counts as [`UNKNOWN`].
    pub fn sequence(&self, name: &str) -> Arc<Counters> {
        self.0.series.sequences.get(name)
    }

    /// A worker's request counters: one of as many as there are workers, in turn.
    pub fn worker(&self) -> WorkerMetrics {
        self.0.series.workers.next()
    }

    /// `blockhouse_ledger_requests_total`, `_duration_seconds`, and on outcome `ok` the time of the last success (purposes
    /// `fallback`, `exercise`, `hydrate`, `other`; outcomes `ok`, `failed`, `in_doubt`, `refused`).
    /// `blockhouse_ledger_up` follows [`Metrics::set_ledger_up`].
    pub fn ledger_request(&self, purpose: &'static str, outcome: &'static str, took: Duration) {
        self.0.series.ledger.request(purpose, outcome, took);
    }

    /// `blockhouse_ledger_up`
    pub fn set_ledger_up(&self, up: bool) {
        self.0.series.ledger.set_up(up);
    }

    /// `blockhouse_pod_requests_total` (operations `heartbeat`, `pop`, `push`, `publish`, `inspect`, `raise`, `sweep`;
    /// outcomes `ok`, `empty`, `failed`, `in_doubt`, `refused`; anything else counts as `other`) and
    /// `blockhouse_pod_request_duration_seconds`.
    pub fn pod_request(
        &self,
        address: &Arc<str>,
        operation: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        self.0.series.pods.request(address, operation, outcome, took);
    }

    /// `blockhouse_pod_up`
    pub fn set_pod_up(&self, address: &Arc<str>, up: bool) {
        self.0.series.pods.set_up(address, up);
    }

    /// `blockhouse_pod_blocks`, by the leading hydrator; ignored from any other.
    pub fn set_pod_blocks(&self, address: &Arc<str>, sequence: &Arc<str>, blocks: u64) {
        self.0.series.hydration.set_blocks(address, sequence, blocks);
    }

    /// `blockhouse_supply_seconds`, by the leading hydrator; `None` without demand.
    pub fn set_supply_seconds(&self, sequence: &Arc<str>, seconds: Option<f64>) {
        self.0.series.hydration.set_supply(sequence, seconds);
    }

    /// `blockhouse_hydrated_ids_total`, by the leading hydrator.
    pub fn hydrated(&self, sequence: &Arc<str>, address: &Arc<str>, ids: u64) {
        self.0.series.hydration.hydrated(address, sequence, ids);
    }

    /// `blockhouse_hydrator_leader`; a process that stops leading also drops the three metrics that only the leader shows.
    /// A process that never calls this has not the role, and shows none of a hydrator's metrics.
    pub fn set_hydrator_leader(&self, leads: bool) {
        self.0.series.hydration.set_leader(leads);
    }

    /// `blockhouse_hydrator_last_success_timestamp_seconds` = now
    pub fn hydrator_succeeded(&self) {
        self.0.series.hydration.succeeded();
    }

    /// `blockhouse_sequence_used_ratio`
    pub fn set_used_ratio(&self, sequence: &Arc<str>, ratio: f64) {
        self.0.series.used_ratio.get_or_create(&[("sequence", Arc::clone(sequence))]).set(ratio);
    }

    /// `blockhouse_fence_trips_total`
    pub fn fence_trip(&self, fence: &'static str) {
        self.0.series.fence_trips.get_or_create(&[("fence", fence)]).inc();
    }

    /// `blockhouse_actor_restarts_total`
    pub fn actor_restart(&self, actor: &str, cause: &'static str) {
        let labels = [("actor", Arc::from(actor)), ("cause", Arc::from(cause))];
        self.0.series.restarts.get_or_create(&labels).inc();
    }

    /// One actor's share of `blockhouse_actor_queued_messages`, which sums over actors of one name. Ask once for each actor.
    pub fn queue(&self, actor: &str) -> Queue {
        self.0.series.queues.open(actor)
    }

    /// `blockhouse_exercises_total` (outcomes `ok`, `failed`)
    pub fn exercise(&self, outcome: &'static str) {
        self.0.series.exercises.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// `blockhouse_reloads_total` (outcomes `ok`, `failed`)
    pub fn reload(&self, outcome: &'static str) {
        self.0.series.reloads.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// `blockhouse_chaos_faults_total`, at 0 for every fault: where the role chaos runs.
    pub fn expect_chaos(&self, faults: impl IntoIterator<Item = &'static str>) {
        for fault in faults {
            self.0.series.chaos_faults.get_or_create(&[("fault", fault)]).inc_by(0);
        }
    }

    /// `blockhouse_chaos_faults_total`
    pub fn chaos_fault(&self, fault: &'static str) {
        self.0.series.chaos_faults.get_or_create(&[("fault", fault)]).inc();
    }

    /// Requests answered so far, by all workers, and how many of them failed for want of IDs in time.
    pub fn requests(&self) -> Requests {
        self.0.series.workers.requests()
    }

    /// `blockhouse_draining`
    pub fn set_draining(&self, draining: bool) {
        self.0.series.draining.set(draining.into());
    }

    /// `blockhouse_config_unknown_keys`
    pub fn set_unknown_keys(&self, keys: usize) {
        self.0.series.unknown_keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    /// `blockhouse_log_records_dropped_total`, for [`log::build`](super::log::build) to count in.
    pub fn log_records_dropped(&self) -> Counter {
        self.0.series.log_records_dropped.clone()
    }

    /// A gone pod's series end after 10 minutes, unless it is up again before.
    pub fn pod_gone(&self, address: &Arc<str>) {
        self.0.series.pods.gone(address);
    }

    /// What `/metrics` answers: text format 0.0.4, or OpenMetrics.
    pub fn encode(&self, openmetrics: bool) -> String {
        for gone in self.0.series.pods.prune() {
            self.0.series.hydration.forget(&gone);
        }
        let mut exposition = String::new();
        encode(&mut exposition, &self.0.registry).expect("a String takes whatever is written");
        if openmetrics { exposition } else { text::from_openmetrics(&exposition) }
    }
}

impl Series {
    fn new(workers: usize) -> Series {
        let series = Series {
            workers: Arc::new(Workers::new(workers)),
            sequences: Arc::new(Sequences::new(workers)),
            hydration: Arc::default(),
            ledger: Arc::default(),
            pods: Arc::default(),
            queues: Arc::default(),
            used_ratio: By::default(),
            fence_trips: By::default(),
            restarts: Family::default(),
            exercises: By::default(),
            reloads: By::default(),
            chaos_faults: By::default(),
            draining: Gauge::default(),
            unknown_keys: Gauge::default(),
            log_records_dropped: Counter::default(),
        };
        for outcome in ["ok", "failed"] {
            series.exercises.get_or_create(&[("outcome", outcome)]).inc_by(0);
            series.reloads.get_or_create(&[("outcome", outcome)]).inc_by(0);
        }
        series
    }

    fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Arc::clone(&self.workers)));
        registry.register_collector(Box::new(Arc::clone(&self.sequences)));
        registry.register_collector(Box::new(Arc::clone(&self.ledger)));
        registry.register_collector(Box::new(Arc::clone(&self.pods)));
        registry.register_collector(Box::new(Arc::clone(&self.hydration)));
        registry.register_collector(Box::new(Arc::clone(&self.queues)));
        // The registry ends every help text with a full stop.
        registry.register(
            "blockhouse_sequence_used_ratio",
            "Share of the sequence's IDs that the ledger has granted",
            self.used_ratio.clone(),
        );
        registry.register(
            "blockhouse_fence_trips",
            "Times that a fence refused a store that may have gone back in time, or the wrong one",
            self.fence_trips.clone(),
        );
        registry.register(
            "blockhouse_actor_restarts",
            "Times that an actor was restarted",
            self.restarts.clone(),
        );
        registry.register(
            "blockhouse_exercises",
            "Requests sent straight to the ledger to keep that path warm",
            self.exercises.clone(),
        );
        registry.register("blockhouse_reloads", "Times that SIGHUP was answered", self.reloads.clone());
        registry.register(
            "blockhouse_chaos_faults",
            "Faults that the process injected into itself",
            self.chaos_faults.clone(),
        );
        registry.register("blockhouse_draining", "Whether the process is stopping", self.draining.clone());
        registry.register(
            "blockhouse_config_unknown_keys",
            "Configuration keys that this binary doesn't know and was told to ignore",
            self.unknown_keys.clone(),
        );
        registry.register(
            "blockhouse_log_records_dropped",
            "Log records that were lost because stderr took no more",
            self.log_records_dropped.clone(),
        );
    }
}

#[cfg(test)]
mod tests;
