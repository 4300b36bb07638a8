//! Three clusters on one ledger, each with pods of its own.

use super::{
    PATIENCE, begin_afresh, callers, cut, ends_with_all_served, lagging_standby, lead, until, until_in_life,
    until_known, until_more_is_granted,
};
use crate::histories::knowledge::make_older;
use crate::support::cluster::Plan;
use crate::support::load::Running;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::{Cluster, wait};

const NAMES: [&str; 3] = ["north", "south", "west"];
/// The one that meets less of the ledger than the others.
const WEST: usize = 2;

/// The clusters, each a process with every role, and the server of their ledger.
struct Clusters {
    of: Vec<Cluster>,
    ledger: Postgres,
}

/// So small that what is used in a second or two is worth a grant. Servers are copied and started meanwhile: a pod that is slow for it
/// is not yet dead.
fn plan(name: &str) -> Plan {
    let plan = Cluster::new().pods(1).proxies().set(&format!("cluster = {name:?}"));
    plan.set("hydrator.min_ids = 600000").set("hydrator.max_ids = 600000").set("redis.timeout = '1s'")
}

impl Clusters {
    /// Starts them once the ledger is as the commands say.
    async fn after(commands: &[&[&str]]) -> Clusters {
        let first = plan(NAMES[0]).postgres().sequence("tasks").sequence("comments").start().await;
        commands.iter().for_each(|command| drop(first.succeed(command)));
        let mut of = vec![first];
        for name in &NAMES[1..] {
            let next = plan(name).beside(&of[0]).start().await;
            of.push(next);
        }
        for (cluster, name) in of.iter_mut().zip(NAMES) {
            cluster.allocators.push(cluster.process(name, "all"));
            cluster.ready().await;
            cluster.filled_within(PATIENCE).await;
        }
        let ledger = of[0].postgres.take().expect("the first plan has a ledger");
        Clusters { of, ledger }
    }

    /// Callers of all clusters.
    fn load(&self) -> Running {
        let ports = self.of.iter().map(|cluster| cluster.allocators[0].port()).collect();
        callers(ports, &self.of[0]).start()
    }

    fn proxy(&self, cluster: usize) -> &Proxy {
        self.of[cluster].ledger_proxy.as_ref().expect("the plan has proxies")
    }

    /// Nobody reaches the ledger any more.
    async fn all_cut_off(&self) {
        (0..self.of.len()).for_each(|cluster| cut(self.proxy(cluster)));
        let nobody = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'blockhouse/%'";
        until(&self.ledger, "nobody is connected", nobody).await;
    }

    /// A standby takes over for good and is the ledger of these clusters from now on; the others reach none.
    async fn fail_over(&mut self, standby: Postgres, followers: &[usize]) {
        self.all_cut_off().await;
        self.ledger.crash();
        standby.promote();
        self.ledger = standby;
        followers.iter().for_each(|cluster| lead(self.proxy(*cluster), &self.ledger));
    }

    async fn until_reported(&self, reporters: &[usize]) {
        for name in reporters.iter().map(|cluster| NAMES[*cluster]) {
            let reported = format!(
                "SELECT c.answers = l.token FROM blockhouse.clusters AS c, blockhouse.ledger AS l
                  WHERE l.state = 'closed' AND c.name = '{name}'"
            );
            until(&self.ledger, &format!("{name} has reported"), &reported).await;
        }
    }

    /// Waits until these have reported, and accepts the ledger with the arguments.
    async fn accept(&self, reporters: &[usize], arguments: &[&str]) {
        self.until_reported(reporters).await;
        let accept = ["ledger", "accept-failover", "--yes"];
        self.of[reporters[0]].succeed(&[&accept, arguments].concat());
    }

    /// The greatest ID granted of each sequence.
    fn granted(&self) -> Vec<(String, i64)> {
        let names = self.of[0].sequences().iter();
        let stands = |name| format!("SELECT granted FROM blockhouse.sequences WHERE name = '{name}'");
        names.map(|name| (name.clone(), self.ledger.psql(&stands(name)).parse().expect("a number"))).collect()
    }

    async fn ends(self, load: Running) {
        for cluster in &self.of {
            until_in_life(&cluster.allocators[0], &self.ledger).await;
        }
        until_more_is_granted(&self.ledger).await;
        ends_with_all_served(load).await;
        self.of.iter().for_each(Cluster::assert_unique);
    }
}

/// Without a gap nothing but the reports keeps a new life above what was granted before.
const NO_GAP: [&[&str]; 2] = [
    &["sequence", "set", "tasks", "--failover-gap", "0", "--yes"],
    &["sequence", "set", "comments", "--failover-gap", "0", "--yes"],
];

/// Panics unless the ledger had lost these grants, and went on above what is reported, which is above them.
#[track_caller]
fn assert_covered(clusters: &Clusters, granted: &[(String, i64)]) {
    for (sequence, granted) in granted {
        let covered = clusters.ledger.psql(&format!(
            "SELECT min(m.moved_from) < {granted} AND max(r.high_water) >= {granted} AND min(m.moved_to) >= max(r.high_water)
               FROM blockhouse.reports AS r JOIN blockhouse.moves AS m USING (sequence), blockhouse.ledger AS l
              WHERE m.sequence = '{sequence}' AND m.epoch = l.epoch"
        ));
        let reports = clusters.ledger.psql("SELECT cluster, sequence, high_water FROM blockhouse.reports");
        let moves =
            clusters.ledger.psql("SELECT epoch, sequence, moved_from, moved_to FROM blockhouse.moves");
        assert_eq!(
            covered, "t",
            "{sequence} was granted to {granted}; reported:\n{reports}\nmoved:\n{moves}"
        );
    }
}

