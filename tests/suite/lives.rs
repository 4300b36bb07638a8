//! A ledger with several lives (S3): it goes through restarts by itself, and through a failover by an operator's word.

use std::time::Duration;

use crate::support::cluster::Plan;
use crate::support::load::{Load, Running};
use crate::support::process::Process;
use crate::support::{Cluster, wait};

/// How long processes may take to notice that the ledger is another, or open again.
pub const NOTICE: Duration = Duration::from_secs(20);
/// Between two requests of a caller: what lies in the pods is to outlast the time that an operator takes.
const PACE: Duration = Duration::from_millis(10);

/// So small that what is used in a second or two is worth a grant, and still minutes of what callers use at their pace.
fn small_supply() -> Plan {
    Cluster::usual().set("hydrator.min_ids = 600000").set("hydrator.max_ids = 600000")
}

pub async fn until_ledger_is(process: &Process, state: &str) {
    wait::until(NOTICE, &format!("{} sees the ledger {state}", process.name()), async || {
        process.status().await["ledger"]["state"] == state
    })
    .await;
}

/// Waits for a grant of this life.
pub async fn until_granted_in(cluster: &Cluster, epoch: i64) {
    let granted = format!("SELECT count(*) FROM blockhouse.grants WHERE epoch = {epoch}");
    wait::until(3 * NOTICE, "a grant of the new life", async || cluster.ledger().psql(&granted) != "0").await;
}

pub fn epoch(cluster: &Cluster) -> i64 {
    cluster.ledger().psql("SELECT epoch FROM blockhouse.ledger").parse().expect("a number")
}

