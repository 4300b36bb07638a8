//! `take`: one allocation.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

use super::failure::{Exit, Failure, Outcome};
use super::format::one_line;
use super::global::ServerArgs;
use super::http::{Answer, Endpoint, send};
use super::ui::Ui;
use crate::block::catalogue::is_valid_name;
use crate::block::{Reason, Span};

const EXAMPLES: &str = "\
Examples:
  blockhouse take                       one ID of the sequence 'default'
  blockhouse take tasks -n 1000         a thousand IDs, as first-last
  blockhouse take tasks -n 3 --ids      one ID a line
  blockhouse take tasks -s ids-1:7420 -s ids-2:7420 --json";

/// Take IDs of a sequence.
///
/// Prints one range a line: first-last. The IDs are yours alone, for ever.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Take {
    /// The sequence.
    #[arg(default_value = "default")]
    sequence: String,
    /// How many IDs.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1)]
    count: u32,
    /// One ID a line.
    #[arg(long, conflicts_with = "json")]
    ids: bool,
    /// The answer of the server, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

impl Take {
    /// Takes and prints.
    ///
    /// # Errors
    /// The reason of the server that came closest to an answer.
    pub async fn run(&self, ui: &Ui) -> Outcome {
        if !is_valid_name(&self.sequence) {
            let reason = Reason::SequenceNameInvalid.name();
            let line = format!(
                "{reason}: '{}' can't be a sequence's name: it must match [a-z][a-z0-9_.-]{{0,62}}",
                one_line(&self.sequence)
            );
            return Err(Failure::new(Exit::Failed, line));
        }
        let (endpoint, body) = self.ask_in_turn().await?;
        let spans = read(&body, self.count).map_err(|why| {
            Failure::new(Exit::Internal, format!("the answer of {endpoint} can't be used: {why}"))
        })?;
        if self.json {
            return ui.lines([String::from_utf8_lossy(&body).trim_end()]);
        }
        if self.ids {
            return ui.lines(spans.into_iter().flat_map(|span| span.first()..=span.last()));
        }
        ui.lines(spans.into_iter().map(|span| format!("{}-{}", span.first(), span.last())))
    }

    /// Asks one server after the other until one answers for good. Asking again is safe: a lost answer costs IDs, never
    /// uniqueness.
    async fn ask_in_turn(&self) -> Outcome<(&Endpoint, Bytes)> {
        let servers = &self.server.servers;
        let end = Instant::now() + self.server.timeout;
        let mut closest: Option<Failure> = None;
        for (i, endpoint) in servers.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            // A silent server must not use up the time of those after it.
            let share = left / u32::try_from(servers.len() - i).unwrap_or(u32::MAX);
            let failure = match self.ask(endpoint, share).await {
                Ok(body) => return Ok((endpoint, body)),
                Err(failure) => failure,
            };
            if !matches!(failure.exit, Exit::Refused | Exit::Unreachable) {
                return Err(failure);
            }
            // Being refused says more than not being heard.
            match &closest {
                Some(before) if before.exit == Exit::Refused => {}
                _ => closest = Some(failure),
            }
        }
        Err(closest
            .unwrap_or_else(|| Failure::new(Exit::Usage, "no server was named: add --server HOST:PORT")))
    }

    async fn ask(&self, endpoint: &Endpoint, within: Duration) -> Outcome<Bytes> {
        let request = Request::post(format!("/v1/sequences/{}/ids", self.sequence))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(format!("{{\"count\":{}}}", self.count))))
            .map_err(|error| Failure::new(Exit::Internal, format!("can't ask for IDs: {error}")))?;
        match send(endpoint, request, within).await {
            Ok(answer) if answer.status == StatusCode::OK => Ok(answer.body),
            Ok(answer) => Err(refusal(endpoint, &answer)),
            Err(why) => {
                let hint =
                    "name a server with --server or BLOCKHOUSE_SERVER, or start one with 'blockhouse dev'";
                let line = format!("can't reach blockhouse at {endpoint}: {}; {hint}", why.0);
                Err(Failure::new(Exit::Unreachable, line))
            }
        }
    }
}

/// The last line and the exit code of an answer that brings no IDs.
fn refusal(endpoint: &Endpoint, answer: &Answer) -> Failure {
    let Ok(Refusal { error }) = serde_json::from_slice(&answer.body) else {
        let line = format!(
            "what listens at {endpoint} isn't blockhouse's service (HTTP {}): name a server with --server",
            answer.status.as_u16()
        );
        return Failure::new(Exit::Unreachable, line);
    };
    let exit = match error.status.as_str() {
        "UNAVAILABLE" | "DEADLINE_EXCEEDED" | "RESOURCE_EXHAUSTED" => Exit::Refused,
        "INVALID_ARGUMENT" | "NOT_FOUND" | "OUT_OF_RANGE" | "FAILED_PRECONDITION" => Exit::Failed,
        "PERMISSION_DENIED" | "UNAUTHENTICATED" => Exit::Denied,
        _ => Exit::Internal,
    };
    let again = error.retry_after.map(|wait| format!(" (try again in {wait})")).unwrap_or_default();
    let name = if error.reason.is_empty() { error.status } else { error.reason };
    Failure::new(exit, format!("{name}: {} [{endpoint}]{again}", error.message))
}

