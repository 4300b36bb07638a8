//! A ledger that jumps after a failover, its hour used up by real processes under load.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::Value;

use crate::support::http::Connection;
use crate::support::process::Process;
use crate::support::{Cluster, wait};

const PATIENCE: Duration = Duration::from_secs(60);
const CAPPED: &str = "SEQUENCE_RATE_CAPPED";

/// What `tasks` was granted in the last hour, and its gap.
const HOUR: &str = "SELECT blockhouse.spent(issued, slot, starts, blockhouse.present_slot()), failover_gap
                      FROM blockhouse.sequences WHERE name = 'tasks'";

fn hour(cluster: &Cluster) -> (i64, i64) {
    let row = cluster.ledger().psql(HOUR);
    let (spent, gap) = row.split_once('|').expect("two columns");
    (spent.parse().expect("a number"), gap.parse().expect("a number"))
}

/// Sets the ledger's clock, as the cap reads it, this many slots of five minutes off.
fn step_clock(cluster: &Cluster, slots: i64) {
    cluster.ledger().psql(&format!(
        "CREATE OR REPLACE FUNCTION blockhouse.present_slot() RETURNS bigint LANGUAGE sql VOLATILE AS
         $$ SELECT pg_catalog.floor(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) / 300)::bigint + {slots} $$"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_that_is_used_up_is_a_typed_refusal_until_the_gap_is_raised() {
    let cluster =
        Cluster::usual().set("hydrator.min_ids = 60000").set("hydrator.max_ids = 60000").start().await;
    let spent = hour(&cluster).0;
    let too_small =
        cluster.command(&["sequence", "set", "tasks", "--failover-gap", &(spent - 1).to_string(), "--yes"]);
    assert!(too_small.status.success(), "where nothing jumps, any gap will do");
    let refused = cluster.command(&["ledger", "set", "--on-failover", "jump", "--yes"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains(&format!("'tasks' {spent} IDs")), "{said}");

    let gap = spent + 200_000;
    cluster.succeed(&["sequence", "set", "tasks", "--failover-gap", &gap.to_string(), "--yes"]);
    cluster.succeed(&["ledger", "set", "--on-failover", "jump", "--yes"]);
    let load = cluster.load().counts(1..=2_000).start();
    use_up(&cluster, async || load.refused(CAPPED) > 100).await;
    for allocator in &cluster.allocators {
        assert_callers_are_told(allocator, gap).await;
    }
    assert_operators_are_told(&cluster, gap).await;

    // Set back it frees nothing, set forward what the time would; each for all processes at once.
    step_clock(&cluster, -30);
    load.forget();
    use_up(&cluster, async || load.refused(CAPPED) > 100).await;
    assert_eq!(cluster.granted("tasks"), gap);
    step_clock(&cluster, 13);
    use_up(&cluster, async || cluster.granted("tasks") == 2 * gap).await;

    cluster.succeed(&["sequence", "set", "tasks", "--failover-gap", "1000000000", "--yes"]);
    wait::until(PATIENCE, "nobody is refused any more", async || {
        load.forget();
        load.until_answered(300).await;
        load.refused(CAPPED) == 0
    })
    .await;
    load.forget();
    load.until_answered(300).await;
    load.stop().await.assert_flawless();
    cluster.assert_unique();
}

/// Waits, and sees at each look that the hour had no more than the gap.
async fn use_up(cluster: &Cluster, mut reached: impl AsyncFnMut() -> bool) {
    wait::until(PATIENCE, "the hour is used up", async || {
        let (spent, gap) = hour(cluster);
        assert!(spent <= gap, "{spent} of {gap}");
        reached().await && spent == gap
    })
    .await;
}

async fn assert_callers_are_told(allocator: &Process, gap: i64) {
    let mut connection = Connection::open(allocator.port()).await.expect("it listens");
    // The last grant of the hour may lie in its reserve still.
    let mut body = Value::Null;
    wait::until(PATIENCE, "it refuses", async || {
        let answer = connection.send(Method::POST, "/v1/sequences/tasks/ids", r#"{"count":5000}"#).await;
        let answer = answer.expect("an answer");
        body = serde_json::from_slice(&answer.body).expect("JSON");
        answer.status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let error = &body["error"];
    assert_eq!(error["reason"], CAPPED, "{error}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains(&format!("failover_gap of {gap}")), "{error}");
    assert!(message.contains("blockhouse sequence set tasks --failover-gap"), "{error}");
    let wait: f64 =
        error["retryAfter"].as_str().and_then(|wait| wait.strip_suffix('s')?.parse().ok()).expect("a wait");
    assert!((3_000.0..=1.5 * 3_900.0).contains(&wait), "{error}");
}

/// By the one who leads the hydrating, and so knows the demand.
async fn assert_operators_are_told(cluster: &Cluster, gap: i64) {
    let leader = &cluster.hydrators[0];
    wait::until(PATIENCE, "the leader names the gap", async || {
        let problems = leader.status().await["problems"].to_string();
        problems.contains(&format!("failover gap of {gap}"))
            && problems.contains("blockhouse sequence set tasks --failover-gap")
    })
    .await;
    let metrics = leader.metrics().await;
    let capped = metrics
        .sum("blockhouse_ledger_requests_total", &[("purpose", "hydrate"), ("outcome", "rate_capped")]);
    assert!(capped >= 1.0, "the hydrator was refused too");
}