async fn two_replicas_are_promoted_one_after_the_other(afresh: bool) {
    let mut clusters = Clusters::after(&NO_GAP).await;
    let load = clusters.load();
    load.until_answered(100).await;
    // What it is granted without a gap and without its word would be granted anew.
    cut(clusters.proxy(WEST));
    let left = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'blockhouse/%west'";
    until(&clusters.ledger, "west has left", left).await;
    let (first, second) = (lagging_standby(&clusters.ledger), lagging_standby(&clusters.ledger));
    until_more_is_granted(&clusters.ledger).await;

    clusters.fail_over(first, &[0, 1]).await;
    clusters.accept(&[0, 1], &["--without", NAMES[WEST]]).await;
    let granted = clusters.granted();
    for cluster in [0, 1] {
        until_known(&clusters.of[cluster].allocators[0], &granted).await;
    }
    until_more_is_granted(&clusters.ledger).await;
    load.until_answered(100).await;
    if afresh {
        clusters.all_cut_off().await;
        for cluster in [0, 1] {
            clusters.of[cluster].allocators[0].kill();
            begin_afresh(&mut clusters.of[cluster].allocators[0]).await;
        }
    }

    clusters.fail_over(second, &[0, 1, WEST]).await;
    clusters.accept(&[0, 1, WEST], &[]).await;
    assert_covered(&clusters, &granted);
    clusters.ends(load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_of_one_ancestor_promoted_one_after_the_other_lose_nothing_that_three_clusters_know() {
    two_replicas_are_promoted_one_after_the_other(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_of_one_ancestor_promoted_one_after_the_other_lose_nothing_that_the_pods_alone_know() {
    two_replicas_are_promoted_one_after_the_other(true).await;
}

/// A ledger that jumps has a failover, and nobody reaches it yet. West had been cut off from it two hours before, and what its pod knows
/// is as old; the others were granted more in that time, of which the new primary lacks the end.
async fn fail_over_without_west() -> (Clusters, Running, Vec<(String, i64)>) {
    let mut clusters = Clusters::after(&[&["ledger", "set", "--on-failover", "jump", "--yes"]]).await;
    let load = clusters.load();
    load.until_answered(100).await;
    cut(clusters.proxy(WEST));
    // Its process would remember when it last heard of the ledger.
    let west = &mut clusters.of[WEST];
    west.allocators[0].kill();
    make_older(&west.pods[0]);
    clusters.ledger.age_by(2);
    begin_afresh(&mut clusters.of[WEST].allocators[0]).await;

    until_more_is_granted(&clusters.ledger).await;
    let standby = lagging_standby(&clusters.ledger);
    until_more_is_granted(&clusters.ledger).await;
    let granted = clusters.granted();
    for cluster in [0, 1] {
        until_known(&clusters.of[cluster].allocators[0], &granted).await;
    }
    clusters.fail_over(standby, &[]).await;
    (clusters, load, granted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_cut_off_for_two_hours_that_comes_back_keeps_a_ledger_from_jumping() {
    let (clusters, load, granted) = fail_over_without_west().await;
    lead(clusters.proxy(WEST), &clusters.ledger);
    clusters.until_reported(&[WEST]).await;
    [0, 1].iter().for_each(|cluster| lead(clusters.proxy(*cluster), &clusters.ledger));
    for cluster in [0, 1] {
        let process = &clusters.of[cluster].allocators[0];
        wait::until(PATIENCE, &format!("{} hears why it waits", process.name()), async || {
            process.log().contains("the report of cluster west is over an hour old")
        })
        .await;
    }
    clusters.accept(&[0, 1, WEST], &[]).await;
    assert_covered(&clusters, &granted);
    clusters.ends(load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_cut_off_for_two_hours_that_stays_away_is_not_waited_for_and_follows_when_it_is_back() {
    let (clusters, load, granted) = fail_over_without_west().await;
    [0, 1].iter().for_each(|cluster| lead(clusters.proxy(*cluster), &clusters.ledger));
    let jumped = "SELECT state = 'open' AND EXISTS (SELECT FROM blockhouse.moves AS m WHERE m.reason = 'jumped' AND m.epoch = l.epoch)
                    FROM blockhouse.ledger AS l";
    until(&clusters.ledger, "it jumps without the report of west", jumped).await;
    assert_covered(&clusters, &granted);
    let west = &clusters.of[WEST];
    let served_alone = callers(vec![west.allocators[0].port()], west).start();
    ends_with_all_served(served_alone).await;
    let follows = "SELECT count(*) > 0 FROM blockhouse.grants WHERE cluster = 'west' AND epoch > 1";
    assert_eq!(clusters.ledger.psql(follows), "f", "it had its own blocks");

    lead(clusters.proxy(WEST), &clusters.ledger);
    until(&clusters.ledger, "west is granted IDs of the new life", follows).await;
    clusters.ends(load).await;
}
