//! Every pattern of four pods that can be reached or not, in two ways of not being: each is tried, hardly more than once where it is
//! silent, and answers come.

use std::time::{Duration, Instant};

use crate::command::{Asked, Part};
use crate::field::{Field, comes_about};
use crate::support::metrics::Metrics;
use crate::support::toxics::{Toxic, Way};
use crate::trial::{Trial, failures};

const PODS: usize = 4;

/// Until each pod must have been tried.
const TRIED: Duration = Duration::from_secs(30);

/// Answers that are waited for.
const ANSWERS: u64 = 200;

/// Pops that may go to a pod which answers none: the two workers and the reserve may have one each under way for each of two
/// sequences when it falls silent, or send it before they hear.
const WITHOUT_ANSWER: u64 = 2 * 3;

/// The ways of being away.
const AWAY: [Toxic; 2] = [Toxic::Reset, Toxic::Blackhole];

pub async fn run(asked: &Asked) -> Part {
    let mut part = Part::new("patterns", Instant::now());
    let all = AWAY.into_iter().flat_map(|away| (0..1_u32 << PODS).map(move |pattern| (away, pattern)));
    let cases = asked.some(all.collect());
    let trial = Trial::on(Field::start(PODS, 1, 1).await, asked.seed);
    let (mut most, mut failed) = (0, 0);
    for (away, pattern) in cases {
        part.cases += 1;
        let name = format!("pods {pattern:04b}, others {}", away.name());
        match case(&trial, away, pattern).await {
            Ok((without_answer, failures)) => {
                most = most.max(without_answer);
                failed += failures;
            }
            Err(why) => part.fail(format!("{name}: {why}")),
        }
        if !trial.recovers().await {
            part.fail(format!("{name}: not all serve afterwards"));
        }
    }
    part.figure(format!("at most {most} pops without an answer of one pod, {failed} requests failed"));
    trial.end(part).await
}

/// Gives the most pops that went to one pod without an answer, and the requests that failed.
async fn case(trial: &Trial, away: Toxic, pattern: u32) -> Result<(u64, u64), String> {
    let (member, counts) = (&trial.field.allocators[0], trial.counts()[0]);
    let before = Seen::by(member.metrics().await)?;
    let gone = |pod: &usize| pattern & (1 << pod) == 0;
    let lines = || (0..PODS).filter(gone).map(|pod| &member.pods[pod]);
    lines().for_each(|line| [Way::Up, Way::Down].iter().for_each(|way| line.poison(*way, away)));
    let outcome = observe(trial, &before, pattern).await;
    lines().for_each(|line| [Way::Up, Way::Down].iter().for_each(|way| line.heal(*way, away)));
    let all_up = comes_about(TRIED, async || {
        member.metrics().await.is_some_and(|metrics| metrics.sum("blockhouse_pod_up", &[]) == PODS as f64)
    });
    let (all_up, (failures, too_many)) = (all_up.await, failures(counts, trial.counts()[0]));
    let most = outcome?;
    if !all_up {
        return Err("not all pods were up again".to_owned());
    }
    if too_many {
        return Err(format!("{failures} requests failed"));
    }
    Ok((most, failures))
}

/// While the pattern lasts: waits until each pod was tried and callers were answered; gives the most pops without an answer.
async fn observe(trial: &Trial, before: &Seen, pattern: u32) -> Result<u64, String> {
    let member = &trial.field.allocators[0];
    let there = |pod: usize| pattern & (1 << pod) != 0;
    let addresses: Vec<String> =
        member.pods.iter().map(|line| format!("127.0.0.1:{}", line.port())).collect();
    let mut untried = Vec::new();
    let tried = comes_about(TRIED, async || {
        let Ok(now) = Seen::by(member.metrics().await) else { return false };
        let tried = |pod: usize| match there(pod) {
            true => now.popped(&addresses[pod]) > before.popped(&addresses[pod]),
            false => now.unanswered(&addresses[pod]) > before.unanswered(&addresses[pod]),
        };
        untried = (0..PODS).filter(|pod| !tried(*pod)).collect();
        untried.is_empty()
    });
    if !tried.await {
        return Err(format!("pods {untried:?} were not tried"));
    }
    if !trial.answers(0, ANSWERS).await {
        return Err("no answers came".to_owned());
    }
    let now = Seen::by(member.metrics().await)?;
    let since = |pod: usize| now.pops_unanswered(&addresses[pod]) - before.pops_unanswered(&addresses[pod]);
    let most = (0..PODS).filter(|pod| !there(*pod)).map(since).max().unwrap_or(0);
    if most > WITHOUT_ANSWER {
        return Err(format!("{most} pops went to a pod that answers none"));
    }
    Ok(most)
}

/// What the allocator counts.
struct Seen(Metrics);

impl Seen {
    fn by(metrics: Option<Metrics>) -> Result<Seen, String> {
        metrics.map(Seen).ok_or_else(|| "the allocator tells no metrics".to_owned())
    }

    /// Pops that brought something.
    fn popped(&self, address: &str) -> u64 {
        self.sum(&[("address", address), ("operation", "pop"), ("outcome", "ok")])
    }

    /// Requests of any kind without an answer.
    fn unanswered(&self, address: &str) -> u64 {
        let of = |outcome| self.sum(&[("address", address), ("outcome", outcome)]);
        of("failed") + of("in_doubt")
    }

    fn pops_unanswered(&self, address: &str) -> u64 {
        let of = |outcome| self.sum(&[("address", address), ("operation", "pop"), ("outcome", outcome)]);
        of("failed") + of("in_doubt")
    }

    fn sum(&self, labels: &[(&str, &str)]) -> u64 {
        self.0.sum("blockhouse_pod_requests_total", labels) as u64
    }
}
