//! A blockhouse process: started, signalled, watched, and never left behind.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::metrics::Metrics;
use super::{http, wait};

/// Long enough for a start on a busy machine.
const READY: Duration = Duration::from_secs(20);

/// The binary that was built with the tests.
pub const PRESENT: &str = env!("CARGO_BIN_EXE_blockhouse");

/// Runs a command to its end.
pub fn run(arguments: &[&str]) -> Output {
    run_of(Path::new(PRESENT), arguments)
}

/// The same with another binary.
pub fn run_of(binary: &Path, arguments: &[&str]) -> Output {
    let mut command = command(binary);
    command.args(arguments).stdin(Stdio::null());
    command.output().expect("there is such a binary")
}

fn command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    forget_settings(&mut command);
    command
}

/// The machine's own configuration is none of the tests' business.
fn forget_settings(command: &mut Command) {
    let foreign = std::env::vars_os().map(|(name, _)| name);
    for name in foreign.filter(|name| name.to_string_lossy().starts_with("BLOCKHOUSE")) {
        command.env_remove(name);
    }
}

/// One `blockhouse serve`. Dropped, it is killed; dropped by a panic, it shows its log.
pub struct Process {
    name: String,
    binary: PathBuf,
    arguments: Vec<String>,
    /// Started by this line of a shell, where it isn't started directly.
    shell: Option<&'static str>,
    grpc: u16,
    admin: u16,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Starts `serve` with `arguments` on ports of its own; its log goes to `folder`.
    pub fn start(name: &str, folder: &Path, arguments: &[String]) -> Process {
        Process::start_of(Path::new(PRESENT), name, folder, arguments)
    }

    /// The same with another binary.
    pub fn start_of(binary: &Path, name: &str, folder: &Path, arguments: &[String]) -> Process {
        Process::start_by(binary, None, name, folder, arguments)
    }

    /// The same for a process whose files are to be limited in size: too long a write is an error, as on a full disk, and no
    /// signal that ends it.
    pub fn start_without_file_signals(name: &str, folder: &Path, arguments: &[String]) -> Process {
        let shell = Some(r#"trap "" XFSZ; exec "$0" "$@""#);
        Process::start_by(Path::new(PRESENT), shell, name, folder, arguments)
    }

    fn start_by(
        binary: &Path,
        shell: Option<&'static str>,
        name: &str,
        folder: &Path,
        arguments: &[String],
    ) -> Process {
        let (grpc, admin) = (wait::free_port(), wait::free_port());
        let own = [
            format!("instance=\"{name}\""),
            format!("grpc.listen=[\"127.0.0.1:{grpc}\"]"),
            format!("admin.listen=\"127.0.0.1:{admin}\""),
        ];
        // What the test says comes later, and wins.
        let own = own.into_iter().flat_map(|setting| ["--set".to_owned(), setting]);
        let arguments =
            ["serve".to_owned()].into_iter().chain(own).chain(arguments.iter().cloned()).collect();
        let log = folder.join(format!("{name}.log"));
        let (name, binary) = (name.to_owned(), binary.to_owned());
        let mut process = Process { name, binary, arguments, shell, grpc, admin, log, child: None };
        process.start_again();
        process
    }

    /// Starts it once more after it ended, with the same arguments and ports.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "{} still runs", self.name);
        let log: File =
            OpenOptions::new().create(true).append(true).open(&self.log).expect("its folder exists");
        let mut command = command(&self.binary);
        if let Some(line) = self.shell {
            command = Command::new("sh");
            command.args(["-c", line]).arg(&self.binary);
            forget_settings(&mut command);
        }
        let child =
            command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.expect("there is such a binary"));
    }

    /// The same with another binary.
    pub fn start_again_as(&mut self, binary: &Path) {
        binary.clone_into(&mut self.binary);
        self.start_again();
    }

    /// The port of gRPC and JSON.
    pub fn port(&self) -> u16 {
        self.grpc
    }

    /// The port of metrics, probes and status.
    pub fn admin_port(&self) -> u16 {
        self.admin
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// For `--admin`.
    pub fn admin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin)
    }

    /// Everything it logged, over all its lives.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its id.
    pub fn pid(&self) -> Pid {
        let child = self.child.as_ref().expect("it runs");
        i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id")
    }

    /// Whether it was started, and neither killed nor waited for since.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("an own child that wasn't waited for");
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("an own child that wasn't waited for");
        child.wait().expect("an own child");
    }

    /// How it ended, if it did so by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().expect("an own child"))
    }

    /// Waits for its end.
    pub async fn exit(&mut self, deadline: Duration) -> ExitStatus {
        let mut status = None;
        wait::until(deadline, &format!("{} ends", self.name), async || {
            let child = self.child.as_mut().expect("it runs");
            status = child.try_wait().expect("an own child");
            status.is_some()
        })
        .await;
        self.child = None;
        status.expect("it ended")
    }

    /// SIGTERM, and its end.
    pub async fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exit(deadline).await
    }

    /// Whether `/readyz` says so.
    pub async fn is_ready(&self) -> bool {
        http::get(self.admin, "/readyz").await.is_ok_and(|answer| answer.status.is_success())
    }

    /// Waits until it is ready; panics at once if it ends instead.
    pub async fn ready(&mut self) {
        let name = self.name.clone();
        wait::until(READY, &format!("{name} is ready"), async || {
            let child = self.child.as_mut().expect("it runs");
            if let Some(status) = child.try_wait().expect("an own child") {
                panic!("{name} ended with {status} instead of getting ready");
            }
            self.is_ready().await
        })
        .await;
    }

    /// `/metrics`.
    pub async fn metrics(&self) -> Metrics {
        let answer = http::get(self.admin, "/metrics").await.expect("the admin port answers");
        Metrics::parse(&String::from_utf8_lossy(&answer.body))
    }

    /// `/api/v1/status`.
    pub async fn status(&self) -> Value {
        let answer = http::get(self.admin, "/api/v1/status").await.expect("the admin port answers");
        serde_json::from_slice(&answer.body).expect("status is JSON")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- the last of {} ---", self.name);
            lines[lines.len().saturating_sub(60)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}
