//! A network between a client and a server that fails as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything goes through.
    Pass,
    /// What the server sends is lost for good; what the client sends goes through.
    DropReplies,
    /// Nothing goes through, and no end is told: it waits for another mode.
    Blackhole,
    /// Connections are reset, new ones too.
    Reset,
    /// What the server sends comes so much later.
    Latency(Duration),
}

/// A TCP proxy on a thread of its own.
pub struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
    servers: watch::Sender<Vec<SocketAddr>>,
    counts: Arc<Counts>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    sent_bytes: AtomicU64,
    dropped_bytes: AtomicU64,
    arrivals: Mutex<Vec<Instant>>,
}

impl Proxy {
    /// To a port of this machine, in [`Mode::Pass`].
    pub fn to(port: u16) -> Proxy {
        let (mode, modes) = watch::channel(Mode::Pass);
        let (servers, behind) = watch::channel(addresses(&[port]));
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, bound) = std::sync::mpsc::channel();
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                ready.send(listener.local_addr().expect("bound").port()).expect("the test waits");
                tokio::select! {
                    biased;
                    _ = stopped => {}
                    () = accept(listener, behind, modes, shared) => {}
                }
            });
        });
        let port = bound.recv().expect("the proxy binds");
        Proxy { port, mode, servers, counts, stop: Some(stop), thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, for all connections.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// New connections lead to these ports from now on, one after the other.
    pub fn lead_to(&self, ports: &[u16]) {
        self.servers.send_replace(addresses(ports));
    }

    /// Accepted so far.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// How long after the one before each of them came.
    pub fn gaps(&self) -> Vec<Duration> {
        let arrivals = self.counts.arrivals.lock().expect("no holder panics");
        arrivals.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Passed on to the server so far.
    pub fn sent_bytes(&self) -> u64 {
        self.counts.sent_bytes.load(Ordering::Relaxed)
    }

    /// Of the server's answers, lost so far.
    pub fn dropped_bytes(&self) -> u64 {
        self.counts.dropped_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn addresses(ports: &[u16]) -> Vec<SocketAddr> {
    ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect()
}

async fn accept(
    listener: TcpListener,
    servers: watch::Receiver<Vec<SocketAddr>>,
    modes: watch::Receiver<Mode>,
    counts: Arc<Counts>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let nth = counts.connections.fetch_add(1, Ordering::Relaxed) as usize;
        let server = {
            let servers = servers.borrow();
            servers[nth % servers.len()]
        };
        counts.arrivals.lock().expect("no holder panics").push(Instant::now());
        tokio::spawn(connection(client, server, modes.clone(), counts.clone()));
    }
}

async fn connection(
    client: TcpStream,
    server: SocketAddr,
    mut modes: watch::Receiver<Mode>,
    counts: Arc<Counts>,
) {
    client.set_zero_linger().expect("a socket option");
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (up, down) = (modes.clone(), modes.clone());
    tokio::select! {
        biased;
        _ = modes.wait_for(|mode| *mode == Mode::Reset) => {}
        () = pump(from_client, to_server, up, &counts, false) => {}
        () = pump(from_server, to_client, down, &counts, true) => {}
    }
}

/// Both ends are dropped when it returns.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    counts: &Counts,
    replies: bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        // Not even an end gets through a black hole.
        let Ok(mode) = modes.wait_for(|mode| *mode != Mode::Blackhole).await.map(|mode| *mode) else {
            return;
        };
        let Ok(count @ 1..) = read else { return };
        match mode {
            Mode::DropReplies if replies => {
                counts.dropped_bytes.fetch_add(count as u64, Ordering::Relaxed);
                continue;
            }
            Mode::Latency(latency) if replies => tokio::time::sleep(latency).await,
            _ => {}
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        if !replies {
            counts.sent_bytes.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}
