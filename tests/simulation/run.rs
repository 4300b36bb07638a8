//! Carries a schedule out: processes, callers, faults, recovery, and the sum of it all.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use actix_rt::System;
use blockhouse::block::checker::{Counts, Least, Limits, Rule, Verdict, Violation};
use futures_util::future::join_all;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};

use crate::callers;
use crate::fault::Kind;
use crate::faults::Faults;
use crate::journal::Journal;
use crate::net::Net;
use crate::operator;
use crate::panics;
use crate::schedule::Schedule;
use crate::world::World;

/// What a run showed.
pub struct Outcome {
    pub verdict: Verdict,
    pub violations: Vec<Violation>,
    pub counts: Counts,
    /// IDs given to callers.
    pub ids: i128,
    /// How long it took, on its own clock.
    pub lasted: Duration,
    pub fired: BTreeMap<Kind, u64>,
    pub log: Option<String>,
}

impl Outcome {
    /// The run itself came to a bad end.
    fn nothing() -> Outcome {
        Outcome {
            verdict: Verdict::Violated,
            violations: Vec::new(),
            counts: Counts::default(),
            ids: 0,
            lasted: Duration::ZERO,
            fired: BTreeMap::new(),
            log: None,
        }
    }
}

/// How a run is watched.
#[derive(Debug, Clone, Copy, Default)]
pub struct Watched {
    pub logs: bool,
    /// Pods hand out again what was popped, which must be noticed.
    pub canary: bool,
}

const SECOND: Duration = Duration::from_secs(1);
/// How long a recovery may take.
const PATIENCE: Duration = Duration::from_secs(60);

const LIMITS: Limits =
    Limits { requests: 400, within: Duration::from_secs(10), grace: Duration::from_secs(20), callers: 20 };

/// Carries it out, from its beginning on its own clock, in this thread.
pub fn run(schedule: &Schedule, watched: Watched) -> Outcome {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().expect("a runtime needs nothing")
    };
    let schedule = Rc::new(schedule.clone());
    panics::heard();
    let run = || System::with_tokio_rt(runtime).block_on(carry_out(schedule, watched));
    let mut outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Outcome::nothing());
    for what in panics::heard() {
        outcome.counts.violations += 1;
        outcome.verdict = Verdict::Violated;
        outcome.violations.push(Violation { rule: Rule::Panicked, at: outcome.lasted, what });
    }
    outcome
}

async fn carry_out(schedule: Rc<Schedule>, watched: Watched) -> Outcome {
    let journal = Journal::new(LIMITS, watched.logs);
    let slots = schedule.slots().iter().map(|slot| slot.cluster).collect();
    let rng = fastrand::Rng::with_seed(schedule.seed ^ 0x0e7);
    let (net, sprung) = Net::new(journal.clone(), rng, schedule.tuning.latency, slots);
    let world = World::new(Rc::clone(&schedule), journal.clone(), net, watched.logs).await;
    if watched.canary {
        world.pods.iter().for_each(crate::pods::PodServer::forget_pops);
    }
    let faults = Faults::new(&world, sprung);
    (0..schedule.slots().len()).for_each(|slot| faults.start(slot));

    let end = Instant::now() + schedule.lasts;
    let background: Vec<JoinHandle<()>> = vec![
        spawn_local(callers::come(Rc::clone(&world), Rc::new(Cell::new(0)))),
        spawn_local(callers::look_who_can_serve(Rc::clone(&world))),
        spawn_local(operator::watch(Rc::clone(&world))),
    ];
    faults.happen(end).await;
    sleep_until(end).await;
    faults.heal().await;
    recover(&world).await;
    background.iter().for_each(JoinHandle::abort);
    settle(&world).await;

    let lasted = journal.now();
    let log = journal.take_log();
    let journal = journal.lock();
    let checker = &journal.checker;
    let least = Least {
        requests: if schedule.lasts > SECOND * 10 { 20 } else { 1 },
        successes: 1,
        // A few may find nothing that they could befall.
        faults: u64::from(schedule.faults.len() > 10),
    };
    Outcome {
        verdict: checker.verdict(&least),
        violations: checker.violations().to_vec(),
        counts: checker.counts(),
        ids: schedule.sequences.iter().map(|sequence| checker.issued(sequence.name)).sum(),
        lasted,
        fired: faults.fired(),
        log,
    }
}

