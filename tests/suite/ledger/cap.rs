//! The hourly cap in PostgreSQL's one statement, by a clock that the test sets.

use std::rc::Rc;
use std::time::Duration;

use blockhouse::block::witness::Kind;
use blockhouse::block::{Life, OnFailover, Stamp, Witness};
use blockhouse::ledger::{Admin, GrantRequest, LedgerError, SequenceChange};
use futures_util::future::{join, join_all};

use super::{Client, ask, life, server_with_tasks, waiting};
use crate::support::postgres::Postgres;

const GAP: i64 = 1_000;

/// A ledger that jumps, whose `tasks` have a gap of 1,000, and whose slots come from a clock of the test's: a database sequence,
/// which shows what it was last set to whatever a transaction may see.
struct Capped {
    server: Postgres,
    ledger: Rc<dyn Admin>,
    life: Life,
}

impl Capped {
    async fn start() -> Capped {
        let (server, ledger) = server_with_tasks().await;
        let gap = SequenceChange { failover_gap: Some(GAP), ..SequenceChange::default() };
        ledger.set("tasks", &gap).await.unwrap();
        ledger.set_on_failover(OnFailover::Jump).await.unwrap();
        server.psql(
            "CREATE SEQUENCE clock START 1000;
             SELECT nextval('clock');
             CREATE OR REPLACE FUNCTION blockhouse.present_slot() RETURNS bigint LANGUAGE sql VOLATILE AS
                 $$ SELECT pg_catalog.pg_sequence_last_value('public.clock') $$",
        );
        let life = life(&*ledger).await;
        Capped { server, ledger, life }
    }

    fn set_clock(&self, slot: i64) {
        self.server.psql(&format!("SELECT setval('clock', {slot})"));
    }

    /// How many IDs one who wants up to `want` gets.
    async fn get(&self, want: i64) -> Result<i64, LedgerError> {
        let request = GrantRequest { least: 1, need: want, want, ..ask(self.life, 1) };
        self.ledger.grant(&request).await.map(|grant| grant.span.count())
    }

    async fn assert_spent(&self) {
        let answer = self.get(1).await;
        assert!(matches!(answer, Err(LedgerError::RateCapped { allowed: 0, .. })), "{answer:?}");
    }
}

