//! A small fuzzer for stable Rust.
//!
//! An input is taken from the pool (the target's corpus, and whatever did something new in this run), changed a few times at
//! random, and given to the target. A target says what became of the input in a few words; an input whose words were never heard
//! before joins the pool, which is what coverage does for libFuzzer, coarser but on every compiler. The same seed and number
//! of inputs give the same run.
//!
//! Why not `bolero` or `proptest`: on stable both make inputs out of nothing, and hardly ever make one that gets far into a parser;
//! neither changes what stands in a corpus.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::corpus;

/// The longest input.
const LONGEST: usize = 4096;

/// How often a failing input is made smaller before it is shown.
const SHRINKS: usize = 400;

/// What became of an input, in a few words; or which rule it broke.
pub type Verdict = Result<String, String>;

/// How long to go on, and from which seed.
#[derive(Debug, Clone)]
struct Plan {
    seed: u64,
    /// Instead of a number of inputs.
    time: Option<Duration>,
    /// Writes what did something new to the corpus.
    keep: bool,
}

impl Plan {
    /// What `tests/fuzz/run` says; else what CI does.
    fn of_process() -> Plan {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number = |name: &str| variable(name).map(|value| value.parse().expect("a whole number"));
        Plan {
            seed: number("FUZZ_SEED").unwrap_or(1),
            time: number("FUZZ_SECONDS").map(Duration::from_secs),
            keep: variable("FUZZ_KEEP").is_some(),
        }
    }
}

/// Tries `inputs` inputs (or as many as `FUZZ_SECONDS` allows) on `target`, after every line of its corpus. `words` are pieces
/// that the target's inputs are made of.
///
/// # Panics
/// An input breaks a rule of the target, or makes the product panic: it is shown with the line to add to the corpus.
pub fn fuzz(name: &str, words: &[&str], inputs: usize, target: impl FnMut(&[u8]) -> Verdict) {
    let plan = Plan::of_process();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let pool = corpus::read(&path);
    assert!(!pool.is_empty(), "{} holds no input", path.display());
    let found = explore(name, &plan, pool, words, inputs, target);
    if plan.keep {
        corpus::append(&path, &found);
    }
}

/// Gives the inputs that did something new.
fn explore(
    name: &str,
    plan: &Plan,
    mut pool: Vec<Vec<u8>>,
    words: &[&str],
    inputs: usize,
    mut target: impl FnMut(&[u8]) -> Verdict,
) -> Vec<Vec<u8>> {
    let tried = |input: &[u8], target: &mut _| tried(name, plan.seed, input, target);
    let mut heard: HashSet<String> = pool.iter().map(|input| tried(input, &mut target)).collect();
    let mut found = Vec::new();
    let mut rng = Rng::with_seed(plan.seed);
    let (began, mut count) = (Instant::now(), 0);
    while plan.time.map_or(count < inputs, |time| began.elapsed() < time) {
        let input = changed(&pool, words, &mut rng);
        if heard.insert(tried(&input, &mut target)) {
            found.push(input.clone());
            pool.push(input);
        }
        count += 1;
    }
    let (seed, kinds, new) = (plan.seed, heard.len(), found.len());
    println!(
        "{name}: seed {seed}, {count} inputs, {kinds} kinds of outcome, {new} of them not in the corpus"
    );
    found
}

fn tried(name: &str, seed: u64, input: &[u8], target: &mut impl FnMut(&[u8]) -> Verdict) -> String {
    match judged(input, target) {
        Ok(words) => words,
        Err(rule) => {
            let least = shrunk(input, target);
            panic!(
                "{name} (seed {seed}): {rule}\nadd this line to tests/fuzz/corpus/{name}:\n{}",
                corpus::escaped(&least)
            )
        }
    }
}

fn judged(input: &[u8], target: &mut impl FnMut(&[u8]) -> Verdict) -> Verdict {
    let judged = catch_unwind(AssertUnwindSafe(|| target(input)));
    judged.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        Err(format!("it panicked: {}", text.unwrap_or_default()))
    })
}

