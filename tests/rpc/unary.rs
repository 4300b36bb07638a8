//! Allocate.

use std::collections::BTreeSet;
use std::time::Duration;

use blockhouse_client::v1::Tier;
use http::{HeaderValue, Request};
use http_body_util::StreamBody;
use prost::Message as _;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::wire::{Server, until};
use crate::{call, client, request};

#[tokio::test]
async fn every_caller_gets_ids_of_its_own() {
    let server = Server::start();
    let mut first = client(&server.url()).await;
    let mut second = client(&server.url()).await;
    let mut seen = BTreeSet::new();
    for count in [1, 3, 1000, 7] {
        for client in [&mut first, &mut second] {
            let answer = client.allocate(request("tasks", count)).await.unwrap().into_inner();
            assert_eq!(answer.tier(), Tier::Pods);
            assert_eq!(answer.ranges.iter().map(|range| range.count).sum::<i64>(), i64::from(count));
            for range in answer.ranges {
                assert!((range.first..range.first + range.count).all(|id| seen.insert(id)));
            }
        }
    }
}

#[tokio::test]
async fn a_callers_deadline_is_kept() {
    let server = Server::start();
    let status = patient(&server, "held", "60m").await;
    assert_eq!(
        (status.code(), crate::status::reason(&status).as_str()),
        (Code::DeadlineExceeded, "DEADLINE")
    );
    until("the allocator is left alone", || server.counter.waiting() == 0).await;
}

#[tokio::test]
async fn without_a_deadline_the_servers_limit_holds() {
    let server = Server::with(|grpc| grpc.request_timeout = Duration::from_millis(80));
    assert_eq!(patient(&server, "held", "1H").await.code(), Code::DeadlineExceeded);
    let status = client(&server.url()).await.allocate(request("held", 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_deadline_that_has_passed_takes_no_ids() {
    let server = Server::start();
    assert_eq!(patient(&server, "tasks", "0n").await.code(), Code::DeadlineExceeded);
    assert_eq!(server.counter.asked(), 0);
}

/// What a caller with a `grpc-timeout` is told, who doesn't look at the clock.
async fn patient(server: &Server, sequence: &str, timeout: &'static str) -> Status {
    let mut message = vec![0; 5];
    request(sequence, 1).encode(&mut message).unwrap();
    message[4] = u8::try_from(message.len() - 5).unwrap();
    let mut request = grpc_request(Body::new(http_body_util::Full::new(message.into())));
    request.headers_mut().insert("grpc-timeout", HeaderValue::from_static(timeout));
    Status::from_header_map(call(server, request).await.headers()).expect("trailers only")
}

#[tokio::test]
async fn a_cancelled_caller_leaves_the_allocator_alone() {
    let server = Server::start();
    let mut client = client(&server.url()).await;
    let call = tokio::spawn(async move { client.allocate(request("held", 5)).await });
    until("the request has arrived", || server.counter.waiting() == 1).await;
    call.abort();
    until("it is cancelled", || server.counter.waiting() == 0).await;
}

#[tokio::test]
async fn a_message_that_never_comes_is_waited_for_no_longer_than_any_other() {
    let server = Server::with(|grpc| grpc.request_timeout = Duration::from_millis(80));
    let silent = StreamBody::new(tokio_stream::pending::<Result<hyper::body::Frame<bytes::Bytes>, Status>>());
    let response = call(&server, grpc_request(Body::new(silent))).await;
    assert_eq!(Status::from_header_map(response.headers()).unwrap().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_message_beyond_all_measure_is_refused_and_harms_nobody() {
    let server = Server::start();
    let mut client = client(&server.url()).await;
    let status = client.allocate(request(&"x".repeat(100_000), 1)).await.unwrap_err();
    assert_eq!(
        (status.code(), crate::status::reason(&status).as_str()),
        (Code::InvalidArgument, "SEQUENCE_NAME_INVALID")
    );
    client.allocate(request("tasks", 1)).await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_none_is_refused_and_harms_nobody() {
    let server = Server::start();
    let garbage: &[u8] = b"\0\0\0\0\x05\xff\xff\xff\xff\xff";
    let response = call(&server, grpc_request(Body::new(http_body_util::Full::new(garbage.into())))).await;
    assert_eq!(Status::from_header_map(response.headers()).unwrap().code(), Code::Internal);
    client(&server.url()).await.allocate(request("tasks", 1)).await.unwrap();
}

#[tokio::test]
async fn an_unknown_service_is_unimplemented() {
    let server = Server::start();
    let mut request = grpc_request(Body::empty());
    *request.uri_mut() = "/blockhouse.v9.Nothing/Do".parse().unwrap();
    let response = call(&server, request).await;
    assert_eq!(Status::from_header_map(response.headers()).unwrap().code(), Code::Unimplemented);
}

fn grpc_request(body: Body) -> Request<Body> {
    let mut request = Request::post("/blockhouse.v1.AllocationService/Allocate").body(body).unwrap();
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    request
}
