//! The wire as clients see it: real sockets on loopback, an allocator that hands out from a counter.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "../wire/mod.rs"]
mod wire;

mod connections;
mod drain;
mod frames;
mod health;
mod http;
mod records;
mod sockets;
mod status;
mod stream;
mod unary;

use std::time::Duration;

use ::http::{Request, Response};
use blockhouse_client::v1::allocation_service_client::AllocationServiceClient;
use blockhouse_client::v1::{AllocateRequest, AllocateStreamRequest};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};

/// A client with one connection of its own.
async fn client(url: &str) -> AllocationServiceClient<Channel> {
    AllocationServiceClient::new(channel(url).await)
}

async fn channel(url: &str) -> Channel {
    let endpoint = Endpoint::from_shared(url.to_owned()).unwrap().timeout(wire::PATIENCE);
    endpoint.connect().await.unwrap()
}

/// One request over HTTP/2, by a client that adds nothing of its own.
async fn call(server: &wire::Server, request: Request<Body>) -> Response<Incoming> {
    let stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    tokio::time::timeout(wire::PATIENCE, sender.send_request(request)).await.unwrap().unwrap()
}

fn request(sequence: &str, count: u32) -> AllocateRequest {
    AllocateRequest { sequence: sequence.to_owned(), count }
}

fn message(correlation_id: u64, sequence: &str, count: u32) -> AllocateStreamRequest {
    AllocateStreamRequest { correlation_id, sequence: sequence.to_owned(), count, timeout: None }
}

fn wire_duration(duration: Duration) -> prost_types::Duration {
    duration.try_into().unwrap()
}
