//! Health and reflection.

use blockhouse::rpc::health::NAMES;
use blockhouse::shutdown::Phase;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::channel;
use crate::wire::Server;

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_follows_the_phase_from_the_first_moment_of_a_drain() {
    let server = Server::start();
    let mut client = HealthClient::new(channel(&server.url()).await);
    for (phase, expected) in [
        (Phase::Starting, ServingStatus::NotServing),
        (Phase::Serving, ServingStatus::Serving),
        (Phase::Draining, ServingStatus::NotServing),
    ] {
        server.enter(phase);
        for name in NAMES {
            assert_eq!(client.check(about(name)).await.unwrap().into_inner().status(), expected);
        }
    }
    assert_eq!(client.check(about("nobody")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_watch_tells_of_every_change_and_ends_with_the_connection() {
    let server = Server::start();
    let mut client = HealthClient::new(channel(&server.url()).await);
    let mut watch = client.watch(about("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.enter(Phase::Draining);
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    server.enter(Phase::Closing);
    assert_eq!(watch.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_watch_of_an_unknown_service_says_so_and_stays_open() {
    let server = Server::start();
    let mut client = HealthClient::new(channel(&server.url()).await);
    let mut watch = client.watch(about("nobody")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    server.enter(Phase::Closing);
    assert_eq!(watch.message().await.unwrap(), None);
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let server = Server::start();
    let mut client = ServerReflectionClient::new(channel(&server.url()).await);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = client.server_reflection_info(tokio_stream::once(list)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let mut names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    let expected =
        ["blockhouse.v1.AllocationService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"];
    assert_eq!(names, expected);
}
