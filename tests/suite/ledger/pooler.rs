//! The ledger behind a real PgBouncer in transaction mode, where every statement may meet another session.

use std::rc::Rc;

use blockhouse::block::Span;
use blockhouse::ledger::Admin;
use futures_util::future::{join, join_all};

use super::{Client, ask, life, sequence, waiting};
use crate::support::Cluster;
use crate::support::pooler::{Pooler, SESSIONS};
use crate::support::postgres::Postgres;

/// A server, a pooler before it, and a ledger with the sequence `tasks` that was laid out through the pooler.
async fn pooled_ledger(line: &str) -> (Pooler, Postgres, Rc<dyn Admin>) {
    let server = Postgres::start();
    let pooler = Pooler::with(&server, line);
    let ledger = Client::to(&pooler.url()).open();
    assert_eq!(ledger.migrate().await.unwrap().from, 0);
    ledger.create(&sequence("tasks", 1, (1 << 53) - 1)).await.unwrap();
    assert_eq!(ledger.migrate().await.unwrap().from, 1, "it can be repeated");
    (pooler, server, ledger)
}

/// 8 connections grant 50 times each, all at once.
async fn grants_of_many(pooler: &Pooler, server: &Postgres, ledger: &dyn Admin) {
    let life = life(ledger).await;
    let clients = (0..8).map(|client| async move {
        let ledger = Client::to(&pooler.url()).open();
        let mut spans = Vec::new();
        for nth in 0..50 {
            spans.push(ledger.grant(&ask(life, 1 + (client * 50 + nth) % 37)).await.unwrap().span);
        }
        (ledger, spans)
    });
    let (_ledgers, spans): (Vec<_>, Vec<_>) = join_all(clients).await.into_iter().unzip();
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'blockhouse/%'";
    assert_eq!(server.psql(sessions), SESSIONS.to_string(), "they shared the pool's sessions");

    let mut spans: Vec<Span> = spans.into_iter().flatten().collect();
    spans.sort();
    assert_eq!((spans.len(), spans[0].first()), (400, 1));
    for pair in spans.windows(2) {
        assert_eq!(pair[0].last() + 1, pair[1].first(), "neither an overlap nor a gap");
    }
    let recorded = server.psql("SELECT first || ':' || count FROM blockhouse.grants ORDER BY number");
    let granted: Vec<String> = spans.iter().map(Span::to_string).collect();
    assert_eq!(recorded.lines().collect::<Vec<_>>(), granted);
}

#[tokio::test]
async fn grants_of_8_connections_over_a_pool_of_2_are_distinct_and_contiguous_in_the_record() {
    let (pooler, server, ledger) = pooled_ledger("").await;
    grants_of_many(&pooler, &server, &*ledger).await;
    assert!(pooler.log().contains("unsupported startup parameter: options"), "{}", pooler.log());
}

#[tokio::test]
async fn a_pooler_that_ignores_session_options_serves_just_as_well() {
    let (pooler, server, ledger) = pooled_ledger("ignore_startup_parameters = options").await;
    grants_of_many(&pooler, &server, &*ledger).await;
    assert!(!pooler.log().contains("unsupported"), "{}", pooler.log());
}

#[tokio::test]
async fn a_grant_over_a_pool_waits_for_the_standby_even_if_the_role_does_not_and_leaves_no_setting_behind() {
    let (_direct, server, _ledger) = pooled_ledger("").await;
    server.psql("ALTER ROLE postgres SET synchronous_commit = off");
    // A new pool: its sessions have what the role has now.
    let pooler = Pooler::before(&server);
    let ledger = Client::to(&pooler.url()).open();
    let request = ask(life(&*ledger).await, 10);
    let watcher = server.session().await;
    watcher.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    watcher.until("SELECT pg_reload_conf()").await;
    watcher.until("SELECT current_setting('synchronous_standby_names') = 'nobody'").await;

    let release = async {
        watcher.until(&waiting(1, "IPC")).await;
        watcher.run("ALTER SYSTEM RESET synchronous_standby_names").await;
        watcher.until("SELECT pg_reload_conf()").await;
    };
    let (grant, ()) = join(ledger.grant(&request), release).await;
    assert_eq!(grant.unwrap().span.first(), 1);

    let (client, connection) = tokio_postgres::connect(&pooler.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let setting = client.simple_query("SELECT current_setting('synchronous_commit')").await.unwrap();
    let setting = format!("{setting:?}");
    assert!(setting.contains("off"), "the next one in the pool finds the role's own setting: {setting}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_processes_share_a_pool_smaller_than_they_are_many() {
    let server = Postgres::start();
    let pooler = Pooler::before(&server);
    let plan = Cluster::new().pods(2).allocators(2).hydrator().sequence("tasks").sequence("comments");
    let mut cluster = plan.set(&format!("ledger.url = {:?}", pooler.url())).start().await;
    assert_ne!(server.psql("SELECT count(*) FROM blockhouse.grants WHERE purpose = 'hydrate'"), "0");

    let load = cluster.load().retrying().start();
    load.until_answered(300).await;
    cluster.pods.iter_mut().for_each(|pod| pod.kill());
    server.wait_for("SELECT count(*) >= 2 FROM blockhouse.grants WHERE purpose = 'fallback'");
    load.until_answered(300).await;
    let report = load.stop().await;
    assert!(report.lost.is_empty() && report.given_up == 0, "{report:?}");
    for process in cluster.allocators.iter().chain(&cluster.hydrators) {
        assert_eq!(process.status().await["ledger"]["state"], "up", "{}", process.name());
        assert!(process.log().contains("pooler refuses startup options"), "{} says so", process.name());
    }
    let sessions =
        "SELECT count(*) BETWEEN 1 AND 2 FROM pg_stat_activity WHERE application_name LIKE 'blockhouse/%'";
    assert_eq!(server.psql(sessions), "t", "three processes, and no session of their own");
    cluster.assert_unique();
}
