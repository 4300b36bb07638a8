//! A worker's front desk: what every request goes through, whichever door it came in by.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use http::HeaderMap;
use slog::{Logger, info};
use tokio::time::Instant;

use super::{Allocate, errors};
use crate::actor::Allocation;
use crate::block::{Reason, Refusal, catalogue};
use crate::config::settings;
use crate::observe::metrics::{Method, WorkerMetrics};

/// Records about single requests that a worker writes in a second.
const RECORDS_PER_SECOND: u32 = 10;

/// A request that is cancelled so shortly before its deadline was late, not unwanted.
const CANCEL_SKEW: Duration = Duration::from_millis(10);

/// Characters of a caller's text that are sent back or logged.
const QUOTED_MAX: usize = 80;

/// Checks requests, passes them to the worker's allocator, and accounts for how they ended.
pub struct Desk<A> {
    allocator: A,
    limits: Limits,
    metrics: WorkerMetrics,
    log: Logger,
    closing: AtomicBool,
    // Only refusals come here, and only from the worker's own thread.
    refusing: Mutex<Refusing>,
}

struct Limits {
    max_count: u32,
    request_timeout: Duration,
    max_stream_in_flight: usize,
    slow: Duration,
}

struct Refusing {
    rng: Rng,
    records: Sampler,
}

/// What a caller asked for, and the trace it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// As sent: perhaps not a valid name.
    pub sequence: &'a str,
    /// As sent: perhaps not a valid count.
    pub count: u32,
    /// Headers that came with the request or the stream.
    pub headers: &'a HeaderMap,
}

impl<A: Allocate> Desk<A> {
    /// The desk of one worker. `slow` is `log.slow`.
    pub fn new(
        allocator: A,
        grpc: &settings::Grpc,
        slow: Duration,
        metrics: WorkerMetrics,
        log: Logger,
        rng: Rng,
    ) -> Desk<A> {
        let limits = Limits {
            max_count: grpc.max_count,
            request_timeout: grpc.request_timeout,
            max_stream_in_flight: grpc.max_stream_in_flight.max(1),
            slow,
        };
        let refusing = Mutex::new(Refusing { rng, records: Sampler::new() });
        Desk { allocator, limits, metrics, log, closing: AtomicBool::new(false), refusing }
    }

    /// Takes nothing new from now on ([`Phase::Closing`](crate::shutdown::Phase::Closing)).
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// `grpc.max_count`
    pub fn max_count(&self) -> u32 {
        self.limits.max_count
    }

    /// `grpc.max_stream_in_flight`
    pub fn max_stream_in_flight(&self) -> usize {
        self.limits.max_stream_in_flight
    }

    /// The worker's counters.
    pub fn metrics(&self) -> &WorkerMetrics {
        &self.metrics
    }

    /// When a caller who is ready to wait for `timeout` must have been answered.
    pub fn deadline(&self, timeout: Option<Duration>) -> Instant {
        let limit = self.limits.request_timeout;
        Instant::now() + timeout.map_or(limit, |timeout| timeout.min(limit))
    }

    /// A request has arrived that must be answered by `deadline`.
    pub fn open(&self, method: Method, deadline: Instant) -> Visit<'_, A> {
        self.metrics.in_flight(1);
        Visit { desk: self, method, began: Instant::now(), deadline, answered: false }
    }

    /// The wait to tell the caller about, drawn once an answer.
    pub fn draw_wait(&self, refusal: &Refusal) -> Option<Duration> {
        errors::draw_wait(refusal, &mut self.refusing().rng)
    }

    fn check(&self, sequence: &str, count: u32, deadline: Instant) -> Result<(), Refusal> {
        if self.closing.load(Ordering::Relaxed) {
            return Err(draining());
        }
        if !catalogue::is_valid_name(sequence) {
            return Err(name_invalid(sequence));
        }
        if !(1..=self.limits.max_count).contains(&count) {
            return Err(count_invalid(count, self.limits.max_count));
        }
        if deadline <= Instant::now() {
            return Err(late());
        }
        Ok(())
    }

    fn refusing(&self) -> std::sync::MutexGuard<'_, Refusing> {
        // Neither a generator nor a sampler can be left half changed.
        self.refusing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request, from its arrival to its answer. Dropped without one, it counts as cancelled by its caller, or as late.
pub struct Visit<'a, A: Allocate> {
    desk: &'a Desk<A>,
    method: Method,
    began: Instant,
    deadline: Instant,
    answered: bool,
}

impl<A: Allocate> Visit<'_, A> {
    /// Asks the allocator. Has no timer of its own: every door brings one that also covers what it reads.
    ///
    /// # Errors
    /// The refusal to answer with.
    ///
    /// # Cancel safety
    /// As [`AllocatorHandle::allocate`](crate::actor::AllocatorHandle::allocate).
    pub async fn take(&self, sequence: &str, count: u32) -> Result<Allocation, Refusal> {
        self.desk.check(sequence, count, self.deadline)?;
        self.desk.allocator.allocate(sequence, count, self.deadline).await
    }

    /// The request is answered with IDs.
    pub fn allocated(mut self, asked: Asked<'_>) {
        let took = self.answer("OK", None);
        if took >= self.desk.limits.slow {
            self.desk.record("request was slow", asked, "OK", None, took);
        }
    }

    /// The request is answered with a refusal, for which the caller shall wait as long as this returns.
    pub fn refused(mut self, asked: Asked<'_>, refusal: &Refusal) -> Option<Duration> {
        let code = errors::row(refusal.reason).name;
        let took = self.answer(code, Some(refusal.reason));
        self.desk.record("request refused", asked, code, Some(refusal), took);
        self.desk.draw_wait(refusal)
    }

    fn answer(&mut self, code: &'static str, reason: Option<Reason>) -> Duration {
        self.answered = true;
        let took = self.began.elapsed();
        self.desk.metrics.request(self.method, code, reason, took);
        took
    }
}

