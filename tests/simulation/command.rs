//! The command: seeds in, one line out.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::run::{Watched, run};
use crate::schedule::Schedule;

pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seed: u64 = args.first().map_or(1, |seed| seed.parse().unwrap_or(1));
    let upto: u64 = args.get(1).map_or(seed + 1, |seed| seed.parse().unwrap_or(1));
    if seed == 0 {
        let began = Instant::now();
        let out = run(&Schedule::measure(Duration::from_secs(600)), Watched::default());
        println!("{:?} in {:?} {:?} {:?}", out.lasted, began.elapsed(), out.counts, out.violations);
        return ExitCode::SUCCESS;
    }
    for seed in seed..upto {
        let began = Instant::now();
        let schedule = Schedule::draw(seed);
        let logs = args.get(2).is_some();
        let out = run(&schedule, Watched { logs, canary: false });
        println!(
            "seed {seed}: {:?} virt {:?} real {:?} {:?}",
            out.verdict,
            out.lasted,
            began.elapsed(),
            out.counts
        );
        for violation in out.violations.iter().take(5) {
            println!("    {violation}");
        }
        if let (Some(log), Some(path)) = (out.log, args.get(2)) {
            std::fs::write(path, format!("{schedule}\n{log}")).unwrap();
        }
    }
    ExitCode::SUCCESS
}
