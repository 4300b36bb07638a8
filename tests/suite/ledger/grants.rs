//! S1 and S4: what a grant gives, under contention too.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use blockhouse::block::{Life, Span};
use blockhouse::ledger::{Admin, Grant, GrantRequest, LedgerError, Purpose, SequenceChange};
use futures_util::future::{join, join_all};
use uuid::Uuid;

use super::{Client, ask, life, sequence, server_with_tasks, waiting};
use crate::support::postgres::Postgres;

#[tokio::test]
async fn grants_of_32_sessions_at_once_are_distinct_and_contiguous_in_the_record() {
    let (server, ledger) = server_with_tasks().await;
    let life = life(&*ledger).await;
    let sessions: Vec<Rc<dyn Admin>> = (0..32).map(|_| Client::to(&server.url()).open()).collect();
    // 8 tasks, each of which makes 150 grants, dealt over 32 sessions.
    let tasks = (0..8_usize).map(|task| {
        let sessions = &sessions;
        async move {
            let ask_one = |nth: usize| async move {
                let count = 1 + ((task * 150 + nth) % 37) as i64;
                sessions[(task * 4 + nth) % 32].grant(&ask(life, count)).await.unwrap().span
            };
            let mut spans = Vec::new();
            for round in 0..15 {
                spans.extend(join_all((0..10).map(|nth| ask_one(round * 10 + nth))).await);
            }
            spans
        }
    });
    let mut spans: Vec<Span> = join_all(tasks).await.into_iter().flatten().collect();
    spans.sort();
    assert_eq!(spans.len(), 1200);
    assert_eq!(spans[0].first(), 1);
    for pair in spans.windows(2) {
        assert_eq!(pair[0].last() + 1, pair[1].first(), "neither an overlap nor a gap");
    }
    let recorded = server.psql("SELECT first || ':' || count FROM blockhouse.grants ORDER BY number");
    let granted: Vec<String> = spans.iter().map(Span::to_string).collect();
    assert_eq!(recorded.lines().collect::<Vec<_>>(), granted);
    assert_eq!(
        server.psql("SELECT min(number), max(number), count(DISTINCT number) FROM blockhouse.grants"),
        "1|1200|1200"
    );
}

#[tokio::test]
async fn a_halt_set_while_grants_wait_for_the_row_is_honoured() {
    let (server, ledger) = server_with_tasks().await;
    let life = life(&*ledger).await;
    let answers = while_waiting(&server, life, "UPDATE blockhouse.sequences SET halted = 'by hand'").await;
    for answer in answers {
        assert!(matches!(&answer, Err(LedgerError::Halted(why)) if why == "by hand"), "{answer:?}");
    }
    assert_eq!(server.psql("SELECT granted, grants FROM blockhouse.sequences"), "0|0");
}

#[tokio::test]
async fn an_epoch_changed_while_grants_wait_is_honoured() {
    let (server, ledger) = server_with_tasks().await;
    let life = life(&*ledger).await;
    let change = "UPDATE blockhouse.ledger SET epoch = 2, token = gen_random_uuid()";
    let answers = while_waiting(&server, life, change).await;
    for answer in answers {
        assert!(matches!(&answer, Err(LedgerError::Stale(_))), "{answer:?}");
    }
    assert_eq!(server.psql("SELECT granted, grants FROM blockhouse.sequences"), "0|0");
}

#[tokio::test]
async fn a_counter_raised_while_grants_wait_is_not_overwritten() {
    let (server, ledger) = server_with_tasks().await;
    let life = life(&*ledger).await;
    let change = "UPDATE blockhouse.sequences SET granted = 5000";
    let answers = while_waiting(&server, life, change).await;
    let mut firsts: Vec<i64> = answers.into_iter().map(|answer| answer.unwrap().span.first()).collect();
    firsts.sort();
    assert_eq!(firsts, (0..8).map(|nth| 5001 + 10 * nth).collect::<Vec<_>>());
}

/// What eight grants of 10 IDs answer that were waiting while another transaction did `change` and committed it.
async fn while_waiting(server: &Postgres, life: Life, change: &str) -> Vec<Result<Grant, LedgerError>> {
    let sessions: Vec<Rc<dyn Admin>> = (0..8).map(|_| Client::to(&server.url()).open()).collect();
    let (blocker, watcher) = (server.session().await, server.session().await);
    blocker.run("BEGIN").await;
    blocker.run(change).await;
    let request = ask(life, 10);
    let grants = join_all(sessions.iter().map(|session| session.grant(&request)));
    let commit = async {
        watcher.until(&waiting(8, "Lock")).await;
        blocker.run("COMMIT").await;
    };
    join(grants, commit).await.0
}

