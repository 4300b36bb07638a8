//! Random faults by seed: no ID twice, and every granted ID is somewhere.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::faults::Line;
use crate::world::{ALLOCATOR, HYDRATOR, PATIENCE, Process, World, settings, until, with};

const SECOND: Duration = Duration::from_secs(1);
const SEEDS: u64 = 8;

/// Faults of which every call is certain: it happened, or it didn't.
const CERTAIN: [Line; 3] = [Line::Well, Line::Refuses, Line::Full];
/// And those that leave it open.
const ANY: [Line; 6] = [
    Line::Well,
    Line::Refuses,
    Line::Full,
    Line::Swallows,
    Line::LosesReply,
    Line::Late(Duration::from_millis(120)),
];
const ACTORS: [&str; 6] = ["allocator", "router", "buffer", "database", "supervisor", "hydrator"];

/// Some callers at once, whatever they get.
async fn callers(processes: &[Process], rng: &mut fastrand::Rng) {
    let calls = (0..rng.usize(1..8)).map(|_| {
        let process = &processes[rng.usize(..processes.len())];
        let patience = Duration::from_millis(rng.u64(1..1_500));
        process.take_within(rng.usize(..2), rng.u32(1..2_500), patience)
    });
    let calls: Vec<_> = calls.collect();
    join_all(calls).await;
    sleep(Duration::from_millis(rng.u64(..200))).await;
}

/// Changes something at random.
fn disturb(
    world: &World,
    processes: &[Process],
    hydrator: &Process,
    lines: &[Line],
    rng: &mut fastrand::Rng,
) {
    let line = lines[rng.usize(..lines.len())];
    match rng.u32(..10) {
        0..4 => world.pods[rng.usize(..world.pods.len())].set(line),
        4..6 => {
            let operation = ["push", "pop", "raise", "publish", "heartbeat"][rng.usize(..5)];
            world.pods[rng.usize(..world.pods.len())].set_for(operation, line);
        }
        6 => processes[rng.usize(..processes.len())].link.line.set(line),
        7 => hydrator.link.line.set(line),
        8 => processes[rng.usize(..processes.len())].panic(ACTORS[rng.usize(..ACTORS.len())]),
        _ => hydrator.panic(ACTORS[rng.usize(..ACTORS.len())]),
    }
}

/// Ends all faults, and sees everything serve again.
async fn heal(world: &World, processes: &[Process], hydrator: &Process) {
    world.pods.iter().for_each(|pod| pod.set(Line::Well));
    processes.iter().chain([hydrator]).for_each(|process| process.link.line.set(Line::Well));
    for process in processes {
        for worker in 0..2 {
            until("it serves again", PATIENCE, async || process.take(worker, 100).await.is_ok()).await;
        }
    }
    until("the pods are filled again", PATIENCE * 6, async || world.in_pods().await >= 28_000).await;
}

#[test]
fn where_every_call_is_certain_every_id_is_accounted_for_to_the_unit() {
    for seed in 0..SEEDS {
        with(settings(), 3, seed, async |world| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let hydrator = world.start_hydrator().await;
            let processes = [world.start("a", ALLOCATOR), world.start("b", ALLOCATOR)];
            let until = Instant::now() + 120 * SECOND;
            while Instant::now() < until {
                callers(&processes, &mut rng).await;
                if rng.u32(..4) == 0 {
                    disturb(&world, &processes, &hydrator, &CERTAIN, &mut rng);
                }
            }
            heal(&world, &processes, &hydrator).await;
            world.assert_unique();
            join_all(processes.iter().map(|process| process.stop())).await;
            hydrator.stop().await;
            let discarded: i64 = processes.iter().chain([&hydrator]).map(Process::discarded).sum();
            let (granted, given, held) = (world.granted().await, world.given(), world.empty_pods().await);
            assert_eq!(
                granted,
                given + held + discarded,
                "seed {seed}: {given} given, {held} held, {discarded} discarded"
            );
        });
    }
}

#[test]
fn whatever_is_lost_late_or_crashes_no_id_is_given_twice_and_all_serves_again() {
    for seed in 0..SEEDS {
        with(settings(), 3, seed, async |world| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut hydrator = world.start_hydrator().await;
            let mut processes = vec![world.start("a", ALLOCATOR), world.start("b", ALLOCATOR)];
            let until = Instant::now() + 120 * SECOND;
            while Instant::now() < until {
                callers(&processes, &mut rng).await;
                match rng.u32(..60) {
                    0..20 => disturb(&world, &processes, &hydrator, &ANY, &mut rng),
                    20 => {
                        hydrator.crash().await;
                        hydrator = world.start("hydrator", HYDRATOR);
                    }
                    21 => {
                        processes.swap_remove(rng.usize(..2)).crash().await;
                        processes.push(world.start(&format!("at {:?}", Instant::now()), ALLOCATOR));
                    }
                    _ => {}
                }
            }
            heal(&world, &processes, &hydrator).await;
            world.assert_unique();
        });
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut seen = (0, 0);
        with(settings(), 3, seed, async |world| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let hydrator = world.start_hydrator().await;
            let processes = [world.start("a", ALLOCATOR), world.start("b", ALLOCATOR)];
            for _ in 0..200 {
                callers(&processes, &mut rng).await;
                disturb(&world, &processes, &hydrator, &ANY, &mut rng);
            }
            seen = (world.given(), world.granted().await);
        });
        seen
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}
