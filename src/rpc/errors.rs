//! THE table from refusals to the wire: every door (unary, stream, HTTP) says the same about one refusal.

use std::collections::HashMap;
use std::time::Duration;

use blockhouse_client::v1::AllocateError;
use fastrand::Rng;
use http::StatusCode;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::block::{Reason, Refusal};

/// Whose reasons these are (`ErrorInfo.domain`).
pub const DOMAIN: &str = "blockhouse";

/// The trailer that tells a gRPC client's retry policy how long to wait, in milliseconds.
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What one reason is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// gRPC's status code.
    pub code: Code,
    /// As gRPC spells it.
    pub name: &'static str,
    /// HTTP's status code.
    pub http: StatusCode,
    /// Whether waiting helps, and how long where the refusal doesn't say.
    pub wait: Option<Duration>,
}

/// The row of a reason.
pub const fn row(reason: Reason) -> Row {
    const INVALID: Row = Row::new(Code::InvalidArgument, "INVALID_ARGUMENT", StatusCode::BAD_REQUEST);
    const PRECONDITION: Row = Row::new(Code::FailedPrecondition, "FAILED_PRECONDITION", StatusCode::CONFLICT);
    const NOBODY: Row = Row::new(Code::Unauthenticated, "UNAUTHENTICATED", StatusCode::UNAUTHORIZED);
    match reason {
        Reason::CountInvalid | Reason::SequenceNameInvalid => INVALID,
        Reason::SequenceUnknown => Row::new(Code::NotFound, "NOT_FOUND", StatusCode::NOT_FOUND),
        Reason::SequenceExhausted => Row::new(Code::OutOfRange, "OUT_OF_RANGE", StatusCode::CONFLICT),
        Reason::SequenceHalted | Reason::SequenceRetired => PRECONDITION,
        Reason::LedgerBusy | Reason::Overloaded => Row::unavailable(100),
        // Another server may answer at once.
        Reason::Draining => Row::unavailable(50),
        Reason::Starting => Row::unavailable(250),
        Reason::LedgerUnreachable => Row::unavailable(1_000),
        Reason::LedgerClosed | Reason::SequenceRateCapped => Row::unavailable(5_000),
        Reason::Deadline => {
            Row::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", StatusCode::GATEWAY_TIMEOUT)
        }
        Reason::Quota => Row {
            wait: Some(Duration::from_secs(1)),
            ..Row::new(Code::ResourceExhausted, "RESOURCE_EXHAUSTED", StatusCode::TOO_MANY_REQUESTS)
        },
        Reason::AccessDenied => Row::new(Code::PermissionDenied, "PERMISSION_DENIED", StatusCode::FORBIDDEN),
        Reason::CredentialsMissing | Reason::CredentialsInvalid => NOBODY,
    }
}

impl Row {
    const fn new(code: Code, name: &'static str, http: StatusCode) -> Row {
        Row { code, name, http, wait: None }
    }

