//! Accepts connections, and bounds what each may cost.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use slog::{Logger, warn};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_service::Service;

use super::listen::Stream;
use super::{Listener, Peer};

/// Open connections; more wait in the kernel's backlog until one ends, as every one does.
const MAX_CONNECTIONS: usize = 256;
/// From accepting a connection to its first whole request head. hyper bounds no wait for the HTTP/2 preface itself.
const FIRST_REQUEST: Duration = Duration::from_secs(5);
/// For a later request's head on HTTP/1.1; an idle connection ends by it.
const NEXT_REQUEST: Duration = Duration::from_secs(30);
/// A connection's life: also one whose peer doesn't read its answer ends some time.
const MAX_AGE: Duration = Duration::from_secs(600);
/// For answers under way once a connection is to end.
const GRACE: Duration = Duration::from_secs(1);
/// After a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves HTTP/1.1 and h2c until `until` completes, then ends within a second: idle connections at once, others when they are
/// answered. Let `until` be the last step of a stop, so that probes, metrics and status can be read while the rest of the process
/// closes.
///
/// # Cancel safety
/// Dropping the future closes every connection.
pub async fn serve(listener: Listener, router: Router, until: impl Future<Output = ()>, log: Logger) {
    let mut connections = JoinSet::new();
    let (end, ended) = watch::channel(());
    let mut until = pin!(until);
    loop {
        tokio::select! {
            biased;
            () = &mut until => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, router.clone(), ended.clone()));
                }
                Err(error) => {
                    warn!(log, "admin connection not accepted"; "error" => %error);
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop((listener, end));
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: Stream, peer: Peer, router: Router, ended: watch::Receiver<()>) {
    match stream {
        Stream::Tcp(stream) => exchange(stream, peer, router, ended).await,
        Stream::Unix(stream) => exchange(stream, peer, router, ended).await,
    }
}

/// Answers one connection's requests. Errors are the peer's business: it went away, or spoke something else.
async fn exchange<S>(stream: S, peer: Peer, router: Router, ended: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let answers = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        answer(request, peer, router.clone())
    });
    let http = http();
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), answers));
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = is_over(&asked, ended) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, connection).await;
}

async fn answer(
    mut request: Request<Incoming>,
    peer: Peer,
    mut router: Router,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(peer);
    router.call(request).await
}

/// Completes when a connection is to end: with the server, without a request, or of age.
async fn is_over(asked: &AtomicBool, mut ended: watch::Receiver<()>) {
    if timeout(FIRST_REQUEST, ended.changed()).await.is_err() && asked.load(Ordering::Relaxed) {
        let _ = timeout(MAX_AGE - FIRST_REQUEST, ended.changed()).await;
    }
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(NEXT_REQUEST).max_buf_size(16 * 1024);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(32)
        .max_header_list_size(16 * 1024)
        .max_local_error_reset_streams(1024)
        .keep_alive_interval(NEXT_REQUEST)
        .keep_alive_timeout(FIRST_REQUEST);
    http
}