#[tokio::test]
async fn grants_and_changes_by_operators_do_not_deadlock() {
    let (server, ledger) = server_with_tasks().await;
    let life = life(&*ledger).await;
    let sessions: Vec<Rc<dyn Admin>> = (0..8).map(|_| Client::to(&server.url()).open()).collect();
    let request = ask(life, 10);
    let grants = sessions.iter().map(|session| {
        let request = &request;
        async move {
            for _ in 0..20 {
                session.grant(request).await.unwrap();
            }
        }
    });
    let changes = async {
        for size in 1..20 {
            let change = SequenceChange { block_size: Some(size), ..SequenceChange::default() };
            ledger.set("tasks", &change).await.unwrap();
        }
    };
    join(join_all(grants), changes).await;
    assert_eq!(server.psql("SELECT granted, grants, block_size FROM blockhouse.sequences"), "1600|160|19");
}

#[tokio::test]
async fn a_grant_is_recorded_with_all_that_lookup_tells() {
    let (_server, ledger) = server_with_tasks().await;
    let life = life(&*ledger).await;
    ledger.grant(&ask(life, 100)).await.unwrap();
    let mut request = ask(life, 50);
    request.purpose = Purpose::Hydrate;
    request.pod = Some(Arc::from("10.0.0.1:6379"));
    let grant = ledger.grant(&request).await.unwrap();
    assert_eq!((grant.span.to_string().as_str(), grant.number, grant.generation), ("101:50", 2, 1));
    assert_eq!((grant.life, grant.left), (life, (1 << 53) - 1 - 150));

    let record = ledger.lookup("tasks", 150).await.unwrap().unwrap();
    assert_eq!((record.span, record.number, record.epoch), (grant.span, 2, life.epoch));
    assert_eq!((record.holder.as_str(), record.cluster.as_str()), ("test-1", "alpha"));
    assert_eq!((record.purpose.as_str(), record.pod.as_deref()), ("hydrate", Some("10.0.0.1:6379")));
    assert_eq!(ledger.lookup("tasks", 100).await.unwrap().unwrap().number, 1);
    assert_eq!(ledger.lookup("tasks", 151).await.unwrap(), None);
    assert!(matches!(ledger.lookup("nobody", 1).await, Err(LedgerError::Unknown(_))));
}

#[tokio::test]
async fn a_grant_takes_a_64th_of_what_is_left_unless_more_is_needed() {
    let (_server, ledger) = server_with_tasks().await;
    ledger.create(&sequence("small", 1, 6400)).await.unwrap();
    let mut request = ask(life(&*ledger).await, 1);
    request.sequence = Arc::from("small");
    for (least, need, want, granted, left) in [
        (1, 1, 50, 50, 6350),
        (1, 1, 1_000_000, 99, 6251),
        (1, 200, 1_000_000, 200, 6051),
        (7, 6000, 6000, 6000, 51),
        (1, 51, 60, 51, 0),
    ] {
        (request.least, request.need, request.want) = (least, need, want);
        let grant = ledger.grant(&request).await.unwrap();
        assert_eq!((grant.span.count(), grant.left), (granted, left));
    }
    request.least = 1;
    assert!(matches!(ledger.grant(&request).await, Err(LedgerError::Exhausted { left: 0 })));
}

#[tokio::test]
async fn a_sequence_with_too_little_left_gives_nothing_and_serves_smaller_requests() {
    let (_server, ledger) = server_with_tasks().await;
    ledger.create(&sequence("small", 11, 20)).await.unwrap();
    let mut request = ask(life(&*ledger).await, 11);
    request.sequence = Arc::from("small");
    assert!(matches!(ledger.grant(&request).await, Err(LedgerError::Exhausted { left: 10 })));
    (request.least, request.need, request.want) = (3, 11, 11);
    assert_eq!(ledger.grant(&request).await.unwrap().span.to_string(), "11:10");
}