pub async fn ends_flawless(cluster: &Cluster, load: Running) {
    load.until_answered(300).await;
    load.stop().await.assert_flawless();
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_ledger_opens_by_itself_and_skips_what_was_granted_in_the_last_hour() {
    let mut cluster = small_supply().start().await;
    let load = cluster.load().counts(1..=500).pace(PACE).start();
    load.until_answered(300).await;
    for life in 2..=4 {
        cluster.postgres.as_mut().expect("the plan has a ledger").restart();
        until_granted_in(&cluster, life).await;
        assert_eq!(epoch(&cluster), life, "one closing for each restart");
        let moved = cluster.ledger().psql(&format!(
            "SELECT bool_and(m.reason = 'restarted' AND m.moved_to - m.moved_from = (
                 SELECT sum(g.count) FROM blockhouse.grants AS g WHERE g.sequence = m.sequence AND g.epoch < {life}))
               FROM blockhouse.moves AS m WHERE m.epoch = {life}"
        ));
        assert_eq!(moved, "t", "as much as was granted in the last recorded hour");
    }
    ends_flawless(&cluster, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_goes_on_above_all_that_was_granted_once_an_operator_accepts_it() {
    let mut cluster = Cluster::usual().start().await;
    let load = cluster.load().counts(1..=300).pace(Duration::ZERO).start();
    load.until_answered(300).await;
    fail_over(&mut cluster).await;

    for process in &cluster.hydrators {
        until_ledger_is(process, "closed").await;
    }
    // The cluster knows of more than the standby has: its last grants are lost there.
    let number = |sql: &str| cluster.ledger().psql(sql).parse::<i64>().unwrap_or(0);
    let reported = "SELECT high_water FROM blockhouse.reports WHERE sequence = 'tasks'";
    let stands = number("SELECT granted FROM blockhouse.sequences WHERE name = 'tasks'");
    wait::until(3 * NOTICE, "the cluster reports what was lost", async || {
        number(reported) > stands + 100_000
    })
    .await;
    let reported = number(reported);
    load.until_answered(300).await;

    let shown = cluster.succeed(&["ledger", "accept-failover", "--dry-run"]);
    assert!(shown.contains(&reported.to_string()), "{shown}");
    cluster.succeed(&["ledger", "accept-failover", "--yes"]);
    let life = epoch(&cluster);
    until_granted_in(&cluster, life).await;
    let first =
        format!("SELECT min(first) FROM blockhouse.grants WHERE sequence = 'tasks' AND epoch = {life}");
    let gap = number("SELECT failover_gap FROM blockhouse.sequences WHERE name = 'tasks'");
    wait::until(3 * NOTICE, "tasks is granted again", async || number(&first) > 0).await;
    assert_eq!(number(&first), reported + gap + 1);
    for process in cluster.hydrators.iter() {
        until_ledger_is(process, "up").await;
    }
    ends_flawless(&cluster, load).await;
}

/// A failover that loses over 100,000 IDs of `tasks`, while callers go on.
async fn fail_over(cluster: &mut Cluster) {
    let mut primary = cluster.postgres.take().expect("the plan has a ledger");
    let mut standby = primary.standby();
    standby.fall_behind();
    let granted = "SELECT granted FROM blockhouse.sequences WHERE name = 'tasks'";
    let replicated: i64 = standby.psql(granted).parse().expect("a number");
    wait::until(3 * NOTICE, "100,000 IDs that only the primary has granted", async || {
        primary.psql(granted).parse::<i64>().expect("a number") > replicated + 100_000
    })
    .await;
    primary.crash();
    standby.promote();
    standby.replace(&mut primary);
    cluster.postgres = Some(standby);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_may_jump_goes_through_a_failover_by_itself() {
    let mut cluster = Cluster::usual().start().await;
    cluster.succeed(&["ledger", "set", "--on-failover", "jump", "--yes"]);
    let load = cluster.load().counts(1..=300).pace(Duration::ZERO).start();
    load.until_answered(300).await;
    fail_over(&mut cluster).await;
    until_granted_in(&cluster, 2).await;
    let reason = cluster.ledger().psql("SELECT DISTINCT reason FROM blockhouse.moves");
    assert_eq!(reason, "jumped");
    ends_flawless(&cluster, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_files_put_back_are_noticed_by_what_the_pods_know() {
    // Files are copied meanwhile: a pod that is slow for it is not yet dead.
    let mut cluster = small_supply().set("redis.timeout = '1s'").start().await;
    let load = cluster.load().counts(1..=500).pace(PACE).start();
    let ledger = cluster.postgres.as_mut().expect("the plan has a ledger");
    ledger.stop();
    ledger.set_files_aside();
    ledger.launch();
    until_granted_in(&cluster, 2).await;
    load.until_answered(300).await;

    let ledger = cluster.postgres.as_mut().expect("the plan has a ledger");
    ledger.crash();
    ledger.put_files_back();
    ledger.launch();
    until_ledger_is(&cluster.hydrators[0], "closed").await;
    load.until_answered(300).await;
    assert_eq!(
        cluster.ledger().psql("SELECT count(*) FROM blockhouse.grants WHERE epoch > 1"),
        "0",
        "nothing is granted"
    );
    cluster.succeed(&["ledger", "accept-failover", "--yes"]);
    until_granted_in(&cluster, epoch(&cluster)).await;
    ends_flawless(&cluster, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_beside_the_new_one_is_refused_by_whoever_knows_the_new_life() {
    // Exercises: an allocator whose pods have blocks asks its ledger only then.
    let plan = small_supply().set("exercise.ratio = 0.2").set("exercise.max_per_minute = 600.0");
    let mut cluster = plan.start().await;
    let load = cluster.load().counts(1..=500).pace(PACE).start();
    load.until_answered(300).await;
    let old = cluster.postgres.take().expect("the plan has a ledger");
    let new = old.standby();
    new.fall_behind();
    new.promote();
    // Half of the processes reach the new one, the other half the old one, which knows of nothing.
    let at_new = format!("ledger.url=\"{}\"", new.url());
    let mut moved = cluster.process_with("moved", "all", &[&at_new]);
    assert_eq!(cluster.hydrators[0].terminate(NOTICE).await.code(), Some(0));
    moved.ready().await;
    until_ledger_is(&moved, "closed").await;
    cluster.postgres = Some(new);
    // The lead that the new one remembers ends before another process speaks for the cluster.
    let accept = ["ledger", "accept-failover", "--yes", "--set", &at_new];
    wait::until(3 * NOTICE, "it is accepted", async || cluster.command(&accept).status.success()).await;
    until_ledger_is(&moved, "up").await;
    until_granted_in(&cluster, 2).await;
    // The pods tell the others of the new life.
    for allocator in &cluster.allocators {
        // Refused as another line, or closed already by somebody who knew of more than it has granted.
        wait::until(3 * NOTICE, "the old primary is refused", async || {
            let status = allocator.status().await;
            ["refused", "closed"].contains(&status["ledger"]["state"].as_str().unwrap_or_default())
        })
        .await;
    }
    cluster.hydrators.clear();
    cluster.hydrators.push(moved);
    ends_flawless(&cluster, load).await;
    drop(old);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_of_every_size_go_through_a_failover_beside_each_other() {
    let mut cluster = small_supply().start().await;
    let end = (i64::MAX - 10_000_000).to_string();
    for options in [
        ["int32", "--max", "int32", "--start", "1"],
        ["thousand", "--max", "1000", "--start", "1"],
        ["int64", "--max", "int64", "--start", &end],
    ] {
        cluster.succeed(&[&["sequence", "create"], options.as_slice(), &["--yes"]].concat());
    }
    let load = |sequences: &[&str]| {
        let ports = cluster.allocators.iter().map(Process::port).collect();
        Load::on(ports, sequences, &cluster.checker).pace(PACE)
    };
    // The default is js-safe.
    let large = load(&["tasks", "int32"]).counts(1..=500).retrying().start();
    let at_the_end = load(&["int64"]).callers(4).counts(1..=100).retrying().start();
    let small = load(&["thousand"]).callers(2).counts(1..=5).start();
    wait::until(3 * NOTICE, "the smallest is used up", async || small.refused("SEQUENCE_EXHAUSTED") > 0)
        .await;
    fail_over(&mut cluster).await;
    until_ledger_is(&cluster.hydrators[0], "closed").await;
    let accept = ["ledger", "accept-failover", "--yes"];
    wait::until(3 * NOTICE, "it is accepted", async || cluster.command(&accept).status.success()).await;
    let goes_on = "SELECT coalesce(bool_and(coalesce(m.moved_to = s.last OR m.moved_to + 1 = (
                SELECT min(g.first) FROM blockhouse.grants AS g WHERE g.sequence = s.name AND g.epoch = m.epoch), false)), false)
           FROM blockhouse.moves AS m JOIN blockhouse.sequences AS s ON s.name = m.sequence
          WHERE s.name IN ('tasks', 'int32', 'thousand', 'int64') AND s.granted <= s.last
            AND m.epoch = (SELECT epoch FROM blockhouse.ledger)";
    wait::until(3 * NOTICE, "each goes on where its move says, or is used up", async || {
        cluster.ledger().psql(goes_on) == "t"
    })
    .await;
    for load in [large, at_the_end] {
        load.until_answered(300).await;
        let report = load.stop().await;
        assert_eq!(report.given_up, 0, "refused {:?}, lost {:?}", report.refused, report.lost);
    }
    small.stop().await;
    cluster.assert_unique();
}
