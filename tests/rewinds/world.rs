//! One world of servers and processes, callers all the time, and the checker of everything that they were ever given.

use std::time::Duration;

use blockhouse::block::checker::Checker;

use crate::support::Cluster;
use crate::support::caller::Transport;
use crate::support::process::Process;
use crate::trials::callers::{Callers, Habit};

const SMALL: &str = "tasks";
/// Asked for in greater numbers than the pods hold: the ledger has to give the rest.
const GREAT: &str = "events";
const SUPPLY: i64 = 40_000;

pub struct World {
    pub cluster: Cluster,
    pub callers: Option<Callers>,
    pub checker: Checker,
}

impl World {
    pub async fn build() -> World {
        let plan = Cluster::new().pods(2).unguarded().proxies().postgres().allocators(2).hydrator();
        let plan = plan
            .sequence(SMALL)
            .sequence(GREAT)
            .set("hydrator.interval = \"100ms\"")
            .set(&format!("hydrator.min_ids = {SUPPLY}"))
            .set(&format!("hydrator.max_ids = {SUPPLY}"))
            .set("fallback.cover = \"1s\"")
            .set("fallback.min_ids = 1000")
            .set("fallback.max_ids = 100000")
            // On a busy machine a pod that is only slow is not to pass for a dead one.
            .set("redis.timeout = \"2s\"")
            .set("drain.delay = \"10ms\"")
            .set("log.level = \"info\"");
        let cluster = plan.start().await;
        // What is tried is what comes back, not what a crash of the machine leaves.
        cluster.ledger().psql("ALTER SYSTEM SET fsync = off");
        cluster.ledger().psql("ALTER SYSTEM SET full_page_writes = off");
        cluster.ledger().psql("SELECT pg_reload_conf()");
        World { cluster, callers: None, checker: Checker::default() }
    }

    /// Callers ask.
    pub async fn begin(&mut self) {
        self.cluster.ready().await;
        let habit = |allocator: usize, transport, sequence, counts, pace| Habit {
            port: self.cluster.allocators[allocator].port(),
            transport,
            sequence,
            counts,
            pace: Duration::from_millis(pace),
        };
        self.callers = Some(Callers::start(&[
            habit(0, Transport::Grpc, SMALL, (100, 1500), 15),
            habit(0, Transport::Http, GREAT, (1000, 60_000), 60),
            habit(1, Transport::Http, SMALL, (100, 1500), 15),
            habit(1, Transport::Grpc, GREAT, (1000, 60_000), 60),
        ]));
    }

    /// Callers stop, and the checker hears what they were given. Gives what is wrong.
    pub async fn end(&mut self) -> Vec<String> {
        let before = self.checker.counts().violations;
        let seen = self.callers.take().expect("it began").stop().await;
        seen.tell(&mut self.checker);
        let new = usize::try_from(self.checker.counts().violations - before).expect("few");
        let violations = self.checker.violations();
        let mut wrong: Vec<String> = violations.iter().rev().take(new).map(ToString::to_string).collect();
        let processes = self.cluster.allocators.iter().chain(&self.cluster.hydrators);
        let panicked = processes.filter(|process| process.log().contains("panicked"));
        wrong.extend(panicked.map(|process| format!("{} panicked", process.name())));
        wrong
    }

    /// Every process but the servers' is killed, and forgets what it knew.
    pub fn kill_processes(&mut self) {
        self.cluster.allocators.iter_mut().chain(&mut self.cluster.hydrators).for_each(Process::kill);
    }

    pub fn start_processes(&mut self) {
        self.cluster.allocators.iter_mut().chain(&mut self.cluster.hydrators).for_each(Process::start_again);
    }
}