    const fn unavailable(wait_ms: u64) -> Row {
        let wait = Some(Duration::from_millis(wait_ms));
        Row { wait, ..Row::new(Code::Unavailable, "UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE) }
    }
}

/// How long this caller is told to wait: drawn from [d, 1.5 d], because gRPC clients add no jitter of their own and would
/// all come back at once. Whole milliseconds, 1 or more; `None` where waiting is no use. One draw an answer: `RetryInfo`,
/// trailer, `Retry-After` and JSON must not contradict each other.
pub fn draw_wait(refusal: &Refusal, rng: &mut Rng) -> Option<Duration> {
    let least = refusal.retry_after.or(row(refusal.reason).wait);
    let least = row(refusal.reason).wait.and(least)?;
    let least_ms = u64::try_from(least.as_millis()).unwrap_or(u64::MAX / 2).clamp(1, u64::MAX / 2);
    Some(Duration::from_millis(rng.u64(least_ms..=least_ms + least_ms / 2)))
}

/// What a unary call or a whole stream fails with. `wait` comes from [`draw_wait`].
pub fn status(refusal: &Refusal, wait: Option<Duration>) -> Status {
    let facts: HashMap<String, String> =
        refusal.metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let mut details = ErrorDetails::with_error_info(refusal.reason.name(), DOMAIN, facts);
    let mut trailers = MetadataMap::new();
    if let Some(wait) = wait {
        details.set_retry_info(Some(wait));
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        trailers.insert(PUSHBACK, MetadataValue::from(wait_ms));
    }
    let code = row(refusal.reason).code;
    Status::with_error_details_and_metadata(code, refusal.message.as_ref(), details, trailers)
}

/// What a message fails with that tonic could not read. A message over its limit is OUT_OF_RANGE there, which here means
/// that a sequence is used up; only a name can make a message that long.
pub fn unreadable(found: Status) -> Status {
    if found.code() != Code::OutOfRange || !found.details().is_empty() {
        return found;
    }
    let message = "the message is longer than a valid name can make it";
    status(&Refusal::new(Reason::SequenceNameInvalid, message).with("field", "sequence"), None)
}

/// What one request of a stream fails with. `wait` comes from [`draw_wait`].
pub fn stream_error(refusal: &Refusal, wait: Option<Duration>) -> AllocateError {
    AllocateError {
        code: row(refusal.reason).code as i32,
        message: refusal.message.as_ref().to_owned(),
        // Fails only beyond what a wire duration can hold.
        retry_after: wait.and_then(|wait| prost_types::Duration::try_from(wait).ok()),
        reason: refusal.reason.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The contract's table, written down a second time.
    const CONTRACT: [(&str, &str, i32, u16, bool); 18] = [
        ("COUNT_INVALID", "INVALID_ARGUMENT", 3, 400, false),
        ("SEQUENCE_NAME_INVALID", "INVALID_ARGUMENT", 3, 400, false),
        ("SEQUENCE_UNKNOWN", "NOT_FOUND", 5, 404, false),
        ("SEQUENCE_EXHAUSTED", "OUT_OF_RANGE", 11, 409, false),
        ("SEQUENCE_HALTED", "FAILED_PRECONDITION", 9, 409, false),
        ("SEQUENCE_RETIRED", "FAILED_PRECONDITION", 9, 409, false),
        ("LEDGER_BUSY", "UNAVAILABLE", 14, 503, true),
        ("LEDGER_UNREACHABLE", "UNAVAILABLE", 14, 503, true),
        ("LEDGER_CLOSED", "UNAVAILABLE", 14, 503, true),
        ("SEQUENCE_RATE_CAPPED", "UNAVAILABLE", 14, 503, true),
        ("OVERLOADED", "UNAVAILABLE", 14, 503, true),
        ("STARTING", "UNAVAILABLE", 14, 503, true),
        ("DRAINING", "UNAVAILABLE", 14, 503, true),
        ("DEADLINE", "DEADLINE_EXCEEDED", 4, 504, false),
        ("QUOTA", "RESOURCE_EXHAUSTED", 8, 429, true),
        ("ACCESS_DENIED", "PERMISSION_DENIED", 7, 403, false),
        ("CREDENTIALS_MISSING", "UNAUTHENTICATED", 16, 401, false),
        ("CREDENTIALS_INVALID", "UNAUTHENTICATED", 16, 401, false),
    ];

    #[test]
    fn every_reason_is_what_the_contract_says() {
        assert_eq!(CONTRACT.len(), Reason::ALL.len());
        for (reason, (name, status_name, code, http, retries)) in Reason::ALL.iter().zip(CONTRACT) {
            let row = row(*reason);
            assert_eq!(reason.name(), name);
            assert_eq!((row.name, row.code as i32, row.http.as_u16()), (status_name, code, http), "{name}");
            assert_eq!(row.wait.is_some(), retries, "{name}");
        }
    }

    #[test]
    fn every_status_carries_its_reason_and_only_the_passing_ones_a_wait() {
        let mut rng = Rng::with_seed(1);
        for reason in Reason::ALL {
            let refusal = Refusal::new(*reason, "said so").with("limit", 7);
            let wait = draw_wait(&refusal, &mut rng);
            let status = status(&refusal, wait);
            let details = status.get_error_details();
            let info = details.error_info().expect("an ErrorInfo");
            assert_eq!((info.domain.as_str(), info.reason.as_str()), ("blockhouse", reason.name()));
            assert_eq!(info.metadata.get("limit").map(String::as_str), Some("7"));
            let pushback =
                status.metadata().get(PUSHBACK).and_then(|value| value.to_str().ok()?.parse().ok());
            let told = details.retry_info().and_then(|info| info.retry_delay);
            assert_eq!(told, row(*reason).wait.and(wait), "{}", reason.name());
            assert_eq!(told, pushback.map(Duration::from_millis));
            let error = stream_error(&refusal, wait);
            assert_eq!((error.code, error.reason.as_str()), (status.code() as i32, reason.name()));
            assert_eq!(error.retry_after.is_some(), told.is_some());
        }
    }

    #[test]
    fn waits_are_drawn_from_once_to_one_and_a_half_times_what_was_said() {
        let mut rng = Rng::with_seed(2);
        let refusal = Refusal::new(Reason::LedgerBusy, "").retry_after(Duration::from_millis(200));
        let draws: Vec<u128> =
            (0..2000).map(|_| draw_wait(&refusal, &mut rng).unwrap().as_millis()).collect();
        assert_eq!((draws.iter().min(), draws.iter().max()), (Some(&200), Some(&300)));
    }

    #[test]
    fn a_wait_is_never_nothing_and_never_overflows() {
        let mut rng = Rng::with_seed(3);
        for wait in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let refusal = Refusal::new(Reason::Overloaded, "").retry_after(wait);
            assert!(draw_wait(&refusal, &mut rng).unwrap() >= Duration::from_millis(1));
        }
        let hopeless = Refusal::new(Reason::SequenceRetired, "").retry_after(Duration::from_secs(1));
        assert_eq!(draw_wait(&hopeless, &mut rng), None);
    }
}
