//! One world of servers and processes, and its books.

use std::collections::BTreeMap;
use std::time::Duration;

use blockhouse::block::Span;

use crate::support::Cluster;
use crate::support::caller::Transport;
use crate::support::cluster::pod_in;
use crate::support::process::Process;
use crate::support::redis::Redis;
use crate::support::wait;
use crate::trials::books::{self, Books, Counted, Lost, Period};
use crate::trials::callers::{Callers, Habit};
use crate::trials::lists::{self, Entries};

/// Mostly served from the pods.
pub const SMALL: &str = "tasks";
/// Asked for in greater numbers than the pods hold: the ledger has to give the rest.
pub const GREAT: &str = "events";
/// What the pods are to hold of each sequence.
pub const SUPPLY: i64 = 20_000;
/// A reserve is never more than this.
pub const RESERVE: i64 = 60_000;
/// The most that is asked for at once.
pub const GREATEST: u32 = 30_000;
/// How long processes may take to end in order.
const END: Duration = Duration::from_secs(15);

pub struct World {
    pub cluster: Cluster,
    pub callers: Option<Callers>,
    pub books: Books,
    /// Of each sequence, the newest grant in the books.
    entered: BTreeMap<String, i64>,
    /// What lay in pods that were killed since the books were closed.
    pub buried: Vec<(String, Span)>,
    /// What processes counted that have ended in order since.
    pub counted: BTreeMap<String, Counted>,
    pub may_be_lost: i64,
}

impl World {
    pub async fn build() -> World {
        let plan = Cluster::new().pods(2).postgres().allocators(2).hydrator().sequence(SMALL).sequence(GREAT);
        let plan = plan
            .set("hydrator.interval = \"100ms\"")
            .set(&format!("hydrator.min_ids = {SUPPLY}"))
            .set(&format!("hydrator.max_ids = {SUPPLY}"))
            .set("fallback.cover = \"1s\"")
            .set("fallback.min_ids = 1000")
            .set(&format!("fallback.max_ids = {RESERVE}"))
            .set(&format!("grpc.max_count = {GREATEST}"))
            // On a busy machine a pod that is only slow must not pass for a dead one: what a process gives up for it on its way out is
            // lost, and nobody is left to say so.
            .set("redis.timeout = \"2s\"")
            .set("drain.delay = \"10ms\"")
            .set("log.level = \"info\"");
        let cluster = plan.start().await;
        // What is tried is what a crash of the server leaves, not one of the machine.
        cluster.ledger().psql("ALTER SYSTEM SET fsync = off");
        cluster.ledger().psql("ALTER SYSTEM SET full_page_writes = off");
        cluster.ledger().psql("SELECT pg_reload_conf()");
        World {
            cluster,
            callers: None,
            books: Books::default(),
            entered: BTreeMap::new(),
            buried: Vec::new(),
            counted: BTreeMap::new(),
            may_be_lost: 0,
        }
    }

    /// Processes run, and callers ask them.
    pub async fn begin(&mut self) {
        let processes = self.cluster.allocators.iter_mut().chain(&mut self.cluster.hydrators);
        processes.filter(|process| !process.runs()).for_each(Process::start_again);
        self.cluster.ready().await;
        let habit = |allocator: usize, transport, sequence, counts, pace| Habit {
            port: self.cluster.allocators[allocator].port(),
            transport,
            sequence,
            counts,
            pace: Duration::from_millis(pace),
        };
        self.callers = Some(Callers::start(&[
            habit(0, Transport::Grpc, SMALL, (100, 1500), 8),
            habit(0, Transport::Http, SMALL, (100, 1500), 8),
            habit(0, Transport::Grpc, GREAT, (GREATEST - 8000, GREATEST), 25),
            habit(1, Transport::Grpc, SMALL, (100, 1500), 8),
            habit(1, Transport::Http, GREAT, (1000, GREATEST), 50),
        ]));
    }

    /// Waits until each process uses each pod in its present life. What is handed back to a pod that died unseen is lost, and nobody is
    /// left then to say so.
    async fn pods_are_known(&self) {
        for process in self.cluster.allocators.iter().chain(&self.cluster.hydrators) {
            wait::until(END, "the pods are known as they are", async || {
                let status = process.status().await;
                let known = |pod: &Redis| pod_in(&status, pod.port())["run_id"] == pod.info("run_id");
                self.cluster.pods.iter().all(known)
            })
            .await;
        }
    }

    /// Callers stop, processes end in order, and the books are closed. Gives where IDs went, and what is wrong.
    pub async fn end(&mut self) -> (Lost, Vec<String>) {
        let seen = self.callers.take().expect("it began").stop().await;
        self.cluster.ready().await;
        self.pods_are_known().await;
        for process in self.cluster.allocators.iter().chain(&self.cluster.hydrators) {
            let metrics = process.metrics().await;
            books::counted(&metrics, self.cluster.sequences(), &mut self.counted);
        }
        let mut wrong = Vec::new();
        for process in self.cluster.allocators.iter_mut().chain(&mut self.cluster.hydrators) {
            let status = process.terminate(END).await;
            if !status.success() {
                wrong.push(format!("{} ended with {status}", process.name()));
            }
        }
        let mut in_pods = Entries::new();
        for pod in &self.cluster.pods {
            for (sequence, entries) in lists::read(pod) {
                in_pods.entry(sequence).or_default().extend(entries);
            }
        }
        let period = Period {
            grants: books::grants(self.cluster.ledger(), &mut self.entered),
            seen,
            in_pods,
            buried: std::mem::take(&mut self.buried),
            counted: std::mem::take(&mut self.counted),
            may_be_lost: i128::from(std::mem::take(&mut self.may_be_lost)),
        };
        let (lost, more) = self.books.close(period);
        wrong.extend(more);
        (lost, wrong)
    }
}
