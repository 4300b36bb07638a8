//! The simulation checks itself: it repeats to the byte, it notices what it must, and it shrinks what fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::Duration;

use blockhouse::block::checker::{Rule, Verdict};

use crate::run::{Watched, run};
use crate::schedule::Schedule;
use crate::shrink;

type Check = (&'static str, fn());

const CHECKS: [Check; 5] = [
    ("a canary that must fail fails", || assert!(canary_dies())),
    ("the same seed gives the same log, byte for byte", the_same_seed_gives_the_same_log),
    ("the same seed gives the same log in another process", another_process_gives_the_same_log),
    ("a schedule that fails is shrunk to what it fails by", shrink::finds_the_fewest),
    ("a few seeds pass", a_few_seeds_pass),
];

/// All checks, in the words of other tests.
pub fn all() -> ExitCode {
    let mut failed = 0;
    for (name, check) in CHECKS {
        let passed = catch_unwind(AssertUnwindSafe(check)).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed += 1;
            crate::panics::heard().iter().for_each(|why| println!("  {why}"));
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {} passed; {failed} failed", CHECKS.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Pods that hand out again what was popped, as a Redis does that went back in time and isn't recognised: whoever doesn't notice that
/// is dead.
pub fn canary_dies() -> bool {
    let schedule = Schedule::measure(Duration::from_secs(30));
    let outcome = run(&schedule, Watched { canary: true, ..Watched::default() });
    outcome.verdict == Verdict::Violated
        && outcome.violations.iter().any(|violation| violation.rule == Rule::Twice)
}

const LOGGED: Watched = Watched { logs: true, canary: false };

fn the_same_seed_gives_the_same_log() {
    for seed in [2, 7] {
        let schedule = Schedule::draw(seed);
        let [one, other] = [(); 2].map(|()| run(&schedule, LOGGED).log.expect("a log was asked for"));
        assert!(one.len() > 10_000, "only {} bytes", one.len());
        assert_eq!(first_difference(&one, &other), None, "seed {seed}");
    }
    let [one, other] = [2, 7].map(|seed| run(&Schedule::draw(seed), LOGGED).log);
    assert!(one != other, "another seed gives another log");
}

fn another_process_gives_the_same_log() {
    let own = std::env::current_exe().expect("this program is somewhere");
    for seed in [4, 11] {
        let ours = run(&Schedule::draw(seed), LOGGED).log.expect("a log was asked for");
        let folder = tempfile::tempdir().expect("a folder for a log");
        let path = folder.path().join("log");
        let seed = seed.to_string();
        let ran = Command::new(&own).args(["--seed", &seed, "--log"]).arg(&path).output();
        let ran = ran.expect("this program runs");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
        let theirs = std::fs::read_to_string(&path).expect("it wrote its log");
        assert_eq!(first_difference(&ours, &theirs), None, "seed {seed}");
    }
}

fn first_difference<'a>(one: &'a str, other: &'a str) -> Option<(&'a str, &'a str)> {
    one.lines()
        .zip(other.lines())
        .find(|(one, other)| one != other)
        .or_else(|| (one != other).then_some(("of different length", "of different length")))
}

fn a_few_seeds_pass() {
    for seed in 1..=6 {
        let outcome = run(&Schedule::draw(seed), Watched::default());
        assert_eq!(outcome.verdict, Verdict::Passed, "seed {seed}: {:?}", outcome.violations);
    }
}
