//! The soak: the built binary on real PostgreSQL and Redis under load, with faults from a seed, for as long as one likes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use blockhouse::block::checker::{Least, Rule, Verdict};

use crate::command::Part;
use crate::field::{Field, comes_about};
use crate::judge::{Judge, Seen};
use crate::schedule::{Fault, Schedule, Size};
use crate::strike::Striker;
use crate::support::wait;
use crate::traffic::Traffic;

const SIZE: Size = Size { allocators: 3, hydrators: 2, pods: 3 };

/// Callers at each allocator, and how often each asks on average.
const CALLERS: usize = 4;
const PACE: Duration = Duration::from_millis(20);

/// The fewest in a second that make a run worth judging: a busy machine does three times as much.
const REQUESTS: f64 = 100.0;
const SUCCESSES: f64 = 60.0;
const FAULTS: f64 = 0.2;

/// Between two looks.
const STEP: Duration = Duration::from_millis(50);

/// How long everything may take to serve again once the faults are over, and how often each allocator must then have answered.
const RECOVERED: Duration = Duration::from_secs(60);
const ANSWERS: u64 = 50;

/// A fault under way.
struct Open {
    number: u64,
    ends: Instant,
    fault: Fault,
    before: u64,
}

pub async fn run(seed: u64, lasts: Duration) -> Part {
    let began = Instant::now();
    let (judge, mut striker) =
        (Judge::new(), Striker::new(Field::start(SIZE.pods, SIZE.allocators, SIZE.hydrators).await));
    let traffic = Traffic::on(&striker.field, CALLERS, PACE, seed, &judge);
    let fired = play(&mut striker, &judge, Schedule::of(seed, SIZE), lasts).await;
    recover(&striker, &judge).await;
    traffic.stop().await;
    let discarded = striker.discarded().await;
    settle(&striker, &judge).await;

    let seconds = lasts.as_secs_f64();
    let least = |rate: f64| (rate * seconds) as u64;
    let least = Least { requests: least(REQUESTS), successes: least(SUCCESSES), faults: least(FAULTS) };
    let (seen, verdict) = (judge.seen(), judge.verdict(&least));
    tell(&seen, &fired, &discarded, &striker.field, &judge);
    let mut part = Part::new("soak", began);
    part.cases = 1;
    part.figures = format!(
        "{} requests, {} answered, {} faults, {} duplicates",
        seen.counts.requests, seen.counts.answered, seen.counts.faults, seen.counts.twice
    );
    match verdict {
        Verdict::Passed => {}
        Verdict::Invalid(why) => part.fail(format!("invalid: {why}")),
        Verdict::Violated => {
            seen.violations.iter().take(10).for_each(|violation| part.say(violation.to_string()));
            part.fail(format!("{} violations", seen.counts.violations));
        }
    }
    part.ended()
}

/// Plays the schedule until its time is over and every fault undone; gives how many fired, by kind.
async fn play(
    striker: &mut Striker,
    judge: &Judge,
    schedule: Schedule,
    lasts: Duration,
) -> BTreeMap<String, u64> {
    let (began, mut fired) = (Instant::now(), BTreeMap::new());
    let deadline = began + lasts;
    let mut schedule = (0..).zip(schedule.take_while(|planned| planned.at < lasts)).peekable();
    let mut open: Vec<Open> = Vec::new();
    while !open.is_empty() || schedule.peek().is_some() {
        let (able, ended) = striker.look().await;
        judge.reach(able);
        ended.into_iter().for_each(|what| judge.broken(Rule::Panicked, what));
        let now = Instant::now();
        while let Some(at) = open.iter().position(|open| open.ends <= now) {
            let over = open.remove(at);
            let had_effect = striker.undo(&over.fault, over.before).await;
            judge.close(over.number, had_effect);
            *fired.entry(over.fault.name()).or_default() += u64::from(had_effect);
        }
        while let Some((number, planned)) = schedule.next_if(|(_, planned)| began + planned.at <= now) {
            if striker.may(&planned.fault) {
                let before = striker.strike(&planned.fault).await;
                judge.open(number);
                let ends = (now + planned.lasts).min(deadline.max(now));
                open.push(Open { number, ends, fault: planned.fault, before });
            }
        }
        wait::pass(STEP).await;
    }
    fired
}

