//! Every row of the contract's status table, through every door.

use std::time::Duration;

use blockhouse::block::{Reason, Refusal};
use blockhouse::rpc::errors::row;
use blockhouse_client::v1::allocate_stream_response::Result as Outcome;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::http::Page;
use crate::wire::Server;
use crate::{client, message, request};

/// What the service itself refuses has its own tests: these come from behind it.
fn refusals() -> Vec<Refusal> {
    let of =
        |reason: &Reason| Refusal::new(*reason, format!("because of {}", reason.name())).with("limit", 7);
    Reason::ALL.iter().map(of).collect()
}

pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has an ErrorInfo");
    assert_eq!(info.domain, "blockhouse");
    info.reason.clone()
}

/// What a status tells a client to wait, which its details and its trailer must agree on.
fn wait(status: &Status) -> Option<Duration> {
    let told = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    let pushback = pushback.map(|ms| Duration::from_millis(ms.to_str().unwrap().parse().unwrap()));
    assert_eq!(told, pushback);
    told
}

#[tokio::test]
async fn a_unary_call_fails_as_the_table_says() {
    let server = Server::start();
    let mut client = client(&server.url()).await;
    for refusal in refusals() {
        let name = refusal.reason.name();
        let expected = row(refusal.reason);
        server.counter.refuse(refusal.clone());
        let status = client.allocate(request("tasks", 1)).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (expected.code, name));
        assert_eq!(status.message(), refusal.message);
        assert_eq!(status.get_error_details().error_info().unwrap().metadata["limit"], "7");
        let Some(least) = expected.wait else {
            assert_eq!(wait(&status), None, "{name}");
            continue;
        };
        let wait = wait(&status).expect(name);
        assert!(wait >= least && wait <= least * 3 / 2, "{name}: {wait:?}");
    }
}

#[tokio::test]
async fn waits_are_as_long_as_the_refusal_says_and_spread() {
    let server = Server::start();
    let mut client = client(&server.url()).await;
    server.counter.refuse(Refusal::new(Reason::LedgerBusy, "busy").retry_after(Duration::from_millis(1000)));
    let mut waits = Vec::new();
    for _ in 0..50 {
        let status = client.allocate(request("tasks", 1)).await.unwrap_err();
        waits.push(wait(&status).unwrap().as_millis());
    }
    assert!(waits.iter().all(|wait| (1000..=1500).contains(wait)), "{waits:?}");
    assert!(waits.iter().min() < waits.iter().max());
}

#[tokio::test]
async fn one_message_of_a_stream_fails_as_a_call_would() {
    let server = Server::start();
    let mut client = client(&server.url()).await;
    let (requests, outgoing) = tokio::sync::mpsc::channel(1);
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let mut answers = client.allocate_stream(outgoing).await.unwrap().into_inner();
    for (correlation_id, refusal) in refusals().into_iter().enumerate() {
        let expected = row(refusal.reason);
        server.counter.refuse(refusal.clone());
        requests.send(message(correlation_id as u64, "tasks", 1)).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.correlation_id, correlation_id as u64);
        let Some(Outcome::Error(error)) = answer.result else { panic!("{answer:?}") };
        assert_eq!((error.code, error.reason.as_str()), (expected.code as i32, refusal.reason.name()));
        assert_eq!(error.message, refusal.message);
        assert_eq!(error.retry_after.is_some(), expected.wait.is_some());
    }
    server.counter.refuse(None);
    requests.send(message(99, "tasks", 1)).await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(matches!(answer.result, Some(Outcome::Allocated(_))), "errors end requests, not the stream");
}

#[tokio::test]
async fn http_fails_as_the_table_says() {
    let server = Server::start();
    for refusal in refusals() {
        let (name, expected) = (refusal.reason.name(), row(refusal.reason));
        server.counter.refuse(refusal.clone());
        let page = Page::post(&server, "/v1/sequences/tasks/ids", "");
        let error = &page.json()["error"];
        assert_eq!(page.status, expected.http.as_u16(), "{name}");
        assert_eq!(error["code"], expected.http.as_u16());
        assert_eq!((error["status"].as_str(), error["reason"].as_str()), (Some(expected.name), Some(name)));
        assert_eq!(error["message"].as_str(), Some(refusal.message.as_ref()));
        let after: Option<f64> = error["retryAfter"]
            .as_str()
            .map(|text| text.strip_suffix('s').expect("seconds").parse().unwrap());
        assert_eq!(after.is_some(), expected.wait.is_some(), "{name}");
        let header: Option<f64> = page.header("retry-after").map(|seconds| seconds.parse().unwrap());
        assert_eq!(header, after.map(f64::ceil), "{name}");
    }
}

#[tokio::test]
async fn counts_out_of_bounds_are_refused_with_the_bound() {
    let server = Server::with(|grpc| grpc.max_count = 500);
    let mut client = client(&server.url()).await;
    for count in [0, 501, u32::MAX] {
        let status = client.allocate(request("tasks", count)).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "COUNT_INVALID"));
        let info = status.get_error_details().error_info().unwrap().clone();
        assert_eq!(info.metadata["field"], "count");
        assert_eq!(info.metadata["value"], count.to_string());
        assert_eq!(info.metadata["limit"], "500");
    }
    client.allocate(request("tasks", 500)).await.unwrap();
    assert_eq!(server.counter.asked(), 1);
}

#[tokio::test]
async fn names_that_are_none_are_refused_before_anyone_is_asked() {
    let server = Server::start();
    let mut client = client(&server.url()).await;
    let long = "x".repeat(64);
    for name in ["", "Tasks", "9lives", "a b", "tasks\n", "täsks", long.as_str()] {
        let status = client.allocate(request(name, 1)).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "SEQUENCE_NAME_INVALID")
        );
        assert_eq!(status.get_error_details().error_info().unwrap().metadata["field"], "sequence");
    }
    assert_eq!(server.counter.asked(), 0);
}