/// An error of JSON over HTTP.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RefusalBody {
    status: String,
    #[serde(default)]
    reason: String,
    message: String,
    retry_after: Option<String>,
}

/// protobuf's JSON of AllocateResponse, as far as it is read.
#[derive(Deserialize)]
struct Allocated {
    ranges: Vec<IdRange>,
}

#[derive(Deserialize)]
struct IdRange {
    #[serde(deserialize_with = "int64")]
    first: i64,
    #[serde(deserialize_with = "int64")]
    count: i64,
}

/// protobuf's JSON writes an int64 as a string, and readers take numbers too.
fn int64<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Int64 {
        Text(String),
        Number(i64),
    }
    match Int64::deserialize(from)? {
        Int64::Text(digits) => digits.parse().map_err(serde::de::Error::custom),
        Int64::Number(number) => Ok(number),
    }
}

/// The ranges of an answer, checked again on this side: ascending, apart, and as many IDs as were asked for.
fn read(body: &[u8], count: u32) -> Result<Vec<Span>, String> {
    let answer: Allocated = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let spans: Option<Vec<Span>> =
        answer.ranges.iter().map(|range| Span::new(range.first, range.count)).collect();
    let spans = spans.ok_or("it holds a range that is none")?;
    let ids = spans.iter().try_fold(0, |ids: i64, span| ids.checked_add(span.count()));
    if ids != Some(i64::from(count)) {
        return Err(format!("it doesn't bring the {count} IDs that were asked for"));
    }
    if !spans.is_sorted_by(|a, b| a.last() < b.first()) {
        return Err("its ranges overlap".to_owned());
    }
    Ok(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: u16, body: &str) -> Failure {
        let endpoint = Endpoint::service("a:1").unwrap();
        let status = StatusCode::from_u16(code).unwrap();
        refusal(&endpoint, &Answer { status, body: Bytes::copy_from_slice(body.as_bytes()) })
    }

    #[test]
    fn an_answer_is_read_as_protobuf_writes_it() {
        let body =
            br#"{"ranges":[{"first":"1001","count":"3"},{"first":2000,"count":1}],"tier":"TIER_PODS"}"#;
        assert_eq!(read(body, 4), Ok(vec![Span::new(1001, 3).unwrap(), Span::new(2000, 1).unwrap()]));
    }

    #[test]
    fn an_answer_that_breaks_the_contract_is_not_used() {
        for body in [
            r#"{"ranges":[]}"#,
            r#"{"ranges":[{"first":"0","count":"4"}]}"#,
            r#"{"ranges":[{"first":"1","count":"5"}]}"#,
            r#"{"ranges":[{"first":"1","count":"2"},{"first":"2","count":"2"}]}"#,
            r#"{"ranges":[{"first":"9","count":"2"},{"first":"1","count":"2"}]}"#,
            "IDs",
        ] {
            assert!(read(body.as_bytes(), 4).is_err(), "{body}");
        }
    }

    #[test]
    fn a_refusal_says_its_reason_and_when_to_try_again() {
        let body = r#"{"error":{"code":503,"status":"UNAVAILABLE","reason":"LEDGER_BUSY","message":"the line is full","retryAfter":"0.240s"}}"#;
        let failure = ended(503, body);
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(failure.line, "LEDGER_BUSY: the line is full [a:1] (try again in 0.240s)");
    }

    #[test]
    fn every_status_of_the_contract_has_its_exit_code() {
        for (status, exit) in [
            ("INVALID_ARGUMENT", Exit::Failed),
            ("NOT_FOUND", Exit::Failed),
            ("OUT_OF_RANGE", Exit::Failed),
            ("FAILED_PRECONDITION", Exit::Failed),
            ("UNAVAILABLE", Exit::Refused),
            ("DEADLINE_EXCEEDED", Exit::Refused),
            ("RESOURCE_EXHAUSTED", Exit::Refused),
            ("PERMISSION_DENIED", Exit::Denied),
            ("UNAUTHENTICATED", Exit::Denied),
            ("INTERNAL", Exit::Internal),
        ] {
            let body = format!(r#"{{"error":{{"status":"{status}","message":"m"}}}}"#);
            assert_eq!(ended(500, &body).exit, exit, "{status}");
        }
        assert_eq!(ended(404, "not found").exit, Exit::Unreachable);
    }
}
