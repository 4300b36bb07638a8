//! What only a ledger in a file has: locks, full disks, damage, other people's SQL, and files that are
//! replaced.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use futures_util::FutureExt;
use rusqlite::{Connection, params};
use tempfile::TempDir;
use uuid::Uuid;

use super::tables::Tables;
use super::*;
use crate::ledger::{Purpose, State};

/// A ledger file with the sequence `tasks` of the IDs 1 to a million.
struct File {
    folder: TempDir,
}

impl File {
    fn new() -> File {
        let file = File::empty();
        let mut store = file.store();
        store.migrate().unwrap();
        store.write(|tables| tables.create(&tasks())).unwrap();
        file
    }

    fn empty() -> File {
        File { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ledger.sqlite")
    }

    fn store(&self) -> Store {
        store(&self.path(), None)
    }

    /// Somebody else with SQL of their own.
    fn by_hand(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

fn tasks() -> NewSequence {
    NewSequence {
        name: "tasks".into(),
        first: 1,
        last: 1_000_000,
        block_size: 10,
        buffer: None,
        failover_gap: None,
        if_not_exists: false,
    }
}

fn log() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

fn expected(id: Option<Uuid>) -> Expected {
    Expected { environment: "test".into(), id }
}

/// One that loses patience with a lock soon.
fn store(path: &Path, id: Option<Uuid>) -> Store {
    Store::new(Some(path.to_owned()), expected(id), Duration::from_millis(20), log())
}

fn ask(store: &mut Store) -> GrantRequest {
    GrantRequest {
        sequence: "tasks".into(),
        generation: 1,
        life: store.read(|tables| tables.facts(None)).unwrap().identity.life,
        least: 10,
        need: 10,
        want: 10,
        known_high_water: 0,
        purpose: Purpose::Fallback,
        holder: "holder".into(),
        cluster: "cluster".into(),
        pod: None,
    }
}

/// The first ID of the next ten.
fn take(store: &mut Store) -> Result<i64, LedgerError> {
    let request = ask(store);
    store.write(|tables| tables.grant(&request)).map(|grant| grant.span.first())
}

#[test]
fn only_migrate_creates_a_ledger() {
    let file = File::empty();
    for _ in 0..2 {
        let missing = file.store().read(|tables| tables.facts(None));
        assert!(matches!(missing, Err(LedgerError::Schema(why)) if why.contains("ledger migrate")));
        assert!(!file.path().exists());
    }
    let made = file.store().migrate().unwrap();
    assert_eq!((made.from, made.to, &*made.identity.environment), (0, tables::SCHEMA, "test"));
    assert_eq!(file.store().read(|tables| tables.facts(None)).unwrap().identity, made.identity);

    std::fs::write(file.path().with_extension("empty"), "").unwrap();
    let empty = store(&file.path().with_extension("empty"), None).read(|tables| tables.facts(None));
    assert!(matches!(empty, Err(LedgerError::Schema(_))));
}

#[test]
fn a_file_of_an_earlier_build_gets_what_it_lacks_from_migrate() {
    let file = File::new();
    assert_eq!(take(&mut file.store()).unwrap(), 1);
    file.by_hand()
        .execute_batch(
            "DROP TRIGGER sequences_move_forward;
             ALTER TABLE ledger DROP COLUMN on_failover;
             ALTER TABLE sequences DROP COLUMN issued;
             ALTER TABLE sequences DROP COLUMN slot;
             ALTER TABLE sequences DROP COLUMN starts;",
        )
        .unwrap();
    let old = file.store().read(|tables| tables.facts(None));
    assert!(matches!(&old, Err(LedgerError::Schema(why)) if why.contains("ledger migrate")), "{old:?}");
    for _ in 0..2 {
        file.store().migrate().unwrap();
    }
    file.store().write(|tables| tables.set_on_failover(OnFailover::Jump)).unwrap();
    assert_eq!(take(&mut file.store()).unwrap(), 11);
    let by_hand = file.by_hand();
    for back in ["granted = 0", "issued = 0", "slot = slot - 1"] {
        by_hand.execute(&format!("UPDATE sequences SET {back}"), ()).unwrap_err();
    }
}

#[test]
fn a_pinned_ledger_is_never_made_anew() {
    let file = File::empty();
    let pin = Some(Uuid::from_u128(1));
    let refused = store(&file.path(), pin).migrate();
    assert!(matches!(refused, Err(LedgerError::Wrong(why)) if why.contains("ledger.id")));
    assert!(matches!(file.store().read(|tables| tables.facts(None)), Err(LedgerError::Schema(_))));
}

#[test]
fn what_was_granted_outlives_the_process() {
    let file = File::new();
    assert_eq!(take(&mut file.store()).unwrap(), 1);
    assert_eq!(take(&mut file.store()).unwrap(), 11);
}

#[test]
fn every_commit_is_synced() {
    let file = File::new();
    let pragmas = file.store().read(|tables| {
        let synchronous: i64 = tables.sql.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        let journal: String = tables.sql.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        Ok((synchronous, journal))
    });
    assert_eq!(pragmas.unwrap(), (2, "wal".to_owned()));
}

#[test]
fn another_programs_file_is_never_touched() {
    let file = File::empty();
    file.by_hand().execute_batch("CREATE TABLE ledger (amount INTEGER)").unwrap();
    let before = std::fs::read(file.path()).unwrap();
    assert!(matches!(file.store().migrate(), Err(LedgerError::Wrong(_))));
    assert!(matches!(file.store().read(|tables| tables.facts(None)), Err(LedgerError::Wrong(_))));
    assert_eq!(std::fs::read(file.path()).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let file = File::empty();
    std::fs::write(file.path(), "not a database, but longer than the header of one would be. ".repeat(50))
        .unwrap();
    for refused in [file.store().migrate().err(), file.store().read(|tables| tables.facts(None)).err()] {
        assert!(
            matches!(&refused, Some(LedgerError::Wrong(why)) if why.contains("ledger.sqlite")),
            "{refused:?}"
        );
    }
}

#[test]
fn a_path_that_cannot_be_a_file_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("missing").join("ledger.sqlite")] {
        let error = store(&path, None).migrate().unwrap_err();
        assert!(
            matches!(&error, LedgerError::Unreachable(why) if why.contains(path.to_str().unwrap())),
            "{error:?}"
        );
    }
}

#[test]
fn a_locked_file_is_certainly_not_granted_from() {
    let file = File::new();
    let mut store = file.store();
    let request = ask(&mut store);
    let other = file.by_hand();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let locked = store.write(|tables| tables.grant(&request));
    assert!(matches!(&locked, Err(LedgerError::Unreachable(why)) if why.contains("locked")), "{locked:?}");
    assert!(store.read(|tables| tables.facts(None)).is_ok(), "reading needs no lock");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(take(&mut store).unwrap(), 1);
}

#[test]
fn a_full_disk_is_certainly_not_granted_from() {
    let file = File::new();
    let mut store = file.store();
    let limit = |store: &mut Store, pages: i64| {
        store.read(|tables| Ok(tables.sql.pragma_update(None, "max_page_count", pages)?)).unwrap();
    };
    // As full as it is.
    limit(&mut store, 1);
    let mut next = 1;
    let full = loop {
        match take(&mut store) {
            Ok(first) => {
                assert_eq!(first, next);
                next += 10;
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(&full, LedgerError::Unreachable(why) if why.contains("no room")), "{full:?}");
    limit(&mut store, i64::from(u32::MAX) - 1);
    assert_eq!(take(&mut store).unwrap(), next, "room again, and nothing was lost");
}

#[test]
fn a_file_that_cannot_be_written_is_unreachable() {
    let file = File::new();
    let mut store = file.store();
    let request = ask(&mut store);
    store.read(|tables| Ok(tables.sql.pragma_update(None, "query_only", true)?)).unwrap();
    let refused = store.write(|tables| tables.grant(&request));
    assert!(
        matches!(&refused, Err(LedgerError::Unreachable(why)) if why.contains("permissions")),
        "{refused:?}"
    );
    assert_eq!(take(&mut store).unwrap(), 1, "a new connection is none the worse");
}

#[test]
fn a_failing_commit_leaves_the_grant_in_doubt() {
    let file = File::new();
    let mut store = file.store();
    let request = ask(&mut store);
    let doubt = store.write(|tables| {
        let grant = tables.grant(&request)?;
        // Fails when the transaction commits, and only then.
        tables.sql.execute_batch(
            "PRAGMA defer_foreign_keys = ON;
             INSERT INTO grants VALUES ('nobody', 1, 1, 1, 1, 1, 1, 'fallback', 'holder', 'cluster', NULL);",
        )?;
        Ok(grant)
    });
    assert!(matches!(doubt, Err(LedgerError::InDoubt(_))), "{doubt:?}");
    assert_eq!(take(&mut store).unwrap(), 1, "the next connection sees what became of it");
}

#[test]
fn nothing_moves_backward_not_even_by_hand() {
    let file = File::new();
    let mut store = file.store();
    take(&mut store).unwrap();
    let by_hand = file.by_hand();
    for statement in [
        "UPDATE sequences SET granted = 9",
        "UPDATE sequences SET grants = 0",
        "UPDATE sequences SET generation = 0",
        "UPDATE sequences SET first = 2",
        "UPDATE sequences SET name = 'comments'",
        "UPDATE sequences SET granted = last + 1",
        "DELETE FROM sequences",
        "REPLACE INTO sequences SELECT name, generation, first, last, block_size, buffer_seconds,
           failover_gap, halted, retired, 0, grants FROM sequences",
        "UPDATE ledger SET epoch = 0",
        "UPDATE ledger SET catalogue_version = 0",
        "UPDATE ledger SET id = token",
        "UPDATE ledger SET token = id",
        "UPDATE ledger SET environment = 'beta'",
        "DELETE FROM ledger",
        "REPLACE INTO ledger SELECT * FROM ledger",
        "UPDATE lives SET token = 'another'",
        "DELETE FROM lives",
        "UPDATE grants SET count = 5",
    ] {
        by_hand.execute_batch(statement).expect_err(statement);
    }
    assert_eq!(take(&mut store).unwrap(), 11);
}

#[test]
fn a_counter_raised_by_hand_is_followed() {
    let file = File::new();
    file.by_hand().execute("UPDATE sequences SET granted = 500", ()).unwrap();
    assert_eq!(take(&mut file.store()).unwrap(), 501);
}

#[test]
fn facts_changed_by_hand_are_noticed() {
    let file = File::new();
    let version = || file.store().read(|tables| Ok(tables.ledger.catalogue_version)).unwrap();
    let before = version();
    file.by_hand().execute("UPDATE sequences SET halted = 'by hand'", ()).unwrap();
    assert_eq!(version(), before + 1);
    file.by_hand().execute("UPDATE sequences SET granted = 500", ()).unwrap();
    assert_eq!(version(), before + 1);
}

#[test]
fn a_counter_below_the_newest_record_grants_nothing() {
    let file = File::new();
    let mut store = file.store();
    take(&mut store).unwrap();
    let by_hand = file.by_hand();
    by_hand.execute_batch("DROP TRIGGER sequences_move_forward; UPDATE sequences SET granted = 0").unwrap();
    assert!(matches!(take(&mut store), Err(LedgerError::WentBack { granted: 0, known: 10 })));
}

#[test]
fn a_closed_ledger_grants_nothing_and_says_why() {
    let file = File::new();
    let mut store = file.store();
    let request = ask(&mut store);
    let close = "UPDATE ledger SET state = 'closed', closed_reason = 'restored', epoch = 2, token = ?1";
    let next = Life { epoch: 2, token: Uuid::from_u128(2) };
    file.by_hand().execute(close, [next.token.to_string()]).unwrap();
    file.by_hand()
        .execute("INSERT INTO lives VALUES (2, ?1, 'restored', 0)", [next.token.to_string()])
        .unwrap();
    for life in [request.life, next] {
        let refused = store.write(|tables| tables.grant(&GrantRequest { life, ..request.clone() }));
        assert!(matches!(refused, Err(LedgerError::Closed(why)) if why == "restored"));
        assert!(store.read(|tables| tables.facts(Some(life))).unwrap().descends);
    }
    let facts = store.read(|tables| tables.facts(None)).unwrap();
    assert_eq!((facts.state, facts.identity.life), (State::Closed("restored".into()), next));
}

#[test]
fn a_schema_is_used_as_long_as_it_says_that_it_can_be() {
    let file = File::new();
    let schema = |version: i32, readable_from: i32| {
        let change = "UPDATE ledger SET schema_version = ?1, readable_from = ?2";
        file.by_hand().execute(change, params![version, readable_from]).unwrap();
    };
    schema(9, 1);
    assert_eq!(take(&mut file.store()).unwrap(), 1);
    let migrated = file.store().migrate().unwrap();
    assert_eq!((migrated.from, migrated.to), (9, 9), "a newer one stays as it is");
    for (version, readable_from) in [(9, 9), (0, 0)] {
        schema(version, readable_from);
        let refused = file.store().read(|tables| tables.facts(None));
        assert!(matches!(refused, Err(LedgerError::Schema(_))), "{refused:?}");
    }
}

#[test]
fn a_file_put_in_the_place_of_ours_is_read_before_it_is_used() {
    let file = File::new();
    let backup = file.folder.path().join("backup.sqlite");
    file.by_hand().execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
    let mut store = file.store();
    let mut request = ask(&mut store);
    request.known_high_water = store.write(|tables| tables.grant(&request)).unwrap().span.last();

    // As SQLite asks of those who put a file back: without the log of the one that was there.
    for log in ["ledger.sqlite-wal", "ledger.sqlite-shm"] {
        std::fs::remove_file(file.folder.path().join(log)).unwrap();
    }
    std::fs::rename(&backup, file.path()).unwrap();
    let refused = store.write(|tables| tables.grant(&request));
    assert!(matches!(refused, Err(LedgerError::WentBack { granted: 0, known: 10 })), "{refused:?}");

    std::fs::remove_file(file.path()).unwrap();
    assert!(matches!(store.write(|tables| tables.grant(&request)), Err(LedgerError::Schema(_))));
}

#[test]
fn demand_is_kept_for_a_day() {
    let file = File::new();
    let mut store = file.store();
    for hours in 0..30 {
        let add = |tables: &Tables<'_>| {
            let then = Tables {
                now_us: tables.now_us + hours * 3_600_000_000,
                ledger: tables.ledger.clone(),
                ..*tables
            };
            then.add_demand("cluster", &[("tasks".into(), hours + 1)])?;
            then.add_demand("cluster", &[("tasks".into(), 1)])?;
            then.demand("cluster")
        };
        let known = store.write(add).unwrap();
        let expected = (hours.saturating_sub(23).max(0)..=hours).map(|then| (hours - then, then + 2));
        let known: Vec<_> = known.iter().map(|hour| (i64::from(hour.hours_ago), hour.ids)).collect();
        assert_eq!(known, expected.collect::<Vec<_>>());
    }
    let rows: i64 = file.by_hand().query_row("SELECT count(*) FROM demand", (), |row| row.get(0)).unwrap();
    assert_eq!(rows, 24);
}

#[test]
fn demand_beyond_reason_saturates() {
    let file = File::new();
    let sum = file.store().write(|tables| {
        for ids in [5, i64::MAX, i64::MAX, -7] {
            tables.add_demand("cluster", &[("tasks".into(), ids)])?;
        }
        tables.demand("cluster")
    });
    assert_eq!(sum.unwrap()[0].ids, i64::MAX);
}

#[test]
fn a_ledger_in_memory_ends_with_its_handle() {
    block_on(async {
        let open = || Sqlite::new(":memory:", expected(None), Duration::from_secs(5), log()).unwrap();
        let ledger = open();
        assert!(matches!(ledger.facts(None).await, Err(LedgerError::Schema(_))));
        let id = ledger.migrate().await.unwrap().identity.ledger;
        ledger.create(&tasks()).await.unwrap();
        assert_eq!(ledger.facts(None).await.unwrap().identity.ledger, id);
        assert!(matches!(open().facts(None).await, Err(LedgerError::Schema(_))));
    });
}

#[test]
fn an_empty_path_is_refused() {
    assert!(matches!(
        Sqlite::new("", expected(None), Duration::from_secs(5), log()).err(),
        Some(LedgerError::Invalid(_))
    ));
}

#[test]
fn a_call_dropped_before_it_was_begun_does_not_happen() {
    let file = File::new();
    let request = ask(&mut file.store());
    block_on(async {
        let ledger =
            Sqlite::new(file.path().to_str().unwrap(), expected(None), Duration::from_secs(5), log())
                .unwrap();
        let (release, held) = channel();
        let mut busy = ledger.ask(move |_| wait(&held));
        assert!((&mut busy).now_or_never().is_none());
        assert!(ledger.grant(&request).now_or_never().is_none(), "sent, and dropped while another runs");
        release.send(()).unwrap();
        busy.await.unwrap();
        assert_eq!(ledger.grant(&request).await.unwrap().span.first(), 1);
    });
}

#[test]
fn a_grant_dropped_after_it_was_begun_goes_on_and_is_in_doubt() {
    let file = File::new();
    let request = ask(&mut file.store());
    block_on(async {
        let ledger =
            Sqlite::new(file.path().to_str().unwrap(), expected(None), Duration::from_secs(5), log())
                .unwrap();
        let (begun, begins): (Sender<()>, Receiver<()>) = channel();
        let (release, held) = channel();
        let same = request.clone();
        let mut grant = ledger.ask(move |store| {
            begun.send(()).unwrap();
            wait(&held)?;
            store.write(|tables| tables.grant(&same))
        });
        assert!((&mut grant).now_or_never().is_none());
        wait(&begins).unwrap();
        drop(grant);
        release.send(()).unwrap();
        assert_eq!(ledger.grant(&request).await.unwrap().span.first(), 11);
    });
}

#[test]
fn a_panic_leaves_its_call_in_doubt_and_the_next_unharmed() {
    let file = File::new();
    let request = ask(&mut file.store());
    block_on(async {
        let ledger =
            Sqlite::new(file.path().to_str().unwrap(), expected(None), Duration::from_secs(5), log())
                .unwrap();
        let same = request.clone();
        let lost: Result<(), _> = ledger
            .ask(move |store| {
                store.write(|tables| {
                    tables.grant(&same)?;
                    std::panic::resume_unwind(Box::new("before the commit"))
                })
            })
            .await;
        assert!(matches!(lost, Err(LedgerError::InDoubt(_))));
        assert_eq!(ledger.grant(&request).await.unwrap().span.first(), 1);
    });
}

fn wait(signal: &Receiver<()>) -> Result<(), LedgerError> {
    signal.recv_timeout(Duration::from_secs(10)).map_err(|error| LedgerError::Unreachable(error.to_string()))
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
}
