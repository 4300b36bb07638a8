//! The ledger's file: opened when first used and again after a failure, one transaction a call.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use uuid::Uuid;

use super::failure::{Failure, Outcome};
use super::tables::{self, SCHEMA, Tables};
use crate::ledger::{Expected, LedgerError, Migrated};

/// Carried out by the first migration.
const DEFINITIONS: &str = include_str!("../schema/sqlite.sql");
/// Carried out where a file was made before them.
const ADDED: &str = include_str!("../schema/sqlite_added.sql");
/// `application_id` of [`DEFINITIONS`].
const APPLICATION: i32 = 0x626c_6b68;

/// A ledger file and the one connection to it. Every call blocks, at most for about `patience` where the file is
/// locked.
pub struct Store {
    /// `None` is a ledger in memory, which ends with the connection.
    path: Option<PathBuf>,
    expected: Expected,
    patience: Duration,
    log: slog::Logger,
    open: Option<Open>,
}

struct Open {
    connection: Connection,
    /// Which file it was opened from.
    file: Option<FileId>,
}

/// Device and inode.
type FileId = (u64, u64);

/// What a file holds.
#[derive(PartialEq)]
enum Contents {
    Nothing,
    Ledger,
    Foreign,
}

impl Store {
    /// Nothing is opened yet.
    pub fn new(path: Option<PathBuf>, expected: Expected, patience: Duration, log: slog::Logger) -> Store {
        Store { path, expected, patience, log, open: None }
    }

