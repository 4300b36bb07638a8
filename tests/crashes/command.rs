//! The command: a table out, and one last line.

use std::process::{Command, ExitCode};

use crate::points::{POINTS, Point, Victim};
use crate::trial;
use crate::trials::books::{self, Lost};
use crate::trials::command::{self, Asked, Verdict};
use crate::trials::lanes;
use crate::world::World;

const USAGE: &str = "\
tests/crash-matrix [--trials N] [--seed S] [--share K] [--only TEXT] [--lanes N]

Stops a process at each of its named points and kills an allocator, the hydrator, a pod or PostgreSQL at that instant, 100 times
each. --trials N: so many times each; --share 10: a tenth of that; --only TEXT: those that have this in their name; --lanes N: so
many worlds of servers beside each other (3). Ends with 1 where an ID came twice or is unexplained, where the service did not
recover, or where less happened than must.";

/// So many of the trials, of 100, must have hit their point.
const FEWEST: u64 = 90;

/// One cell of the matrix.
struct Job {
    point: Point,
    victim: Victim,
    seed: u64,
    trials: u64,
}

/// What it showed.
struct Cell {
    fired: u64,
    in_flight: u64,
    twice: u64,
    lost: Lost,
    faults: Vec<String>,
}

pub fn main() -> ExitCode {
    command::main(USAGE, |asked| match std::env::var_os("FAILPOINTS") {
        Some(_) => run(asked),
        None => again_with_a_folder(),
    })
}

/// Processes that are started from here must know where to ask whether they are to stop.
fn again_with_a_folder() -> ExitCode {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let own = std::env::current_exe().expect("this program is somewhere");
    let mut command = Command::new(own);
    command.args(std::env::args().skip(1)).env("FAILPOINTS", folder.path());
    let status = command.status().expect("this program runs");
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn run(asked: &Asked) -> ExitCode {
    let mut verdict = Verdict::begin();
    verdict.part("canaries", &books::canaries());
    let mut seeds = fastrand::Rng::with_seed(asked.seed);
    let cells = POINTS.iter().flat_map(|point| Victim::ALL.map(|victim| (*point, victim)));
    let jobs = cells.map(|(point, victim)| Job { point, victim, seed: seeds.u64(..), trials: asked.trials });
    let wanted = |job: &Job| asked.only.as_ref().is_none_or(|part| job.name().contains(part.as_str()));
    let jobs: Vec<Job> = jobs.filter(wanted).collect();
    if jobs.is_empty() {
        verdict.part("the choice", &["invalid: nothing has this in its name".to_owned()]);
    }
    println!("seed {}, {} trials of each of {} combinations", asked.seed, asked.trials, jobs.len());
    let cells = lanes::run(asked.lanes, &jobs, World::build, cell);
    table(&jobs, &cells);
    for (job, cell) in jobs.iter().zip(&cells) {
        match cell {
            Some(cell) => verdict.part(&job.name(), &cell.faults),
            None => verdict.part(&job.name(), &["it panicked: see above".to_owned()]),
        }
    }
    verdict.end()
}

impl Job {
    fn name(&self) -> String {
        format!("{}, {} killed", self.point.title(), self.victim.name())
    }
}

async fn cell(world: &mut World, job: &Job) -> Cell {
    let mut rng = fastrand::Rng::with_seed(job.seed);
    let before = world.books.twice();
    let (mut fired, mut in_flight, mut faults) = (0, 0, Vec::new());
    world.begin().await;
    for _ in 0..job.trials {
        match trial::run(world, job.point, job.victim, &mut rng).await {
            Ok(Some(shown)) => {
                fired += 1;
                in_flight += u64::from(shown.in_flight);
            }
            Ok(None) => {}
            Err(why) => faults.push(why),
        }
    }
    let (lost, wrong) = world.end().await;
    faults.extend(wrong);
    let least = (job.trials * FEWEST).div_ceil(100);
    if fired < least {
        faults.push(format!("invalid: {fired} trials hit their point, fewer than {least} of {}", job.trials));
    }
    let twice = world.books.twice() - before;
    eprintln!(
        "{}: {fired} kills, {in_flight} with requests in flight, {twice} duplicates, {} faults",
        job.name(),
        faults.len()
    );
    Cell { fired, in_flight, twice, lost, faults }
}

fn table(jobs: &[Job], cells: &[Option<Cell>]) {
    println!();
    println!(
        "| point | killed | trials | with requests in flight | duplicates | granted | in pods that died | with processes that died | in doubt | discarded |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    let (mut fired, mut in_flight, mut twice) = (0, 0, 0);
    for (job, cell) in jobs.iter().zip(cells) {
        let Some(cell) = cell else { continue };
        let Lost { granted, discarded, in_doubt, crashed, with_pods } = cell.lost;
        println!(
            "| {} | {} | {} | {} % | {} | {granted} | {with_pods} | {crashed} | {in_doubt} | {discarded} |",
            job.point.title(),
            job.victim.name(),
            cell.fired,
            percent(cell.in_flight, cell.fired),
            cell.twice,
        );
        fired += cell.fired;
        in_flight += cell.in_flight;
        twice += cell.twice;
    }
    println!();
    println!(
        "{fired} kills at their point, {} % with requests in flight, {twice} duplicates",
        percent(in_flight, fired)
    );
}

fn percent(part: u64, of: u64) -> u64 {
    (100 * part).checked_div(of).unwrap_or(0)
}
