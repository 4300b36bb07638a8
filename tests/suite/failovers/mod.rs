//! Failovers of a ledger that several clusters, or several halves of one, use (S3): who knows of what, and whom that keeps from
//! giving out an ID twice.

mod clusters;
mod old_primary;

use std::time::Duration;

use crate::support::load::{Load, Running};
use crate::support::postgres::Postgres;
use crate::support::process::Process;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{Cluster, http, wait};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two requests of a caller: what lies in the pods is to outlast the time that an operator takes.
const PACE: Duration = Duration::from_millis(40);

async fn until(ledger: &Postgres, what: &str, sql: &str) {
    wait::until(PATIENCE, what, async || ledger.try_psql(sql).as_deref() == Ok("t")).await;
}

/// Waits until another grant of every sequence is recorded.
async fn until_more_is_granted(ledger: &Postgres) {
    let before =
        ledger.psql("SELECT string_agg(format('(%L, %s)', name, grants), ', ') FROM blockhouse.sequences");
    let more = "SELECT bool_and(s.grants > b.grants) FROM blockhouse.sequences AS s JOIN (VALUES";
    let more = format!("{more} {before}) AS b (name, grants) USING (name)");
    until(ledger, "more of every sequence is granted", &more).await;
}

/// Waits until it follows the life that the ledger is in, which may be another than a moment ago.
async fn until_in_life(process: &Process, ledger: &Postgres) {
    wait::until(PATIENCE, &format!("{} follows the ledger's life", process.name()), async || {
        let life = ledger.psql("SELECT epoch FROM blockhouse.ledger").parse::<i64>().expect("a number");
        let status = process.status().await;
        status["ledger"]["state"] == "up" && status["ledger"]["epoch"] == life
    })
    .await;
}

/// Waits until it knows that these were granted.
async fn until_known(process: &Process, granted: &[(String, i64)]) {
    wait::until(PATIENCE, &format!("{} knows of {granted:?}", process.name()), async || {
        let status = process.status().await;
        let sequences = status["sequences"].as_array().into_iter().flatten();
        let known = |name: &str, least: i64| {
            let of_it = sequences.clone().find(|sequence| sequence["name"] == name);
            of_it
                .and_then(|of_it| of_it["granted"].as_str()?.parse::<i64>().ok())
                .is_some_and(|known| known >= least)
        };
        granted.iter().all(|(name, least)| known(name, *least))
    })
    .await;
}

/// Starts what was ended: all that it knows it learns from its pods and its ledger. Whether it gets ready is for the ledger to say.
async fn begin_afresh(process: &mut Process) {
    process.start_again();
    let answers = async || http::get(process.admin_port(), "/api/v1/status").await.is_ok();
    wait::until(PATIENCE, &format!("{} answers", process.name()), answers).await;
}

/// A standby that gets nothing of what its primary commits from now on.
fn lagging_standby(primary: &Postgres) -> Postgres {
    let standby = primary.standby();
    standby.fall_behind();
    standby
}

/// Whoever comes over the proxy reaches this server from now on. Nobody is connected over it.
fn lead(proxy: &Proxy, to: &Postgres) {
    proxy.lead_to(&[to.port()]);
    proxy.set(Mode::Pass);
}

fn cut(proxy: &Proxy) {
    proxy.set(Mode::Reset);
}

fn callers(ports: Vec<u16>, cluster: &Cluster) -> Load {
    let names: Vec<&str> = cluster.sequences().iter().map(String::as_str).collect();
    Load::on(ports, &names, &cluster.checker).counts(1..=500).pace(PACE).retrying()
}

/// Whoever asked got IDs, on a busy machine perhaps at the second try.
async fn ends_with_all_served(load: Running) {
    load.until_answered(300).await;
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "refused {:?}, lost {:?}", report.refused, report.lost);
}
