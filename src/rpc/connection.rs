//! One connection, from its first byte to its end.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Allocate;
use super::desk::Desk;
use super::route::{Reflection, Routes};
use super::socket::{Heard, Socket};
use crate::config::settings::Grpc;
use crate::shutdown::{Phase, Phases, reached};

/// How long a new connection may be silent, and how many bytes break the silence: HTTP/2's preface, and no more than
/// the shortest HTTP/1.1 request.
const SILENCE: (Duration, usize) = (Duration::from_secs(10), 24);

/// How long an HTTP/1.1 client may take for a request's head, or be idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The most bytes of a request's head.
const HEAD_MAX: u32 = 16 * 1024;

/// How long a peer may leave a ping unanswered.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Streams that the peer opened and reset before we looked at them ("rapid reset"). Clients that cancel a lot exceed
/// h2's own 20.
const PEER_RESETS: usize = 100;

/// Streams that we reset because of the peer's errors (RUSTSEC-2024-0003).
const OUR_RESETS: usize = 1024;

/// What a client may send before we read it: per stream a few hundred requests, per connection more than a burst.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What we hold for a client that doesn't read, per stream.
const UNSENT_MAX: usize = 64 * 1024;

/// What an ending connection without anything under way gets to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Says that a connection is about to end: what has no end of its own must come to one.
#[derive(Debug, Clone)]
pub struct Ending(watch::Receiver<bool>);

impl Ending {
    /// Waits for it. Cancel safe.
    pub async fn reached(&mut self) {
        // A connection that is gone has ended, too.
        let _ = self.0.wait_for(|ending| *ending).await;
    }
}

/// Counts what is under way on a connection.
#[derive(Debug, Clone, Default)]
pub struct Busy(Arc<AtomicUsize>);

/// One thing under way.
#[derive(Debug)]
pub struct Token(Busy);

impl Busy {
    /// One thing more, until the token is dropped.
    pub fn enter(&self) -> Token {
        self.0.fetch_add(1, Ordering::Relaxed);
        Token(self.clone())
    }

    fn is_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs a connection's requests on its own thread.
#[derive(Debug, Clone, Copy)]
pub struct SameThread;

impl<F> Executor<F> for SameThread
where
    F: Future + 'static,
{
    fn execute(&self, request: F) {
        tokio::task::spawn_local(request);
    }
}

/// How a worker speaks HTTP: both versions, with every limit set.
pub fn protocol(grpc: &Grpc) -> auto::Builder<SameThread> {
    let mut builder = auto::Builder::new(SameThread);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(grpc.max_streams)
        .max_pending_accept_reset_streams(PEER_RESETS)
        .max_local_error_reset_streams(OUR_RESETS)
        .max_header_list_size(HEAD_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(UNSENT_MAX)
        .keep_alive_interval(grpc.keepalive)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// What all connections of a worker have in common.
pub struct Shared<A> {
    /// The worker's desk.
    pub desk: Arc<Desk<A>>,
    /// Server reflection.
    pub reflection: Reflection,
    /// See [`protocol`].
    pub protocol: auto::Builder<SameThread>,
    /// Of the process.
    pub phases: Phases,
    /// `grpc.request_timeout`
    pub request_timeout: Duration,
}

/// Serves a connection until its peer leaves, it has reached `age`, or the process closes. An ending connection finishes
/// what is under way: each request within `grpc.request_timeout`, each stream within a second.
pub async fn serve<A: Allocate>(shared: &Shared<A>, socket: Socket, age: Duration) {
    let mut phases = shared.phases.clone();
    let (end, ending) = watch::channel(false);
    let busy = Busy::default();
    let heard = socket.heard();
    let routes = Routes::new(shared, busy.clone(), Ending(ending));
    let mut connection = pin!(shared.protocol.serve_connection(TokioIo::new(socket), routes));
    tokio::select! {
        biased;
        // An error is the peer's, or its network's: it has gone, and there is nobody to tell.
        _ = connection.as_mut() => return,
        () = reached(&mut phases, Phase::Closing) => {}
        () = sleep(age) => {}
        () = silence(heard) => return,
    }
    end.send_replace(true);
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        _ = connection => {}
        () = patience(busy, shared.request_timeout + GOODBYE) => {}
    }
}

/// Ends if the peer says nothing.
async fn silence(heard: Heard) {
    let (time, bytes) = SILENCE;
    sleep(time).await;
    if heard.bytes() >= bytes {
        std::future::pending().await
    }
}

/// Ends when an ending connection has had time enough: a moment if nobody waits for an answer, else `limit`.
async fn patience(busy: Busy, limit: Duration) {
    let last = Instant::now() + limit;
    loop {
        sleep(GOODBYE).await;
        if busy.is_idle() || Instant::now() >= last {
            return;
        }
    }
}
