//! Every metric of the contract.

use std::sync::Arc;
use std::time::Duration;

use crate::block::{Counters, Reason};

/// Registry of everything a process counts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {}

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

impl Metrics {
    /// All of them, at zero.
    pub fn new(about: &About, workers: usize) -> Metrics {
        let _ = (about, workers);
        Metrics {}
    }

    /// The counters of one sequence: made at 0 when first asked for, kept for the process's life.
    pub fn sequence(&self, name: &str) -> Arc<Counters> {
        let _ = name;
        todo!()
    }

    /// A worker's request counters.
    pub fn worker(&self) -> WorkerMetrics {
        WorkerMetrics {}
    }

    /// `blockhouse_ledger_requests_total`, `_duration_seconds`, and on outcome `ok` the time of the last success.
    /// `blockhouse_ledger_up` follows [`Metrics::set_ledger_up`].
    pub fn ledger_request(&self, purpose: &'static str, outcome: &'static str, took: Duration) {
        let _ = (purpose, outcome, took);
    }

    /// `blockhouse_ledger_up`
    pub fn set_ledger_up(&self, up: bool) {
        let _ = up;
    }

    /// `blockhouse_pod_requests_total` (operations `heartbeat`, `pop`, `push`, `publish`, `inspect`, `raise`, `sweep`;
    /// outcomes `ok`, `empty`, `failed`, `in_doubt`, `refused`) and `blockhouse_pod_request_duration_seconds`.
    pub fn pod_request(
        &self,
        address: &Arc<str>,
        operation: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        let _ = (address, operation, outcome, took);
    }

    /// `blockhouse_pod_up`
    pub fn set_pod_up(&self, address: &Arc<str>, up: bool) {
        let _ = (address, up);
    }

    /// `blockhouse_pod_blocks`, by the leading hydrator.
    pub fn set_pod_blocks(&self, address: &Arc<str>, sequence: &Arc<str>, blocks: u64) {
        let _ = (address, sequence, blocks);
    }

    /// `blockhouse_supply_seconds`, by the leading hydrator; `None` without demand.
    pub fn set_supply_seconds(&self, sequence: &Arc<str>, seconds: Option<f64>) {
        let _ = (sequence, seconds);
    }

    /// `blockhouse_hydrated_ids_total`
    pub fn hydrated(&self, sequence: &Arc<str>, address: &Arc<str>, ids: u64) {
        let _ = (sequence, address, ids);
    }

    /// `blockhouse_hydrator_leader`; a process that stops leading also drops the three metrics that only the leader shows.
    pub fn set_hydrator_leader(&self, leads: bool) {
        let _ = leads;
    }

    /// `blockhouse_hydrator_last_success_timestamp_seconds` = now
    pub fn hydrator_succeeded(&self) {}

    /// `blockhouse_sequence_used_ratio`
    pub fn set_used_ratio(&self, sequence: &Arc<str>, ratio: f64) {
        let _ = (sequence, ratio);
    }

    /// `blockhouse_fence_trips_total`
    pub fn fence_trip(&self, fence: &'static str) {
        let _ = fence;
    }

    /// `blockhouse_actor_restarts_total`
    pub fn actor_restart(&self, actor: &str, cause: &'static str) {
        let _ = (actor, cause);
    }

    /// `blockhouse_actor_queued_messages`, summed over actors of one name.
    pub fn add_queued(&self, actor: &str, change: i64) {
        let _ = (actor, change);
    }

    /// `blockhouse_exercises_total`
    pub fn exercise(&self, outcome: &'static str) {
        let _ = outcome;
    }

    /// `blockhouse_draining`
    pub fn set_draining(&self, draining: bool) {
        let _ = draining;
    }

    /// `blockhouse_config_unknown_keys`
    pub fn set_unknown_keys(&self, keys: usize) {
        let _ = keys;
    }

    /// A gone pod's series end after 10 minutes.
    pub fn pod_gone(&self, address: &Arc<str>) {
        let _ = address;
    }

    /// What `/metrics` answers: text format 0.0.4, or OpenMetrics.
    pub fn encode(&self, openmetrics: bool) -> String {
        let _ = openmetrics;
        String::new()
    }
}

/// One worker's share of the request metrics: no cache line is shared with another worker.
#[derive(Debug, Clone)]
pub struct WorkerMetrics {}

/// `method` of `blockhouse_requests_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `Allocate`
    Allocate,
    /// `AllocateStream`, per message
    AllocateStream,
    /// `http`
    Http,
}

impl WorkerMetrics {
    /// One request answered: `code` as gRPC spells it (`OK`, `UNAVAILABLE`), with the reason where it was refused.
    pub fn request(&self, method: Method, code: &'static str, reason: Option<Reason>, took: Duration) {
        let _ = (method, code, reason, took);
    }

    /// Change of `blockhouse_in_flight_requests`, `blockhouse_connections`, `blockhouse_streams`.
    pub fn in_flight(&self, change: i64) {
        let _ = change;
    }

    /// See [`WorkerMetrics::in_flight`].
    pub fn connections(&self, change: i64) {
        let _ = change;
    }

    /// See [`WorkerMetrics::in_flight`].
    pub fn streams(&self, change: i64) {
        let _ = change;
    }
}
