//! Close, report, open (S3): each is one statement with one winner, and only what is provably safe happens by itself.

use std::sync::Arc;

use blockhouse::block::{Life, OnFailover, SequenceFacts};
use blockhouse::ledger::{Accept, Admin, LedgerError, Report, Reported, State};
use futures_util::future::join_all;
use uuid::Uuid;

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

/// Seconds that lie between what the record says and now, for all that was ever recorded.
fn age_by(server: &Postgres, hours: u32) {
    server.psql(&format!(
        "SET session_replication_role = replica;
         ALTER TABLE blockhouse.grants DISABLE TRIGGER no_change;
         UPDATE blockhouse.grants SET at = at - interval '{hours} hours';
         ALTER TABLE blockhouse.grants ENABLE ALWAYS TRIGGER no_change;
         UPDATE blockhouse.clusters SET renewed_at = renewed_at - interval '{hours} hours'"
    ));
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

#[tokio::test]
async fn after_a_restart_a_fresh_report_costs_an_hours_grants_and_none_a_days() {
    for (fresh, skipped) in [(true, 10), (false, 30)] {
        let (mut server, ledger) = server_with_tasks().await;
        let known = life(&*ledger).await;
        ledger.grant(&ask(known, 20)).await.unwrap();
        age_by(&server, 3);
        ledger.grant(&ask(known, 10)).await.unwrap();
        let read_at_us = ledger.facts(None).await.unwrap().read_at_us - if fresh { 0 } else { 90_000_000 };
        server.restart();
        let closed = closed(&*ledger, known).await;
        let report = knowing(closed, known, 30, read_at_us);
        assert_eq!(ledger.report(&report).await.unwrap(), Reported::Open);
        assert_eq!(next_id(&*ledger, closed).await, 30 + skipped + 1, "read a moment before: {fresh}");
    }
}

#[tokio::test]
async fn a_restart_with_older_files_waits_for_an_operator() {
    let (mut server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    ledger.grant(&ask(known, 10)).await.unwrap();
    let read_at_us = ledger.facts(None).await.unwrap().read_at_us;
    server.restart();
    let closed = closed(&*ledger, known).await;
    // Somebody knows of a grant that is not in these files.
    let report = knowing(closed, known, 5_000, read_at_us);
    waits(&*ledger, &report, "accept-failover").await;
    assert!(matches!(ledger.grant(&ask(closed, 1)).await, Err(LedgerError::Closed(_))));
    let accepted = ledger.accept(&Accept::default(), true).await.unwrap();
    assert_eq!(accepted.problem, None);
    assert_eq!(next_id(&*ledger, closed).await, 5_000 + 1_000_000_000 + 1);
}

#[tokio::test]
async fn another_line_of_history_is_reported_and_never_opened_by_itself() {
    let (mut server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    server.restart();
    let closed = closed(&*ledger, known).await;
    let elsewhere = Life { epoch: 1, token: Uuid::new_v4() };
    let report = knowing(closed, elsewhere, 0, 0);
    waits(&*ledger, &report, "did not lead here").await;
    // What was said stays said.
    waits(&*ledger, &knowing(closed, elsewhere, 0, 0), "did not lead here").await;
}

#[tokio::test]
async fn every_cluster_of_the_last_recorded_hour_is_waited_for() {
    let (mut server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    for cluster in ["alpha", "beta", "gone"] {
        assert!(ledger.lead(cluster, "test-1", std::time::Duration::from_secs(1)).await.unwrap().held);
    }
    server.psql(
        "UPDATE blockhouse.clusters SET renewed_at = renewed_at - interval '2 hours' WHERE name = 'gone'",
    );
    server.restart();
    let closed = closed(&*ledger, known).await;
    waits(&*ledger, &of("alpha", knowing_nothing(closed)), "beta").await;
    let plan = ledger.accept(&Accept::default(), false).await.unwrap();
    assert!(
        plan.problem.as_deref().is_some_and(|why| why.contains("beta") && !why.contains("gone")),
        "{plan:?}"
    );
    assert_eq!(ledger.report(&of("beta", knowing_nothing(closed))).await.unwrap(), Reported::Open);
}

#[tokio::test]
async fn where_nobody_knows_anything_a_floor_is_demanded() {
    let (server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    ledger.grant(&ask(known, 10)).await.unwrap();
    server.restore(&server.dump());
    let closed = closed(&*ledger, known).await;
    waits(&*ledger, &knowing_nothing(closed), "accept-failover").await;
    let refused = ledger.accept(&Accept::default(), true).await.unwrap();
    assert!(refused.problem.as_deref().is_some_and(|why| why.contains("--at-least")), "{refused:?}");
    assert!(
        matches!(ledger.grant(&ask(closed, 1)).await, Err(LedgerError::Closed(_))),
        "nothing was changed"
    );
    let accept = Accept { at_least: vec![("tasks".to_owned(), 777)], ..Accept::default() };
    let gap = ledger.facts(None).await.unwrap().catalogue.sequences["tasks"].failover_gap;
    assert_eq!(ledger.accept(&accept, false).await.unwrap().moves[0].to, 777 + gap);
    assert_eq!(ledger.accept(&accept, true).await.unwrap().problem, None);
    assert!(next_id(&*ledger, closed).await > 777);
}

#[tokio::test]
async fn a_sequence_and_a_generation_that_a_failover_lost_are_brought_back() {
    let (mut server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    server.restart();
    let closed = closed(&*ledger, known).await;
    let lost = SequenceFacts { name: "lost".into(), ..tasks(1) };
    let mut report = knowing(closed, known, 0, 1);
    report.sequences = vec![(tasks(7), 0), (lost, 4_000)];
    waits(&*ledger, &report, "sequence lost").await;
    assert_eq!(ledger.accept(&Accept::default(), true).await.unwrap().problem, None);
    let facts = ledger.facts(None).await.unwrap();
    assert_eq!(facts.catalogue.sequences["tasks"].generation, 7);
    let lost = facts.granted.iter().find(|(name, _)| &**name == "lost").unwrap();
    assert!(lost.1 >= 4_000, "it begins above what was given out: {lost:?}");
}

#[tokio::test]
async fn a_life_is_condemned_by_its_name_only() {
    let (_server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    let other = Life { epoch: 1, token: Uuid::new_v4() };
    ledger.condemn(other, 1, "it is another server's").await.unwrap();
    assert_eq!(life(&*ledger).await, known, "a flipping pooler can't close the good one");
    ledger.condemn(known, 9, "the counter lies below what is known").await.unwrap();
    assert_eq!(closed(&*ledger, known).await.epoch, 10);
}

#[tokio::test]
async fn a_ledger_that_may_jump_goes_on_above_the_gap_by_itself_if_every_report_is_fresh() {
    let (server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();
    ledger.grant(&ask(known, 10)).await.unwrap();
    let read_at_us = ledger.facts(None).await.unwrap().read_at_us;
    server.restore(&server.dump());
    let closed = closed(&*ledger, known).await;
    let hour_us = 3_600_000_000;
    waits(&*ledger, &of("beta", knowing(closed, known, 5_000, read_at_us - hour_us)), "an hour old").await;
    waits(&*ledger, &of("alpha", knowing(closed, known, 6_000, read_at_us)), "beta").await;
    let fresh = of("beta", knowing(closed, known, 5_000, read_at_us));
    assert_eq!(ledger.report(&fresh).await.unwrap(), Reported::Open);
    assert_eq!(next_id(&*ledger, closed).await, 6_000 + 1_000_000_000 + 1);
}

#[tokio::test]
async fn a_sequence_without_a_gap_keeps_a_ledger_from_jumping() {
    let (server, ledger) = server_with_tasks().await;
    ledger.create(&sequence("small", 1, 1_000)).await.unwrap();
    let known = life(&*ledger).await;
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();
    let read_at_us = ledger.facts(None).await.unwrap().read_at_us;
    server.restore(&server.dump());
    let closed = closed(&*ledger, known).await;
    waits(&*ledger, &knowing(closed, known, 10, read_at_us), "sequence small has no failover_gap").await;
}

/// What was lost of a change would have stopped it.
#[tokio::test]
async fn whoever_knows_that_the_ledger_waits_or_that_nothing_capped_it_keeps_it_from_jumping() {
    let (server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();
    let read_at_us = ledger.facts(None).await.unwrap().read_at_us;
    server.restore(&server.dump());
    let closed = closed(&*ledger, known).await;
    let fresh = knowing(closed, known, 10, read_at_us);
    let knows_wait = Report { on_failover: Some(OnFailover::Wait), ..fresh.clone() };
    waits(&*ledger, &of("alpha", knows_wait), "cluster alpha knows a ledger that waits").await;
    waits(&*ledger, &of("alpha", fresh.clone()), "cluster alpha knows a ledger that waits").await;
    let uncapped = SequenceFacts { failover_gap: 0, ..tasks(1) };
    let knows_no_gap = Report { sequences: vec![(uncapped, 10)], ..fresh };
    waits(&*ledger, &of("beta", knows_no_gap), "sequence tasks has no failover_gap").await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_no_old_report_fresh() {
    let (server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();
    let read_at_us = ledger.facts(None).await.unwrap().read_at_us;
    for cluster in ["alpha", "beta"] {
        assert!(ledger.lead(cluster, "test-1", std::time::Duration::from_secs(1)).await.unwrap().held);
    }
    server.restore(&server.dump());
    let closed = closed(&*ledger, known).await;
    // One read while the clock was two hours ahead: it is among those that the other may have missed.
    waits(&*ledger, &of("alpha", knowing(closed, known, 6_000, read_at_us + 7_200_000_000)), "beta").await;
    waits(&*ledger, &of("beta", knowing(closed, known, 5_000, read_at_us)), "beta is over an hour old").await;
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

#[tokio::test]
async fn sequences_of_every_size_go_through_a_failover_beside_each_other() {
    let (server, ledger) = server_with_tasks().await;
    let ends = [
        ("thousand", 1_000),
        ("int32", i64::from(i32::MAX)),
        ("js-safe", (1 << 53) - 1),
        ("int64", i64::MAX),
    ];
    for (name, last) in ends {
        ledger.create(&sequence(name, 1, last)).await.unwrap();
    }
    let known = life(&*ledger).await;
    server.psql("UPDATE blockhouse.sequences SET granted = last - 5 WHERE name = 'int64'");
    server.restore(&server.dump());
    let closed = closed(&*ledger, known).await;
    let facts = ledger.facts(None).await.unwrap().catalogue;
    let known_of = |name: &str| match name {
        "thousand" => 990,
        "int64" => i64::MAX - 2,
        _ => 50_000,
    };
    let mut report = knowing(closed, known, 0, 1);
    report.sequences = facts.sequences.values().map(|facts| (facts.clone(), known_of(&facts.name))).collect();
    waits(&*ledger, &report, "accept-failover").await;
    assert_eq!(ledger.accept(&Accept::default(), true).await.unwrap().problem, None);
    let take = async |name: &str| {
        ledger
            .grant(&GrantRequest { sequence: name.into(), ..ask(closed, 1) })
            .await
            .map(|grant| grant.span.first())
    };
    assert_eq!(take("thousand").await.unwrap(), 991, "too small for a gap: it goes on where the report ends");
    assert_eq!(take("int32").await.unwrap(), 50_000 + i64::from(i32::MAX - 1) / 1024 + 1);
    assert_eq!(take("js-safe").await.unwrap(), 50_000 + 1_000_000_000 + 1);
    assert!(
        matches!(take("int64").await, Err(LedgerError::Exhausted { left: 0 })),
        "the gap ends at its last ID"
    );
}
