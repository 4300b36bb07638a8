//! S1: what is known of a grant whose answer didn't come as it should.

use std::time::Duration;

use blockhouse::ledger::LedgerError;
use futures_util::future::{Either, join, join_all, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::{Client, again, ask, life, server_with_tasks, waiting};

#[tokio::test]
async fn a_grant_dropped_in_flight_commits_once_and_is_never_granted_again() {
    let (server, ledger) = server_with_tasks().await;
    let request = ask(life(&*ledger).await, 10);
    let (blocker, watcher) = (server.session().await, server.session().await);
    blocker.run("BEGIN; UPDATE blockhouse.sequences SET block_size = 500").await;
    {
        let wait = waiting(1, "Lock");
        let waits = std::pin::pin!(watcher.until(&wait));
        assert!(
            matches!(select(ledger.grant(&request), waits).await, Either::Right(_)),
            "nobody answers yet"
        );
    }
    blocker.run("COMMIT").await;
    watcher.until("SELECT granted = 10 FROM blockhouse.sequences").await;
    let next = ledger.grant(&request).await.unwrap();
    assert_eq!((next.span.first(), next.number), (11, 2));
}

#[tokio::test]
async fn a_commit_waits_for_the_standby_even_if_the_role_does_not() {
    let (server, ledger) = server_with_tasks().await;
    let request = ask(life(&*ledger).await, 10);
    server.psql("ALTER ROLE postgres SET synchronous_commit = off");
    let ledger = Client::to(&server.url()).open();
    ledger.facts(None).await.unwrap();
    let watcher = server.session().await;
    server.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    server.psql("SELECT pg_reload_conf()");
    watcher.until("SELECT current_setting('synchronous_standby_names') = 'nobody'").await;

    // It waits; and once that wait is cancelled, the server says 'committed' with a warning. That is a doubt.
    let cancel = async {
        watcher.until(&waiting(1, "IPC")).await;
        watcher
            .until(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
                  WHERE application_name = 'blockhouse/test-1' AND wait_event = 'SyncRep'",
            )
            .await;
    };
    let (answer, ()) = join(ledger.grant(&request), cancel).await;
    assert!(matches!(&answer, Err(LedgerError::InDoubt(why)) if why.starts_with("WARNING")), "{answer:?}");
    watcher.run("SET synchronous_commit = off").await;
    watcher.run("ALTER SYSTEM RESET synchronous_standby_names").await;
    watcher.until("SELECT pg_reload_conf()").await;
    assert_eq!(ledger.grant(&request).await.unwrap().span.first(), 11);
}

#[tokio::test]
async fn a_session_ended_by_the_server_in_mid_grant_leaves_a_doubt_and_the_next_grant_works() {
    let (server, ledger) = server_with_tasks().await;
    let request = ask(life(&*ledger).await, 10);
    let (blocker, watcher) = (server.session().await, server.session().await);
    blocker.run("BEGIN; UPDATE blockhouse.sequences SET block_size = 500").await;
    let end = async {
        watcher.until(&waiting(1, "Lock")).await;
        watcher
            .until(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'blockhouse/test-1'",
            )
            .await;
    };
    let (answer, ()) = join(ledger.grant(&request), end).await;
    assert!(matches!(answer, Err(LedgerError::InDoubt(_))), "{answer:?}");
    blocker.run("COMMIT").await;
    ledger.grant(&request).await.unwrap();
}

#[tokio::test]
async fn a_grant_that_waits_too_long_for_its_lock_is_certain_not_to_have_happened() {
    let (server, ledger) = server_with_tasks().await;
    let request = ask(life(&*ledger).await, 10);
    let mut client = Client::to(&server.url());
    client.settings.timeout = Duration::from_millis(500);
    let ledger = client.open();
    let blocker = server.session().await;
    blocker.run("BEGIN; UPDATE blockhouse.sequences SET block_size = 500").await;
    let answer = ledger.grant(&request).await;
    assert!(matches!(&answer, Err(LedgerError::Unreachable(why)) if why.contains("55P03")), "{answer:?}");
    blocker.run("COMMIT").await;
    assert_eq!(ledger.grant(&request).await.unwrap().span.first(), 1);
}

#[tokio::test]
async fn connections_closed_while_nobody_used_them_are_opened_again_unnoticed() {
    let (mut server, ledger) = server_with_tasks().await;
    for _ in 0..3 {
        server.restart();
        let request = ask(again(&*ledger).await, 10);
        ledger.grant(&request).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_away_or_silent_is_unreachable_in_bounded_time() {
    let (mut server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    let mut client = Client::to(&server.url());
    client.settings.connect_timeout = Duration::from_millis(300);
    let fresh = client.open();
    server.pause();
    let began = Instant::now();
    let answer = fresh.grant(&ask(known, 10)).await;
    assert!(matches!(&answer, Err(LedgerError::Unreachable(why)) if why.contains("300ms")), "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
    server.resume();
    fresh.grant(&ask(known, 10)).await.unwrap();

    server.stop();
    for client in [&ledger, &fresh] {
        let answer = client.grant(&ask(known, 10)).await;
        assert!(matches!(answer, Err(LedgerError::Unreachable(_))), "{answer:?}");
    }
    server.launch();
    ledger.grant(&ask(again(&*ledger).await, 10)).await.unwrap();
}

#[tokio::test]
async fn calls_at_the_same_time_share_one_connection() {
    let (server, ledger) = server_with_tasks().await;
    let request = ask(life(&*ledger).await, 10);
    join_all((0..20).map(|_| async { ledger.grant(&request).await.unwrap() })).await;
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'blockhouse/test-1'";
    assert_eq!(server.psql(count), "1");
}

#[tokio::test]
async fn options_in_the_url_leave_the_limits_in_place() {
    let (server, ledger) = server_with_tasks().await;
    let request = ask(life(&*ledger).await, 10);
    let mut client = Client::to(&format!("{}?options=-c%20work_mem%3D1MB", server.url()));
    client.settings.timeout = Duration::from_millis(500);
    let blocker = server.session().await;
    blocker.run("BEGIN; UPDATE blockhouse.sequences SET block_size = 500").await;
    let answer = client.open().grant(&request).await;
    assert!(matches!(answer, Err(LedgerError::Unreachable(_))), "{answer:?}");
}

/// PgBouncer's answer to `options`, then a plain passage to the server.
#[tokio::test]
async fn a_pooler_that_refuses_session_options_is_used_without_them() {
    let (server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = server.port();
    let pooler = async {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut start = vec![0; client.read_u32().await.unwrap() as usize - 4];
            client.read_exact(&mut start).await.unwrap();
            if start.windows(8).any(|name| name == b"options\0") {
                let fields = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
                client.write_u8(b'E').await.unwrap();
                client.write_u32(fields.len() as u32 + 4).await.unwrap();
                client.write_all(fields).await.unwrap();
                continue;
            }
            let mut server = TcpStream::connect(("127.0.0.1", behind)).await.unwrap();
            server.write_u32(start.len() as u32 + 4).await.unwrap();
            server.write_all(&start).await.unwrap();
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
    };
    let client = Client::to(&format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable")).open();
    let request = ask(known, 10);
    match select(client.grant(&request), std::pin::pin!(pooler)).await {
        Either::Left((answer, _)) => assert_eq!(answer.unwrap().span.first(), 1),
        Either::Right(_) => unreachable!("the pooler never ends"),
    };
}