#[tokio::test]
async fn the_last_id_of_all_is_granted_and_nothing_after_it() {
    let (server, ledger) = server_with_tasks().await;
    ledger.create(&sequence("tail", i64::MAX - 9, i64::MAX)).await.unwrap();
    let mut request = ask(life(&*ledger).await, 9);
    request.sequence = Arc::from("tail");
    assert_eq!(ledger.grant(&request).await.unwrap().left, 1);
    (request.least, request.need, request.want) = (1, i64::MAX, i64::MAX);
    let grant = ledger.grant(&request).await.unwrap();
    assert_eq!((grant.span.first(), grant.span.count(), grant.left), (i64::MAX, 1, 0));
    assert!(matches!(ledger.grant(&request).await, Err(LedgerError::Exhausted { left: 0 })));
    assert_eq!(
        server.psql("SELECT granted FROM blockhouse.sequences WHERE name = 'tail'"),
        i64::MAX.to_string()
    );
    assert_eq!(ledger.lookup("tail", i64::MAX).await.unwrap().unwrap().number, 2);

    ledger.create(&sequence("all", 1, i64::MAX)).await.unwrap();
    request.sequence = Arc::from("all");
    let grant = ledger.grant(&request).await.unwrap();
    assert_eq!((grant.span.first(), grant.span.count(), grant.left), (1, i64::MAX, 0));
}

#[tokio::test]
async fn every_refusal_says_why_and_grants_nothing() {
    let (server, ledger) = server_with_tasks().await;
    let life = life(&*ledger).await;
    ledger.grant(&ask(life, 100)).await.unwrap();
    let with = |change: fn(&mut GrantRequest)| {
        let mut request = ask(life, 10);
        change(&mut request);
        request
    };
    let answer = ledger.grant(&with(|r| r.sequence = Arc::from("nobody"))).await;
    assert!(matches!(&answer, Err(LedgerError::Unknown(name)) if name == "nobody"), "{answer:?}");
    let answer = ledger.grant(&with(|r| r.generation = 2)).await;
    assert!(matches!(&answer, Err(LedgerError::Stale(why)) if why.contains("generation 1")), "{answer:?}");
    let answer = ledger.grant(&with(|r| r.life.epoch = 2)).await;
    assert!(matches!(&answer, Err(LedgerError::Stale(why)) if why.contains("epoch 1")), "{answer:?}");
    let answer = ledger.grant(&with(|r| r.life.token = Uuid::new_v4())).await;
    assert!(matches!(answer, Err(LedgerError::Stale(_))), "{answer:?}");
    let answer = ledger.grant(&with(|r| r.known_high_water = 101)).await;
    assert!(matches!(answer, Err(LedgerError::WentBack { granted: 100, known: 101 })), "{answer:?}");
    let answer = ledger.grant(&with(|r| r.least = 0)).await;
    assert!(matches!(answer, Err(LedgerError::Invalid(_))), "{answer:?}");

    ledger.halt("tasks", "overlap").await.unwrap();
    ledger.halt("tasks", "another reason").await.unwrap();
    let answer = ledger.grant(&ask(life, 10)).await;
    assert!(matches!(&answer, Err(LedgerError::Halted(why)) if why == "overlap"), "{answer:?}");
    assert!(ledger.resume("tasks").await.unwrap());
    ledger.grant(&ask(life, 10)).await.unwrap();
    ledger.retire("tasks").await.unwrap();
    let answer = ledger.grant(&ask(life, 10)).await;
    assert!(matches!(answer, Err(LedgerError::Retired)), "{answer:?}");
    assert_eq!(server.psql("SELECT granted, grants FROM blockhouse.sequences"), "110|2");
}

#[tokio::test]
async fn nothing_moves_back_by_hand() {
    let (server, ledger) = server_with_tasks().await;
    ledger.grant(&ask(life(&*ledger).await, 100)).await.unwrap();
    for sql in [
        "UPDATE blockhouse.sequences SET granted = 99",
        "UPDATE blockhouse.sequences SET granted = granted - 1, newest_last = newest_last - 1",
        "UPDATE blockhouse.sequences SET newest_last = NULL",
        "UPDATE blockhouse.sequences SET grants = 0",
        "UPDATE blockhouse.sequences SET generation = 0",
        "UPDATE blockhouse.sequences SET last = 99",
        "UPDATE blockhouse.sequences SET name = 'other'",
        "DELETE FROM blockhouse.sequences",
        "TRUNCATE blockhouse.sequences",
        "DELETE FROM blockhouse.ledger",
        "TRUNCATE blockhouse.ledger",
        "UPDATE blockhouse.ledger SET epoch = 0",
        "UPDATE blockhouse.ledger SET token = gen_random_uuid()",
        "UPDATE blockhouse.ledger SET environment = 'production'",
        "DELETE FROM blockhouse.lives",
        "UPDATE blockhouse.lives SET epoch = 7",
        "TRUNCATE blockhouse.lives",
        "UPDATE blockhouse.grants SET first = 2",
        // As replication applies a change: ordinary triggers are silent then.
        "SET session_replication_role = replica; UPDATE blockhouse.sequences SET granted = 99",
        "SET session_replication_role = replica; DELETE FROM blockhouse.sequences",
    ] {
        assert!(server.try_psql(sql).is_err(), "{sql}");
    }
    assert_eq!(server.psql("SELECT granted, grants FROM blockhouse.sequences"), "100|1");
    server.psql("UPDATE blockhouse.sequences SET granted = 200");
}

