//! A cluster in which each process has a network of its own: a line to each pod, one to the ledger, and one that its callers come by.

use std::time::Duration;

use blockhouse::block::Cause;

use crate::support::Cluster;
use crate::support::cluster::Plan;
use crate::support::metrics::Metrics;
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::{http, wait};

/// How long a first filling of the pods may take on a busy machine.
const FILLED: Duration = Duration::from_secs(30);

/// How long a command is tried.
const COMMAND: Duration = Duration::from_secs(60);

/// How long a look at a process may take.
const LOOK: Duration = Duration::from_millis(500);

/// Short times, so that a run sees in seconds what takes minutes in production; and a share of requests that tries the ledger.
const SETTINGS: [&str; 13] = [
    "grpc.request_timeout = '2s'",
    "redis.timeout = '100ms'",
    "redis.connect_timeout = '250ms'",
    "ledger.timeout = '1s'",
    "ledger.connect_timeout = '1s'",
    "fallback.cover = '5s'",
    "fallback.min_ids = 20000",
    "exercise.ratio = 0.02",
    "exercise.max_per_minute = 600",
    "hydrator.min_ids = 600000",
    "hydrator.max_ids = 600000",
    "log.level = 'info'",
    "log.slow = '10s'",
];

/// A process and its lines.
pub struct Member {
    pub process: Process,
    /// Callers come by this one; nobody calls a hydrator.
    pub front: Proxy,
    /// To each pod, in the cluster's order.
    pub pods: Vec<Proxy>,
    pub ledger: Proxy,
}

/// The whole of it. Dropped, everything ends.
pub struct Field {
    pub allocators: Vec<Member>,
    pub hydrators: Vec<Member>,
    pub cluster: Cluster,
}

impl Field {
    /// Pods, a ledger and two sequences, all processes ready and all pods filled.
    pub async fn start(pods: usize, allocators: usize, hydrators: usize) -> Field {
        let plan = Cluster::new().pods(pods).postgres().sequence("tasks").sequence("comments");
        Field::start_as(plan, allocators, hydrators).await
    }

    /// The same, of another plan that has a ledger and starts no process; its own settings win.
    pub async fn start_as(plan: Plan, allocators: usize, hydrators: usize) -> Field {
        let plan = SETTINGS.iter().rev().fold(plan, |plan, setting| plan.set_first(setting));
        let mut field = Field { allocators: Vec::new(), hydrators: Vec::new(), cluster: plan.start().await };
        for number in 1..=hydrators {
            let member = field.member(&format!("hydrator-{number}"), "hydrator");
            field.hydrators.push(member);
        }
        if hydrators > 0 {
            field.cluster.filled_within(FILLED).await;
        }
        for number in 1..=allocators {
            let member = field.member(&format!("allocator-{number}"), "allocator");
            field.allocators.push(member);
        }
        for member in field.members_mut() {
            member.process.ready().await;
        }
        field
    }

    /// Starts one more process with lines of its own.
    pub fn member(&self, name: &str, role: &str) -> Member {
        let pods: Vec<Proxy> = self.cluster.pods.iter().map(|pod| Proxy::to(pod.port())).collect();
        let ledger = Proxy::to(self.cluster.ledger().port());
        let urls: Vec<String> = pods.iter().map(|pod| format!("redis://127.0.0.1:{}", pod.port())).collect();
        let to_pods = format!("redis.pods={urls:?}");
        let to_ledger = format!("ledger.url=\"postgres://postgres@127.0.0.1:{}/postgres\"", ledger.port());
        let process = self.cluster.process_with(name, role, &[&to_pods, &to_ledger]);
        let front = Proxy::to(process.port());
        Member { process, front, pods, ledger }
    }

    /// Runs a command that may be run again, until it succeeds; a busy machine may need longer than its time-outs.
    pub async fn command(&self, arguments: &[&str]) -> Result<(), String> {
        let mut said = String::new();
        let done = comes_about(COMMAND, async || {
            let output = tokio::task::block_in_place(|| self.cluster.command(arguments));
            said = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success()
        });
        if done.await { Ok(()) } else { Err(said) }
    }

    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.allocators.iter().chain(&self.hydrators)
    }

    pub fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.allocators.iter_mut().chain(&mut self.hydrators)
    }
}

impl Member {
    /// What it counts; nothing if it doesn't answer.
    pub async fn metrics(&self) -> Option<Metrics> {
        let answer = http::get(self.process.admin_port(), "/metrics");
        let answer = tokio::time::timeout(LOOK, answer).await.ok()?.ok()?;
        Some(Metrics::parse(&String::from_utf8_lossy(&answer.body)))
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        tokio::time::timeout(LOOK, self.process.is_ready()).await.unwrap_or(false)
    }
}

/// IDs that a process counts as discarded, by cause.
pub fn discarded(metrics: &Metrics) -> impl Iterator<Item = (&'static str, u64)> {
    let of = |cause: &Cause| metrics.sum("blockhouse_discarded_ids_total", &[("cause", cause.name())]) as u64;
    Cause::ALL.iter().map(move |cause| (cause.name(), of(cause)))
}

/// Waits, but no longer than `deadline`; says whether it came about.
pub async fn comes_about(deadline: Duration, mut condition: impl AsyncFnMut() -> bool) -> bool {
    let end = tokio::time::Instant::now() + deadline;
    while !condition().await {
        if tokio::time::Instant::now() > end {
            return false;
        }
        wait::pass(Duration::from_millis(20)).await;
    }
    true
}
