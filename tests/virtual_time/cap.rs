//! A ledger that jumps after a failover: what processes do with an hour that is used up.

use std::time::Duration;

use blockhouse::block::{OnFailover, Reason, Refusal};
use blockhouse::ledger::{Admin, SequenceChange};
use tokio::time::{Instant, sleep};

use crate::world::{ALLOCATOR, HYDRATOR, PATIENCE, Process, World, settings, until, with};

const GAP: i64 = 40_000;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Caps `tasks` at `gap` IDs an hour.
async fn cap(world: &World, gap: i64) {
    let change = SequenceChange { failover_gap: Some(gap), ..SequenceChange::default() };
    world.ledger.set("tasks", &change).await.unwrap();
    world.ledger.set_on_failover(OnFailover::Jump).await.unwrap();
}

/// Starts a hydrator that wants far more than the cap allows.
fn start_hydrator(world: &World) -> Process {
    world.start_with("hydrator", HYDRATOR, |settings| settings.hydrator.min_ids = 1_000_000)
}

/// Takes a thousand IDs at a time until that is refused; gives how often it went well, and the refusal.
async fn take_all(process: &Process) -> (i64, Refusal) {
    let mut times = 0;
    loop {
        match process.take(0, 1_000).await {
            Ok(_) => times += 1,
            Err(refusal) => return (times, refusal),
        }
    }
}

/// What is wrong with `about` in it, as the process sees it.
async fn problems(process: &Process, about: &str) -> Vec<String> {
    let found = process.actors.control.status().await.problems;
    found.into_iter().map(|problem| problem.what).filter(|what| what.contains(about)).collect()
}

fn capped(hydrator: &Process) -> bool {
    hydrator.shared.supply(|supply| supply.capped.contains("tasks"))
}

#[test]
fn hydrating_leaves_a_quarter_and_who_comes_after_it_is_told_why_and_when() {
    with(settings(), 3, 1, async |world| {
        cap(&world, GAP).await;
        let hydrator = start_hydrator(&world);
        until("three quarters lie in the pods", PATIENCE, async || world.in_pods().await == GAP / 4 * 3)
            .await;
        sleep(60 * SECOND).await;
        assert_eq!(world.granted().await, GAP / 4 * 3, "and no more than that");

        let allocator = world.start("allocator", ALLOCATOR);
        allocator.ready().await;
        let (times, refusal) = take_all(&allocator).await;
        assert_eq!(times, GAP / 1_000, "all that an hour is allowed, a quarter of it from the ledger");
        assert_eq!(refusal.reason, Reason::SequenceRateCapped);
        assert!(
            refusal.message.contains("failover_gap")
                && refusal.message.contains("blockhouse sequence set tasks")
        );
        let wait = refusal.retry_after.unwrap();
        assert!(wait > HOUR - 300 * SECOND && wait <= HOUR + 300 * SECOND, "{wait:?}");
        let told =
            |key| refusal.metadata.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str());
        assert_eq!(
            (told("field"), told("limit"), told("allowed")),
            (Some("failover_gap"), Some("40000"), Some("0"))
        );
        assert!(
            hydrator.shared.supply(|supply| supply.last_success.is_some()),
            "that is no failure of the hydrator"
        );
        world.assert_unique();
    });
}

#[test]
fn a_raised_gap_heals_all_of_it_without_a_restart() {
    with(settings(), 3, 1, async |world| {
        cap(&world, GAP).await;
        let hydrator = start_hydrator(&world);
        until("the hydrator is stopped by the cap", PATIENCE, async || capped(&hydrator)).await;
        let allocator = world.start("allocator", ALLOCATOR);
        allocator.ready().await;
        take_all(&allocator).await;

        let low = format!(
            "the pods of sequence 'tasks' run low: its failover gap of {GAP} allows them 30000 IDs in an hour"
        );
        let said = async || problems(&hydrator, "pods").await == [&*low];
        until("it is said why the pods are empty", PATIENCE, said).await;

        // What was taken in a moment is the forecast of a whole day.
        cap(&world, 100_000 * GAP).await;
        until("it counts, once the cluster has seen it", PATIENCE, async || {
            allocator.take(0, 1_000).await.is_ok()
        })
        .await;
        until("the pods are full", PATIENCE, async || world.in_pods().await > 900_000).await;
        until("the cap is no problem any more", PATIENCE, async || {
            problems(&hydrator, "gap").await.is_empty()
        })
        .await;
        world.assert_unique();
    });
}

