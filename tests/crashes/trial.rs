//! One trial: a process is stopped at a point, something is killed, started again, and everybody is served once more.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::hold::Armed;
use crate::points::{By, Point, Victim, Who};
use crate::support::process::Process;
use crate::trials::{books, lists};
use crate::world::{GREATEST, RESERVE, SMALL, SUPPLY, World};

/// How long a process may take to come to a point.
const REACHED: Duration = Duration::from_secs(20);
/// The same on its way out: one that holds nothing has nothing to hand back, and is told to end once more.
const REACHED_AT_END: Duration = Duration::from_secs(3);
const TRIES: usize = 5;
/// How long it may take until everybody is served again.
const SERVED: Duration = Duration::from_secs(30);
/// How long a drain may take that goes on after it was held up.
const DRAINED: Duration = Duration::from_secs(15);

/// What one trial showed.
pub struct Shown {
    /// Whether callers had requests under way when it was killed.
    pub in_flight: bool,
}

/// `None` where the process did not come to the point.
pub async fn run(
    world: &mut World,
    point: Point,
    victim: Victim,
    rng: &mut fastrand::Rng,
) -> Result<Option<Shown>, String> {
    let mut held = None;
    for _ in 0..TRIES {
        let armed = Armed::at(point.name, process(world, point).pid());
        bring(world, point).await;
        let deadline = if point.by == By::Drain { REACHED_AT_END } else { REACHED };
        held = armed.reached(deadline).await.ok();
        if held.is_some() || point.by != By::Drain {
            break;
        }
        finish(world, point).await;
    }
    let Some(held) = held else { return Ok(None) };
    let in_flight = world.callers.as_ref().expect("it began").under_way() > 0;
    let (at_once, which) = (rng.bool(), rng.usize(..));
    kill(world, victim, which).await;
    if at_once {
        drop(held);
        start(world, victim, which);
    } else {
        start(world, victim, which);
        drop(held);
    }
    if victim != Victim::Allocator {
        finish(world, point).await;
    }
    let since = Instant::now();
    world.callers.as_ref().expect("it began").served_since(since, SERVED).await?;
    Ok(Some(Shown { in_flight }))
}

fn process(world: &mut World, point: Point) -> &mut Process {
    match point.process {
        Who::Allocator => &mut world.cluster.allocators[0],
        Who::Hydrator => &mut world.cluster.hydrators[0],
    }
}

/// Does what it takes for the process to come to the point.
async fn bring(world: &mut World, point: Point) {
    match point.by {
        By::Callers => {}
        By::Advance => {
            // What the pods hold of the old generation is swept.
            world.may_be_lost += SUPPLY;
            let statement =
                format!("SELECT granted + 1000000 FROM blockhouse.sequences WHERE name = '{SMALL}'");
            let to = world.cluster.ledger().psql(&statement);
            // It is held up before it has heard of it: the command can't wait for everybody.
            world.cluster.command(&["sequence", "advance", SMALL, "--to", &to, "--yes", "--wait", "1ms"]);
            let moved =
                format!("SELECT granted >= {to} - 1 FROM blockhouse.sequences WHERE name = '{SMALL}'");
            assert_eq!(world.cluster.ledger().psql(&moved), "t", "the sequence was moved");
        }
        By::Drain => {
            // What it gives up from here on nobody can ask it.
            world.may_be_lost += RESERVE;
            let process = &world.cluster.allocators[0];
            books::counted(&process.metrics().await, world.cluster.sequences(), &mut world.counted);
            process.signal(Signal::TERM);
        }
    }
}

/// A process that was told to end ends, and begins again.
async fn finish(world: &mut World, point: Point) {
    let process = process(world, point);
    if point.by == By::Drain && process.runs() {
        process.exit(DRAINED).await;
        process.start_again();
        process.ready().await;
    }
}

/// At this instant. Notes what may be lost with it.
async fn kill(world: &mut World, victim: Victim, which: usize) {
    let reserve = RESERVE + 3 * i64::from(GREATEST) + 2 * SUPPLY;
    match victim {
        Victim::Allocator => {
            world.may_be_lost += reserve;
            world.cluster.allocators[0].kill();
        }
        Victim::Hydrator => {
            world.may_be_lost += 2 * SUPPLY;
            world.cluster.hydrators[0].kill();
        }
        Victim::Pod => {
            let at = which % world.cluster.pods.len();
            let pod = &mut world.cluster.pods[at];
            for (sequence, entries) in lists::last_words(pod) {
                world.buried.extend(entries.into_iter().map(|entry| (sequence.clone(), entry)));
            }
            pod.kill();
        }
        Victim::Postgres if which.is_multiple_of(2) => {
            world.cluster.postgres.as_mut().expect("it has one").crash()
        }
        Victim::Postgres => {
            let holder = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'blockhouse/%'
                 ORDER BY application_name, pid LIMIT 1";
            if let Ok(pid) = world.cluster.ledger().psql(holder).parse() {
                let pid = Pid::from_raw(pid).expect("a process id");
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn start(world: &mut World, victim: Victim, which: usize) {
    let cluster = &mut world.cluster;
    match victim {
        Victim::Allocator => cluster.allocators[0].start_again(),
        Victim::Hydrator => cluster.hydrators[0].start_again(),
        Victim::Pod => {
            let at = which % cluster.pods.len();
            cluster.pods[at].restart();
        }
        Victim::Postgres if which.is_multiple_of(2) => {
            cluster.postgres.as_mut().expect("it has one").launch()
        }
        // The server starts itself again, with all its sessions gone.
        Victim::Postgres => cluster.ledger().wait_for("SELECT true"),
    }
}
