//! The hydrator: how it lays in, where it doesn't, and what becomes of what it can't lay in.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::faults::{Cache, Line};
use crate::world::{ALLOCATOR, HYDRATOR, PATIENCE, Process, World, settings, until, with};

const INTERVAL: Duration = Duration::from_secs(5);

/// Uses `ids` IDs, 1,000 at a time.
async fn use_up(world: &World, allocator: &Process, ids: i64) {
    let until = world.given() + ids;
    while world.given() < until {
        allocator.take(0, 1_000).await.unwrap();
    }
}

#[test]
fn each_pod_gets_an_equal_share_by_one_grant_a_pass() {
    with(settings(), 3, 1, async |world| {
        let hydrator = world.start_hydrator().await;
        assert_eq!(world.in_each_pod().await, [10_000; 3]);
        let allocator = world.start("allocator", ALLOCATOR);
        allocator.ready().await;
        for _ in 0..20 {
            use_up(&world, &allocator, 9_000).await;
            sleep(INTERVAL).await;
        }
        let hydrated = world.grants("hydrate").await;
        let passes = hydrator.link.asked_since("lead", hydrator.shared.started);
        let pods = ["memory:1", "memory:2", "memory:3"].map(str::to_owned);
        for pod in pods {
            let of_pod: Vec<_> = hydrated
                .iter()
                .filter(|grant| grant.pod.as_ref() == Some(&pod))
                .map(|grant| grant.at_us)
                .collect();
            assert!(of_pod.len() <= passes, "{} grants for {pod} in {passes} passes", of_pod.len());
            let apart = of_pod.windows(2).map(|two| two[1] - two[0]).min().unwrap();
            assert!(apart >= 4_900_000, "two grants for {pod} {apart} µs apart");
        }
        assert_eq!(world.grants("fallback").await.len(), 0, "what is used is laid in again in time");
        world.assert_unique();
    });
}

#[test]
fn the_first_blocks_lie_in_every_pod_within_two_seconds() {
    with(settings(), 5, 1, async |world| {
        world.start("hydrator", HYDRATOR);
        let filled = async || world.in_each_pod().await.iter().all(|ids| *ids > 0);
        until("each pod has blocks", Duration::from_secs(2), filled).await;
    });
}

#[test]
fn what_a_pod_refused_goes_to_another_and_nothing_is_lost() {
    with(settings(), 3, 1, async |world| {
        world.pods[1].set_for("push", Line::Refuses);
        let hydrator = world.start("hydrator", HYDRATOR);
        sleep(INTERVAL * 4).await;
        let held = world.in_each_pod().await;
        assert_eq!(held[1], 0);
        assert_eq!(
            held.iter().sum::<i64>(),
            world.granted().await,
            "what was granted lies in the other pods"
        );
        assert_eq!(hydrator.discarded(), 0);
    });
}

#[test]
fn an_unanswered_chunk_is_discarded_and_the_rest_goes_elsewhere() {
    let mut plan = settings();
    // More than one chunk of 1,000 blocks for each pod.
    plan.hydrator.min_ids = 9_000_000;
    with(plan, 3, 1, async |world| {
        world.pods[1].set_for("push", Line::LosesReply);
        let hydrator = world.start("hydrator", HYDRATOR);
        until("a chunk is in doubt", PATIENCE, async || hydrator.discarded() > 0).await;
        world.pods[1].set(Line::Well);
        until("the pods are full", PATIENCE, async || world.in_pods().await >= 9_000_000).await;
        hydrator.stop().await;
        let lost = hydrator.discarded();
        assert!(lost > 0 && lost % 1_000_000 == 0, "whole chunks are in doubt, not {lost} IDs");
        // The pod has the very chunk whose push was in doubt: it was carried out.
        assert_eq!(world.granted().await + lost, world.in_pods().await + lost);
    });
}

#[test]
fn a_pod_that_takes_nothing_is_asked_less_and_less() {
    with(settings(), 3, 1, async |world| {
        world.pods[2].set_for("push", Line::Refuses);
        world.start("hydrator", HYDRATOR);
        let (mut asked, minutes) = (Vec::new(), Duration::from_secs(60));
        for _ in 0..4 {
            let began = Instant::now();
            sleep(minutes).await;
            asked.push(world.pods[2].asked_since("push", began));
        }
        assert!(asked[0] > asked[3] && asked[3] <= 1, "pushes by minute: {asked:?}");
        assert!(world.grants("hydrate").await.len() < 20, "nothing is granted for a pod that takes nothing");

        world.pods[2].set(Line::Well);
        let filled = async || world.in_each_pod().await[2] > 0;
        until("the pod is filled again", INTERVAL * 70, filled).await;
    });
}

