//! AllocateStream.

use std::collections::BTreeSet;
use std::time::Duration;

use blockhouse_client::v1::allocate_stream_response::Result as Outcome;
use blockhouse_client::v1::{AllocateStreamRequest, AllocateStreamResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::wire::{PATIENCE, Server, until};
use crate::{client, message, wire_duration};

/// A stream's two ends. Requests wait in the channel until the connection takes them.
pub struct Talk {
    pub requests: mpsc::Sender<AllocateStreamRequest>,
    pub answers: Streaming<AllocateStreamResponse>,
}

impl Talk {
    pub async fn open(server: &Server) -> Talk {
        let (requests, outgoing) = mpsc::channel(10_000);
        let mut client = client(&server.url()).await;
        let answers = client.allocate_stream(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        Talk { requests, answers }
    }

    pub async fn ask(&self, correlation_id: u64, sequence: &str, count: u32) {
        self.requests.send(message(correlation_id, sequence, count)).await.unwrap();
    }

    pub async fn answer(&mut self) -> AllocateStreamResponse {
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("an answer in time");
        answer.unwrap().expect("an answer")
    }

    /// Half-closes and gives what else was answered.
    pub async fn end(mut self) -> Vec<AllocateStreamResponse> {
        drop(self.requests);
        let mut rest = Vec::new();
        while let Some(answer) = self.answers.message().await.expect("the stream ends OK") {
            rest.push(answer);
        }
        rest
    }
}

fn error_of(answer: &AllocateStreamResponse) -> (i32, &str) {
    match answer.result.as_ref().expect("a result") {
        Outcome::Error(error) => (error.code, error.reason.as_str()),
        Outcome::Allocated(ids) => panic!("{ids:?}"),
    }
}

#[tokio::test]
async fn a_stream_answers_every_request_and_ends_ok() {
    let server = Server::start();
    let talk = Talk::open(&server).await;
    for id in 0..5000 {
        talk.ask(id, "tasks", 1 + (id % 7) as u32).await;
    }
    let answers = talk.end().await;
    let mut correlations = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for answer in answers {
        assert!(correlations.insert(answer.correlation_id));
        let Some(Outcome::Allocated(allocated)) = answer.result else { panic!("refused") };
        let total: i64 = allocated.ranges.iter().map(|range| range.count).sum();
        assert_eq!(total, 1 + (answer.correlation_id % 7) as i64);
        assert!(
            allocated
                .ranges
                .iter()
                .flat_map(|range| range.first..range.first + range.count)
                .all(|id| ids.insert(id))
        );
    }
    assert_eq!(correlations.len(), 5000);
}

#[tokio::test]
async fn a_slow_request_holds_nobody_up() {
    let server = Server::start();
    let mut talk = Talk::open(&server).await;
    talk.ask(1, "held", 1).await;
    talk.ask(2, "tasks", 1).await;
    assert_eq!(talk.answer().await.correlation_id, 2);
    server.counter.release();
    assert_eq!(talk.answer().await.correlation_id, 1);
}

#[tokio::test]
async fn a_correlation_id_used_twice_is_answered_twice() {
    let server = Server::start();
    let talk = Talk::open(&server).await;
    talk.ask(7, "tasks", 1).await;
    talk.ask(7, "tasks", 1).await;
    let answers = talk.end().await;
    assert_eq!(answers.iter().map(|answer| answer.correlation_id).collect::<Vec<_>>(), [7, 7]);
    assert_ne!(answers[0].result, answers[1].result);
}

#[tokio::test]
async fn bad_requests_are_refused_one_by_one() {
    let server = Server::start();
    let mut talk = Talk::open(&server).await;
    talk.ask(1, "tasks", 0).await;
    assert_eq!(error_of(&talk.answer().await), (3, "COUNT_INVALID"));
    talk.ask(2, "No", 1).await;
    assert_eq!(error_of(&talk.answer().await), (3, "SEQUENCE_NAME_INVALID"));
    talk.ask(3, "tasks", 1).await;
    assert!(matches!(talk.answer().await.result, Some(Outcome::Allocated(_))));
}

#[tokio::test]
async fn each_request_has_its_own_deadline() {
    let server = Server::with(|grpc| grpc.request_timeout = Duration::from_millis(300));
    let mut talk = Talk::open(&server).await;
    talk.ask(1, "held", 1).await;
    let hurried = AllocateStreamRequest {
        timeout: Some(wire_duration(Duration::from_millis(50))),
        ..message(2, "held", 1)
    };
    talk.requests.send(hurried).await.unwrap();
    let backwards = prost_types::Duration { seconds: -1, nanos: 0 };
    talk.requests
        .send(AllocateStreamRequest { timeout: Some(backwards), ..message(3, "tasks", 1) })
        .await
        .unwrap();
    for expected in [3, 2, 1] {
        let answer = talk.answer().await;
        assert_eq!((answer.correlation_id, error_of(&answer)), (expected, (4, "DEADLINE")));
    }
}

#[tokio::test]
async fn beyond_its_bound_in_flight_a_stream_is_not_read() {
    let server = Server::with(|grpc| grpc.max_stream_in_flight = 4);
    let mut talk = Talk::open(&server).await;
    for id in 0..10 {
        talk.ask(id, "held", 1).await;
    }
    until("four are in flight", || server.counter.waiting() == 4).await;
    // Another stream on the same worker or not: it goes on.
    let mut other = Talk::open(&server).await;
    other.ask(99, "tasks", 1).await;
    other.answer().await;
    assert_eq!(server.counter.waiting(), 4);
    server.counter.release();
    let mut answered = BTreeSet::new();
    for _ in 0..10 {
        answered.insert(talk.answer().await.correlation_id);
    }
    assert_eq!(answered, (0..10).collect());
}

#[tokio::test]
async fn a_stream_cut_off_gives_its_ids_back_and_asks_no_more() {
    let server = Server::start();
    let talk = Talk::open(&server).await;
    for id in 0..100 {
        talk.ask(id, "held", 1).await;
    }
    until("all are in flight", || server.counter.waiting() == 100).await;
    drop(talk);
    until("all are cancelled", || server.counter.waiting() == 0).await;
}

#[tokio::test]
async fn an_oversized_message_ends_its_stream_after_the_answers_before_it() {
    let server = Server::start();
    let mut talk = Talk::open(&server).await;
    talk.ask(1, "tasks", 1).await;
    talk.ask(2, &"x".repeat(10_000), 1).await;
    assert_eq!(talk.answer().await.correlation_id, 1);
    let status = talk.answers.message().await.unwrap_err();
    assert_eq!(
        (status.code(), crate::status::reason(&status).as_str()),
        (Code::InvalidArgument, "SEQUENCE_NAME_INVALID")
    );
}
