//! From exec to ready: embedded, and with PostgreSQL and three Redis pods; and the resident memory when ready.
//!
//! `cargo bench --bench start` (needs the servers that `tests/run` brings, on PATH). The three kinds take turns; each line is the median and
//! the range of [`STARTS`] starts.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails fails")]
#![allow(dead_code, reason = "the suite's servers can more than a start needs")]

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postgres::Postgres;
use redis::Redis;

#[path = "../tests/suite/support/postgres.rs"]
mod postgres;
#[path = "../tests/suite/support/redis.rs"]
mod redis;
#[path = "../tests/suite/support/wait.rs"]
mod wait;

const STARTS: usize = 11;
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that was just started.
struct Started {
    child: Child,
    admin: u16,
}

/// One line of the table.
struct Kind {
    name: &'static str,
    arguments: Vec<String>,
    millis: Vec<f64>,
    resident: Vec<f64>,
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--test");
    let postgres = Postgres::start();
    let pods: Vec<Redis> = (0..3).map(|_| Redis::pod()).collect();
    let urls: Vec<String> = pods.iter().map(Redis::url).collect();
    let servers =
        [set("ledger.url", &postgres.url()), set("redis.pods", &urls.join(",")), set("environment", "bench")]
            .concat();
    let with =
        |words: &[&str]| [words.iter().map(|word| (*word).to_owned()).collect(), servers.clone()].concat();
    run(&with(&["ledger", "migrate", "--yes"]));
    run(&with(&["sequence", "create", "tasks", "--yes"]));
    let mut kinds = [
        Kind::new(
            "embedded: dev, SQLite in memory",
            ["dev", "--data", ":memory:"].map(str::to_owned).to_vec(),
        ),
        Kind::new("allocator: PostgreSQL, pods that know nothing", with(&["serve", "--role", "allocator"])),
        Kind::new("allocator: PostgreSQL, pods that are filled", with(&["serve", "--role", "allocator"])),
    ];
    let [embedded, empty, filled] = &mut kinds;
    let starts = if smoke { 1 } else { STARTS };
    for _ in 0..starts {
        embedded.start();
        pods.iter().for_each(|pod| pod.run::<()>(&["FLUSHALL"]));
        empty.start();
        let hydrator = Started::new(&with(&["serve", "--role", "hydrator"]));
        hydrator.ready();
        for pod in &pods {
            redis::eventually("the pod is filled", || pod.keys("*:tasks:*").len() == 1);
        }
        filled.start();
    }
    println!("{:<48} {:>10} {:>18} {:>12}", "from exec to ready", "median ms", "range ms", "resident MB");
    for kind in &mut kinds {
        kind.millis.sort_by(f64::total_cmp);
        kind.resident.sort_by(f64::total_cmp);
        let range = format!("{:.1} to {:.1}", kind.millis[0], kind.millis[starts - 1]);
        let (millis, resident) = (kind.millis[starts / 2], kind.resident[starts / 2]);
        println!("{:<48} {millis:>10.1} {range:>18} {resident:>12.1}", kind.name);
    }
}

fn set(key: &str, value: &str) -> Vec<String> {
    vec!["--set".to_owned(), format!("{key}={value}")]
}

fn blockhouse(arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blockhouse"));
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn run(arguments: &[String]) {
    assert!(blockhouse(arguments).status().unwrap().success(), "{arguments:?}");
}

impl Kind {
    fn new(name: &'static str, arguments: Vec<String>) -> Kind {
        Kind { name, arguments, millis: Vec::new(), resident: Vec::new() }
    }

    fn start(&mut self) {
        let began = Instant::now();
        let started = Started::new(&self.arguments);
        started.ready();
        self.millis.push(began.elapsed().as_secs_f64() * 1e3);
        self.resident.push(started.resident_mb());
    }
}

impl Started {
    fn new(arguments: &[String]) -> Started {
        let (grpc, admin) = (wait::free_port(), wait::free_port());
        let ports = [
            set("grpc.listen", &format!("127.0.0.1:{grpc}")),
            set("admin.listen", &format!("127.0.0.1:{admin}")),
        ];
        let child = blockhouse(&[arguments.to_vec(), ports.concat()].concat()).spawn().unwrap();
        Started { child, admin }
    }

    /// Asks `/readyz` every half millisecond.
    fn ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready() {
            assert!(Instant::now() < deadline, "never ready");
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    fn is_ready(&self) -> bool {
        use std::io::{Read as _, Write as _};
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.admin)) else { return false };
        let mut answer = [0; 12];
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && answer.ends_with(b"200")
    }

    fn resident_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