#[tokio::test]
async fn of_16_sessions_at_once_and_a_slot_that_ends_all_get_no_more_than_the_gap() {
    let capped = Capped::start().await;
    let sessions: Vec<Rc<dyn Admin>> = (0..16).map(|_| Client::to(&capped.server.url()).open()).collect();
    // Three hours, a slot at a time: the 16 take what there is, and go on when the next slot has begun.
    let mut by_slot = Vec::new();
    for slot in 1000..1036 {
        let take = |session: Rc<dyn Admin>, nth: usize| async move {
            let want = 3 + (nth as i64 * 7 + slot) % 11;
            let mut sum = 0;
            for _ in 0..2 {
                match session.grant(&GrantRequest { least: 1, need: want, want, ..ask(capped.life, 1) }).await
                {
                    Ok(grant) => sum += grant.span.count(),
                    // The slot ended between the attempt and the answer why not.
                    Err(LedgerError::RateCapped { .. } | LedgerError::Conflict(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            sum
        };
        // The slot ends in the midst of it: what is granted belongs to one or the other.
        let taken = join_all(sessions.iter().enumerate().map(|(nth, session)| take(Rc::clone(session), nth)));
        let ends = async {
            capped.server.session().await.run(&format!("SELECT setval('clock', {})", slot + 1)).await
        };
        by_slot.push(join(taken, ends).await.0.into_iter().sum::<i64>());
    }
    assert!(by_slot.iter().sum::<i64>() > 2 * GAP, "what an hour leaves free is used: {by_slot:?}");
    // What the ledger itself recorded, by the slot that it lay in, is no more than the gap in any hour.
    for hour in by_slot.windows(12) {
        assert!(hour.iter().sum::<i64>() <= GAP, "{hour:?} of {by_slot:?}");
    }
    let granted = capped.server.psql("SELECT granted, issued FROM blockhouse.sequences");
    let sum = by_slot.iter().sum::<i64>();
    assert_eq!(granted, format!("{sum}|{sum}"));
}

#[tokio::test]
async fn what_was_granted_is_free_after_thirteen_slots_and_not_before() {
    let capped = Capped::start().await;
    assert_eq!(capped.get(400).await.unwrap(), 400);
    capped.set_clock(1005);
    assert_eq!(capped.get(5_000).await.unwrap(), 600);
    for slot in [1005, 1006, 1012] {
        capped.set_clock(slot);
        capped.assert_spent().await;
    }
    capped.set_clock(1013);
    assert_eq!(capped.get(5_000).await.unwrap(), 400);
    capped.set_clock(1017);
    capped.assert_spent().await;
    capped.set_clock(1018);
    assert_eq!(capped.get(5_000).await.unwrap(), 600);
    capped.set_clock(9_000);
    assert_eq!(capped.get(5_000).await.unwrap(), GAP);
}

#[tokio::test]
async fn a_clock_set_back_frees_nothing_and_one_set_forward_what_an_hour_would() {
    let capped = Capped::start().await;
    assert_eq!(capped.get(600).await.unwrap(), 600);
    capped.set_clock(900);
    assert_eq!(capped.get(5_000).await.unwrap(), 400);
    assert_eq!(capped.server.psql("SELECT slot, starts[1] FROM blockhouse.sequences"), "1000|0");
    for slot in [1, 913, 999, 1000, 1012] {
        capped.set_clock(slot);
        capped.assert_spent().await;
    }
    capped.set_clock(1013);
    assert_eq!(capped.get(5_000).await.unwrap(), GAP);
    for by_hand in ["slot = slot - 1", "issued = issued - 1", "starts = '{1,2,3}'"] {
        let set = format!("UPDATE blockhouse.sequences SET {by_hand}");
        assert!(capped.server.try_psql(&set).is_err(), "{set}");
    }
}

/// A grant that waits for its row past the end of a slot counts from when it was made.
#[tokio::test]
async fn a_grant_that_waited_lies_in_the_slot_in_which_it_is_made() {
    let capped = Capped::start().await;
    let (blocker, watcher) = (capped.server.session().await, capped.server.session().await);
    blocker.run("BEGIN").await;
    blocker.run("UPDATE blockhouse.sequences SET granted = granted").await;
    let next_slot = async {
        watcher.until(&waiting(1, "Lock")).await;
        capped.set_clock(1002);
        blocker.run("COMMIT").await;
    };
    let (got, ()) = join(capped.get(GAP), next_slot).await;
    assert_eq!(got.unwrap(), GAP);
    assert_eq!(capped.server.psql("SELECT slot, starts[1] FROM blockhouse.sequences"), "1002|0");
    capped.set_clock(1014);
    capped.assert_spent().await;
    capped.set_clock(1015);
    assert_eq!(capped.get(1).await.unwrap(), 1);
}

#[tokio::test]
async fn a_jump_that_is_set_while_a_grant_is_under_way_knows_of_it() {
    let capped = Capped::start().await;
    capped.ledger.set_on_failover(OnFailover::Wait).await.unwrap();
    let (granting, watcher) = (capped.server.session().await, capped.server.session().await);
    let Life { epoch, token } = capped.life;
    let grant = format!(
        "SELECT blockhouse.grant_ids('tasks', 1, {epoch}, '{token}', 2000, 2000, 2000, 0, 'fallback', 'h', 'c', NULL, true)"
    );
    for isolation in ["read%5C%20committed", "repeatable%5C%20read", "serializable"] {
        let url = format!("{}?options=-c%20default_transaction_isolation%3D{isolation}", capped.server.url());
        let operator = Client::to(&url).open();
        granting.run("BEGIN").await;
        granting.run(&grant).await;
        let commit = async {
            watcher.until(&waiting(1, "Lock")).await;
            granting.run("COMMIT").await;
        };
        let (set, ()) = join(operator.set_on_failover(OnFailover::Jump), commit).await;
        match set {
            Err(LedgerError::Invalid(why)) => assert!(why.contains("'tasks'"), "{why}"),
            Err(LedgerError::Conflict(_)) => assert_ne!(isolation, "read%5C%20committed"),
            other => panic!("{isolation}: {other:?}"),
        }
        assert_eq!(capped.server.psql("SELECT on_failover FROM blockhouse.ledger"), "wait", "{isolation}");
    }
}

#[tokio::test]
async fn a_closed_ledger_does_not_begin_to_jump() {
    let capped = Capped::start().await;
    capped.ledger.set_on_failover(OnFailover::Wait).await.unwrap();
    capped.server.psql("UPDATE blockhouse.ledger SET state = 'closed', reason = 'promoted'");
    let answer = capped.ledger.set_on_failover(OnFailover::Jump).await;
    assert!(matches!(&answer, Err(LedgerError::Closed(why)) if why == "promoted"), "{answer:?}");
    assert_eq!(capped.server.psql("SELECT on_failover FROM blockhouse.ledger"), "wait");
}

#[tokio::test]
async fn a_closed_ledger_can_be_told_to_wait() {
    let capped = Capped::start().await;
    capped.server.psql("UPDATE blockhouse.ledger SET state = 'closed', reason = 'promoted'");
    capped.ledger.set_on_failover(OnFailover::Wait).await.unwrap();
    assert_eq!(capped.server.psql("SELECT on_failover FROM blockhouse.ledger"), "wait");
}

#[tokio::test]
async fn a_ledger_of_an_earlier_build_gets_what_it_lacks_from_migrate() {
    let (server, ledger) = server_with_tasks().await;
    let known = life(&*ledger).await;
    ledger.grant(&ask(known, 10)).await.unwrap();
    server.psql(
        "ALTER TABLE blockhouse.ledger DROP COLUMN on_failover;
         ALTER TABLE blockhouse.sequences DROP COLUMN issued, DROP COLUMN slot, DROP COLUMN starts, DROP COLUMN held",
    );
    let answer = Client::to(&server.url()).open().facts(None).await;
    assert!(matches!(&answer, Err(LedgerError::Schema(why)) if why.contains("ledger migrate")), "{answer:?}");
    for _ in 0..2 {
        Client::to(&server.url()).open().migrate().await.unwrap();
    }
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();
    assert_eq!(ledger.grant(&ask(known, 10)).await.unwrap().span.first(), 11);
    assert_eq!(server.psql("SELECT issued FROM blockhouse.sequences"), "10");
}

/// What a failover could lose with nobody to report it doesn't count yet.
#[tokio::test]
async fn a_greater_gap_counts_once_every_cluster_has_seen_it() {
    let capped = Capped::start().await;
    assert_eq!(capped.get(GAP).await.unwrap(), GAP);
    for cluster in ["east", "west", "gone"] {
        capped.ledger.lead(cluster, "leader", Duration::from_secs(60)).await.unwrap();
    }
    capped.server.psql(
        "UPDATE blockhouse.clusters SET renewed_at = renewed_at - interval '61 minutes' WHERE name = 'gone'",
    );
    let set_gap = async |failover_gap| {
        let change = SequenceChange { failover_gap: Some(failover_gap), ..SequenceChange::default() };
        capped.ledger.set("tasks", &change).await.unwrap();
    };
    for change in ["a greater gap", "no gap", "wait"] {
        match change {
            "a greater gap" => set_gap(2 * GAP).await,
            "no gap" => set_gap(0).await,
            _ => capped.ledger.set_on_failover(OnFailover::Wait).await.unwrap(),
        }
        capped.assert_spent().await;
        let stamp = capped.ledger.facts(None).await.unwrap().catalogue.stamp;
        let has = async |cluster, holder, process: Stamp, pod: Stamp| {
            let seen = [(Kind::Process, "app-1", process), (Kind::Pod, "127.0.0.1:7001", pod)];
            let seen =
                seen.map(|(kind, name, stamp)| Witness { kind, name: name.into(), stamp, silent: false });
            capped.ledger.confirm(cluster, holder, &seen).await.unwrap();
        };
        let earlier = Stamp { version: stamp.version - 1, ..stamp };
        has("east", "leader", stamp, stamp).await;
        has("west", "leader", stamp, earlier).await;
        has("west", "leader", earlier, stamp).await;
        has("west", "another", stamp, stamp).await;
        capped.assert_spent().await;
        has("west", "leader", stamp, stamp).await;
        assert_eq!(capped.get(GAP).await.unwrap(), GAP, "{change}");
        // Back to where it began, with the hour used up.
        capped.set_clock(capped.server.psql("SELECT last_value + 13 FROM clock").parse().unwrap());
        set_gap(GAP).await;
        capped.ledger.set_on_failover(OnFailover::Jump).await.unwrap();
        assert_eq!(capped.get(GAP).await.unwrap(), GAP);
    }
}
