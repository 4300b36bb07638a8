//! Private Redis servers: on free ports, in temporary folders, ended with the test.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deadpool_redis::redis::{self, FromRedisValue, ToRedisArgs};
use tempfile::TempDir;

/// A Redis server of the test's own.
pub struct Redis {
    child: Child,
    port: u16,
    folder: TempDir,
    args: Vec<String>,
}

impl Redis {
    /// With the configuration that we recommend for pods.
    pub fn pod() -> Redis {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/redis.conf");
        Redis::with(&[config.to_str().expect("the path of the checkout is UTF-8")])
    }

    /// With Redis's own defaults, and a snapshot only on SAVE.
    pub fn vanilla() -> Redis {
        Redis::with(&["--save", ""])
    }

    /// With these arguments.
    pub fn with(args: &[&str]) -> Redis {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        for _ in 0..10 {
            let port = super::wait::free_port();
            if let Some(child) = start(&args, port, folder.path()) {
                return Redis { child, port, folder, args };
            }
        }
        panic!("redis-server does not start (is the package redis-server installed?): {args:?}");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where it keeps its snapshot.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs one command.
    pub fn run<T: FromRedisValue>(&self, command: &[impl ToRedisArgs]) -> T {
        self.try_run(command).expect("redis answers")
    }

    /// Runs one command; an error is part of the test.
    pub fn try_run<T: FromRedisValue>(&self, command: &[impl ToRedisArgs]) -> redis::RedisResult<T> {
        let mut connection = redis::Client::open(self.url())?.get_connection()?;
        let mut packed = redis::Cmd::new();
        command.iter().for_each(|arg| {
            packed.arg(arg);
        });
        packed.query(&mut connection)
    }

    /// One line of INFO.
    pub fn info(&self, name: &str) -> String {
        let info: String = self.run(&["INFO", "everything"]);
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in INFO")).to_owned()
    }

    /// Every key that matches.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        self.run(&["KEYS", pattern])
    }

    /// `kill -9`
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Starts it again, on the same port, with the snapshot that lies in its folder.
    pub fn restart(&mut self) {
        eventually("the port is free again", || {
            start(&self.args, self.port, self.folder.path()).map(|child| self.child = child).is_some()
        });
    }

    /// Stops answering, with everything else as it was.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Goes on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(args: &[String], port: u16, folder: &Path) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(args)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let client = redis::Client::open(("127.0.0.1", port)).expect("an address");
    while Instant::now() < deadline {
        if child.try_wait().expect("our own child").is_some() {
            return None;
        }
        let pid = child.id().to_string();
        let info = client
            .get_connection()
            .and_then(|mut connection| redis::cmd("INFO").arg("server").query::<String>(&mut connection));
        // Another test's server may have been faster on the same port.
        if info.is_ok_and(|info| info.contains(&format!("process_id:{pid}\r"))) {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Waits until a condition of another process holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