impl<A: Allocate> Drop for Visit<'_, A> {
    fn drop(&mut self) {
        self.desk.metrics.in_flight(-1);
        if self.answered {
            return;
        }
        // Clients cancel when their deadline passes, a moment before or after we see it.
        if Instant::now() + CANCEL_SKEW >= self.deadline {
            self.answer("DEADLINE_EXCEEDED", Some(Reason::Deadline));
        } else {
            self.answer("CANCELLED", None);
        }
    }
}

impl<A: Allocate> Desk<A> {
    fn record(
        &self,
        what: &'static str,
        asked: Asked<'_>,
        code: &'static str,
        refusal: Option<&Refusal>,
        took: Duration,
    ) {
        let Some(suppressed) = self.refusing().records.admit(Instant::now()) else { return };
        info!(self.log, "{}", what;
            "sequence" => quote(asked.sequence),
            "count" => asked.count,
            "code" => code,
            "reason" => refusal.map(|refusal| refusal.reason.name()),
            "detail" => refusal.map(|refusal| refusal.message.as_ref()),
            "took_us" => u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "trace_id" => trace_id(asked.headers),
            "suppressed" => suppressed,
        );
    }
}

/// Lets a few records a second through, and tells with the next how many it held back.
struct Sampler {
    since: Instant,
    written: u32,
    suppressed: u64,
}

impl Sampler {
    fn new() -> Sampler {
        Sampler { since: Instant::now(), written: 0, suppressed: 0 }
    }

    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.written) = (now, 0);
        }
        if self.written == RECORDS_PER_SECOND {
            self.suppressed += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Counts one thing in a gauge as long as it is held.
pub struct Counted {
    metrics: WorkerMetrics,
    gauge: fn(&WorkerMetrics, i64),
}

impl Counted {
    /// Such as `Counted::new(metrics, WorkerMetrics::streams)`.
    pub fn new(metrics: &WorkerMetrics, gauge: fn(&WorkerMetrics, i64)) -> Counted {
        gauge(metrics, 1);
        Counted { metrics: metrics.clone(), gauge }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.gauge)(&self.metrics, -1);
    }
}

/// The refusal of a process that is stopping.
pub fn draining() -> Refusal {
    Refusal::new(
        Reason::Draining,
        "this server is stopping or closing the connection; connect again, or ask another",
    )
}

/// The refusal of a request whose deadline has passed.
pub fn late() -> Refusal {
    Refusal::new(Reason::Deadline, "no answer within the caller's deadline or grpc.request_timeout")
}

/// The refusal of a name that can't be one.
fn name_invalid(name: &str) -> Refusal {
    let message = if name.is_empty() {
        "the sequence's name is missing".to_owned()
    } else {
        format!(
            "'{}' can't be the name of a sequence: a lower-case letter, then up to 62 of a-z 0-9 _ . -",
            quote(name)
        )
    };
    Refusal::new(Reason::SequenceNameInvalid, message)
        .with("field", "sequence")
        .with("value", quote(name))
        .with("limit", "[a-z][a-z0-9_.-]{0,62}")
}

/// The refusal of a count that is out of bounds or not even a number.
pub fn count_invalid(count: impl std::fmt::Display, limit: u32) -> Refusal {
    let count = count.to_string();
    Refusal::new(
        Reason::CountInvalid,
        format!("count must be 1 to {limit} (grpc.max_count), not {}", quote(&count)),
    )
    .with("field", "count")
    .with("value", quote(&count))
    .with("limit", limit)
}

/// The beginning of a caller's text.
fn quote(text: &str) -> &str {
    text.char_indices().nth(QUOTED_MAX).map_or(text, |(end, _)| &text[..end])
}

/// The trace's 32 hexadecimal digits out of a W3C `traceparent`.
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get("traceparent")?.to_str().ok()?.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// What the caller's `grpc-timeout` says; `None` if it says nothing that can be understood.
pub fn caller_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn a_callers_timeout_is_read_in_every_unit() {
        let read = |value| caller_timeout(&headers("grpc-timeout", value));
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(read("3M"), Some(Duration::from_secs(180)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("0u"), Some(Duration::ZERO));
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
    }

    #[test]
    fn a_timeout_that_is_none_is_ignored() {
        for value in ["", "m", "12", "123456789m", "-1S", "1.5S", "1s", "1 S", "+1S"] {
            assert_eq!(caller_timeout(&headers("grpc-timeout", value)), None, "{value:?}");
        }
        assert_eq!(caller_timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn a_trace_is_named_by_its_id() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(trace_id(&headers("traceparent", &format!("00-{id}-b7ad6b7169203331-01"))), Some(id));
        assert_eq!(trace_id(&headers("traceparent", "00-nonsense-01")), None);
    }

    #[test]
    fn ten_records_a_second_are_written_and_the_next_tells_what_was_not() {
        let start = Instant::now();
        let mut sampler = Sampler { since: start, written: 0, suppressed: 0 };
        let written = (0..100).filter(|_| sampler.admit(start).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(sampler.admit(start + Duration::from_secs(1)), Some(90));
    }

    #[test]
    fn only_the_beginning_of_a_callers_text_is_sent_back() {
        assert_eq!(quote(&"é".repeat(5000)).chars().count(), QUOTED_MAX);
        assert_eq!(quote("tasks"), "tasks");
    }
}