/// The smallest input found that still breaks a rule: pieces are left out, halves first.
fn shrunk(input: &[u8], target: &mut impl FnMut(&[u8]) -> Verdict) -> Vec<u8> {
    let (mut least, mut piece, mut tries) = (input.to_vec(), input.len() / 2, 0);
    while piece > 0 && tries < SHRINKS {
        let mut at = 0;
        while at < least.len() && tries < SHRINKS {
            let mut shorter = least.clone();
            shorter.drain(at..(at + piece).min(least.len()));
            tries += 1;
            match judged(&shorter, target) {
                Err(_) => least = shorter,
                Ok(_) => at += piece,
            }
        }
        piece /= 2;
    }
    least
}

/// One of the pool, changed a few times.
fn changed(pool: &[Vec<u8>], words: &[&str], rng: &mut Rng) -> Vec<u8> {
    let mut input = pick(pool, rng).clone();
    for _ in 0..1 + rng.usize(..4) {
        change(&mut input, pool, words, rng);
    }
    input.truncate(LONGEST);
    input
}

fn pick<'a, T>(from: &'a [T], rng: &mut Rng) -> &'a T {
    &from[rng.usize(..from.len())]
}

/// Numbers at which arithmetic goes wrong.
const EDGES: &[&str] = &[
    "0",
    "1",
    "-1",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "1e400",
    "1.5",
];

fn change(input: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&str], rng: &mut Rng) {
    let at = rng.usize(..=input.len());
    let until = (at + 1 + rng.usize(..8)).min(input.len());
    match rng.u8(..10) {
        0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
        1 if at < input.len() => input[at] = rng.u8(..),
        2 => input.insert(at, rng.u8(..)),
        3 => drop(input.drain(at..until)),
        4 => {
            let again = input[at..until].to_vec();
            input.splice(at..at, again);
        }
        5 => {
            let other = pick(pool, rng);
            let from = rng.usize(..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        6 if !words.is_empty() => drop(input.splice(at..at, pick(words, rng).bytes())),
        7 if !words.is_empty() => drop(input.splice(at..until, pick(words, rng).bytes())),
        8 => drop(input.splice(number_at(input, at), pick(EDGES, rng).bytes())),
        _ => input.truncate(at),
    }
}

/// The digits around `at`; where there are none, only the place.
fn number_at(input: &[u8], at: usize) -> std::ops::Range<usize> {
    let before = input[..at].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let after = input[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    at - before..at + after
}

#[test]
fn a_rule_that_is_broken_is_found_and_the_input_is_made_small() {
    let target = |input: &[u8]| match input.windows(2).any(|pair| pair == b"7:") {
        true => Err("a seven before a colon".to_owned()),
        false => Ok(String::new()),
    };
    let plan = Plan { seed: 1, time: None, keep: false };
    let explored = || explore("try", &plan, vec![b"12:3456".to_vec()], &["7"], 100_000, target);
    let failed = catch_unwind(explored).expect_err("it is found");
    let said = failed.downcast_ref::<String>().expect("a text");
    assert!(said.contains("a seven before a colon") && said.ends_with("\n7:"), "{said}");
}

#[test]
fn a_panic_of_the_product_is_a_broken_rule() {
    let failed = judged(b"x", &mut |_| panic!("oh"));
    assert_eq!(failed, Err("it panicked: oh".to_owned()));
}

#[test]
fn the_same_seed_gives_the_same_inputs() {
    let inputs = |seed| {
        let (pool, mut rng) = (vec![b"12:3".to_vec()], Rng::with_seed(seed));
        std::iter::repeat_with(|| changed(&pool, &[":"], &mut rng)).take(100).collect::<Vec<_>>()
    };
    assert_eq!(inputs(5), inputs(5));
    assert_ne!(inputs(5), inputs(6));
}
