//! The size of blocks is changed again and again under load: no answer fails for it, and new blocks have the new size.

use std::time::{Duration, Instant};

use blockhouse::block::Span;

use crate::command::{Asked, Part};
use crate::field::{Field, comes_about};
use crate::trial::{Trial, failures};

/// IDs in a block, in this order: up and down by far, and greater than what a pod is to hold.
const SIZES: [i64; 10] = [7, 4_096, 100, 50_000, 1, 1_000, 33, 250_000, 10, 1_000];

/// Until the first block of a new size lies in a pod: those before it must be used first.
const LAID_IN: Duration = Duration::from_secs(60);

pub async fn run(asked: &Asked) -> Part {
    let mut part = Part::new("sizes", Instant::now());
    let trial = Trial::on(Field::start(3, 2, 1).await, asked.seed);
    let cluster = &trial.field.cluster;
    let (mut failed, mut was) = (0, 1_000);
    for size in asked.some(SIZES.to_vec()) {
        let name = format!("blocks of {size} instead of {was}");
        was = size;
        part.cases += 1;
        let before = trial.counts();
        let text = size.to_string();
        let set = ["sequence", "set", "tasks", "--block-size", &text, "--yes"];
        if let Err(why) = trial.field.command(&set).await {
            part.fail(format!("{name}: {why}"));
            continue;
        }
        let laid_in =
            comes_about(LAID_IN, async || tokio::task::block_in_place(|| lies_in_a_pod(&trial.field, size)));
        if !laid_in.await {
            let in_pods = cluster.in_pods("tasks");
            part.fail(format!("{name}: none came into a pod; {in_pods} IDs lie there"));
        }
        for (allocator, before) in before.into_iter().enumerate() {
            if !trial.answers(allocator, 100).await {
                part.fail(format!("{name}: allocator {allocator} answers nothing"));
            }
            let (failures, too_many) = failures(before, trial.counts()[allocator]);
            failed += failures;
            if too_many {
                part.fail(format!("{name}: {failures} failures at allocator {allocator}"));
            }
        }
    }
    part.figure(format!("{failed} requests failed meanwhile"));
    trial.end(part).await
}

/// Whether the newest blocks of a pod have this size.
fn lies_in_a_pod(field: &Field, size: i64) -> bool {
    field.cluster.pods.iter().any(|pod| {
        let lists = pod.try_run::<Vec<String>>(&["KEYS", "*:tasks:*"]).unwrap_or_default();
        let end = |list: &String, at: &str| pod.try_run::<String>(&["LINDEX", list, at]).ok();
        let ends = lists.iter().flat_map(|list| ["0", "-1"].map(|at| end(list, at)));
        let mut blocks = ends.flatten().filter_map(|entry| entry.parse::<Span>().ok());
        blocks.any(|block| block.count() == size)
    })
}
