//! Every process is stopped in mid-step and goes on later: for half of its time-outs to ten times as long.

use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};

use crate::command::{Asked, Part};
use crate::field::Field;
use crate::support::{Cluster, wait};
use crate::trial::{Trial, failures};

const FACTORS: [f64; 5] = [0.5, 1.0, 2.0, 5.0, 10.0];

/// A seeded share is drawn of pauses up to this long.
const SHORT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Allocator,
    Hydrator,
    Pod,
    /// The session of an allocator.
    Backend,
    /// Sessions go on, but none can be opened.
    Postmaster,
    /// All processes of the server.
    PostgreSql,
}

impl Victim {
    const ALL: [Victim; 6] = [
        Victim::Allocator,
        Victim::Hydrator,
        Victim::Pod,
        Victim::Backend,
        Victim::Postmaster,
        Victim::PostgreSql,
    ];

    /// After which others go on without it: `grpc.request_timeout`, the hydrator's lease, `redis.timeout`, `ledger.timeout`.
    fn time_out(self) -> Duration {
        match self {
            Victim::Allocator => Duration::from_secs(2),
            Victim::Hydrator => Duration::from_secs(3),
            Victim::Pod => Duration::from_millis(100),
            Victim::Backend | Victim::Postmaster | Victim::PostgreSql => Duration::from_secs(1),
        }
    }
}

pub async fn run(asked: &Asked) -> Part {
    let mut part = Part::new("pauses", Instant::now());
    let mut rng = Rng::with_seed(asked.seed);
    let all = Victim::ALL.into_iter().flat_map(|victim| FACTORS.map(|factor| (victim, factor)));
    let mut all: Vec<(Victim, f64)> = all.collect();
    if asked.share > 1 {
        all.retain(|(victim, factor)| victim.time_out().mul_f64(*factor) <= SHORT);
    }
    // Nobody lays anything in while the ledger stands still: the pods hold enough for the longest pause.
    let plan = Cluster::new().pods(3).postgres().sequence("tasks").sequence("comments");
    let plan = plan.set("hydrator.min_ids = 20000000").set("hydrator.max_ids = 20000000");
    let trial = Trial::on(Field::start_as(plan, 2, 1).await, asked.seed);
    let mut failed = 0;
    for (victim, factor) in asked.some(all) {
        part.cases += 1;
        let lasts = victim.time_out().mul_f64(factor);
        let before = trial.counts();
        let pod = rng.usize(..3);
        signal(&trial.field, victim, pod, Signal::STOP);
        wait::pass(lasts).await;
        signal(&trial.field, victim, pod, Signal::CONT);
        for (allocator, (before, after)) in before.into_iter().zip(trial.counts()).enumerate() {
            let (failures, too_many) = failures(before, after);
            failed += failures;
            if too_many && !(victim == Victim::Allocator && allocator == 0) {
                part.fail(format!("{victim:?} for {lasts:?}: {failures} failures at allocator {allocator}"));
            }
        }
        if !trial.recovers().await {
            part.fail(format!("{victim:?} for {lasts:?}: not all serve afterwards"));
        }
    }
    part.figure(format!("{failed} requests failed meanwhile"));
    trial.end(part).await
}

fn signal(field: &Field, victim: Victim, pod: usize, signal: Signal) {
    let stop = signal == Signal::STOP;
    match victim {
        Victim::Allocator => field.allocators[0].process.signal(signal),
        Victim::Hydrator => field.hydrators[0].process.signal(signal),
        Victim::Pod if stop => field.cluster.pods[pod].pause(),
        Victim::Pod => field.cluster.pods[pod].resume(),
        Victim::PostgreSql if stop => field.cluster.ledger().pause(),
        Victim::PostgreSql => field.cluster.ledger().resume(),
        Victim::Postmaster => send(field.cluster.ledger().pid(), signal),
        Victim::Backend => {
            let backends = field.cluster.ledger().psql(
                "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'blockhouse/allocator%' ORDER BY pid",
            );
            let pids = backends.lines().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw);
            pids.for_each(|pid| send(pid, signal));
        }
    }
}

fn send(pid: Pid, signal: Signal) {
    // A session may have ended meanwhile.
    let _ = kill_process(pid, signal);
}
