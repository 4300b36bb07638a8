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
    ("a_canary_that_must_fail_fails", || assert!(canary_dies())),
    ("the_same_seed_gives_the_same_log_byte_for_byte", the_same_seed_gives_the_same_log),
    ("the_same_seed_gives_the_same_log_in_another_process", another_process_gives_the_same_log),
    ("a_schedule_that_fails_is_shrunk_to_what_it_fails_by", shrink::finds_the_fewest),
    ("a_few_seeds_pass", a_few_seeds_pass),
];

/// The checks, in the words of other tests: `args` are those of a test program, names or parts of names among them.
pub fn main(args: &[String]) -> ExitCode {
    let wanted = |name: &str| {
        let mut names = args.iter().filter(|arg| !arg.starts_with('-')).peekable();
        names.peek().is_none() || names.any(|part| name.contains(part.as_str()))
    };
    if args.iter().any(|arg| arg == "--list") {
        // None is ignored.
        let all = CHECKS.iter().filter(|_| !args.iter().any(|arg| arg == "--ignored"));
        all.for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0, 0);
    for (name, check) in CHECKS.iter().filter(|(name, _)| wanted(name)) {
        let well = catch_unwind(AssertUnwindSafe(check)).is_ok();
        println!("test {name} ... {}", if well { "ok" } else { "FAILED" });
        if well {
            passed += 1;
        } else {
            failed += 1;
            crate::panics::heard().iter().for_each(|why| println!("  {why}"));
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed");
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
    for seed in 1..=3 {
        let outcome = run(&Schedule::draw(seed), Watched::default());
        assert_eq!(outcome.verdict, Verdict::Passed, "seed {seed}: {:?}", outcome.violations);
    }
}
