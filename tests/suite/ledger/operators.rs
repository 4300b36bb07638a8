//! What operators and hydrators ask: sequences, leases, demand, history.

use std::sync::Arc;
use std::time::Duration;

use blockhouse::ledger::{LedgerError, NewSequence, SequenceChange, State};
use futures_util::future::join_all;

use super::{Client, again, ask, life, sequence, server_with_tasks};

#[tokio::test]
async fn of_many_who_create_one_name_one_does_and_the_others_are_told() {
    let (server, _ledger) = server_with_tasks().await;
    let sessions: Vec<_> = (0..8).map(|_| Client::to(&server.url()).open()).collect();
    let strict = sequence("new", 1, 1000);
    let answers = join_all(sessions.iter().map(|session| session.create(&strict))).await;
    assert_eq!(answers.iter().filter(|answer| answer.as_ref().is_ok_and(|created| created.new)).count(), 1);
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Err(LedgerError::Invalid(_)))).count(), 7);

    let lenient = NewSequence { if_not_exists: true, ..sequence("other", 5, 1000) };
    let answers = join_all(sessions.iter().map(|session| session.create(&lenient))).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|created| created.new).count(), 1);
    assert!(answers.iter().all(|created| created.row == answers[0].row));
    assert_eq!((answers[0].row.granted, answers[0].row.grants), (4, 0));
}

#[tokio::test]
async fn sequences_created_at_the_same_time_are_all_there() {
    let (server, ledger) = server_with_tasks().await;
    let before = ledger.facts(None).await.unwrap().catalogue.stamp.version;
    let sessions: Vec<_> = (0..8).map(|_| Client::to(&server.url()).open()).collect();
    let new: Vec<_> = (0..8).map(|nth| sequence(&format!("s{nth}"), 1, 1000)).collect();
    for answer in join_all(sessions.iter().zip(&new).map(|(session, new)| session.create(new))).await {
        answer.unwrap();
    }
    let facts = ledger.facts(None).await.unwrap();
    assert_eq!(facts.catalogue.sequences.len(), 9);
    assert_eq!(facts.catalogue.stamp.version, before + 8);
}

#[tokio::test]
async fn every_change_of_facts_raises_the_catalogue_and_a_grant_does_not() {
    let (server, ledger) = server_with_tasks().await;
    let version = async || ledger.facts(None).await.unwrap().catalogue.stamp.version;
    let start = version().await;
    let change =
        SequenceChange { buffer: Some(Some(Duration::from_secs(3600))), ..SequenceChange::default() };
    let row = ledger.set("tasks", &change).await.unwrap();
    assert_eq!((row.facts.buffer_seconds, version().await), (Some(3600), start + 1));
    ledger.set("tasks", &change).await.unwrap();
    ledger.grant(&ask(life(&*ledger).await, 10)).await.unwrap();
    assert_eq!(version().await, start + 1, "nothing new");
    ledger.halt("tasks", "look").await.unwrap();
    assert_eq!(version().await, start + 2);
    let facts = ledger.facts(None).await.unwrap();
    assert_eq!(facts.catalogue.sequences["tasks"].halted.as_deref(), Some("look"));
    assert_eq!(facts.granted, [(Arc::from("tasks"), 10)]);
    ledger.resume("tasks").await.unwrap();
    server.psql("UPDATE blockhouse.sequences SET generation = 2");
    assert_eq!(version().await, start + 4, "also by hand");
}

