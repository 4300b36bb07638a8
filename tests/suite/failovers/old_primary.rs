//! The old primary beside the new one, one half of a cluster's processes connected to each.

use super::{
    PATIENCE, callers, cut, ends_with_all_served, lagging_standby, lead, until, until_in_life,
    until_more_is_granted,
};
use crate::support::load::Running;
use crate::support::postgres::Postgres;
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::{Cluster, wait};

/// One cluster of two processes, each of which fills the pods if its ledger lets it lead.
struct Halves {
    cluster: Cluster,
    /// From each process to its ledger.
    ways: [Proxy; 2],
}

/// Who goes over to the new primary first, and who stays with the old one.
const NEW: usize = 0;
const OLD: usize = 1;

impl Halves {
    /// Started on one server, which is given too.
    async fn start() -> (Halves, Postgres, Running) {
        let plan = Cluster::new().pods(2).postgres().sequence("tasks").sequence("comments");
        let plan = plan.set("hydrator.min_ids = 600000").set("hydrator.max_ids = 600000");
        // Allocators whose pods have blocks ask the ledger too, and often.
        let plan = plan.set("exercise.ratio = 0.2").set("exercise.max_per_minute = 600.0");
        let mut cluster = plan.set("redis.timeout = '1s'").start().await;
        let primary = cluster.postgres.take().expect("the plan has a ledger");
        let ways = [(); 2].map(|()| Proxy::to(primary.port()));
        for (way, name) in ways.iter().zip(["one", "other"]) {
            let mut process = cluster.process_with(name, "all", &[&at(way.port())]);
            process.ready().await;
            cluster.allocators.push(process);
        }
        cluster.filled_within(PATIENCE).await;
        let ports = cluster.allocators.iter().map(Process::port).collect();
        let load = callers(ports, &cluster).start();
        load.until_answered(100).await;
        (Halves { cluster, ways }, primary, load)
    }

    fn half(&self, which: usize) -> &Process {
        &self.cluster.allocators[which]
    }

    /// One half leaves a primary that runs for another.
    async fn goes_over(&self, which: usize, from: &Postgres, to: &Postgres) {
        cut(&self.ways[which]);
        let name = self.half(which).name();
        let left = format!(
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'blockhouse/%{name}'"
        );
        until(from, &format!("{name} has left"), &left).await;
        lead(&self.ways[which], to);
    }

    /// The new primary is closed, and hears from the half that is there of more than this was granted.
    async fn until_reported(&self, new: &Postgres, granted: &str) {
        let reported = format!(
            "SELECT max(r.high_water) > {granted} FROM blockhouse.reports AS r JOIN blockhouse.ledger AS l ON r.answers = l.token
              WHERE l.state = 'closed' AND r.sequence = 'tasks'"
        );
        until(new, "what the old one granted is reported to the new one", &reported).await;
        wait::until(PATIENCE, "the half that is there says what to do", async || {
            let status = self.half(NEW).status().await;
            status["ledger"]["state"] == "closed"
                && status["problems"].to_string().contains("accept-failover")
        })
        .await;
        let granted = "SELECT count(*) = 0 FROM blockhouse.grants WHERE epoch > 1";
        assert_eq!(new.psql(granted), "t", "the new one grants nothing before it is accepted");
    }

    async fn accept(&self, new: &Postgres) {
        self.cluster.succeed(&["ledger", "accept-failover", "--yes", "--set", &at(new.port())]);
        until_in_life(self.half(NEW), new).await;
    }

    /// Whoever is with the old one refuses it, and while the new one grants IDs it grants none.
    async fn assert_old_is_refused(&self, old: &Postgres, new: &Postgres) {
        let half = self.half(OLD);
        wait::until(PATIENCE, &format!("{} refuses the old primary", half.name()), async || {
            let status = half.status().await;
            // Refused as another line, or closed already by somebody who knew of more than it has granted.
            ["refused", "closed"].contains(&status["ledger"]["state"].as_str().unwrap_or_default())
        })
        .await;
        let grants = "SELECT count(*) FROM blockhouse.grants";
        let before = old.psql(grants);
        until_more_is_granted(new).await;
        assert_eq!(old.psql(grants), before, "nobody is granted anything by the old one");
    }

    /// The other half comes over too, and nothing was given out twice.
    async fn ends(self, old: &Postgres, new: &Postgres, load: Running) {
        self.goes_over(OLD, old, new).await;
        for half in [OLD, NEW] {
            until_in_life(self.half(half), new).await;
        }
        until_more_is_granted(new).await;
        ends_with_all_served(load).await;
        self.cluster.assert_unique();
    }
}

fn at(port: u16) -> String {
    format!("ledger.url=\"postgres://postgres@127.0.0.1:{port}/postgres\"")
}

fn granted(ledger: &Postgres) -> String {
    ledger.psql("SELECT granted FROM blockhouse.sequences WHERE name = 'tasks'")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_that_never_went_away_serves_its_half_until_the_new_one_is_accepted() {
    let (halves, old, load) = Halves::start().await;
    let new = lagging_standby(&old);
    until_more_is_granted(&old).await;
    new.promote();
    halves.goes_over(NEW, &old, &new).await;
    halves.until_reported(&new, &granted(&new)).await;
    until_more_is_granted(&old).await;
    halves.until_reported(&new, &granted(&old)).await;
    halves.accept(&new).await;
    halves.assert_old_is_refused(&old, &new).await;
    halves.ends(&old, &new, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_brought_back_before_the_new_one_is_accepted_is_refused_from_then_on() {
    let (halves, mut old, load) = Halves::start().await;
    let new = lagging_standby(&old);
    until_more_is_granted(&old).await;
    old.crash();
    new.promote();
    lead(&halves.ways[NEW], &new);
    halves.until_reported(&new, &granted(&new)).await;
    old.launch();
    lead(&halves.ways[OLD], &old);
    until_in_life(halves.half(OLD), &old).await;
    until_more_is_granted(&old).await;
    halves.until_reported(&new, &granted(&old)).await;
    halves.accept(&new).await;
    halves.assert_old_is_refused(&old, &new).await;
    halves.ends(&old, &new, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_brought_back_after_the_new_one_was_accepted_is_refused() {
    let (halves, mut old, load) = Halves::start().await;
    let new = lagging_standby(&old);
    until_more_is_granted(&old).await;
    old.crash();
    new.promote();
    halves.ways.iter().for_each(|way| lead(way, &new));
    halves.until_reported(&new, &granted(&new)).await;
    halves.accept(&new).await;
    until_in_life(halves.half(OLD), &new).await;
    old.launch();
    halves.goes_over(OLD, &new, &old).await;
    halves.assert_old_is_refused(&old, &new).await;
    let grants = "SELECT count(*) = 0 FROM blockhouse.grants WHERE epoch > 1";
    assert_eq!(old.psql(grants), "t", "it grants nothing in a life of its own");
    halves.ends(&old, &new, load).await;
}