    /// Reads the tables as they stand at one moment.
    pub fn read<T>(&mut self, work: impl FnOnce(&Tables<'_>) -> Outcome<T>) -> Result<T, LedgerError> {
        self.transact(TransactionBehavior::Deferred, work)
    }

    /// Changes the tables, all or nothing, alone among all processes.
    pub fn write<T>(&mut self, work: impl FnOnce(&Tables<'_>) -> Outcome<T>) -> Result<T, LedgerError> {
        self.transact(TransactionBehavior::Immediate, work)
    }

    /// Creates the file and its tables where they are missing. See [`crate::ledger::Admin::migrate`].
    pub fn migrate(&mut self) -> Result<Migrated, LedgerError> {
        let expected = self.expected.clone();
        self.connected(true, |connection| {
            let sql = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let from = match contents(&sql)? {
                Contents::Ledger => {
                    add(&sql)?;
                    tables::schema(&sql)?.0
                }
                Contents::Nothing => define(&sql, &expected).map(|()| 0)?,
                // Written by another program since it was opened.
                Contents::Foreign => {
                    let why = "the file holds another program's data, so no ledger";
                    return Err(LedgerError::Wrong(why.to_owned()).into());
                }
            };
            let ledger = tables::ledger(&sql)?;
            ledger.admit(&expected)?;
            sql.commit().map_err(Failure::Commit)?;
            Ok(Migrated { identity: ledger.identity, from, to: from.max(SCHEMA) })
        })
    }

    fn transact<T>(
        &mut self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Tables<'_>) -> Outcome<T>,
    ) -> Result<T, LedgerError> {
        let expected = self.expected.clone();
        self.connected(false, |connection| {
            let sql = connection.transaction_with_behavior(behavior)?;
            let ledger = tables::ledger(&sql)?;
            ledger.admit(&expected)?;
            let given = work(&Tables { sql: &sql, ledger, now_us: now_us() })?;
            sql.commit().map_err(Failure::Commit)?;
            Ok(given)
        })
    }

    /// Lends the connection to `work`, and drops it once SQLite has failed: the next call begins afresh.
    fn connected<T>(
        &mut self,
        create: bool,
        work: impl FnOnce(&mut Connection) -> Outcome<T>,
    ) -> Result<T, LedgerError> {
        self.connection(create).and_then(work).map_err(|failure| {
            if self.path.is_some() && !matches!(failure, Failure::Refused(_)) {
                self.open = None;
            }
            failure.explain(&self.name())
        })
    }

    /// A connection to what `path` names now: a file that was moved away or replaced under us is another ledger
    /// (S3), and never used again.
    fn connection(&mut self, create: bool) -> Outcome<&mut Connection> {
        if self.open.as_ref().is_some_and(|open| open.file != self.file()) {
            slog::warn!(self.log, "the ledger file was replaced and is opened again"; "path" => self.name());
            self.open = None;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => self.connect(create)?,
        };
        Ok(&mut self.open.insert(open).connection)
    }

    fn connect(&self, create: bool) -> Outcome<Open> {
        // Before the file is opened: replaced in between, it differs at the next call.
        let file = self.file();
        let connection = self.connect_to_file(create)?;
        connection.busy_timeout(self.patience)?;
        match contents(&connection)? {
            Contents::Foreign => return Err(self.foreign()),
            Contents::Nothing if !create => return Err(self.missing()),
            _ => make_durable(&connection, self.path.is_some())?,
        }
        slog::debug!(self.log, "ledger file opened"; "path" => self.name());
        Ok(Open { connection, file: file.or_else(|| self.file()) })
    }

    fn connect_to_file(&self, create: bool) -> Outcome<Connection> {
        let Some(path) = &self.path else { return Ok(Connection::open_in_memory()?) };
        if !create && matches!(path.try_exists(), Ok(false)) {
            return Err(self.missing());
        }
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
        Ok(Connection::open_with_flags(path, flags)?)
    }

    fn missing(&self) -> Failure {
        let name = self.name();
        let why = format!("{name}: there is no ledger yet, create it with `blockhouse ledger migrate`");
        LedgerError::Schema(why).into()
    }

    fn foreign(&self) -> Failure {
        LedgerError::Wrong(format!("{}: another program's data, so no ledger", self.name())).into()
    }

    /// For people.
    fn name(&self) -> String {
        self.path.as_deref().map_or(":memory:".to_owned(), |path| path.display().to_string())
    }

    fn file(&self) -> Option<FileId> {
        let found = std::fs::metadata(self.path.as_deref()?).ok()?;
        Some((found.dev(), found.ino()))
    }
}

/// A commit that was answered survives the loss of power (S1): write-ahead log, synced at each commit.
fn make_durable(connection: &Connection, on_disk: bool) -> Outcome<()> {
    let journal: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if on_disk && journal != "wal" {
        let why = format!("the file system can't hold a write-ahead log (journal mode '{journal}')");
        return Err(LedgerError::Unreachable(why).into());
    }
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
    Ok(())
}

fn contents(connection: &Connection) -> rusqlite::Result<Contents> {
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let empty: bool =
        connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", (), |row| row.get(0))?;
    Ok(match application {
        APPLICATION => Contents::Ledger,
        0 if empty => Contents::Nothing,
        _ => Contents::Foreign,
    })
}

/// Makes a new ledger of nothing. A pin says that there should be one already: a second one with its id would
/// begin again at the first ID (S5).
fn define(connection: &Connection, expected: &Expected) -> Outcome<()> {
    if let Some(pinned) = expected.id {
        let why = format!("ledger.id pins {pinned}, but here is no ledger yet; remove the pin to create one");
        return Err(LedgerError::Wrong(why).into());
    }
    connection.execute_batch(DEFINITIONS)?;
    tables::found(connection, Uuid::new_v4(), &expected.environment, Uuid::new_v4(), now_us())?;
    Ok(())
}

/// Brings a file up to date that an earlier build of this schema made.
fn add(connection: &Connection) -> Outcome<()> {
    let known = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('ledger') WHERE name = 'on_failover')";
    if !connection.query_row(known, (), |row| row.get::<_, bool>(0))? {
        connection.execute_batch(ADDED)?;
    }
    Ok(())
}

/// The ledger's clock: the host's, in microseconds since 1970.
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
