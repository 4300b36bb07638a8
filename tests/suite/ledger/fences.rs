//! S3 and S5: a ledger that may have gone back in time, or that is another one, gives nothing.

use blockhouse::block::Life;
use blockhouse::ledger::{Admin, Facts, LedgerError, State};
use futures_util::future::join_all;
use uuid::Uuid;

use super::{Client, ask, life, sequence, server_with_tasks};
use crate::support::postgres::Postgres;

/// That the ledger is closed for a reason with `why` in it, in facts and grants alike, and gave nothing.
async fn assert_closed(ledger: &dyn Admin, known: Life, why: &str) -> Facts {
    let answer = ledger.grant(&ask(known, 10)).await;
    assert!(matches!(&answer, Err(LedgerError::Closed(reason)) if reason.contains(why)), "{answer:?}");
    let facts = ledger.facts(Some(known)).await.unwrap();
    assert!(matches!(&facts.state, State::Closed(reason) if reason.contains(why)), "{:?}", facts.state);
    assert!(facts.identity.life.epoch > known.epoch);
    assert_ne!(facts.identity.life.token, known.token);
    let answer = ledger.grant(&ask(facts.identity.life, 10)).await;
    assert!(matches!(answer, Err(LedgerError::Closed(_))), "{answer:?}");
    let answer = ledger.create(&sequence("lost", 1, 1000)).await;
    assert!(matches!(answer, Err(LedgerError::Closed(_))), "{answer:?}");
    facts
}

