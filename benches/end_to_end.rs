//! blockhouse against a bare tonic server of the same messages and as many threads, in turns within one run, by the same client. The
//! bare one shares its threads between all connections, as tonic does by itself; blockhouse gives each worker its own.
//!
//! `cargo bench --bench end_to_end`. Prints requests a second and latencies of both, their ratio, and the resident memory after a
//! million IDs. Bounded to about half a minute.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails fails")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use blockhouse_client::v1::allocation_service_client::AllocationServiceClient;
use blockhouse_client::v1::allocation_service_server::{AllocationService, AllocationServiceServer};
use blockhouse_client::v1::{
    AllocateRequest, AllocateResponse, AllocateStreamRequest, AllocateStreamResponse, IdRange, Tier,
};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 8;
const IN_FLIGHT: usize = 16;

/// What any gRPC server costs: answers from a counter.
struct Bare(AtomicI64);

#[tonic::async_trait]
impl AllocationService for Bare {
    type AllocateStreamStream = tokio_stream::Pending<Result<AllocateStreamResponse, Status>>;

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let count = i64::from(request.get_ref().count);
        let first = self.0.fetch_add(count, Ordering::Relaxed);
        let ranges = vec![IdRange { first, count }];
        Ok(Response::new(AllocateResponse { ranges, tier: Tier::Memory.into() }))
    }

    async fn allocate_stream(
        &self,
        _: Request<Streaming<AllocateStreamRequest>>,
    ) -> Result<Response<Self::AllocateStreamStream>, Status> {
        Err(Status::unimplemented("not compared here"))
    }
}

fn main() {
    if std::env::args().any(|argument| argument == "--bare") {
        return serve_bare();
    }
    let smoke = std::env::args().any(|argument| argument == "--test");
    let (rounds, round) = if smoke { (1, Duration::from_millis(100)) } else { (ROUNDS, ROUND) };
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let blockhouse = start_blockhouse(ports[0], ports[1]);
    let _bare = Guard(
        Command::new(std::env::current_exe().unwrap())
            .args(["--bare", &ports[2].to_string()])
            .spawn()
            .unwrap(),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        connected(ports[2]).await;
        println!("{:<12} {:>12} {:>10} {:>10}", "", "requests/s", "p50 µs", "p99 µs");
        let mut ratios = Vec::new();
        for number in 0..rounds {
            // Who goes first changes, so that neither always meets a machine that has just been busy.
            let (ours, theirs) = if number % 2 == 0 {
                let ours = load(ports[0], round).await;
                (ours, load(ports[2], round).await)
            } else {
                let theirs = load(ports[2], round).await;
                (load(ports[0], round).await, theirs)
            };
            ours.print("blockhouse");
            theirs.print("bare tonic");
            ratios.push(ours.per_second / theirs.per_second);
        }
        ratios.sort_by(f64::total_cmp);
        println!("blockhouse / bare: {:.2} (median of {rounds} rounds)", ratios[ratios.len() / 2]);
        let mut client = AllocationServiceClient::new(connected(ports[0]).await);
        for _ in 0..1_000 {
            client.allocate(AllocateRequest { sequence: "default".into(), count: 1_000 }).await.unwrap();
        }
    });
    println!("resident after more than a million IDs: {:.1} MB", resident_mb(blockhouse.0.id()));
}

struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn serve_bare() {
    let port: u16 = std::env::args().nth(2).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let service = AllocationServiceServer::new(Bare(AtomicI64::new(1)));
    runtime.block_on(Server::builder().add_service(service).serve(([127, 0, 0, 1], port).into())).unwrap();
}

fn start_blockhouse(port: u16, admin: u16) -> Guard {
    let child = Command::new(env!("CARGO_BIN_EXE_blockhouse"))
        .args(["dev", "--data", ":memory:", "--set", "exercise.ratio=0", "--set", "grpc.workers=2"])
        .args([
            "--set",
            &format!("grpc.listen=127.0.0.1:{port}"),
            "--set",
            &format!("admin.listen=127.0.0.1:{admin}"),
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let guard = Guard(child);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_ready(admin) {
        assert!(Instant::now() < deadline, "never ready");
        std::thread::sleep(Duration::from_micros(500));
    }
    guard
}

fn is_ready(admin: u16) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", admin)) else { return false };
    let mut answer = [0; 12];
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer.ends_with(b"200")
}

async fn connected(port: u16) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match endpoint.connect().await {
            Ok(channel) => return channel,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Figures {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

impl Figures {
    fn print(&self, name: &str) {
        println!(
            "{name:<12} {:>12.0} {:>10} {:>10}",
            self.per_second,
            self.p50.as_micros(),
            self.p99.as_micros()
        );
    }
}

async fn load(port: u16, round: Duration) -> Figures {
    let began = Instant::now();
    let mut callers = Vec::new();
    for _ in 0..CONNECTIONS {
        let channel = connected(port).await;
        for _ in 0..IN_FLIGHT {
            let mut client = AllocationServiceClient::new(channel.clone());
            callers.push(tokio::spawn(async move {
                let mut took = Vec::new();
                while began.elapsed() < round {
                    let sent = Instant::now();
                    client.allocate(AllocateRequest { sequence: "default".into(), count: 1 }).await.unwrap();
                    took.push(sent.elapsed());
                }
                took
            }));
        }
    }
    let mut took = Vec::new();
    for caller in callers {
        took.extend(caller.await.unwrap());
    }
    let elapsed = began.elapsed();
    took.sort_unstable();
    Figures {
        per_second: took.len() as f64 / elapsed.as_secs_f64(),
        p50: took[took.len() / 2],
        p99: took[took.len() * 99 / 100],
    }
}

fn resident_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: 0 kB");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