#[test]
fn a_pod_without_memory_is_left_alone_and_keeps_serving() {
    with(settings(), 2, 1, async |world| {
        let hydrator = world.start_hydrator().await;
        hydrator.stop().await;
        hydrator.crash().await;
        world.empty_pods().await;
        world.pods[0].say_memory(80, 100);
        world.pods[1].say_memory(79, 100);
        world.start("another", HYDRATOR);
        until("the other pod is filled", PATIENCE, async || world.in_each_pod().await[1] > 0).await;
        sleep(INTERVAL * 3).await;
        assert_eq!(world.in_each_pod().await[0], 0, "at 80 % of maxmemory nothing is added");
        world.pods[0].say_memory(50, 100);
        until("it is filled once it has room", PATIENCE, async || world.in_each_pod().await[0] > 0).await;
    });
}

#[test]
fn a_standby_takes_over_within_fifteen_seconds_of_a_crash_and_at_once_after_a_stop() {
    with(settings(), 2, 1, async |world| {
        let first = world.start_hydrator().await;
        let second = world.start("second", HYDRATOR);
        let third = world.start("third", HYDRATOR);
        let leads =
            |process: &crate::world::Process| process.shared.supply(|supply| supply.leads) == Some(true);
        sleep(INTERVAL * 3).await;
        assert!(leads(&first) && !leads(&second) && !leads(&third));

        first.crash().await;
        let one = async || leads(&second) || leads(&third);
        until("one of the standbys leads", Duration::from_secs(15), one).await;
        assert!(leads(&second) != leads(&third), "only one of them leads");

        let (leader, standby) = if leads(&second) { (second, third) } else { (third, second) };
        leader.stop().await;
        until("the other leads", INTERVAL + Duration::from_secs(1), async || leads(&standby)).await;
    });
}

#[test]
fn demand_outlives_the_hydrator_that_measured_it() {
    with(settings(), 2, 1, async |world| {
        let hydrator = world.start_hydrator().await;
        let allocator = world.start("allocator", ALLOCATOR);
        allocator.ready().await;
        // 1,000 IDs a second for an hour and a half.
        for _ in 0..5_400 {
            allocator.take(0, 1_000).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
        let used = world.given();
        hydrator.crash().await;
        world.empty_pods().await;
        // Nobody uses anything any more: what it lays in now it knows from the ledger.
        let another = world.start("another", HYDRATOR);
        sleep(INTERVAL * 14).await;
        let supply = world.in_pods().await;
        assert!(supply >= used * 9 / 10, "{supply} IDs for a day that is to use {used}");
        assert!(supply <= used * 12 / 10, "{supply} IDs for a day that is to use {used}");
        let seconds = another.shared.supply(|supply| supply.sequences["tasks"].1).unwrap();
        assert!(seconds > 70_000.0, "{seconds} s of supply are shown");
        world.assert_unique();
    });
}

#[test]
fn old_grants_are_forgotten_but_never_the_newest() {
    let mut plan = settings();
    plan.ledger.keep_grants = Duration::from_secs(3_600);
    with(plan, 2, 1, async |world| {
        world.start_hydrator().await;
        let allocator = world.start("allocator", ALLOCATOR);
        allocator.ready().await;
        use_up(&world, &allocator, 20_000).await;
        sleep(INTERVAL * 2).await;
        let first = world.ledger.clone();
        let known =
            async |id| blockhouse::ledger::Admin::lookup(&first, "tasks", id).await.unwrap().is_some();
        assert!(known(1).await);
        sleep(Duration::from_secs(3_600 + 2 * 600)).await;
        assert!(!known(1).await, "older than an hour");
        assert!(known(world.granted().await).await, "the newest stays");
    });
}

#[test]
fn two_clusters_of_one_name_are_noticed_by_the_one_that_is_not_filled() {
    with(settings(), 2, 1, async |mut world| {
        let leader = world.start_hydrator().await;
        let standby = world.start("standby", HYDRATOR);
        let mut rng = fastrand::Rng::with_seed(2);
        world.pods = (3..=4).map(|number| Cache::new(number, &mut rng)).collect();
        let stranger = world.start("stranger", HYDRATOR);
        let noticed = async |process: &Process| {
            let problems = process.actors.control.status().await.problems;
            problems
                .iter()
                .any(|problem| problem.what.contains("led by hydrator") && problem.what.contains("one name"))
        };
        until("it is noticed", 3 * PATIENCE, async || noticed(&stranger).await).await;
        assert!(!noticed(&standby).await, "its pods hear of the leader");
        assert_eq!(world.in_pods().await, 0, "what the lead fills is its own");
        leader.crash().await;
        standby.crash().await;
        until("it leads", PATIENCE, async || world.in_pods().await > 0).await;
        until("all is well", PATIENCE, async || !noticed(&stranger).await).await;
    });
}