#[test]
fn of_what_the_cap_leaves_the_modest_get_something() {
    with(settings(), 0, 1, async |world| {
        cap(&world, 1_500).await;
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        process.take(0, 1_000).await.unwrap();
        let (greedy, modest) = futures_util::future::join(process.take(0, 2_000), process.take(0, 10)).await;
        assert_eq!(greedy.unwrap_err().reason, Reason::SequenceRateCapped);
        modest.unwrap();
        assert_eq!(world.granted().await, 1_500);
    });
}

#[test]
fn no_hour_sees_more_than_the_gap_and_the_next_has_ids_again() {
    with(settings(), 2, 1, async |world| {
        cap(&world, GAP).await;
        let _hydrator = start_hydrator(&world);
        let allocators = ["a", "b"].map(|name| world.start(name, ALLOCATOR));
        for allocator in &allocators {
            allocator.ready().await;
        }
        let (end, mut served_at) = (Instant::now() + 5 * HOUR / 2, Vec::new());
        while Instant::now() < end {
            for allocator in &allocators {
                if allocator.take(1, 700).await.is_ok() {
                    served_at.push(Instant::now());
                }
            }
            sleep(20 * SECOND).await;
        }
        let longest = served_at.windows(2).map(|two| two[1] - two[0]).max().unwrap();
        assert!(longest <= HOUR + 300 * SECOND, "nobody got anything for {longest:?}");
        let mut grants = Vec::new();
        for purpose in ["fallback", "hydrate"] {
            grants.extend(world.grants(purpose).await);
        }
        grants.sort_by_key(|grant| grant.at_us);
        for (nth, last) in grants.iter().enumerate() {
            let hour =
                grants[..=nth].iter().rev().take_while(|grant| last.at_us - grant.at_us <= 3_600_000_000);
            let granted: i64 = hour.map(|grant| grant.span.count()).sum();
            assert!(granted <= GAP, "{granted} IDs in the hour before {}", last.at_us);
        }
        assert!(world.given() > 2 * GAP, "two hours and a half gave {} IDs", world.given());
        world.assert_unique();
    });
}

#[test]
fn demand_that_comes_near_the_cap_is_a_problem_before_it_is_reached() {
    with(settings(), 2, 1, async |world| {
        cap(&world, 4_000_000).await;
        let hydrator = world.start_hydrator().await;
        let allocator = world.start("allocator", ALLOCATOR);
        allocator.ready().await;
        assert_eq!(problems(&hydrator, "gap").await, [""; 0]);
        let near = async || {
            allocator.take(0, 700).await.unwrap();
            sleep(SECOND).await;
            !problems(&hydrator, "comes near the 3000000 IDs that its failover gap of 4000000")
                .await
                .is_empty()
        };
        until("the hydrator sees it coming", HOUR, near).await;
        assert!(world.given() < 1_000_000, "long before");
        assert_eq!(
            problems(&allocator, "gap").await,
            [""; 0],
            "only who leads the hydrating knows the demand"
        );

        world.ledger.set_on_failover(OnFailover::Wait).await.unwrap();
        until("where nothing jumps, nothing is capped", PATIENCE, async || {
            problems(&hydrator, "gap").await.is_empty()
        })
        .await;
    });
}

#[test]
fn a_sequence_without_a_gap_keeps_the_ledger_from_jumping_and_every_process_says_so() {
    with(settings(), 1, 1, async |world| {
        cap(&world, 0).await;
        let process = world.start("allocator", ALLOCATOR);
        process.ready().await;
        let said = "after a failover the ledger waits for a person although it is set to jump: sequence 'tasks' has no failover gap";
        assert_eq!(problems(&process, "gap").await, [said]);
        process.take(0, 100_000).await.unwrap();
    });
}
