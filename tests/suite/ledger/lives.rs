//! Close, report, open (S3) on PostgreSQL: each is one statement with one winner. What every engine does stands in `conformance/lives.rs`.

use std::sync::Arc;

use blockhouse::block::{Life, OnFailover, SequenceFacts};
use blockhouse::ledger::{Accept, Admin, Report, Reported, State};
use futures_util::future::join_all;

use super::*;

/// What a cluster knows that follows `life`: `high_water` of `tasks`, read at `read_at_us`.
fn knowing(closed: Life, follows: Life, high_water: i64, read_at_us: i64) -> Report {
    Report {
        follows: Some(follows),
        read_at_us: Some(read_at_us),
        on_failover: Some(OnFailover::Jump),
        sequences: vec![(tasks(1), high_water)],
        ..knowing_nothing(closed)
    }
}

fn tasks(generation: i64) -> SequenceFacts {
    SequenceFacts {
        name: "tasks".into(),
        generation,
        first: 1,
        last: (1 << 53) - 1,
        block_size: 1000,
        buffer_seconds: None,
        failover_gap: 1_000_000_000,
        halted: None,
        retired: false,
    }
}

fn of(cluster: &str, report: Report) -> Report {
    Report { cluster: Arc::from(cluster), ..report }
}

async fn closed(ledger: &dyn Admin, known: Life) -> Life {
    let facts = ledger.facts(Some(known)).await.unwrap();
    assert!(matches!(facts.state, State::Closed(_)) && facts.descends, "{facts:?}");
    facts.identity.life
}

async fn waits(ledger: &dyn Admin, report: &Report, for_what: &str) {
    let answer = ledger.report(report).await.unwrap();
    assert!(matches!(&answer, Reported::Waits(why) if why.contains(for_what)), "{answer:?}");
}

async fn next_id(ledger: &dyn Admin, life: Life) -> i64 {
    ledger.grant(&ask(life, 1)).await.unwrap().span.first()
}

#[tokio::test]
async fn a_restart_is_noticed_by_one_of_many_and_each_is_told() {
    let (mut server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    server.restart();
    let clients: Vec<_> = (0..8).map(|_| Client::to(&server.url()).open()).collect();
    let lives: Vec<Life> = join_all(clients.iter().map(|client| closed(&**client, known))).await;
    assert!(lives.iter().all(|life| *life == lives[0] && life.epoch == 2), "{lives:?}");
    assert_eq!(server.psql("SELECT count(*) FROM blockhouse.lives"), "2");
    let report = knowing_nothing(lives[0]);
    let answers = join_all(clients.iter().map(|client| client.report(&report))).await;
    assert!(answers.iter().all(|answer| *answer.as_ref().unwrap() == Reported::Open), "{answers:?}");
    assert_eq!(server.psql("SELECT count(*) FROM blockhouse.moves"), "0", "nothing was granted");
}

/// `ledger.incarnation = none`: what knows more than the ledger does still closes it, and an operator's word opens it.
#[tokio::test]
async fn an_engine_that_does_not_say_where_it_runs_is_condemned_and_accepted_all_the_same() {
    let server = Postgres::start();
    let ledger = Client::to(&server.url()).unfenced().open();
    ledger.migrate().await.unwrap();
    server.psql(
        "CREATE OR REPLACE FUNCTION blockhouse.incarnation(
             OUT system_identifier bigint, OUT timeline text, OUT started_at timestamptz, OUT table_oid oid)
         LANGUAGE plpgsql AS $$ BEGIN RAISE undefined_function; END $$;
         UPDATE blockhouse.ledger SET system_identifier = NULL, timeline = NULL, started_at = NULL, table_oid = NULL",
    );
    ledger.create(&sequence("tasks", 1, (1 << 53) - 1)).await.unwrap();
    let known = life(&*ledger).await;
    ledger.grant(&ask(known, 10)).await.unwrap();
    ledger.condemn(known, known.epoch, "the counter lies below what is known").await.unwrap();
    let closed = closed(&*ledger, known).await;
    waits(&*ledger, &knowing(closed, known, 5_000, 1), "accept-failover").await;
    assert_eq!(ledger.accept(&Accept::default(), true).await.unwrap().problem, None);
    assert_eq!(next_id(&*ledger, closed).await, 5_000 + 1_000_000_000 + 1);
}

#[tokio::test]
async fn of_two_replicas_promoted_one_after_the_other_the_second_goes_on_above_the_first() {
    let (server, ledger) = server_with_tasks().await;
    let ancestor = life(&*ledger).await;
    ledger.grant(&ask(ancestor, 10)).await.unwrap();
    let (first, second) = (server.standby(), server.standby());
    for standby in [&first, &second] {
        standby.wait_for("SELECT count(*) = 1 FROM blockhouse.grants");
        standby.promote();
    }
    let there = Client::to(&first.url()).open();
    let first_life = closed(&*there, ancestor).await;
    waits(&*there, &knowing(first_life, ancestor, 500, 1), "accept-failover").await;
    there.accept(&Accept::default(), true).await.unwrap();
    let issued = there.grant(&ask(first_life, 100)).await.unwrap().span;
    let read_at_us = there.facts(None).await.unwrap().read_at_us;

    // The second never followed the first: whoever knows that life is not served by it before somebody says so.
    let other = Client::to(&second.url()).open();
    let facts = other.facts(Some(first_life)).await.unwrap();
    assert!(!facts.descends && matches!(facts.state, State::Closed(_)), "{facts:?}");
    let report = knowing(facts.identity.life, first_life, issued.last(), read_at_us);
    waits(&*other, &report, "did not lead here").await;
    // A cluster that never met the first.
    waits(&*other, &of("beta", knowing(facts.identity.life, ancestor, 10, 1)), "did not lead here").await;
    assert_eq!(other.accept(&Accept::default(), true).await.unwrap().problem, None);
    for known in [first_life, ancestor] {
        let facts = other.facts(Some(known)).await.unwrap();
        assert!(facts.descends && facts.state == State::Open, "{facts:?}");
        assert!(facts.identity.life.epoch > first_life.epoch, "{facts:?}");
    }
    assert!(next_id(&*other, life(&*other).await).await > issued.last());
}
