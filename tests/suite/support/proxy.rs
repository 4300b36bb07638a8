//! A network between a client and a server that fails as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::toxics::{Toxic, Toxics, Way, carry, until};

/// The usual faults; [`Proxy::poison`] gives more of them.
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

impl From<Mode> for Toxics {
    fn from(mode: Mode) -> Toxics {
        let (up, down) = match mode {
            Mode::Pass => (None, None),
            Mode::Blackhole => (Some(Toxic::Blackhole), Some(Toxic::Blackhole)),
            Mode::Reset => (Some(Toxic::Reset), Some(Toxic::Reset)),
            Mode::DropReplies => (None, Some(Toxic::Drop)),
            Mode::Latency(latency) => (None, Some(Toxic::Latency(latency))),
        };
        let mut toxics = Toxics::default();
        up.into_iter().for_each(|toxic| toxics.add(Way::Up, toxic));
        down.into_iter().for_each(|toxic| toxics.add(Way::Down, toxic));
        toxics
    }
}

/// A TCP proxy on a thread of its own.
pub struct Proxy {
    port: u16,
    toxics: watch::Sender<Toxics>,
    servers: watch::Sender<Vec<SocketAddr>>,
    counts: Arc<Counts>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What happened on a line so far.
#[derive(Default)]
pub struct Counts {
    connections: AtomicU64,
    sent_bytes: AtomicU64,
    dropped_bytes: AtomicU64,
    touched: AtomicU64,
    arrivals: Mutex<Vec<Instant>>,
}

impl Counts {
    /// A toxic had an effect.
    pub fn touch(&self) {
        self.touched.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes got through.
    pub fn passed(&self, way: Way, bytes: usize) {
        if way == Way::Up {
            self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Bytes were lost.
    pub fn lost(&self, way: Way, bytes: usize) {
        if way == Way::Down {
            self.dropped_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

impl Proxy {
    /// To a port of this machine, in [`Mode::Pass`].
    pub fn to(port: u16) -> Proxy {
        let (toxics, lying) = watch::channel(Toxics::default());
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
                    () = accept(listener, behind, lying, shared) => {}
                }
            });
        });
        let port = bound.recv().expect("the proxy binds");
        Proxy { port, toxics, servers, counts, stop: Some(stop), thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, for all connections.
    pub fn set(&self, mode: Mode) {
        self.toxics.send_replace(mode.into());
    }

    /// One more toxic lies on the line, for all connections.
    pub fn poison(&self, way: Way, toxic: Toxic) {
        self.toxics.send_modify(|toxics| toxics.add(way, toxic));
    }

    /// One of these toxics is taken away.
    pub fn heal(&self, way: Way, toxic: Toxic) {
        self.toxics.send_modify(|toxics| toxics.remove(way, toxic));
    }

    /// Whether nothing lies on the line.
    pub fn is_clean(&self) -> bool {
        *self.toxics.borrow() == Toxics::default()
    }

    /// How often a toxic had an effect so far: on a piece of data, or on a connection.
    pub fn touched(&self) -> u64 {
        self.counts.touched.load(Ordering::Relaxed)
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
    toxics: watch::Receiver<Toxics>,
    counts: Arc<Counts>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let nth = counts.connections.fetch_add(1, Ordering::Relaxed) as usize;
        let server = {
            let servers = servers.borrow();
            servers[nth % servers.len()]
        };
        counts.arrivals.lock().expect("no holder panics").push(Instant::now());
        tokio::spawn(connection(client, server, toxics.clone(), counts.clone()));
    }
}

async fn connection(
    client: TcpStream,
    server: SocketAddr,
    mut toxics: watch::Receiver<Toxics>,
    counts: Arc<Counts>,
) {
    client.set_zero_linger().expect("a socket option");
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (up, down) = (toxics.clone(), toxics.clone());
    tokio::select! {
        biased;
        () = until(&mut toxics, Toxics::cuts) => counts.touch(),
        () = carry(from_client, to_server, up, Way::Up, &counts) => {}
        () = carry(from_server, to_client, down, Way::Down, &counts) => {}
    }
}
