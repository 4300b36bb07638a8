//! What leads a process astray closes the good ledger for nobody: a pooler that flips between two primaries, and pods that are away.

use super::{NOTICE, PACE, callers, ends_with_all_served, small_supply, sparing, until, until_granted_in};
use crate::support::cluster::Plan;
use crate::support::pooler::Pooler;
use crate::support::postgres::Postgres;
use crate::support::process::Process;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Cluster, wait};

/// So often is enough for every process to meet either server many times.
const FLIPS: u64 = 150;

/// Allocators whose pods have blocks ask the ledger too, and often.
fn inquisitive(plan: Plan) -> Plan {
    plan.set("exercise.ratio = 0.2").set("exercise.max_per_minute = 600.0")
}

/// A standby that lags behind is promoted, and its primary goes on.
async fn promoted_beside(old: &Postgres) -> Postgres {
    let new = old.standby();
    new.fall_behind();
    let granted = "SELECT granted FROM blockhouse.sequences WHERE name = 'tasks'";
    let replicated = new.psql(granted);
    wait::until(3 * NOTICE, "grants that only the old one has", async || old.psql(granted) != replicated)
        .await;
    new.promote();
    new
}

/// The new primary hears of what it lost, and an operator accepts it.
async fn is_accepted(cluster: &Cluster) {
    let reported = "SELECT r.high_water > s.granted AND r.answers = l.token
          FROM blockhouse.ledger AS l, blockhouse.reports AS r JOIN blockhouse.sequences AS s ON s.name = r.sequence
         WHERE s.name = 'tasks'";
    until(cluster, "the cluster reports what is lost", reported).await;
    let there = format!("ledger.url=\"{}\"", cluster.ledger().url());
    cluster.succeed(&["ledger", "accept-failover", "--yes", "--set", &there]);
    until_granted_in(cluster, 2).await;
}

async fn until_flipped(flipper: &Proxy) {
    let enough = flipper.connections() + FLIPS;
    wait::until(3 * NOTICE, "it has flipped often", async || flipper.connections() > enough).await;
}

/// Waits until a problem says both.
async fn until_problem(process: &Process, what: &str, why: &str) {
    wait::until(3 * NOTICE, &format!("{} says: {what} … {why}", process.name()), async || {
        let problems = process.status().await["problems"].to_string();
        problems.contains(what) && problems.contains(why)
    })
    .await;
}

async fn until_ledger_is(process: &Process, state: &str) {
    wait::until(3 * NOTICE, &format!("{} sees the ledger {state}", process.name()), async || {
        process.status().await["ledger"]["state"] == state
    })
    .await;
}

async fn until_in_life(process: &Process, epoch: i64) {
    wait::until(3 * NOTICE, &format!("{} knows life {epoch}", process.name()), async || {
        process.status().await["ledger"]["epoch"] == epoch
    })
    .await;
}

