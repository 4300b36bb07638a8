//! What a command of many trials is asked for, and how it ends.

use std::process::ExitCode;
use std::time::Instant;

/// What is asked for.
pub struct Asked {
    /// Of each combination, the share already applied.
    pub trials: u64,
    pub seed: u64,
    /// So many worlds of servers beside each other.
    pub lanes: usize,
    /// Only what has this in its name.
    pub only: Option<String>,
}

/// Reads the arguments; `None` if there is something among them that isn't understood.
fn read(args: impl Iterator<Item = String>) -> Option<Asked> {
    let mut asked = Asked { trials: 100, seed: 1, lanes: 3, only: None };
    let (mut args, mut share) = (args, 1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--trials" => asked.trials = args.next()?.parse().ok().filter(|trials| *trials > 0)?,
            "--seed" => asked.seed = args.next()?.parse().ok()?,
            "--share" => share = args.next()?.parse().ok().filter(|share| *share > 0)?,
            "--lanes" => asked.lanes = args.next()?.parse().ok().filter(|lanes| *lanes > 0)?,
            "--only" => asked.only = Some(args.next()?),
            _ => return None,
        }
    }
    asked.trials = asked.trials.div_ceil(share);
    Some(asked)
}

/// Runs what is asked for, or says how to ask.
pub fn main(usage: &str, run: impl FnOnce(&Asked) -> ExitCode) -> ExitCode {
    let args = || std::env::args().skip(1);
    if args().any(|arg| arg == "--help" || arg == "-h") {
        println!("{usage}");
        return ExitCode::SUCCESS;
    }
    let Some(asked) = read(args()) else {
        eprintln!("{usage}");
        return ExitCode::from(2);
    };
    run(&asked)
}

/// How a run went, in its last lines.
pub struct Verdict {
    began: Instant,
    passed: u64,
    failed: u64,
}

impl Verdict {
    pub fn begin() -> Verdict {
        Verdict { began: Instant::now(), passed: 0, failed: 0 }
    }

    /// Judges one part of the run, and says why it failed.
    pub fn part(&mut self, name: &str, faults: &[String]) {
        if faults.is_empty() {
            self.passed += 1;
            return;
        }
        self.failed += 1;
        println!("FAILED {name}");
        faults.iter().take(10).for_each(|fault| println!("  {fault}"));
    }

    pub fn end(self) -> ExitCode {
        println!("\n{} s", self.began.elapsed().as_secs());
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
