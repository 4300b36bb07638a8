//! A ledger beside other servers that write to it or that it waits for: nothing of it moves back, and no commit is taken for granted.

use std::time::Duration;

use crate::lives::{NOTICE, ends_flawless, epoch, until_granted_in, until_ledger_is};
use crate::support::postgres::Postgres;
use crate::support::{Cluster, wait};

/// What processes count that matches, all of them together.
async fn counted(cluster: &Cluster, name: &str, labels: &[(&str, &str)]) -> f64 {
    let mut sum = 0.0;
    for process in cluster.hydrators.iter().chain(&cluster.allocators) {
        sum += process.metrics().await.sum(name, labels);
    }
    sum
}

/// Another server with the ledger as it is now, which publishes what becomes of its sequences.
fn publisher_of(ledger: &Postgres) -> Postgres {
    let mut publisher = Postgres::start_fresh();
    publisher.configure("wal_level = logical");
    publisher.restart();
    publisher.restore(&ledger.dump());
    publisher.psql("CREATE PUBLICATION older FOR TABLE blockhouse.sequences");
    publisher
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_brings_an_older_counter_is_stopped_and_the_ledger_goes_on() {
    let cluster = Cluster::usual().start().await;
    let load = cluster.load().counts(1..=500).pace(Duration::ZERO).start();
    let publisher = publisher_of(cluster.ledger());
    let older: i64 =
        publisher.psql("SELECT max(granted) FROM blockhouse.sequences").parse().expect("a number");
    let granted = "SELECT min(granted) FROM blockhouse.sequences";
    let until_granted_above = async |above: i64| {
        wait::until(3 * NOTICE, "every sequence is granted further", async || {
            cluster.ledger().psql(granted).parse::<i64>().expect("a number") > above
        })
        .await;
    };
    until_granted_above(older + 1).await;

    let from = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", publisher.port());
    cluster.ledger().psql(&format!(
        "CREATE SUBSCRIPTION older CONNECTION '{from}' PUBLICATION older WITH (copy_data = false)"
    ));
    publisher.psql("UPDATE blockhouse.sequences SET granted = granted + 1");
    let failed = "SELECT apply_error_count > 1 FROM pg_stat_subscription_stats";
    wait::until(3 * NOTICE, "it is refused, also when it is tried again", async || {
        cluster.ledger().psql(failed) == "t"
    })
    .await;
    assert!(cluster.ledger().log().contains("only moves forward"), "{}", cluster.ledger().log());
    let waiting = "SELECT bool_and(confirmed_flush_lsn < pg_current_wal_lsn()) FROM pg_replication_slots";
    assert_eq!(publisher.psql(waiting), "t", "replication has stopped");

    let stands: i64 =
        cluster.ledger().psql("SELECT max(granted) FROM blockhouse.sequences").parse().expect("a number");
    until_granted_above(stands).await;
    assert_eq!(epoch(&cluster), 1, "nobody has closed it");
    ends_flawless(&cluster, load).await;
    cluster.ledger().psql("ALTER SUBSCRIPTION older DISABLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_that_wait_for_a_standby_that_hangs_are_in_doubt_and_never_cancelled() {
    // Exercises: what the allocators ask for while the pods still have blocks.
    let plan = Cluster::usual().set("exercise.ratio = 0.2").set("exercise.max_per_minute = 600.0");
    let mut cluster = plan.set("ledger.timeout = '1s'").start().await;
    let load = cluster.load().counts(1..=100).pace(Duration::from_millis(20)).start();
    let mut primary = cluster.postgres.take().expect("the plan has a ledger");
    let mut standby = primary.standby();
    primary.psql("ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.psql("SELECT pg_reload_conf()");
    primary.wait_for("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'");
    standby.pause();
    let waiting = "SELECT count(*) > 0 FROM pg_stat_activity
                    WHERE wait_event = 'SyncRep' AND application_name LIKE 'blockhouse/allocator%'";
    primary.wait_for(waiting);
    wait::until(3 * NOTICE, "who has waited for a grant takes it for a doubt", async || {
        counted(
            &cluster,
            "blockhouse_ledger_requests_total",
            &[("purpose", "exercise"), ("outcome", "in_doubt")],
        )
        .await
            > 0.0
    })
    .await;
    // Whoever asked has hung up; the server still waits.
    primary.wait_for(waiting);
    load.until_answered(300).await;
    assert!(
        !primary.log().contains("canceling wait for synchronous replication"),
        "no grant is cancelled: {}",
        primary.log()
    );

    primary.crash();
    standby.resume();
    standby.promote();
    standby.replace(&mut primary);
    cluster.postgres = Some(standby);
    until_ledger_is(&cluster.hydrators[0], "closed").await;
    let accept = ["ledger", "accept-failover", "--yes"];
    wait::until(3 * NOTICE, "it is accepted", async || cluster.command(&accept).status.success()).await;
    until_granted_in(&cluster, epoch(&cluster)).await;
    ends_flawless(&cluster, load).await;
}
