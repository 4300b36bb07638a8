//! The ends of what an ID can be, on the real servers: i64, 2^53 (what JavaScript can count to), 32 bits; down to the last ID.

use std::time::Instant;

use tokio::task::JoinSet;

use crate::command::{Asked, Part};
use crate::field::Field;
use crate::judge::Judge;
use crate::support::Cluster;
use crate::support::caller::{Caller, Outcome, Transport};
use crate::traffic::DEADLINE;
use crate::trial;

/// Callers at each allocator: each of its workers has some.
const CALLERS: usize = 4;

/// A sequence that has run out says so this often, and everybody believes it.
const BELIEVED: u32 = 3;

const JS_SAFE: i64 = (1 << 53) - 1;

/// First and last ID of a sequence.
const EDGES: [(i64, i64); 8] = [
    (i64::MAX, i64::MAX),
    (i64::MAX - 9_999, i64::MAX),
    (i64::MAX - 100_000, i64::MAX - 1),
    (JS_SAFE, JS_SAFE),
    (JS_SAFE - 9_999, JS_SAFE),
    // Whoever counts in floating point gives 2^53 twice.
    (JS_SAFE - 4_999, JS_SAFE + 5_000),
    (i32::MAX as i64 - 9_999, i32::MAX as i64),
    (u32::MAX as i64 - 4_999, u32::MAX as i64 + 5_000),
];

/// Sizes of blocks, and numbers of pods.
const BLOCKS: [i64; 2] = [1_000, 7];
const PODS: [usize; 2] = [3, 0];

pub async fn run(asked: &Asked) -> Part {
    let mut part = Part::new("edges", Instant::now());
    let all = BLOCKS.iter().flat_map(|block| EDGES.map(|(first, last)| (*block, first, last)));
    let cases: Vec<(i64, i64, i64)> = asked.some(all.collect());
    let judge = Judge::new();
    for pods in PODS {
        let plan = Cluster::new().pods(pods).postgres().set("exercise.ratio = 0.0");
        let mut field = Field::start_as(plan, 2, usize::from(pods > 0)).await;
        for (number, (block, first, last)) in cases.iter().enumerate() {
            part.cases += 1;
            let name = format!("edge-{pods}-{number}");
            let [start, max, size] = [first, last, block].map(i64::to_string);
            let create = ["sequence", "create", &name, "--start", &start, "--max", &max];
            let create = [&create[..], &["--block-size", &size, "--if-not-exists", "--yes"]].concat();
            if let Err(why) = field.command(&create).await {
                part.fail(why);
                continue;
            }
            let result = use_up(&field, &judge, &name).await;
            let (issued, greatest) = judge.issued(&name);
            let all = i128::from(*last) - i128::from(*first) + 1;
            if let Err(why) = result {
                part.fail(format!("{first} to {last} in blocks of {block}, {pods} pods: {why}"));
            } else if issued != all || greatest != *last {
                part.fail(format!(
                    "{first} to {last} in blocks of {block}, {pods} pods: {issued} of {all} IDs came, up to {greatest}"
                ));
            }
        }
        for member in field.members_mut() {
            let metrics = member.metrics().await;
            let discarded = metrics.map(|metrics| metrics.sum("blockhouse_discarded_ids_total", &[]));
            if discarded != Some(0.0) {
                part.fail(format!("{} discarded {discarded:?} IDs", member.process.name()));
            }
        }
    }
    trial::verdict(&judge, &mut part);
    part.ended()
}

/// Takes IDs in all ways until nobody gets one any more.
async fn use_up(field: &Field, judge: &Judge, sequence: &str) -> Result<(), String> {
    let mut callers = JoinSet::new();
    for (allocator, member) in field.allocators.iter().enumerate() {
        for number in 0..CALLERS {
            let transport = [Transport::Grpc, Transport::Http][number % 2];
            let caller = Caller::new(transport, member.process.port());
            callers.spawn(take(caller, allocator, sequence.to_owned(), judge.clone()));
        }
    }
    while let Some(ended) = callers.join_next().await {
        ended.map_err(|why| why.to_string())??;
    }
    Ok(())
}

/// Asks for many, and for fewer once there aren't so many.
async fn take(mut caller: Caller, allocator: usize, sequence: String, judge: Judge) -> Result<(), String> {
    let (mut count, mut refused) = (997, 0);
    while refused < BELIEVED {
        let question = judge.asked(allocator, &sequence, count);
        let outcome = caller.ask(&sequence, count, DEADLINE).await;
        judge.ended(question, &outcome);
        match outcome {
            Outcome::Given { .. } => refused = 0,
            Outcome::Refused { reason, .. } if reason == "SEQUENCE_EXHAUSTED" => {
                refused += u32::from(count == 1);
                count = (count / 2).max(1);
            }
            // Many ask at once, and it takes a moment to hear of a new sequence.
            Outcome::Refused { reason, .. }
                if ["LEDGER_BUSY", "SEQUENCE_UNKNOWN", "DEADLINE"].contains(&reason.as_str()) =>
            {
                crate::support::wait::pass(std::time::Duration::from_millis(20)).await;
            }
            other => return Err(format!("{other:?}")),
        }
    }
    Ok(())
}
