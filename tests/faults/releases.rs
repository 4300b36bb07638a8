//! Another release's binary beside the present one: each leads, each serves, and each takes over from the other under load.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::command::{Asked, Part};
use crate::field::Field;
use crate::support::Cluster;
use crate::support::process::PRESENT;
use crate::trial::{Trial, failures};

/// Until a process has ended in order.
const DRAINED: Duration = Duration::from_secs(20);

/// Answers of each allocator between two changes.
const ANSWERS: u64 = 300;

/// Which binary runs where: first allocator, second allocator, hydrator. Every change is an upgrade or a step back of one or more.
const STEPS: [[bool; 3]; 8] = [
    [true, false, false],
    [true, true, false],
    [true, true, true],
    [true, false, true],
    [false, false, true],
    [false, true, true],
    [false, true, false],
    [false, false, false],
];

/// `asked.beside` is the other binary; it is taken for the older one, and so for the one that made the ledger.
pub async fn run(asked: &Asked) -> Part {
    let mut part = Part::new("releases", Instant::now());
    let Some(other) = asked.beside.as_deref() else {
        part.fail("--beside BINARY says which other release");
        return part.ended();
    };
    let plan = Cluster::new().pods(3).postgres().sequence("tasks").sequence("comments").binary(other);
    let trial_field = Field::start_as(plan, 2, 1).await;
    let mut trial = Trial::on(trial_field, asked.seed);
    // What the present release needs of the ledger, it brings.
    let config = trial.field.cluster.config().to_owned();
    let migrated =
        crate::support::process::run(&["ledger", "migrate", "--yes", "--config", &config.to_string_lossy()]);
    if !migrated.status.success() {
        part.fail(format!("ledger migrate: {}", String::from_utf8_lossy(&migrated.stderr)));
    }
    let (mut now, mut failed) = ([false; 3], 0);
    for step in STEPS {
        part.cases += 1;
        let before = trial.counts();
        for place in 0..3 {
            if step[place] != now[place] {
                let binary = if step[place] { Path::new(PRESENT) } else { other };
                replace(&mut trial.field, place, binary, &mut part).await;
            }
        }
        now = step;
        for (allocator, before) in before.into_iter().enumerate() {
            if !trial.answers(allocator, ANSWERS).await {
                part.fail(format!("{step:?}: allocator {allocator} answers nothing"));
            }
            failed += failures(before, trial.counts()[allocator]).0;
        }
        if !trial.recovers().await {
            part.fail(format!("{step:?}: not all serve"));
        }
    }
    part.figure(format!("{failed} requests met a process that was being replaced"));
    trial.verdict(part).await
}

/// Ends a process in order and starts another binary in its place.
async fn replace(field: &mut Field, place: usize, binary: &Path, part: &mut Part) {
    let member = match place {
        2 => &mut field.hydrators[0],
        allocator => &mut field.allocators[allocator],
    };
    let status = member.process.terminate(DRAINED).await;
    if status.code() != Some(0) {
        part.fail(format!("{} ended with {status}", member.process.name()));
    }
    member.process.start_again_as(binary);
    member.process.ready().await;
}