#[tokio::test]
async fn a_sequence_is_changed_only_in_ways_that_lose_nothing() {
    let (_server, ledger) = server_with_tasks().await;
    ledger.create(&sequence("small", 1, 1000)).await.unwrap();
    let change = |change: fn(&mut SequenceChange)| {
        let mut wanted = SequenceChange::default();
        change(&mut wanted);
        wanted
    };
    let row = ledger.set("small", &change(|c| (c.last, c.block_size) = (Some(2000), Some(7)))).await.unwrap();
    assert_eq!((row.facts.last, row.facts.block_size, row.facts.buffer_seconds), (2000, 7, None));
    let row = ledger.set("small", &change(|c| c.buffer = Some(Some(Duration::from_secs(60))))).await.unwrap();
    assert_eq!((row.facts.last, row.facts.block_size, row.facts.buffer_seconds), (2000, 7, Some(60)));
    let row =
        ledger.set("small", &change(|c| (c.buffer, c.failover_gap) = (Some(None), Some(5)))).await.unwrap();
    assert_eq!((row.facts.buffer_seconds, row.facts.failover_gap), (None, 5));
    for refused in [
        change(|c| c.last = Some(0)),
        change(|c| c.block_size = Some(0)),
        change(|c| c.failover_gap = Some(-1)),
    ] {
        assert!(matches!(ledger.set("small", &refused).await, Err(LedgerError::Invalid(_))), "{refused:?}");
    }
    assert!(matches!(ledger.set("nobody", &change(|_| ())).await, Err(LedgerError::Unknown(_))));
    assert!(matches!(ledger.create(&sequence("Small", 1, 9)).await, Err(LedgerError::Invalid(_))));
}

#[tokio::test]
async fn halts_and_retirements_say_whether_they_changed_anything() {
    let (_server, ledger) = server_with_tasks().await;
    assert!(!ledger.resume("tasks").await.unwrap());
    ledger.halt("tasks", "look").await.unwrap();
    assert!(ledger.resume("tasks").await.unwrap());
    assert!(ledger.retire("tasks").await.unwrap());
    assert!(!ledger.retire("tasks").await.unwrap());
    let again = ledger.create(&sequence("tasks", 1, 1000)).await;
    assert!(
        matches!(&again, Err(LedgerError::Invalid(why)) if why.contains("never used again")),
        "{again:?}"
    );
    for answer in [ledger.resume("nobody").await, ledger.retire("nobody").await] {
        assert!(matches!(answer, Err(LedgerError::Unknown(_))), "{answer:?}");
    }
    assert!(matches!(ledger.halt("nobody", "x").await, Err(LedgerError::Unknown(_))));
}

#[tokio::test]
async fn a_lease_is_kept_while_renewed_and_handed_over_when_it_ends_or_is_given_up() {
    let (server, ledger) = server_with_tasks().await;
    let ttl = Duration::from_secs(15);
    let lead = async |who| {
        let lease = ledger.lead("alpha", who, ttl).await.unwrap();
        (lease.held, lease.leader.to_string())
    };
    assert_eq!(lead("a").await, (true, "a".to_owned()));
    assert_eq!(lead("b").await, (false, "a".to_owned()));
    assert_eq!(lead("a").await, (true, "a".to_owned()));
    assert!(ledger.lead("beta", "b", ttl).await.unwrap().held, "another cluster has its own");

    server.psql("UPDATE blockhouse.clusters SET lease_ends = clock_timestamp() WHERE name = 'alpha'");
    assert_eq!(lead("b").await, (true, "b".to_owned()));
    assert_eq!(lead("a").await, (false, "b".to_owned()));
    ledger.resign("alpha", "a").await.unwrap();
    assert_eq!(lead("a").await, (false, "b".to_owned()), "who doesn't lead can't resign");
    ledger.resign("alpha", "b").await.unwrap();
    assert_eq!(lead("a").await, (true, "a".to_owned()));

    let leases = ledger.history().await.unwrap().leases;
    assert_eq!((leases[0].cluster.as_str(), leases[0].leader.as_str()), ("alpha", "a"));
    assert!((10..=15).contains(&leases[0].seconds_left), "{leases:?}");
}

#[tokio::test]
async fn of_many_who_want_to_lead_one_does() {
    let (server, _ledger) = server_with_tasks().await;
    let sessions: Vec<_> = (0..8).map(|nth| (format!("h{nth}"), Client::to(&server.url()).open())).collect();
    for _ in 0..3 {
        let leases = join_all(sessions.iter().map(|(name, session)| async {
            session.lead("alpha", name, Duration::from_secs(15)).await.unwrap()
        }));
        let leases = leases.await;
        assert_eq!(leases.iter().filter(|lease| lease.held).count(), 1);
        assert!(leases.iter().all(|lease| lease.leader == leases[0].leader));
        server.psql("UPDATE blockhouse.clusters SET lease_ends = clock_timestamp()");
    }
}

