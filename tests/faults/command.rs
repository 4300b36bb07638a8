//! The command: which parts are run, and one table of what came of them.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Runtime;

use crate::{judge, soak};

const USAGE: &str = "\
tests/soak [soak] [--minutes M] [--seed S]   faults from a seed for so long; an hour unless said otherwise
tests/soak ci --seed S                       3 minutes of soak, and a seeded tenth of each part
           --share N                         a seeded Nth of the part
Exits with 1 if a promise was broken or too little happened to say anything.";

/// What is asked for.
pub struct Asked {
    pub seed: u64,
    pub minutes: f64,
    /// One of so many cases is run.
    pub share: u64,
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
    let lasts = Duration::from_secs_f64(asked.minutes * 60.0);
    Some(match part {
        "soak" => vec![runtime.block_on(soak::run(asked.seed, lasts))],
        _ => return None,
    })
}

fn read(options: &[String]) -> Option<Asked> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut asked = Asked { seed: now.as_secs(), minutes: 60.0, share: 1 };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let value = options.next()?;
        match option.as_str() {
            "--seed" => asked.seed = value.parse().ok()?,
            "--minutes" => asked.minutes = value.parse().ok()?,
            "--share" => asked.share = value.parse().ok().filter(|share| *share > 0)?,
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
    let (cases, failed) = parts.iter().fold((0, 0), |(cases, failed), part| {
        (cases + part.cases, failed + part.failed)
    });
    println!("{} passed, {failed} failed", cases.saturating_sub(failed));
    if failed == 0 && cases > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
