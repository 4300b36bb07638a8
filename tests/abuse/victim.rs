//! A process that is attacked while others use it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::FLOOR;
use crate::support::process::{self, Process};

/// Longer than anything here takes: whoever waits for so long was not answered.
const PATIENCE: Duration = Duration::from_secs(20);

/// Requests in one window; two of them may be slower than its p99.
const WINDOW: usize = 200;

/// What is measured has the machine to itself, as far as these tests go.
static ALONE: Mutex<()> = Mutex::new(());

/// A process with a ledger in a file and pods in memory, and a caller with a connection of its own.
pub struct Victim {
    process: Process,
    caller: Caller,
    _folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// What the attackers share with the one who measures.
pub struct Attack {
    pub address: String,
    over: AtomicBool,
    acts: AtomicU64,
    refused: AtomicU64,
}

impl Attack {
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// So much more harm was tried.
    pub fn acted(&self, acts: u64) {
        self.acts.fetch_add(acts, Ordering::Relaxed);
    }

    /// The server put an end to it.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// How hard an attack must be so that the test says something, and what it may cost.
pub struct Bounds {
    /// Windows of calm, and as many of attack.
    pub rounds: usize,
    /// Attackers at a time.
    pub attackers: usize,
    /// Acts in all, at bounds.
    pub acts: u64,
    /// How often the server put an end to it, at bounds.
    pub refused: u64,
    /// The most memory that it may cost.
    pub memory_kb: u64,
}

impl Victim {
    pub async fn start() -> Victim {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let file = format!("ledger.url=sqlite:{}", folder.path().join("ledger.sqlite").display());
        let settings = ["redis.pods=[\"memory:3\"]", "environment=test", "grpc.workers=2", "log.level=info"];
        let set = settings.into_iter().chain([file.as_str()]).flat_map(|setting| ["--set", setting]);
        let set: Vec<&str> = set.collect();
        for command in [&["ledger", "migrate", "--yes"][..], &["sequence", "create", "tasks", "--yes"]] {
            let done = process::run(&[command, &set].concat());
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        let set: Vec<String> = set.into_iter().map(str::to_owned).collect();
        let mut process = Process::start("victim", folder.path(), &set);
        process.ready().await;
        let mut caller = Caller::connect(process.port());
        // Warm: pods filled, allocator's pages touched, both workers used.
        (0..3).for_each(|_| drop(caller.window()));
        Victim { process, caller, _folder: folder, _alone: alone }
    }

    /// Takes turns between calm and `attack`, and judges.
    pub async fn endures(mut self, bounds: Bounds, attack: impl Fn(&Attack) + Sync) {
        let shared = Attack {
            address: format!("127.0.0.1:{}", self.process.port()),
            over: AtomicBool::new(false),
            acts: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        let before_kb = self.resident_kb();
        let (mut calm, mut harm, mut most_kb) = (Vec::new(), Vec::new(), before_kb);
        for _ in 0..bounds.rounds {
            calm.push(self.caller.window());
            harm.push(self.under(&shared, bounds.attackers, &attack, &mut most_kb));
        }
        let (calm, harm) = (median(calm), median(harm));
        let grown_kb = most_kb.saturating_sub(before_kb);
        let (acts, refused) = (shared.acts.into_inner(), shared.refused.into_inner());
        let seen = format!(
            "{acts} acts, ended {refused} times; p99 {calm:?} in calm, {harm:?} under attack; {grown_kb} kB more memory"
        );
        println!("{seen}");
        assert!(acts >= bounds.acts && refused >= bounds.refused, "too little harm was tried: {seen}");
        assert!(harm <= FLOOR.max(2 * calm), "others wait for too long: {seen}");
        assert!(grown_kb <= bounds.memory_kb, "it grows too much: {seen}");
        Caller::connect(self.process.port()).window();
        assert!(self.process.is_ready().await, "it is not ready any more");
    }

    /// The p99 of a window while it is attacked.
    fn under(
        &mut self,
        shared: &Attack,
        attackers: usize,
        attack: &(impl Fn(&Attack) + Sync),
        most_kb: &mut u64,
    ) -> Duration {
        shared.over.store(false, Ordering::Relaxed);
        let began = shared.acts.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..attackers {
                scope.spawn(|| attack(shared));
            }
            let deadline = Instant::now() + PATIENCE;
            while shared.acts.load(Ordering::Relaxed) == began {
                assert!(Instant::now() < deadline, "nobody attacks");
                std::thread::yield_now();
            }
            let p99 = self.caller.window();
            *most_kb = self.resident_kb().max(*most_kb);
            shared.over.store(true, Ordering::Relaxed);
            p99
        })
    }

    fn resident_kb(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.pid().as_raw_nonzero());
        let status = std::fs::read_to_string(path).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

fn median(mut windows: Vec<Duration>) -> Duration {
    windows.sort_unstable();
    windows[windows.len() / 2]
}

/// An honest client.
struct Caller {
    stream: BufReader<TcpStream>,
}

impl Caller {
    fn connect(port: u16) -> Caller {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Caller { stream: BufReader::new(stream) }
    }

    /// The p99 of one window of requests, each of which is answered.
    fn window(&mut self) -> Duration {
        let mut times: Vec<Duration> = (0..WINDOW).map(|_| self.ask()).collect();
        times.sort_unstable();
        times[WINDOW * 99 / 100 - 1]
    }

    fn ask(&mut self) -> Duration {
        let began = Instant::now();
        let request = b"POST /v1/sequences/tasks/ids HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
        self.stream.get_mut().write_all(request).unwrap();
        let (mut line, mut head, mut length) = (String::new(), String::new(), 0);
        while line != "\r\n" {
            line.clear();
            assert!(self.stream.read_line(&mut line).expect("an answer in time") > 0, "hung up: {head}");
            head.push_str(&line);
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}{}", String::from_utf8_lossy(&body));
        began.elapsed()
    }
}