#[tokio::test]
async fn demand_adds_up_by_hour_for_a_day_and_by_cluster() {
    let (server, ledger) = server_with_tasks().await;
    let tasks: Arc<str> = Arc::from("tasks");
    let used =
        [(Arc::clone(&tasks), 5), (Arc::from("other"), 1), (Arc::clone(&tasks), 2), (Arc::from("none"), 0)];
    ledger.add_demand("alpha", &used).await.unwrap();
    ledger.add_demand("alpha", &[(Arc::clone(&tasks), 3)]).await.unwrap();
    ledger.add_demand("beta", &[(Arc::clone(&tasks), 100)]).await.unwrap();
    ledger.add_demand("alpha", &[]).await.unwrap();
    server.psql(
        "INSERT INTO blockhouse.demand SELECT 'alpha', 'tasks', floor(extract(epoch FROM now()) / 3600) - back, 10 * back
           FROM unnest(ARRAY[1, 23, 24, 30]) AS back",
    );
    let demand = ledger.demand("alpha").await.unwrap();
    let read: Vec<_> = demand.iter().map(|hour| (&*hour.sequence, hour.hours_ago, hour.ids)).collect();
    assert_eq!(read, [("other", 0, 1), ("tasks", 0, 10), ("tasks", 1, 10), ("tasks", 23, 230)]);
    ledger.add_demand("alpha", &[(Arc::clone(&tasks), i64::MAX)]).await.unwrap();
    assert_eq!(ledger.demand("alpha").await.unwrap()[1].ids, i64::MAX);
    assert_eq!(server.psql("SELECT count(*) FROM blockhouse.demand WHERE ids = 300"), "0", "too old to keep");
}

#[tokio::test]
async fn pruning_is_bounded_and_keeps_the_newest_grant_of_each_sequence() {
    let (server, ledger) = server_with_tasks().await;
    let request = ask(life(&*ledger).await, 10);
    for _ in 0..10 {
        ledger.grant(&request).await.unwrap();
    }
    assert_eq!(ledger.prune(Duration::from_secs(3600), 100).await.unwrap(), 0);
    assert_eq!(ledger.prune(Duration::ZERO, 4).await.unwrap(), 4);
    assert_eq!(server.psql("SELECT min(number) FROM blockhouse.grants"), "5", "the oldest first");
    assert_eq!(ledger.prune(Duration::ZERO, 100).await.unwrap(), 5);
    assert_eq!(server.psql("SELECT string_agg(number::text, ',') FROM blockhouse.grants"), "10");
    assert_eq!(ledger.prune(Duration::MAX, 100).await.unwrap(), 0);
    assert_eq!(ledger.lookup("tasks", 5).await.unwrap(), None);
    assert_eq!(ledger.grant(&request).await.unwrap().number, 11);
}

#[tokio::test]
async fn the_history_shows_identity_lives_and_sequences() {
    let (server, ledger) = server_with_tasks().await;
    let history = ledger.history().await.unwrap();
    assert_eq!((history.state, history.schema), (State::Open, (1, 1)));
    assert_eq!(history.lives.len(), 1);
    assert_eq!((history.lives[0].life, history.lives[0].reason.as_str()), (history.identity.life, "created"));
    assert_eq!(&*history.sequences[0].facts.name, "tasks");
    let system = server.psql("SELECT system_identifier FROM pg_control_system()");
    assert!(history.engine.contains(&("system identifier".to_owned(), system)), "{:?}", history.engine);
}

#[tokio::test]
async fn an_id_that_a_restart_skipped_is_told_from_one_that_was_granted() {
    let (mut server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    ledger.grant(&ask(known, 10)).await.unwrap();
    server.restart();
    again(&*ledger).await;
    assert_eq!(ledger.moved("tasks", 10).await.unwrap(), None);
    for skipped in [11, 20] {
        assert_eq!(ledger.lookup("tasks", skipped).await.unwrap(), None);
        let by = ledger.moved("tasks", skipped).await.unwrap().expect("a move");
        assert_eq!((by.epoch, by.from, by.to, by.reason.as_str()), (2, 10, 20, "restarted"));
    }
    assert_eq!(ledger.moved("tasks", 21).await.unwrap(), None);
}
