//! The command: which parts are run, and one table of what came of them.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use tokio::runtime::Runtime;

use crate::{cancels, edges, judge, patterns, pauses, proxies, releases, sizes, soak};

const USAGE: &str = "\
tests/soak [soak] [--minutes M]       faults from a seed for so long; an hour unless said otherwise
tests/soak proxies                    8 toxics in 2 directions on 5 kinds of lines
tests/soak pauses                     every process is stopped, for half of its time-outs to ten times as long
tests/soak cancels                    100,000 callers of whom most give up at a random point
tests/soak patterns                   all patterns of 4 pods that can be reached or not
tests/soak sizes                      the size of blocks is changed in mid-run
tests/soak edges                      the ends of i64, 2^53 and 32 bits, to the last ID
tests/soak releases --beside BINARY   another release's binary beside this one
tests/soak all [--minutes M]          each of these in turn; the last where a binary is given
tests/soak ci                         3 minutes of soak, and a seeded tenth of the others
           --seed S                   the clock's seconds unless said otherwise
           --share N                  of a part's cases an Nth, drawn by the seed
Exits with 1 if a promise was broken or too little happened to say anything.";

/// Of the others in CI.
const TENTH: u64 = 10;

/// Of the soak in CI.
const CI_MINUTES: f64 = 3.0;

/// What is asked for.
#[derive(Clone)]
pub struct Asked {
    pub seed: u64,
    pub minutes: f64,
    /// One of so many cases is run.
    pub share: u64,
    pub beside: Option<PathBuf>,
}

impl Asked {
    /// A share of the cases, drawn by the seed, in another order each time; at least one.
    pub fn some<T>(&self, mut cases: Vec<T>) -> Vec<T> {
        let all = cases.len() as u64;
        if self.share > 1 {
            Rng::with_seed(self.seed).shuffle(&mut cases);
            cases.truncate(all.div_ceil(self.share) as usize);
        }
        cases
    }
}

/// One part of the faults, with what came of it.
pub struct Part {
    name: &'static str,
    began: Instant,
    took: Duration,
    pub cases: u64,
    pub failed: u64,
    pub figures: String,
}

impl Part {
    pub fn new(name: &'static str, began: Instant) -> Part {
        Part { name, began, took: Duration::ZERO, cases: 0, failed: 0, figures: String::new() }
    }

    /// Something that people should know.
    pub fn say(&self, what: impl Display) {
        println!("  {}: {what}", self.name);
    }

    /// For the table.
    pub fn figure(&mut self, what: impl Display) {
        let more = if self.figures.is_empty() { "" } else { "; " };
        self.figures.push_str(&format!("{more}{what}"));
    }

    /// A case failed.
    pub fn fail(&mut self, why: impl Display) {
        println!("FAILED {}: {why}", self.name);
        self.failed += 1;
    }

    pub fn ended(mut self) -> Part {
        self.took = self.began.elapsed();
        self
    }
}

pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (part, options) = match args.split_first() {
        Some((part, options)) if !part.starts_with('-') => (part.as_str(), options),
        _ => ("soak", &args[..]),
    };
    let Some(asked) = read(options) else {
        println!("{USAGE}");
        return ExitCode::from(if options.iter().any(|arg| arg == "--help" || arg == "-h") { 0 } else { 2 });
    };
    if !judge::canary_dies() {
        println!("FAILED: the canary lives: what breaks a rule is not noticed");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let Some(parts) = run(part, &asked, &runtime) else {
        println!("{USAGE}");
        return ExitCode::from(2);
    };
    tell(&asked, &parts)
}

fn run(part: &str, asked: &Asked, runtime: &Runtime) -> Option<Vec<Part>> {
    let lasts = |minutes: f64| Duration::from_secs_f64(minutes * 60.0);
    let soak = |minutes| whole("soak", runtime, soak::run(asked.seed, lasts(minutes)));
    Some(match part {
        "soak" => vec![soak(asked.minutes)],
        "all" | "ci" => {
            let ci = part == "ci";
            let (minutes, share) = if ci { (CI_MINUTES, TENTH) } else { (asked.minutes, asked.share) };
            let asked = Asked { share, ..asked.clone() };
            let mut parts = vec![soak(minutes)];
            let names = PARTS.iter().filter(|name| **name != "releases" || asked.beside.is_some());
            parts.extend(names.filter_map(|name| one(name, &asked, runtime)));
            parts
        }
        part => vec![one(part, asked, runtime)?],
    })
}

const PARTS: [&str; 7] = ["proxies", "pauses", "cancels", "patterns", "sizes", "edges", "releases"];

fn one(part: &str, asked: &Asked, runtime: &Runtime) -> Option<Part> {
    Some(match part {
        "proxies" => whole("proxies", runtime, proxies::run(asked)),
        "pauses" => whole("pauses", runtime, pauses::run(asked)),
        "cancels" => whole("cancels", runtime, cancels::run(asked)),
        "patterns" => whole("patterns", runtime, patterns::run(asked)),
        "sizes" => whole("sizes", runtime, sizes::run(asked)),
        "edges" => whole("edges", runtime, edges::run(asked)),
        "releases" => whole("releases", runtime, releases::run(asked)),
        _ => return None,
    })
}

/// Runs a part. Where a server doesn't start, or a caller panics, the part failed, and the next one has its turn.
fn whole(name: &'static str, runtime: &Runtime, part: impl Future<Output = Part>) -> Part {
    let began = Instant::now();
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(part))).unwrap_or_else(|_| {
        let mut part = Part::new(name, began);
        part.cases = 1;
        part.fail("invalid: it panicked, as said above");
        part.ended()
    })
}

fn read(options: &[String]) -> Option<Asked> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut asked = Asked { seed: now.as_secs(), minutes: 60.0, share: 1, beside: None };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let value = options.next()?;
        match option.as_str() {
            "--seed" => asked.seed = value.parse().ok()?,
            "--minutes" => asked.minutes = value.parse().ok()?,
            "--share" => asked.share = value.parse().ok().filter(|share| *share > 0)?,
            // Processes start in folders of their own.
            "--beside" => asked.beside = Some(std::fs::canonicalize(value).ok()?),
            _ => return None,
        }
    }
    Some(asked)
}

fn tell(asked: &Asked, parts: &[Part]) -> ExitCode {
    println!("\nseed {}", asked.seed);
    println!("{:<10} {:>8} {:>7} {:>8}  figures", "part", "cases", "failed", "seconds");
    for part in parts {
        let Part { name, took, cases, failed, figures, .. } = part;
        println!("{name:<10} {cases:>8} {failed:>7} {:>8.1}  {figures}", took.as_secs_f64());
    }
    let (cases, failed) =
        parts.iter().fold((0, 0), |(cases, failed), part| (cases + part.cases, failed + part.failed));
    println!("{} passed, {failed} failed", cases.saturating_sub(failed));
    if failed == 0 && cases > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