#[tokio::test]
async fn a_counter_below_its_newest_record_grants_nothing_even_if_the_trigger_was_off() {
    let (server, ledger) = server_with_tasks().await;
    let life = life(&*ledger).await;
    ledger.grant(&ask(life, 100)).await.unwrap();
    server.psql(
        "ALTER TABLE blockhouse.sequences DISABLE TRIGGER forward_only;
         UPDATE blockhouse.sequences SET granted = 50",
    );
    let answer = ledger.grant(&ask(life, 10)).await;
    assert!(matches!(answer, Err(LedgerError::WentBack { granted: 50, known: 100 })), "{answer:?}");

    ledger.migrate().await.unwrap();
    assert!(
        server.try_psql("UPDATE blockhouse.sequences SET granted = 49").is_err(),
        "migrate repairs the trigger"
    );
}

#[tokio::test]
async fn stricter_isolation_grants_nothing_twice_and_asks_to_try_again() {
    let (server, ledger) = server_with_tasks().await;
    let life = life(&*ledger).await;
    for level in ["repeatable%5C%20read", "serializable"] {
        let url = format!("{}?options=-c%20default_transaction_isolation%3D{level}", server.url());
        let sessions: Vec<Rc<dyn Admin>> = (0..8).map(|_| Client::to(&url).open()).collect();
        let request = ask(life, 10);
        let rounds = sessions.iter().map(|session| {
            let request = &request;
            async move {
                let (mut spans, mut conflicts) = (Vec::new(), 0);
                for _ in 0..30 {
                    match session.grant(request).await {
                        Ok(grant) => spans.push(grant.span),
                        Err(LedgerError::Conflict(_)) => conflicts += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
                (spans, conflicts)
            }
        });
        let (spans, conflicts): (Vec<Vec<Span>>, Vec<u32>) = join_all(rounds).await.into_iter().unzip();
        let mut spans = spans.concat();
        spans.sort();
        assert!(spans.windows(2).all(|pair| !pair[0].overlaps(pair[1])), "{level}");
        assert!(!spans.is_empty() && conflicts.into_iter().sum::<u32>() > 0, "{level}: both happen");
    }
}

#[tokio::test]
async fn a_role_that_may_only_serve_can_serve_and_cannot_touch_a_counter() {
    let (server, ledger) = server_with_tasks().await;
    server.psql("CREATE ROLE blockhouse_service; CREATE ROLE app LOGIN IN ROLE blockhouse_service");
    ledger.migrate().await.unwrap();
    let url = server.url().replace("postgres@", "app@");
    let app = Client::to(&url).open();
    let life = life(&*app).await;
    app.grant(&ask(life, 10)).await.unwrap();
    app.lead("alpha", "app-1", Duration::from_secs(15)).await.unwrap();
    app.confirm("alpha", "app-1", &[]).await.unwrap();
    app.confirm("alpha", "app-1", &[]).await.unwrap();
    app.resign("alpha", "app-1").await.unwrap();
    app.add_demand("alpha", &[(Arc::from("tasks"), 7)]).await.unwrap();
    assert_eq!(app.demand("alpha").await.unwrap().len(), 1);
    app.prune(Duration::ZERO, 10).await.unwrap();
    app.halt("tasks", "tried").await.unwrap();
    assert!(matches!(app.resume("tasks").await, Err(LedgerError::Unreachable(why)) if why.contains("42501")));
    assert!(app.create(&sequence("mine", 1, 10)).await.is_err());
    assert!(app.advance("tasks", 100).await.is_err());
}
