//! The command: seeds in, one line out.

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use blockhouse::block::checker::Verdict;

use crate::fault::Kind;
use crate::run::{Outcome, Watched, run};
use crate::schedule::Schedule;
use crate::{selfcheck, shrink};

const USAGE: &str = "\
tests/simulate --seeds N         the seeds 1 to N; with --from S, N from S on; with --until-failed, to the first that breaks a promise
tests/simulate --seed S          one seed; with --only 3,7 no faults but these of its schedule
tests/simulate --hours H         seeds from the clock on, for so many hours
tests/simulate --rate            how much virtual time passes in a second, for a cluster of 3 allocators, 3 pods and 1 ledger
               --log FILE        writes what happened in the last seed
tests/simulate                   checks the simulation itself, and a few seeds";

const FLAGS: [&str; 8] =
    ["--seed", "--seeds", "--hours", "--rate", "--log", "--only", "--from", "--until-failed"];

/// What is asked for.
#[derive(Default)]
struct Asked {
    seed: Option<u64>,
    seeds: Option<u64>,
    hours: Option<f64>,
    only: Option<Vec<usize>>,
    log: Option<String>,
    rate: bool,
    from: Option<u64>,
    until_failed: bool,
}

pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    crate::panics::listen();
    if !args.iter().any(|arg| FLAGS.contains(&arg.as_str())) {
        return selfcheck::main(&args);
    }
    let Some(asked) = read(&args).filter(Asked::is_whole) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if asked.rate {
        return measure();
    }
    if !selfcheck::canary_dies() {
        println!("FAILED: the canary lives: an ID that is given twice is not noticed");
        return ExitCode::FAILURE;
    }
    match asked.seed {
        Some(seed) => one(seed, &asked),
        None => many(&asked),
    }
}

impl Asked {
    fn is_whole(&self) -> bool {
        self.rate || self.seed.is_some() || self.seeds.is_some() || self.hours.is_some()
    }
}

fn read(args: &[String]) -> Option<Asked> {
    let mut asked = Asked::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rate" => asked.rate = true,
            "--until-failed" => asked.until_failed = true,
            "--from" => asked.from = Some(args.next()?.parse().ok()?),
            "--seed" => asked.seed = Some(args.next()?.parse().ok()?),
            "--seeds" => asked.seeds = Some(args.next()?.parse().ok()?),
            "--hours" => asked.hours = Some(args.next()?.parse().ok()?),
            "--log" => asked.log = Some(args.next()?.clone()),
            "--only" => {
                let numbers = args.next()?.split(',').filter(|number| !number.is_empty());
                asked.only = Some(numbers.map(|number| number.parse().ok()).collect::<Option<_>>()?);
            }
            _ => return None,
        }
    }
    Some(asked)
}

/// Sums of what many seeds showed.
#[derive(Default)]
struct Sums {
    seeds: u64,
    lasted: Duration,
    answers: u64,
    ids: i128,
    refused: u64,
    twice: u64,
    failed: u64,
    invalid: u64,
    fired: BTreeMap<Kind, u64>,
}

impl Sums {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.lasted += outcome.lasted;
        self.answers += outcome.counts.answered;
        self.refused += outcome.counts.failed;
        self.twice += outcome.counts.twice;
        self.ids += outcome.ids;
        self.failed += u64::from(outcome.verdict == Verdict::Violated);
        self.invalid += u64::from(matches!(outcome.verdict, Verdict::Invalid(_)));
        for (kind, count) in &outcome.fired {
            *self.fired.entry(*kind).or_default() += count;
        }
    }

    fn tell(&self, took: Duration) -> ExitCode {
        for (kind, count) in &self.fired {
            println!("{count:>9} × {}", kind.name());
        }
        let faults: u64 = self.fired.values().sum();
        let Sums { seeds, lasted, answers, ids, refused, twice, failed, invalid, .. } = self;
        println!(
            "{seeds} seeds, {:.2} virtual hours in {:.0} s, {answers} answers with {ids} IDs ({refused} refusals), {faults} faults, \
             {twice} duplicates, {failed} seeds failed, {invalid} invalid",
            lasted.as_secs_f64() / 3600.0,
            took.as_secs_f64(),
        );
        if *failed + *invalid + *twice == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn one(seed: u64, asked: &Asked) -> ExitCode {
    let began = Instant::now();
    let mut schedule = Schedule::draw(seed);
    if let Some(only) = &asked.only {
        schedule = schedule.only(only);
    }
    let outcome = run(&schedule, Watched { logs: asked.log.is_some(), ..Watched::default() });
    println!("{schedule}");
    tell_broken(seed, &outcome);
    write_log(asked, &outcome);
    let mut sums = Sums::default();
    sums.add(&outcome);
    sums.tell(began.elapsed())
}

fn many(asked: &Asked) -> ExitCode {
    let began = Instant::now();
    let until = asked.hours.map(|hours| began + Duration::from_secs_f64(hours * 3600.0));
    let first = match asked.hours {
        Some(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() << 20,
        None => asked.from.unwrap_or(1),
    };
    let last = asked.seeds.map_or(u64::MAX, |seeds| first.saturating_add(seeds - 1));
    if asked.hours.is_some() {
        println!("from seed {first} on");
    }
    let (next, sums) = (AtomicU64::new(first), Mutex::new(Sums::default()));
    let over = AtomicBool::new(false);
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed > last || over.load(Ordering::Relaxed) || until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let outcome = run(&Schedule::draw(seed), Watched::default());
        sums.lock().expect("nobody panics with it in hand").add(&outcome);
        if outcome.verdict != Verdict::Passed {
            tell_broken(seed, &outcome);
            if outcome.verdict == Verdict::Violated && asked.until_failed {
                // The seeds before it are under way, and end.
                over.store(true, Ordering::Relaxed);
            } else if outcome.verdict == Verdict::Violated {
                println!("{}", shrink::shrunk(&Schedule::draw(seed), &outcome));
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    if asked.log.is_some() {
        let seed = next.load(Ordering::Relaxed).min(last);
        write_log(asked, &run(&Schedule::draw(seed), Watched { logs: true, ..Watched::default() }));
    }
    sums.into_inner().expect("nobody panicked with it in hand").tell(began.elapsed())
}

fn tell_broken(seed: u64, outcome: &Outcome) {
    match &outcome.verdict {
        Verdict::Passed => {}
        Verdict::Invalid(why) => println!("INVALID seed {seed}: {why}"),
        Verdict::Violated => {
            println!("FAILED seed {seed}: {} violations", outcome.counts.violations);
            outcome.violations.iter().take(5).for_each(|violation| println!("  {violation}"));
            println!("replay: tests/simulate --seed {seed} --log FILE");
        }
    }
}

fn write_log(asked: &Asked, outcome: &Outcome) {
    if let (Some(path), Some(log)) = (&asked.log, &outcome.log)
        && let Err(error) = fs::write(path, log)
    {
        println!("the log can't be written to {path}: {error}");
    }
}

fn measure() -> ExitCode {
    let began = Instant::now();
    let outcome = run(&Schedule::measure(Duration::from_secs(3_600)), Watched::default());
    let took = began.elapsed();
    let rate = outcome.lasted.as_secs_f64() / took.as_secs_f64();
    tell_broken(1, &outcome);
    println!(
        "{:.0} virtual seconds in {:.1} s: {rate:.0} a second, {} answers",
        outcome.lasted.as_secs_f64(),
        took.as_secs_f64(),
        outcome.counts.answered
    );
    if outcome.verdict == Verdict::Violated { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