/// After the faults: every worker serves every sequence of which there is anything left, and the pods fill.
async fn recover(world: &Rc<World>) {
    let rows = world.rows().await;
    let mut waits = Vec::new();
    for process in world.processes() {
        for worker in 0..process.workers() {
            for row in &rows {
                // What is nearly used up may be used up by the time.
                if row.facts.last - row.granted > 10_000_000 && row.facts.halted.is_none() {
                    waits.push(serves(world, process.slot, worker, row.facts.name.to_string()));
                }
            }
        }
    }
    join_all(waits).await;
    join_all((0..world.schedule.clusters.len()).map(|cluster| fills(world, cluster))).await;
}

/// Whoever is in the slot by then: an operator may restart what was there.
async fn serves(world: &Rc<World>, slot: usize, worker: usize, sequence: String) {
    let until = Instant::now() + PATIENCE;
    let mut last = "nobody is there".to_owned();
    while Instant::now() < until {
        if let Some(process) = world.present(slot) {
            match callers::ask(world, &process, worker, &sequence, 1, SECOND * 2).await {
                Ok(()) => return,
                Err(why) => last = format!("process {}: {why}", process.number),
            }
        }
        sleep(SECOND / 4).await;
    }
    let what = format!("worker {worker} in slot {slot} doesn't serve {sequence}: {last}");
    let mut journal = world.journal.lock();
    let at = journal.now();
    journal.checker.violated(Rule::Stuck, at, what);
}

async fn fills(world: &Rc<World>, cluster: usize) {
    if world.schedule.clusters[cluster].hydrators == 0 {
        return;
    }
    let until = Instant::now() + PATIENCE * 3;
    let mut empty = Vec::new();
    while Instant::now() < until {
        empty.clear();
        for row in world.rows().await {
            let plenty = row.facts.last - row.granted > 64 * world.schedule.tuning.min_ids.max(100_000);
            if !plenty || row.facts.halted.is_some() {
                continue;
            }
            let list = world.list_of(&row, cluster);
            let pods = world.pods_of(cluster);
            let share = world.schedule.tuning.min_ids / i64::try_from(pods.len()).unwrap_or(1).max(1);
            let least = (share * 9 / 10 / row.facts.block_size).max(1);
            let lack = |pod: &&crate::pods::PodServer| pod.blocks(&list) < least.unsigned_abs();
            empty.extend(pods.into_iter().filter(lack).map(|pod| (pod.number, list.sequence.to_string())));
        }
        if empty.is_empty() {
            return;
        }
        sleep(SECOND / 2).await;
    }
    let mut journal = world.journal.lock();
    let at = journal.now();
    journal.checker.violated(Rule::Stuck, at, format!("pods are not filled again: {empty:?}"));
}

/// Ends everything in order, and adds up.
async fn settle(world: &Rc<World>) {
    join_all((0..world.schedule.slots().len()).map(|slot| world.drain(slot))).await;
    // What still travels arrives.
    sleep(SECOND * 30).await;
    for row in world.rows().await {
        let mut in_pods = 0;
        for (cluster, _) in world.schedule.clusters.iter().enumerate() {
            let list = world.list_of(&row, cluster);
            for pod in world.schedule.pods_of(cluster) {
                let spans = world.pods[pod].spans(&list);
                in_pods += spans.iter().map(|span| i128::from(span.count())).sum::<i128>();
            }
        }
        world.journal.lock().balance(&row.facts.name, in_pods);
    }
}