/// The faults are over: everybody serves, and the pods are filled.
async fn recover(striker: &Striker, judge: &Judge) {
    let before: Vec<u64> = (0..SIZE.allocators).map(|allocator| judge.of(allocator).0).collect();
    let serve = comes_about(RECOVERED, async || {
        (0..SIZE.allocators).all(|allocator| judge.of(allocator).0 >= before[allocator] + ANSWERS)
    });
    if !serve.await {
        let since = |allocator: usize| judge.of(allocator).0 - before[allocator];
        let answered: Vec<u64> = (0..SIZE.allocators).map(since).collect();
        judge.broken(Rule::Stuck, format!("{RECOVERED:?} later the allocators answered {answered:?} times"));
    }
    let filled =
        comes_about(RECOVERED, async || (0..SIZE.pods).all(|pod| striker.field.cluster.is_filled(pod)));
    if !filled.await {
        judge.broken(Rule::Stuck, "not every pod was filled again".to_owned());
    }
}

/// What can be seen only once callers are quiet: nothing was issued that the ledger had not granted, no process served a range
/// twice without a caller noticing, and none panicked.
async fn settle(striker: &Striker, judge: &Judge) {
    let field = &striker.field;
    for sequence in field.cluster.sequences() {
        let (granted, (_, greatest)) = (field.cluster.granted(sequence), judge.issued(sequence));
        if greatest > granted {
            judge.broken(Rule::Uncommitted, format!("{greatest} of '{sequence}', granted up to {granted}"));
        }
    }
    for member in field.members() {
        let name = member.process.name();
        let metrics = member.metrics().await;
        let twice = metrics.map_or(0.0, |metrics| metrics.sum("blockhouse_duplicate_ranges_total", &[]));
        if twice > 0.0 {
            judge.broken(Rule::Twice, format!("{name} was given {twice} ranges that it had served before"));
        }
        if member.process.log().contains("panicked") {
            judge.broken(Rule::Panicked, format!("{name} panicked"));
        }
    }
}

fn tell(
    seen: &Seen,
    fired: &BTreeMap<String, u64>,
    discarded: &BTreeMap<&str, u64>,
    field: &Field,
    judge: &Judge,
) {
    println!("faults fired:");
    fired.iter().for_each(|(kind, count)| println!("{count:>9} × {kind}"));
    println!("refusals:");
    seen.refused.iter().for_each(|(reason, count)| println!("{count:>9} × {reason}"));
    println!("IDs discarded, by cause:");
    let causes = discarded.iter().filter(|(_, ids)| **ids > 0);
    causes.for_each(|(cause, ids)| println!("{ids:>12} {cause}"));
    let cluster = &field.cluster;
    for sequence in cluster.sequences() {
        let (granted, issued, in_pods) =
            (cluster.granted(sequence), judge.issued(sequence).0, cluster.in_pods(sequence));
        println!("'{sequence}': the ledger stands at {granted}; {issued} IDs issued, {in_pods} in pods");
    }
    let counts = seen.counts;
    let share = 100.0 * counts.answered as f64 / counts.requests.max(1) as f64;
    println!(
        "{} requests, {} answered ({share:.2} %), {} refused, {} without an answer; longest time without an answer to anybody {:.2} s",
        counts.requests,
        counts.answered,
        counts.failed,
        counts.unknown,
        seen.longest_silence.as_secs_f64()
    );
    let (able, served) = seen.while_able;
    println!(
        "asked of an allocator that could reach a tier all the while: {able}, answered {served} ({:.3} %)",
        100.0 * served as f64 / able.max(1) as f64
    );
    let (closed, judged) = seen.windows;
    println!(
        "{closed} fault windows, {judged} of them with an allocator able to answer throughout; {} intervals remembered",
        seen.intervals
    );
}
