//! The command: a table out, and one last line.

use std::collections::BTreeMap;
use std::process::ExitCode;

use crate::kinds::{KINDS, Kind, Outcome};
use crate::ledgers::{self, Policy};
use crate::pods;
use crate::trials::books;
use crate::trials::command::{self, Asked, Verdict};
use crate::trials::lanes;
use crate::world::World;

const USAGE: &str = "\
tests/rewind-suite [--trials N] [--seed S] [--share K] [--only TEXT] [--lanes N]

Lets pods and ledgers come back as they were, in 8 ways, 100 times each. --trials N: so many times each; --share 10: a tenth of that;
--only TEXT: kinds that have this in their name; --lanes N: so many worlds of servers beside each other (3). Ends with 1 where an ID came
twice, where what came back was used, where the service did not recover, or where less happened than must.";

/// So many of the trials, of 100, must have brought something back.
const FEWEST: u64 = 90;

/// Some trials of one kind.
struct Job {
    kind: Kind,
    /// Where it is a ledger.
    policy: Policy,
    seed: u64,
    trials: u64,
}

/// What they showed.
#[derive(Default)]
struct Row {
    trials: u64,
    outcomes: BTreeMap<Outcome, u64>,
    answers: u64,
    twice: u64,
    faults: Vec<String>,
}

pub fn main() -> ExitCode {
    command::main(USAGE, run)
}

fn run(asked: &Asked) -> ExitCode {
    let mut verdict = Verdict::begin();
    verdict.part("canaries", &books::canaries());
    let wanted = |kind: &&Kind| asked.only.as_ref().is_none_or(|part| kind.name().contains(part.as_str()));
    let kinds: Vec<Kind> = KINDS.iter().filter(wanted).copied().collect();
    let mut seeds = fastrand::Rng::with_seed(asked.seed);
    let jobs: Vec<Job> = kinds
        .iter()
        .flat_map(|kind| Policy::BOTH.map(|policy| (*kind, policy)))
        .map(|(kind, policy)| {
            let half = if policy == Policy::Wait { asked.trials.div_ceil(2) } else { asked.trials / 2 };
            Job { kind, policy, seed: seeds.u64(..), trials: half }
        })
        .collect();
    println!("seed {}, {} trials of each of {} kinds", asked.seed, asked.trials, kinds.len());
    let rows = lanes::run(asked.lanes, &jobs, World::build, row);
    let mut by_kind: BTreeMap<&str, Row> = BTreeMap::new();
    for (job, row) in jobs.iter().zip(rows) {
        by_kind.entry(job.kind.name()).or_default().add(row);
    }
    table(&kinds, &by_kind);
    for kind in &kinds {
        let row = by_kind.get_mut(kind.name()).expect("each has jobs");
        let (fired, least) = (row.outcomes.values().sum::<u64>(), (asked.trials * FEWEST).div_ceil(100));
        if fired < least {
            row.faults.push(format!("invalid: {fired} trials brought something back, fewer than {least}"));
        }
        verdict.part(kind.name(), &row.faults);
    }
    verdict.end()
}

impl Row {
    fn add(&mut self, other: Option<Row>) {
        let Some(other) = other else { return self.faults.push("it panicked: see above".to_owned()) };
        self.trials += other.trials;
        self.answers += other.answers;
        self.twice += other.twice;
        self.faults.extend(other.faults);
        for (outcome, times) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += times;
        }
    }
}

async fn row(world: &mut World, job: &Job) -> Row {
    let mut rng = fastrand::Rng::with_seed(job.seed);
    let before = world.checker.counts();
    let mut row = Row::default();
    world.begin().await;
    if matches!(job.kind, Kind::Ledger(_)) {
        job.policy.set(&world.cluster);
    }
    for _ in 0..job.trials {
        row.trials += 1;
        let outcome = match job.kind {
            Kind::Pod(kind) => pods::run(world, kind, &mut rng).await,
            Kind::Ledger(kind) => ledgers::run(world, kind, job.policy, &mut rng).await,
        };
        match outcome {
            Ok(Some(outcome)) => *row.outcomes.entry(outcome).or_default() += 1,
            Ok(None) => {}
            Err(why) => row.faults.push(why),
        }
    }
    row.faults.extend(world.end().await);
    let after = world.checker.counts();
    row.answers = after.answered - before.answered;
    row.twice = after.twice - before.twice;
    let (outcomes, faults) = (&row.outcomes, row.faults.len());
    eprintln!("{}: {outcomes:?}, {} duplicates, {faults} faults", job.kind.name(), row.twice);
    row
}

fn table(kinds: &[Kind], rows: &BTreeMap<&str, Row>) {
    let names: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
    println!("\n| what came back | trials | {} | answers | duplicates |", names.join(" | "));
    println!("|---|---:|{}---:|---:|", "---:|".repeat(names.len()));
    let (mut trials, mut twice) = (0, 0);
    for kind in kinds {
        let Some(row) = rows.get(kind.name()) else { continue };
        let times = |outcome: &Outcome| row.outcomes.get(outcome).copied().unwrap_or(0).to_string();
        let times: Vec<String> = Outcome::ALL.iter().map(times).collect();
        println!(
            "| {} | {} | {} | {} | {} |",
            kind.name(),
            row.trials,
            times.join(" | "),
            row.answers,
            row.twice
        );
        trials += row.trials;
        twice += row.twice;
    }
    println!("\n{trials} times something came back, {twice} duplicates");
}