/// Panics unless the ledger was closed so often in all, and is open without a sequence halted.
#[track_caller]
fn assert_open_after(closings: i64, ledger: &Postgres) {
    let now = ledger.psql(
        "SELECT l.state, (SELECT count(*) - 1 FROM blockhouse.lives),
                (SELECT count(*) FROM blockhouse.sequences WHERE halted IS NOT NULL)
           FROM blockhouse.ledger AS l",
    );
    assert_eq!(now, format!("open|{closings}|0"), "{}", ledger.psql("SELECT * FROM blockhouse.lives"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_flips_between_two_primaries_at_every_transaction() {
    let old = Postgres::start();
    let flipper = Proxy::to(old.port());
    let pooler = Pooler::reconnecting(&flipper, &old);
    let plan = Cluster::new().pods(3).allocators(2).hydrator().sequence("tasks").sequence("comments");
    let plan = inquisitive(sparing(plan));
    let mut cluster = plan.set(&format!("ledger.url = {:?}", pooler.url())).start().await;
    let load = callers(&cluster).retrying().start();
    load.until_answered(300).await;
    let new = promoted_beside(&old).await;
    flipper.lead_to(&[old.port(), new.port()]);
    cluster.postgres = Some(new);

    // Until somebody accepts the new one, the old one is the ledger.
    for process in cluster.allocators.iter().chain(&cluster.hydrators) {
        until_problem(process, "the ledger is closed: the server was promoted", "accept-failover").await;
    }
    until_flipped(&flipper).await;
    assert_open_after(0, &old);
    load.until_answered(300).await;

    is_accepted(&cluster).await;
    for process in cluster.allocators.iter().chain(&cluster.hydrators) {
        until_in_life(process, 2).await;
        until_problem(process, "it may be an old primary", "point ledger.url").await;
    }
    let grants = "SELECT count(*) FROM blockhouse.grants";
    let granted = old.psql(grants);
    until_flipped(&flipper).await;
    assert_eq!(old.psql(grants), granted, "whoever knows the new life takes nothing from the old one");
    assert_open_after(1, cluster.ledger());
    ends_with_all_served(load).await;
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_behind_a_pooler_that_flips_closes_nothing_for_the_others() {
    let mut cluster = inquisitive(small_supply().proxies()).start().await;
    let old = cluster.postgres.take().expect("the plan has a ledger");
    let flipper = Proxy::to(old.port());
    let pooler = Pooler::reconnecting(&flipper, &old);
    let behind = format!("ledger.url={:?}", pooler.url());
    let mut flipping = cluster.process_with("flipping", "allocator", &[&behind]);
    flipping.ready().await;
    let (load, others) =
        (cluster.load_on(std::slice::from_ref(&flipping)), callers(&cluster).retrying().start());
    let load = load.counts(1..=500).pace(PACE).retrying().start();
    load.until_answered(300).await;

    let new = promoted_beside(&old).await;
    flipper.lead_to(&[old.port(), new.port()]);
    move_over(&cluster, &old, &new);
    cluster.postgres = Some(new);
    is_accepted(&cluster).await;
    until_in_life(&flipping, 2).await;
    // What it says of its ledger depends on which of the two it met last.
    until_flipped(&flipper).await;
    for process in cluster.allocators.iter().chain(&cluster.hydrators) {
        until_ledger_is(process, "up").await;
    }
    assert_open_after(1, cluster.ledger());
    ends_with_all_served(load).await;
    ends_with_all_served(others).await;
    cluster.assert_unique();
}

/// Whoever reaches the old one over the cluster's proxy reaches the new one from now on.
fn move_over(cluster: &Cluster, old: &Postgres, new: &Postgres) {
    let proxy = cluster.ledger_proxy.as_ref().expect("the plan has proxies");
    proxy.lead_to(&[new.port()]);
    proxy.set(Mode::Reset);
    old.wait_for(
        "SELECT count(*) = 0 FROM pg_stat_activity
          WHERE application_name LIKE 'blockhouse/%' AND application_name NOT LIKE '%flipping'",
    );
    proxy.set(Mode::Pass);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_lost_its_pods_for_a_moment_closes_nothing_for_the_others() {
    let mut cluster = inquisitive(small_supply()).start().await;
    let pods: Vec<Proxy> = cluster.pods.iter().map(|pod| Proxy::to(pod.port())).collect();
    let urls: Vec<String> = pods.iter().map(|pod| format!("redis://127.0.0.1:{}", pod.port())).collect();
    let mut lonely = cluster.process_with("lonely", "allocator", &[&format!("redis.pods={urls:?}")]);
    lonely.ready().await;
    let (load, others) =
        (cluster.load_on(std::slice::from_ref(&lonely)), callers(&cluster).retrying().start());
    let load = load.counts(1..=500).pace(PACE).retrying().start();
    load.until_answered(300).await;

    let mut primary = cluster.postgres.take().expect("the plan has a ledger");
    let mut standby = primary.standby();
    standby.fall_behind();
    pods.iter().for_each(|pod| pod.set(Mode::Reset));
    // What it is granted then, no pod hears of, and the standby neither.
    primary.wait_for(
        "SELECT count(DISTINCT sequence) = 3 FROM blockhouse.grants WHERE holder = 'lonely' AND purpose = 'fallback'",
    );
    primary.crash();
    standby.promote();
    standby.replace(&mut primary);
    cluster.postgres = Some(standby);
    is_accepted(&cluster).await;
    let follows = "SELECT count(*) > 0 FROM blockhouse.grants WHERE holder = 'lonely' AND epoch = 2";
    until(&cluster, "it is granted IDs of the new life, still without a pod", follows).await;
    pods.iter().for_each(|pod| pod.set(Mode::Pass));

    for process in cluster.allocators.iter().chain(&cluster.hydrators).chain([&lonely]) {
        until_ledger_is(process, "up").await;
    }
    wait::until(NOTICE, "its pods are back", async || {
        let pods = lonely.status().await["pods"].clone();
        pods.as_array().is_some_and(|pods| pods.iter().all(|pod| pod["state"] == "up"))
    })
    .await;
    ends_with_all_served(load).await;
    ends_with_all_served(others).await;
    assert_open_after(1, cluster.ledger());
    cluster.assert_unique();
}
