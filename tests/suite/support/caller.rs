//! One caller: asks one server for IDs, over gRPC or HTTP, and says what came of it.

use std::time::Duration;

use blockhouse::block::Span;
use blockhouse_client::v1::allocation_service_client::AllocationServiceClient;
use blockhouse_client::v1::{AllocateRequest, Tier};
use hyper::Method;
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

use super::http::{Answer, Connection};

/// How to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Grpc,
    Http,
}

/// What came of asking.
#[derive(Debug)]
pub enum Outcome {
    /// IDs.
    Given { spans: Vec<Span>, tier: String },
    /// The server said no, and perhaps when to ask again.
    Refused { reason: String, retry_after: Option<Duration> },
    /// Nobody said anything: IDs may have been given and are lost.
    Lost(String),
}

/// Keeps its connection between requests.
pub struct Caller {
    transport: Transport,
    port: u16,
    grpc: Option<AllocationServiceClient<Channel>>,
    http: Option<Connection>,
}

impl Caller {
    pub fn new(transport: Transport, port: u16) -> Caller {
        Caller { transport, port, grpc: None, http: None }
    }

    /// Gives the connection up; the next request opens another.
    pub fn hang_up(&mut self) {
        (self.grpc, self.http) = (None, None);
    }

    /// Asks once.
    pub async fn ask(&mut self, sequence: &str, count: u32, deadline: Duration) -> Outcome {
        match self.transport {
            Transport::Grpc => self.ask_grpc(sequence, count, deadline).await,
            Transport::Http => match self.ask_http(sequence, count).await {
                Ok(answer) => read(&answer),
                Err(error) => Outcome::Lost(error.to_string()),
            },
        }
    }

    async fn ask_grpc(&mut self, sequence: &str, count: u32, deadline: Duration) -> Outcome {
        let mut request = tonic::Request::new(AllocateRequest { sequence: sequence.to_owned(), count });
        request.set_timeout(deadline);
        if self.grpc.is_none() {
            let endpoint =
                Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port)).expect("a valid address");
            match endpoint.connect().await {
                Ok(channel) => self.grpc = Some(AllocationServiceClient::new(channel)),
                Err(error) => return Outcome::Lost(error.to_string()),
            }
        }
        let client = self.grpc.as_mut().expect("just connected");
        match client.allocate(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let spans = answer.ranges.iter().map(|range| span(range.first, range.count)).collect();
                let tier = Tier::try_from(answer.tier).unwrap_or(Tier::Unspecified);
                Outcome::Given { spans, tier: tier.as_str_name().to_owned() }
            }
            Err(status) => match status.get_details_error_info() {
                Some(info) => {
                    let retry_after = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
                    Outcome::Refused { reason: info.reason, retry_after }
                }
                None => Outcome::Lost(format!("{}: {}", status.code(), status.message())),
            },
        }
    }

    async fn ask_http(&mut self, sequence: &str, count: u32) -> Result<Answer, super::http::Error> {
        if self.http.is_none() {
            self.http = Some(Connection::open(self.port).await?);
        }
        let connection = self.http.as_mut().expect("just connected");
        let body = format!("{{\"count\":{count}}}");
        connection.send(Method::POST, &format!("/v1/sequences/{sequence}/ids"), body).await
    }
}

#[track_caller]
fn span(first: i64, count: i64) -> Span {
    Span::new(first, count).unwrap_or_else(|| panic!("not a range: first {first}, count {count}"))
}

fn read(answer: &Answer) -> Outcome {
    let body = String::from_utf8_lossy(&answer.body);
    let Ok(json) = serde_json::from_str::<Value>(&body) else {
        return Outcome::Lost(format!("{}: {body}", answer.status));
    };
    if answer.status.is_success() {
        let number = |range: &Value, key: &str| range[key].as_str().and_then(|text| text.parse().ok());
        let ranges = json["ranges"].as_array().cloned().unwrap_or_default();
        let read =
            |range: &Value| span(number(range, "first").unwrap_or(0), number(range, "count").unwrap_or(0));
        let tier = json["tier"].as_str().unwrap_or_default().to_owned();
        return Outcome::Given { spans: ranges.iter().map(read).collect(), tier };
    }
    let error = &json["error"];
    let seconds = error["retryAfter"].as_str().and_then(|text| text.strip_suffix('s')?.parse().ok());
    let reason = error["reason"].as_str().unwrap_or("NO_REASON").to_owned();
    Outcome::Refused { reason, retry_after: seconds.map(Duration::from_secs_f64) }
}
