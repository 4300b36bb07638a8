//! One field under load, on which one thing after another is tried.

use std::time::Duration;

use blockhouse::block::checker::{Least, Verdict};

use crate::account;
use crate::command::Part;
use crate::field::{Field, comes_about};
use crate::judge::Judge;
use crate::traffic::Traffic;

/// Callers at each allocator, and how often each asks on average.
const CALLERS: usize = 4;
const PACE: Duration = Duration::from_millis(10);

/// How long all may take to serve without a fault once what was tried is over, and how many answers in a row show it.
const RECOVERED: Duration = Duration::from_secs(30);
const IN_A_ROW: u64 = 20;

/// Of a hundred requests that a fault shouldn't touch, so many may fail on a busy machine; and so many more.
const PERCENT: u64 = 2;
const MORE: u64 = 3;

/// A field, its load and its judge.
pub struct Trial {
    pub field: Field,
    pub judge: Judge,
    traffic: Traffic,
}

/// Answers and fruitless tries of each allocator at one moment.
pub type Counts = Vec<(u64, u64)>;

impl Trial {
    /// Load on everything.
    pub fn on(field: Field, seed: u64) -> Trial {
        let judge = Judge::new();
        let traffic = Traffic::on(&field, CALLERS, PACE, seed, &judge);
        Trial { field, judge, traffic }
    }

    pub fn counts(&self) -> Counts {
        (0..self.field.allocators.len()).map(|allocator| self.judge.of(allocator)).collect()
    }

    /// Waits until an allocator has answered so many times more, but not for ever.
    pub async fn answers(&self, allocator: usize, more: u64) -> bool {
        let enough = self.judge.of(allocator).0 + more;
        comes_about(RECOVERED, async || self.judge.of(allocator).0 >= enough).await
    }

    /// Waits until every allocator has answered some times without a failure between.
    pub async fn recovers(&self) -> bool {
        let mut last = self.counts();
        comes_about(RECOVERED, async || {
            let now = self.counts();
            for (last, now) in last.iter_mut().zip(&now) {
                if now.1 > last.1 {
                    *last = *now;
                }
            }
            last.iter().zip(&now).all(|(last, now)| now.0 >= last.0 + IN_A_ROW)
        })
        .await
    }

    /// Ends the load and judges, where processes were replaced meanwhile and took their counts with them.
    pub async fn verdict(self, mut part: Part) -> Part {
        self.traffic.stop().await;
        verdict(&self.judge, &mut part);
        part.ended()
    }

    /// Ends the load, checks that every ID is accounted for, and judges. `part` has its cases by now.
    pub async fn end(self, part: Part) -> Part {
        self.traffic.stop().await;
        end(self.field, &self.judge, part).await
    }
}

/// The end of every part: each ID is accounted for, and the checker has found nothing.
pub async fn end(mut field: Field, judge: &Judge, mut part: Part) -> Part {
    match account::balance(&mut field, judge).await {
        Ok(lost) => part.say(format!("granted IDs, all explained: {lost}")),
        Err(why) => part.fail(why),
    }
    verdict(judge, &mut part);
    part.ended()
}

/// What the checker says.
pub fn verdict(judge: &Judge, part: &mut Part) {
    let seen = judge.seen();
    match judge.verdict(&Least { requests: 100, successes: 50, faults: 0 }) {
        Verdict::Passed => {}
        Verdict::Invalid(why) => part.fail(format!("invalid: {why}")),
        Verdict::Violated => {
            seen.violations.iter().take(10).for_each(|violation| part.say(violation));
            part.fail(format!("{} violations", seen.counts.violations));
        }
    }
    let counts = seen.counts;
    part.figure(format!(
        "{} requests, {} answered, {} duplicates",
        counts.requests, counts.answered, counts.twice
    ));
}

/// Fruitless tries since, and whether these are more than a busy machine excuses.
pub fn failures(before: (u64, u64), after: (u64, u64)) -> (u64, bool) {
    let (answered, failed) = (after.0 - before.0, after.1 - before.1);
    (failed, failed > (answered + failed) * PERCENT / 100 + MORE)
}
