//! One connection on virtual time: what the peers that never say goodbye cost.

use std::os::unix::net::UnixStream as Pair;
use std::sync::Arc;
use std::time::Duration;

use blockhouse::rpc::connection::{self, Shared};
use blockhouse::rpc::desk::Desk;
use blockhouse::rpc::route;
use blockhouse::rpc::socket::Accepted;
use blockhouse::shutdown::Phase;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::wire::{self, Counter};

/// An HTTP/2 client's preface, and empty SETTINGS.
const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// How long the server keeps a peer that sends this, and then nothing more, but reads to the end.
async fn patience_with(bytes: &[u8]) -> Duration {
    let (_phases, phases) = watch::channel(Phase::Serving);
    let (mut peer, socket) = pair();
    let shared = shared(phases);
    let bytes = bytes.to_vec();
    let peer = async move {
        peer.write_all(&bytes).await.unwrap();
        let _ = peer.read_to_end(&mut Vec::new()).await;
    };
    let began = Instant::now();
    let serve = connection::serve(&shared, socket.open().unwrap(), Duration::from_secs(1800));
    LocalSet::new().run_until(async { tokio::join!(peer, serve) }).await;
    began.elapsed()
}

fn pair() -> (UnixStream, Accepted) {
    let (peer, socket) = Pair::pair().unwrap();
    peer.set_nonblocking(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    (UnixStream::from_std(peer).unwrap(), Accepted::Unix(socket))
}

fn shared(phases: watch::Receiver<Phase>) -> Shared<Counter> {
    let grpc = wire::grpc();
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let rng = fastrand::Rng::with_seed(1);
    let desk = Desk::new(Counter::new(), &grpc, Duration::from_millis(50), wire::metrics(1), log, rng);
    Shared {
        desk: Arc::new(desk),
        reflection: route::reflection(),
        protocol: connection::protocol(&grpc),
        phases,
        request_timeout: grpc.request_timeout,
    }
}

fn about(seconds: u64, took: Duration) -> bool {
    took >= Duration::from_secs(seconds) && took < Duration::from_secs(seconds + 1)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_says_a_word_is_left_after_ten_seconds() {
    let took = patience_with(b"").await;
    assert!(about(10, took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn half_a_preface_is_not_a_word() {
    let took = patience_with(&HTTP_2[..20]).await;
    assert!(about(10, took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_left_after_thirty_seconds() {
    let took = patience_with(b"POST /v1/sequences/tasks/ids HTTP/1.1\r\nhost: x\r\n").await;
    assert!(about(30, took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_http_1_client_is_left_after_thirty_seconds() {
    let took =
        patience_with(b"POST /v1/sequences/tasks/ids HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    assert!(about(30, took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_http_2_peer_that_answers_no_ping_is_left_after_its_keepalive() {
    let took = patience_with(HTTP_2).await;
    assert!(about(50, took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn garbage_is_left_at_once() {
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client's hello"[..],
        b"\0\0\0\0\0",
        b"EHLO\r\n\r\n",
    ] {
        let took = patience_with(garbage).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}
