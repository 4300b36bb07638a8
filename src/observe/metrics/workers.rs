//! What the workers count of requests.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families::{counters, gauges, histograms};
use super::histogram::{Distribution, Histogram};
use crate::block::Reason;
use crate::block::chaos::Requests;

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

impl Method {
    const ALL: [Method; 3] = [Method::Allocate, Method::AllocateStream, Method::Http];

    /// The value of the label `method`.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Allocate => "Allocate",
            Method::AllocateStream => "AllocateStream",
            Method::Http => "http",
        }
    }
}

/// Values of the label `code`, the most frequent first; what isn't among them counts as the last.
const CODES: [&str; 13] = [
    "OK",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "CANCELLED",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "OUT_OF_RANGE",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "INTERNAL",
    "UNKNOWN",
];

/// One worker's share of the request metrics. It lies on cache lines of its own, so that counting costs the same on
/// 64 cores as on one; nothing is locked or allocated. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerMetrics(Arc<Shard>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    requests: [[AtomicU64; CODES.len()]; Method::ALL.len()],
    durations: [Histogram; Method::ALL.len()],
    refusals: [AtomicU64; Reason::ALL.len()],
    in_flight: AtomicI64,
    connections: AtomicI64,
    streams: AtomicI64,
}

impl WorkerMetrics {
    /// One request answered: `code` as gRPC spells it (`OK`, `UNAVAILABLE`), with the reason where it was refused.
    pub fn request(&self, method: Method, code: &'static str, reason: Option<Reason>, took: Duration) {
        let code = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len() - 1);
        self.0.requests[method as usize][code].fetch_add(1, Ordering::Relaxed);
        self.0.durations[method as usize].observe(took);
        if let Some(reason) = reason {
            self.0.refusals[reason as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Change of `blockhouse_in_flight_requests`.
    pub fn in_flight(&self, change: i64) {
        self.0.in_flight.fetch_add(change, Ordering::Relaxed);
    }

    /// Change of `blockhouse_connections`.
    pub fn connections(&self, change: i64) {
        self.0.connections.fetch_add(change, Ordering::Relaxed);
    }

    /// Change of `blockhouse_streams`.
    pub fn streams(&self, change: i64) {
        self.0.streams.fetch_add(change, Ordering::Relaxed);
    }
}

/// Every worker's share; adds them up at a scrape.
#[derive(Debug)]
pub(super) struct Workers {
    shards: Box<[Arc<Shard>]>,
    next: AtomicUsize,
}

impl Workers {
    pub(super) fn new(workers: usize) -> Workers {
        let shards = (0..workers.max(1)).map(|_| Arc::default()).collect();
        Workers { shards, next: AtomicUsize::new(0) }
    }

    /// The next share, in turn: a worker that is set up again costs no memory.
    pub(super) fn next(&self) -> WorkerMetrics {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        WorkerMetrics(Arc::clone(&self.shards[turn % self.shards.len()]))
    }

    /// All that was asked; failed is what a caller did no wrong in.
    pub(super) fn requests(&self) -> Requests {
        let of = |codes: &[&str]| {
            let counted = CODES.iter().enumerate().filter(|(_, code)| codes.contains(code));
            let counted = counted.flat_map(|(index, _)| Method::ALL.map(|method| (method as usize, index)));
            counted.map(|(method, index)| self.count(|shard| &shard.requests[method][index])).sum()
        };
        Requests { all: of(&CODES), failed: of(&["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"]) }
    }

    fn count(&self, of: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| of(shard).load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }

    fn level(&self, of: impl Fn(&Shard) -> &AtomicI64) -> i64 {
        self.shards.iter().map(|shard| of(shard).load(Ordering::Relaxed)).sum()
    }

    fn durations(&self, method: Method) -> Distribution {
        self.shards
            .iter()
            .fold(Distribution::default(), |sum, shard| sum.and(&shard.durations[method as usize]))
    }
}

impl Collector for Workers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        counters(
            encoder,
            "blockhouse_requests",
            "Requests answered, by gRPC status code; messages where the method is a stream.",
            Method::ALL.into_iter().flat_map(|method| {
                CODES.into_iter().enumerate().map(move |(index, code)| {
                    let labels = [("method", method.name()), ("code", code)];
                    (labels, self.count(|shard| &shard.requests[method as usize][index]))
                })
            }),
        )?;
        counters(
            encoder,
            "blockhouse_refusals",
            "Requests refused, by reason.",
            Reason::ALL.iter().map(|reason| {
                ([("reason", reason.name())], self.count(|shard| &shard.refusals[*reason as usize]))
            }),
        )?;
        histograms(
            encoder,
            "blockhouse_request_duration_seconds",
            "Time from a request's arrival to its answer.",
            Method::ALL.map(|method| ([("method", method.name())], self.durations(method))),
        )?;
        gauges(
            encoder,
            "blockhouse_in_flight_requests",
            "Requests that are being answered.",
            [([], self.level(|shard| &shard.in_flight))],
        )?;
        gauges(
            encoder,
            "blockhouse_connections",
            "Open client connections.",
            [([], self.level(|shard| &shard.connections))],
        )?;
        gauges(
            encoder,
            "blockhouse_streams",
            "Open AllocateStream calls.",
            [([], self.level(|shard| &shard.streams))],
        )
    }
}
