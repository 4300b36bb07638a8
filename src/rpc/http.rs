//! JSON over HTTP: `POST /v1/sequences/{name}/ids`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use blockhouse_client::v1::AllocateResponse;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method as Verb, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout_at;
use tonic::body::Body;

use super::Allocate;
use super::desk::{Asked, Desk, count_invalid, late};
use super::{errors, service};
use crate::block::{Reason, Refusal};
use crate::observe::metrics::Method;

/// The most bytes of a body.
const BODY_MAX: usize = 4 * 1024;

const OURS: &str = "/v1/";

/// Whether a path is this module's whatever its content type.
pub fn is_ours(path: &str) -> bool {
    path.starts_with(OURS)
}

/// Answers a request that isn't gRPC.
pub async fn serve<A: Allocate>(
    desk: Arc<Desk<A>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    Ok(match sequence(request.uri().path()) {
        None => no_such_path(),
        Some(_) if request.method() != Verb::POST => post_instead(request.uri().path(), request.headers()),
        Some(_) => allocate(&desk, request).await,
    })
}

/// The name in `/v1/sequences/{name}/ids`, valid or not.
fn sequence(path: &str) -> Option<&str> {
    path.strip_prefix("/v1/sequences/")?.strip_suffix("/ids").filter(|name| !name.contains('/'))
}

async fn allocate<A: Allocate>(desk: &Desk<A>, request: Request<Incoming>) -> Response<Body> {
    let deadline = desk.deadline(None);
    let visit = desk.open(Method::Http, deadline);
    let (head, body) = request.into_parts();
    let name = sequence(head.uri.path()).unwrap_or_default();
    let mut count = 0;
    let taken = async {
        count = read_count(body, desk.max_count()).await?;
        visit.take(name, count).await
    };
    let taken = timeout_at(deadline, taken).await.unwrap_or_else(|_| Err(late()));
    let asked = Asked { sequence: name, count, headers: &head.headers };
    match taken {
        Ok(allocation) => {
            // S2, the point of no return: from here on nothing waits, and the transport takes the answer.
            let answer = AllocationJson::from(&service::answer(&allocation.issue()));
            visit.allocated(asked);
            json(StatusCode::OK, &answer)
        }
        Err(refusal) => {
            let wait = visit.refused(asked, &refusal);
            refused(&refusal, wait)
        }
    }
}

/// `{"count":3}`, as protobuf's JSON has it, or nothing for 1.
async fn read_count(body: Incoming, limit: u32) -> Result<u32, Refusal> {
    let body = match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(bad_body(format!("the body is longer than {BODY_MAX} bytes")));
        }
        Err(error) => return Err(bad_body(format!("the body can't be read: {error}"))),
    };
    if body.trim_ascii().is_empty() {
        return Ok(1);
    }
    let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(&body) else {
        return Err(bad_body("the body must be empty (for one ID) or like {\"count\":3}".to_owned()));
    };
    if let Some(other) = fields.keys().find(|field| *field != "count") {
        return Err(bad_body(format!(
            "the body's only field is count; the sequence's name is in the path, and {other:.40?} is unknown"
        )));
    }
    match fields.get("count") {
        None | Some(Value::Null) => Ok(1),
        Some(value) => whole(value).ok_or_else(|| count_invalid(value, limit)),
    }
}

/// A count as protobuf's JSON writes it: `3`, `"3"`, `3.0`.
fn whole(value: &Value) -> Option<u32> {
    match value {
        Value::Number(number) => match number.as_u64() {
            Some(whole) => u32::try_from(whole).ok(),
            None => number
                .as_f64()
                .filter(|float| float.fract() == 0.0 && (0.0..4e9).contains(float))
                .map(|float| float as u32),
        },
        Value::String(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    }
}

fn bad_body(message: String) -> Refusal {
    Refusal::new(Reason::CountInvalid, message).with("field", "count")
}

/// Protobuf's JSON of [`AllocateResponse`]: 64-bit numbers are strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AllocationJson {
    /// As [`AllocateResponse::ranges`].
    pub ranges: Vec<RangeJson>,
    /// `TIER_MEMORY`, `TIER_PODS`, `TIER_LEDGER`
    pub tier: &'static str,
}

/// Protobuf's JSON of [`IdRange`](blockhouse_client::v1::IdRange).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RangeJson {
    /// Decimal.
    pub first: String,
    /// Decimal.
    pub count: String,
}

impl From<&AllocateResponse> for AllocationJson {
    fn from(answer: &AllocateResponse) -> AllocationJson {
        let text = |range: &blockhouse_client::v1::IdRange| RangeJson {
            first: range.first.to_string(),
            count: range.count.to_string(),
        };
        AllocationJson { ranges: answer.ranges.iter().map(text).collect(), tier: answer.tier().as_str_name() }
    }
}

#[derive(Serialize)]
struct Failure<'a> {
    error: ErrorJson<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorJson<'a> {
    code: u16,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<String>,
}

fn refused(refusal: &Refusal, wait: Option<Duration>) -> Response<Body> {
    let row = errors::row(refusal.reason);
    let error = ErrorJson {
        code: row.http.as_u16(),
        status: row.name,
        reason: Some(refusal.reason.name()),
        message: &refusal.message,
        retry_after: wait.map(|wait| format!("{}.{:03}s", wait.as_secs(), wait.subsec_millis())),
    };
    let mut response = json(row.http, &Failure { error });
    if let Some(wait) = wait {
        // Whole seconds, and never too few of them.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn post_instead(path: &str, headers: &HeaderMap) -> Response<Body> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:7420");
    let message = format!(
        "IDs are taken with POST: curl -X POST http://{host}{path} (with -d {{\"count\":3}} for three)"
    );
    let mut response = unhelped(StatusCode::METHOD_NOT_ALLOWED, "UNIMPLEMENTED", &message);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

fn no_such_path() -> Response<Body> {
    let message = "nothing is here; take IDs with POST /v1/sequences/{name}/ids, or with gRPC \
                   (blockhouse.v1.AllocationService); the status page is on the admin port";
    unhelped(StatusCode::NOT_FOUND, "NOT_FOUND", message)
}

/// An error that isn't a refusal: it has no reason.
fn unhelped(code: StatusCode, status: &str, message: &str) -> Response<Body> {
    let error = ErrorJson { code: code.as_u16(), status, reason: None, message, retry_after: None };
    json(code, &Failure { error })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let mut text = serde_json::to_vec(value).expect("strings and numbers can be written as JSON");
    text.push(b'\n');
    let mut response = Response::new(Body::new(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_name_is_between_sequences_and_ids() {
        assert_eq!(sequence("/v1/sequences/tasks/ids"), Some("tasks"));
        assert_eq!(sequence("/v1/sequences//ids"), Some(""));
        for path in ["/v1/sequences/a/b/ids", "/v1/sequences/ids", "/v1/sequences/tasks", "/v1", "/", "/v2/x"]
        {
            assert_eq!(sequence(path), None, "{path}");
        }
    }

    #[test]
    fn counts_are_whole_numbers_in_any_of_protobufs_spellings() {
        for value in [json!(3), json!("3"), json!(3.0)] {
            assert_eq!(whole(&value), Some(3), "{value}");
        }
        for value in [
            json!(-1),
            json!(1.5),
            json!("three"),
            json!(""),
            json!("+3"),
            json!(true),
            json!([3]),
            json!(5_000_000_000_u64),
            json!(5e9),
        ] {
            assert_eq!(whole(&value), None, "{value}");
        }
    }
}
