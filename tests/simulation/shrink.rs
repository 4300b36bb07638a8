//! Finds fewer faults that still break the same promise.

use std::collections::BTreeSet;
use std::fmt::Write;

use blockhouse::block::checker::Rule;

use crate::run::{Outcome, Watched, run};
use crate::schedule::Schedule;

/// Runs that this may cost.
const RUNS: usize = 80;

/// What is left of a schedule that failed, and how to run it, for people.
pub fn shrunk(schedule: &Schedule, outcome: &Outcome) -> String {
    let Some(rule) = outcome.violations.first().map(|violation| violation.rule) else { return String::new() };
    let mut runs = 0;
    let left = fewest(schedule, |numbers| {
        runs += 1;
        runs <= RUNS && breaks(&schedule.only(numbers), rule)
    });
    let mut text = String::new();
    let only: Vec<String> = left.iter().map(usize::to_string).collect();
    let _ = writeln!(text, "{} of its {} faults are enough:", left.len(), schedule.faults.len());
    let _ = writeln!(text, "replay: tests/simulate --seed {} --only {}", schedule.seed, only.join(","));
    let _ = write!(text, "{}", schedule.only(&left));
    text
}

fn breaks(schedule: &Schedule, rule: Rule) -> bool {
    let outcome = run(schedule, Watched::default());
    outcome.violations.iter().any(|violation| violation.rule == rule)
}

/// The numbers of as few faults as `still_fails` allows: whole kinds are dropped first, then halves, then single ones.
fn fewest(schedule: &Schedule, mut still_fails: impl FnMut(&[usize]) -> bool) -> Vec<usize> {
    let mut left: Vec<usize> = (0..schedule.faults.len()).collect();
    let kinds: BTreeSet<_> = schedule.faults.iter().map(|timed| timed.fault.kind()).collect();
    for kind in kinds {
        let of_kind = |number: &usize| schedule.faults[*number].fault.kind() == kind;
        let without: Vec<usize> = left.iter().copied().filter(|number| !of_kind(number)).collect();
        if without.len() < left.len() && still_fails(&without) {
            left = without;
        }
    }
    let mut part = left.len().div_ceil(2);
    while part > 0 && !left.is_empty() {
        let mut at = 0;
        while at < left.len() {
            let mut without = left.clone();
            without.drain(at..(at + part).min(left.len()));
            if still_fails(&without) {
                left = without;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
    left
}

/// A schedule that fails as long as two of its faults are there is shrunk to these two.
pub fn finds_the_fewest() {
    let mut schedule =
        (1..).map(Schedule::draw).find(|schedule| schedule.faults.len() > 20).expect("some seed has");
    schedule.faults.truncate(21);
    let left = fewest(&schedule, |numbers| numbers.contains(&3) && numbers.contains(&17));
    assert_eq!(left, [3, 17]);
}
