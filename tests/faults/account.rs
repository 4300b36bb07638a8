//! Whether every ID that the ledger granted is with a caller, in a pod, or discarded with a cause: to the unit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use blockhouse::block::Cause;
use rustix::process::Signal;

use crate::field::{Field, Member};
use crate::judge::Judge;
use crate::support::metrics::Metrics;

/// What processes say of a sequence.
#[derive(Default)]
struct Gone {
    given: i128,
    discarded: i128,
    in_doubt: i128,
}

/// A drain's whole time, and some more for a busy machine.
const DRAINED: Duration = Duration::from_secs(20);

/// Once nobody asks any more: stops all processes in order, and adds up. None of them may have been killed before, and no pod may have
/// lost what it held. Gives what was given out, found and discarded, or what is missing.
///
/// A process hands over its answers before their transport does, so callers may have fewer than processes gave out. And what it can't know
/// it counts as discarded, at the most that it can have been: a pop that got no answer may have carried less, and a push or a
/// grant that got none may have happened. So by what is in doubt, and by no more, there may seem to be too many.
pub async fn balance(field: &mut Field, judge: &Judge) -> Result<String, String> {
    let sequences = field.cluster.sequences().to_vec();
    let mut gone: BTreeMap<&str, Gone> = BTreeMap::new();
    // Hydrators first: what they have in hand goes to the pods, and nothing new is laid in.
    for member in field.hydrators.iter_mut().chain(&mut field.allocators) {
        let metrics = last_words(member).await?;
        for sequence in &sequences {
            let gone = gone.entry(sequence).or_default();
            gone.given += count(&metrics, "blockhouse_allocated_ids_total", &[("sequence", sequence)]);
            let discarded =
                |labels: &[(&str, &str)]| count(&metrics, "blockhouse_discarded_ids_total", labels);
            gone.discarded += discarded(&[("sequence", sequence)]);
            gone.in_doubt += discarded(&[("sequence", sequence), ("cause", Cause::InDoubt.name())]);
        }
    }
    let mut told = Vec::new();
    for sequence in &sequences {
        let Gone { given, discarded, in_doubt } = gone[sequence.as_str()];
        let (granted, in_pods) = (field.cluster.granted(sequence), field.cluster.in_pods(sequence));
        let (with_callers, _) = judge.issued(sequence);
        if with_callers > given {
            return Err(format!("callers have {with_callers} IDs of '{sequence}', of {given} given out"));
        }
        let too_many = given + discarded + i128::from(in_pods) - i128::from(granted);
        let sum = format!(
            "{granted} of '{sequence}' = {given} given out ({with_callers} arrived) + {in_pods} in pods + {discarded} discarded - {too_many} \
             of {in_doubt} in doubt"
        );
        if !(0..=in_doubt).contains(&too_many) {
            return Err(format!("unexplained: {sum}"));
        }
        told.push(sum);
    }
    Ok(told.join("; "))
}

/// Ends a process in order. What it counted last: the admin port is the last to close, so hardly anything can escape.
async fn last_words(member: &mut Member) -> Result<Metrics, String> {
    let name = member.process.name().to_owned();
    let mut last = member.metrics().await;
    member.process.signal(Signal::TERM);
    let deadline = Instant::now() + DRAINED;
    loop {
        last = member.metrics().await.or(last);
        match member.process.ended() {
            Some(status) if status.success() => break,
            Some(status) => return Err(format!("{name} ended with {status}")),
            None if Instant::now() > deadline => return Err(format!("{name} doesn't end")),
            None => {}
        }
    }
    last.ok_or_else(|| format!("{name} doesn't tell its metrics"))
}

fn count(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> i128 {
    metrics.sum(name, labels) as i128
}
