//! AllocateStream: many requests over one call, answered in the order they are ready.
//!
//! One task per stream reads, asks and answers. It runs apart from the response's body, so that requests go on to their
//! deadlines even if the client stops reading: a stalled client holds answers, at most `grpc.max_stream_in_flight`, never
//! a place in admission. What one wake-up makes ready is written in one piece.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use blockhouse_client::v1::allocate_stream_response::Result as Outcome;
use blockhouse_client::v1::{AllocateError, AllocateStreamRequest, AllocateStreamResponse};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt as _};
use http::HeaderMap;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout_at};
use tonic::{Status, Streaming};

use super::Allocate;
use super::connection::{Ending, Token};
use super::desk::{Asked, Counted, Desk, draining, late};
use super::{errors, service};
use crate::actor::Allocation;
use crate::observe::metrics::{Method, WorkerMetrics};

/// How long an ending stream waits for answers to what it has read; the contract gives it a second in all.
const LAST_ANSWERS: Duration = Duration::from_millis(800);

/// One answer on its way out. Its IDs are issued when the transport takes it (S2).
struct Answer {
    correlation_id: u64,
    outcome: Result<Allocation, AllocateError>,
}

/// A place among the stream's requests in flight, held from before a request is read until its answer is taken.
type Place<'a> = mpsc::Permit<'a, Result<Answer, Status>>;

/// The response's body.
pub struct Answers {
    ready: mpsc::Receiver<Result<Answer, Status>>,
}

/// Begins to serve a stream, on the present thread. `token` is kept to its end.
pub fn open<A: Allocate>(
    desk: Arc<Desk<A>>,
    token: Token,
    ending: Ending,
    headers: HeaderMap,
    requests: Streaming<AllocateStreamRequest>,
) -> Answers {
    let (answers, ready) = mpsc::channel(desk.max_stream_in_flight());
    tokio::task::spawn_local(async move {
        let _open = (token, Counted::new(desk.metrics(), WorkerMetrics::streams));
        let conversation = Conversation { desk: &desk, headers: &headers, answers: &answers, ending };
        tokio::select! {
            biased;
            // The client or the connection is gone: what isn't answered goes back to memory.
            () = answers.closed() => {}
            () = conversation.run(requests) => {}
        }
    });
    Answers { ready }
}

/// What the stream's task works with.
struct Conversation<'a, A> {
    desk: &'a Desk<A>,
    headers: &'a HeaderMap,
    answers: &'a mpsc::Sender<Result<Answer, Status>>,
    ending: Ending,
}

impl<'a, A: Allocate> Conversation<'a, A> {
    async fn run(&self, mut requests: Streaming<AllocateStreamRequest>) {
        let mut in_flight = FuturesUnordered::new();
        let end = self.converse(&mut requests, &mut in_flight).await;
        self.finish(in_flight).await;
        if let Err(status) = end {
            // Fails only if nobody listens any more.
            let _ = self.answers.send(Err(status)).await;
        }
    }

    /// Reads and answers until the client half-closes (`Ok`), or the stream must end.
    async fn converse(
        &self,
        requests: &mut Streaming<AllocateStreamRequest>,
        in_flight: &mut FuturesUnordered<InFlight<'a>>,
    ) -> Result<(), Status> {
        let mut ending = self.ending.clone();
        let mut ended = pin!(ending.reached());
        loop {
            tokio::select! {
                biased;
                Some(()) = in_flight.next() => {}
                () = &mut ended => return Err(self.draining_status()),
                next = self.read(requests) => match next? {
                    Some((place, request)) => in_flight.push(self.ask(place, request)),
                    None => return Ok(()),
                },
            }
        }
    }

    /// The next request, once there is a place for it: beyond `grpc.max_stream_in_flight` nothing is read, and flow
    /// control holds the client back. Cancel safe.
    async fn read(
        &self,
        requests: &mut Streaming<AllocateStreamRequest>,
    ) -> Result<Option<(Place<'a>, AllocateStreamRequest)>, Status> {
        let Ok(place) = self.answers.reserve().await else { return Ok(None) };
        let request = requests.message().await.map_err(errors::unreadable)?;
        Ok(request.map(|request| (place, request)))
    }

    fn ask(&self, place: Place<'a>, request: AllocateStreamRequest) -> InFlight<'a> {
        let (desk, headers) = (self.desk, self.headers);
        let AllocateStreamRequest { correlation_id, sequence, count, timeout } = request;
        let timeout = timeout.map(|timeout| Duration::try_from(timeout).unwrap_or(Duration::ZERO));
        let deadline = desk.deadline(timeout);
        let work = Box::pin(async move {
            let visit = desk.open(Method::AllocateStream, deadline);
            let taken = timeout_at(deadline, visit.take(&sequence, count)).await;
            let asked = Asked { sequence: &sequence, count, headers };
            match taken.unwrap_or_else(|_| Err(late())) {
                Ok(allocation) => {
                    visit.allocated(asked);
                    Ok(allocation)
                }
                Err(refusal) => {
                    let wait = visit.refused(asked, &refusal);
                    Err(errors::stream_error(&refusal, wait))
                }
            }
        });
        InFlight { correlation_id, place: Some(place), work }
    }

    /// Answers everything that was read: each request within its deadline, and all within a moment once the connection
    /// is ending.
    async fn finish(&self, mut in_flight: FuturesUnordered<InFlight<'a>>) {
        let mut ending = self.ending.clone();
        let cut = async {
            ending.reached().await;
            sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            biased;
            () = async { while in_flight.next().await.is_some() {} } => return,
            () = cut => {}
        }
        for request in in_flight.iter_mut() {
            let refusal = draining();
            let wait = self.desk.draw_wait(&refusal);
            request.answer(Err(errors::stream_error(&refusal, wait)));
        }
    }

    fn draining_status(&self) -> Status {
        let refusal = draining();
        errors::status(&refusal, self.desk.draw_wait(&refusal))
    }
}

/// One request in flight. Ready once it is answered.
struct InFlight<'a> {
    correlation_id: u64,
    /// Given up with the answer.
    place: Option<Place<'a>>,
    work: LocalBoxFuture<'a, Result<Allocation, AllocateError>>,
}

impl InFlight<'_> {
    fn answer(&mut self, outcome: Result<Allocation, AllocateError>) {
        if let Some(place) = self.place.take() {
            place.send(Ok(Answer { correlation_id: self.correlation_id, outcome }));
        }
    }
}

impl Future for InFlight<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let outcome = ready!(self.work.as_mut().poll(cx));
        self.answer(outcome);
        Poll::Ready(())
    }
}

impl Stream for Answers {
    type Item = Result<AllocateStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(cx).map(|ready| ready.map(|answer| answer.map(Answer::issue)))
    }
}

impl Answer {
    /// S2, the point of no return: the transport asks for it. hyper takes one piece, then waits until the client's window
    /// has room for it.
    fn issue(self) -> AllocateStreamResponse {
        let result = match self.outcome {
            Ok(allocation) => Outcome::Allocated(service::answer(&allocation.issue())),
            Err(error) => Outcome::Error(error),
        };
        AllocateStreamResponse { correlation_id: self.correlation_id, result: Some(result) }
    }
}
