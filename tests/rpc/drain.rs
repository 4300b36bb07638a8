//! How connections end: at the end of the process, and at their age.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use blockhouse::shutdown::Phase;
use blockhouse_client::v1::allocate_stream_response::Result as Outcome;
use tonic::{Code, Status};

use crate::stream::Talk;
use crate::wire::{PATIENCE, Server, until};
use crate::{client, request, status};

/// What a stream that the server ends is ended with.
async fn last_word(talk: &mut Talk) -> Status {
    let last = tokio::time::timeout(PATIENCE, talk.answers.message()).await.expect("an end in time");
    let end = last.expect_err("an end");
    assert_eq!((end.code(), status::reason(&end).as_str()), (Code::Unavailable, "DRAINING"));
    end
}

#[tokio::test]
async fn a_drain_serves_on_until_it_closes() {
    let server = Server::start();
    server.enter(Phase::Draining);
    let mut client = client(&server.url()).await;
    client.allocate(request("tasks", 1)).await.unwrap();
}

#[tokio::test]
async fn what_is_in_flight_at_the_end_is_answered() {
    let server = Server::start();
    let mut client = client(&server.url()).await;
    let call = tokio::spawn(async move { client.allocate(request("held", 3)).await });
    until("the request has arrived", || server.counter.waiting() == 1).await;
    server.enter(Phase::Closing);
    until("nobody new gets in", || TcpStream::connect(server.address()).is_err()).await;
    server.counter.release();
    let answer = call.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.ranges[0].count, 3);
    assert!(server.stop() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_stream_is_answered_what_was_read_and_ended_within_a_second() {
    let server = Server::start();
    let mut talk = Talk::open(&server).await;
    talk.ask(1, "held", 1).await;
    talk.ask(2, "held", 1).await;
    until("both are in flight", || server.counter.waiting() == 2).await;
    let began = Instant::now();
    server.enter(Phase::Closing);
    server.counter.release();
    let mut answered = [talk.answer().await.correlation_id, talk.answer().await.correlation_id];
    answered.sort();
    assert_eq!(answered, [1, 2]);
    last_word(&mut talk).await;
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn what_a_closing_stream_cannot_answer_in_time_is_refused() {
    let server = Server::start();
    let mut talk = Talk::open(&server).await;
    talk.ask(1, "held", 1).await;
    until("it is in flight", || server.counter.waiting() == 1).await;
    let began = Instant::now();
    server.enter(Phase::Closing);
    let answer = talk.answer().await;
    let Some(Outcome::Error(error)) = answer.result else { panic!("{answer:?}") };
    assert_eq!((answer.correlation_id, error.code, error.reason.as_str()), (1, 14, "DRAINING"));
    last_word(&mut talk).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn idle_silent_and_half_open_connections_hold_no_drain_up() {
    let server = Server::start();
    let mut idle = client(&server.url()).await;
    idle.allocate(request("tasks", 1)).await.unwrap();
    let silent = TcpStream::connect(server.address()).unwrap();
    // An HTTP/2 client that has died in the midst of its preface, and one that never reads or answers again.
    let mut partial = TcpStream::connect(server.address()).unwrap();
    std::io::Write::write_all(&mut partial, b"PRI * HT").unwrap();
    let mut dead = TcpStream::connect(server.address()).unwrap();
    std::io::Write::write_all(&mut dead, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    // The server's own SETTINGS: it has begun to serve this one.
    dead.read_exact(&mut [0; 9]).unwrap();
    let took = server.stop();
    assert!(took < Duration::from_secs(2), "{took:?}");
    drop((silent, partial, dead));
}

#[tokio::test]
async fn an_aged_connection_ends_its_streams_and_its_client_goes_on() {
    let server = Server::with(|grpc| grpc.max_connection_age = Duration::from_millis(200));
    let mut client = client(&server.url()).await;
    let mut talk = Talk::open(&server).await;
    talk.ask(1, "tasks", 1).await;
    talk.answer().await;
    last_word(&mut talk).await;
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline {
        // tonic gives up a request that it hadn't sent yet when the connection closed.
        if client.allocate(request("tasks", 1)).await.is_err() {
            client.allocate(request("tasks", 1)).await.expect("a new connection");
        }
    }
}