#[tokio::test]
async fn a_promoted_standby_closes_and_the_old_primary_does_not() {
    let (server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    ledger.grant(&ask(known, 10)).await.unwrap();
    let standby = server.standby();
    standby.wait_for("SELECT granted = 10 FROM blockhouse.sequences");

    let there = Client::to(&standby.url()).open();
    for answer in [there.facts(None).await.map(drop), there.grant(&ask(known, 10)).await.map(drop)] {
        assert!(
            matches!(&answer, Err(LedgerError::Unreachable(why)) if why.contains("read-only")),
            "{answer:?}"
        );
    }
    standby.promote();
    let facts = assert_closed(&*there, known, "promoted").await;
    assert!(facts.descends);
    assert_eq!(facts.granted[0].1, 10);
    assert_eq!(standby.psql("SELECT count(*) FROM blockhouse.lives"), "2");
    ledger.grant(&ask(known, 10)).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_lives_through_the_promotion_sees_it() {
    let (server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    let standby = server.standby();
    standby.wait_for("SELECT count(*) = 1 FROM blockhouse.sequences");
    let session = standby.session().await;
    standby.promote();
    let row = format!(
        "SELECT outcome FROM blockhouse.grant_ids('tasks', 1, {}, '{}', 1, 1, 1, 0, 'fallback', 'h', 'c', NULL, true)",
        known.epoch, known.token
    );
    session.until(&format!("SELECT outcome = 'closed' FROM ({row}) AS answer")).await;
}

#[tokio::test]
async fn of_many_who_see_a_promotion_one_closes_and_all_are_refused() {
    let (server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    let standby = server.standby();
    standby.wait_for("SELECT count(*) = 1 FROM blockhouse.sequences");
    standby.promote();
    let many: Vec<_> = (0..16).map(|_| Client::to(&standby.url()).open()).collect();
    for answer in join_all(many.iter().map(|one| async { one.grant(&ask(known, 10)).await })).await {
        assert!(matches!(answer, Err(LedgerError::Closed(_))), "{answer:?}");
    }
    assert_eq!(standby.psql("SELECT string_agg(epoch::text, ',') FROM blockhouse.lives"), "1,2");
}

#[tokio::test]
async fn a_dump_restored_over_the_ledger_closes_it() {
    let (server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    ledger.grant(&ask(known, 10)).await.unwrap();
    let dump = server.dump();
    ledger.grant(&ask(known, 10)).await.unwrap();
    server.restore(&dump);
    assert_eq!(
        server.psql("SELECT granted, (SELECT state FROM blockhouse.ledger) FROM blockhouse.sequences"),
        "10|open"
    );

    // Both the connection that was open all the time and a new one.
    let facts = assert_closed(&*ledger, known, "restoring a dump").await;
    assert!(facts.descends);
    assert_closed(&*Client::to(&server.url()).open(), known, "restoring a dump").await;
    assert!(
        server.try_psql("UPDATE blockhouse.sequences SET granted = 9").is_err(),
        "the triggers came back too"
    );
}

#[tokio::test]
async fn a_dump_restored_on_another_server_is_closed() {
    let (server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    let other = Postgres::start_fresh();
    other.restore(&server.dump());
    assert_closed(&*Client::to(&other.url()).open(), known, "another server").await;
}

#[tokio::test]
async fn the_new_epoch_lies_above_every_one_that_the_closer_knows() {
    let (server, ledger) = server_with_tasks().await;
    let known = Life { epoch: 41, token: Uuid::new_v4() };
    let facts = ledger.facts(Some(known)).await.unwrap();
    assert!(!facts.descends, "this ledger never was in that life");
    server.restore(&server.dump());
    let facts = ledger.facts(Some(known)).await.unwrap();
    assert!(matches!(facts.state, State::Closed(_)));
    assert_eq!(facts.identity.life.epoch, 42);
}

#[tokio::test]
async fn a_rewritten_table_keeps_it_open() {
    let (server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    ledger.grant(&ask(known, 10)).await.unwrap();
    server.psql("VACUUM FULL blockhouse.sequences");
    assert_eq!(ledger.grant(&ask(known, 10)).await.unwrap().span.first(), 11);
    let facts = ledger.facts(Some(known)).await.unwrap();
    assert_eq!((facts.state, facts.descends, facts.identity.life), (State::Open, true, known));
}

#[tokio::test]
async fn where_the_incarnation_is_not_looked_at_a_promotion_is_not_seen() {
    let (server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    let standby = server.standby();
    standby.wait_for("SELECT count(*) = 1 FROM blockhouse.sequences");
    standby.promote();
    let there = Client::to(&standby.url()).unfenced().open();
    there.grant(&ask(known, 10)).await.unwrap();
    let mut ahead = ask(known, 10);
    ahead.known_high_water = 500;
    let answer = there.grant(&ahead).await;
    assert!(matches!(answer, Err(LedgerError::WentBack { granted: 10, known: 500 })), "{answer:?}");
}

#[tokio::test]
async fn another_environments_or_another_id_than_the_pinned_one_is_refused_by_everything() {
    let (server, ledger) = server_with_tasks().await;
    let facts = ledger.facts(None).await.unwrap();
    let strangers = [
        (Client::to(&server.url()).environment("beta"), "environment"),
        (Client::to(&server.url()).pinned(Uuid::new_v4()), "pins"),
    ];
    for (stranger, why) in strangers {
        let stranger = stranger.open();
        for answer in [
            stranger.facts(None).await.map(drop),
            stranger.grant(&ask(facts.identity.life, 1)).await.map(drop),
            stranger.migrate().await.map(drop),
            stranger.halt("tasks", "by mistake").await,
        ] {
            assert!(matches!(&answer, Err(LedgerError::Wrong(said)) if said.contains(why)), "{answer:?}");
        }
    }
    let pinned = Client::to(&server.url()).pinned(facts.identity.ledger).open();
    assert_eq!(pinned.migrate().await.unwrap().identity, facts.identity);
    pinned.grant(&ask(facts.identity.life, 1)).await.unwrap();
}

#[tokio::test]
async fn a_pinned_ledger_is_never_made_anew() {
    let server = Postgres::start();
    let answer = Client::to(&server.url()).pinned(Uuid::new_v4()).open().migrate().await;
    assert!(matches!(answer, Err(LedgerError::Wrong(_))), "{answer:?}");
    assert_eq!(server.psql("SELECT to_regclass('blockhouse.ledger') IS NULL"), "t");
}

#[tokio::test]
async fn a_schema_that_is_missing_or_too_old_or_too_new_says_what_to_do() {
    let server = Postgres::start();
    let ledger = Client::to(&server.url()).open();
    let says = |answer: Result<Facts, LedgerError>, text: &str| {
        assert!(matches!(&answer, Err(LedgerError::Schema(why)) if why.contains(text)), "{answer:?}");
    };
    says(ledger.facts(None).await, "blockhouse ledger migrate");
    let first = ledger.migrate().await.unwrap();
    assert_eq!((first.from, first.to), (0, 1));
    ledger.facts(None).await.unwrap();

    server.psql("UPDATE blockhouse.ledger SET schema_version = 7, readable_from = 1");
    assert_eq!(ledger.migrate().await.unwrap().to, 7, "a newer schema that we can use is left as it is");
    ledger.facts(None).await.unwrap();

    server.psql("UPDATE blockhouse.ledger SET readable_from = 6");
    says(ledger.facts(None).await, "release of schema 6 or newer");
    assert!(matches!(ledger.migrate().await, Err(LedgerError::Schema(_))));

    server.psql("UPDATE blockhouse.ledger SET schema_version = 0, readable_from = 0");
    says(ledger.facts(None).await, "blockhouse ledger migrate");
    assert_eq!(ledger.migrate().await.unwrap().identity, first.identity);
    ledger.facts(None).await.unwrap();
}

#[tokio::test]
async fn of_many_who_migrate_at_once_one_makes_the_ledger() {
    let server = Postgres::start();
    let many: Vec<_> = (0..8).map(|_| Client::to(&server.url()).open()).collect();
    let answers = join_all(many.iter().map(|one| one.migrate())).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|migrated| migrated.from == 0).count(), 1);
    assert!(answers.iter().all(|migrated| migrated.identity == answers[0].identity));
}
