//! A ledger in an SQLite file: for `dev` and for one host, never in production.
//!
//! SQLite has no identity that a restore or a copy would change: a copied file is another ledger with the same
//! id. What is left of S3 is the known high water, the life, and that a file replaced under a process is opened
//! anew.

mod failure;
mod store;
mod tables;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use self::store::Store;
use super::{
    Admin, Answer, ClusterSeen, Created, Expected, Facts, Grant, GrantRecord, GrantRequest, History,
    HourOfDemand, Lease, Ledger, LedgerError, Migrated, NewSequence, SequenceChange, SequenceRow,
};
use crate::block::{Life, OnFailover, Witness};

/// Requests that wait for the file's thread; one more waits where it is.
const QUEUE: usize = 16;

/// How long a request waits for other processes to unlock the file, at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// A handle of a ledger file. Several processes of one host may share the file.
///
/// SQLite blocks, so each handle has one thread and one connection; the thread ends with the handle.
///
/// # Cancel safety
/// A call whose future is dropped before the thread got to it doesn't happen. One that was begun goes on, and its
/// answer is discarded: a grant dropped then is in doubt (S1).
pub struct Sqlite {
    jobs: mpsc::Sender<Job>,
}

type Job = Box<dyn FnOnce(&mut Store) + Send>;

impl Sqlite {
    /// The ledger in the file `path`, or a fresh one in this process's memory where it is `:memory:`. The file is
    /// opened when first used; only [`Admin::migrate`] creates it. Callers wait for `timeout`: a lock is given up before
    /// that, so that it is known that nothing was granted.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for an empty path, [`LedgerError::Unreachable`] without a thread.
    pub fn new(
        path: &str,
        expected: Expected,
        timeout: Duration,
        log: slog::Logger,
    ) -> Result<Sqlite, LedgerError> {
        let file = match path {
            "" => return Err(LedgerError::Invalid("the path of the ledger file is empty".to_owned())),
            ":memory:" => None,
            path => Some(PathBuf::from(path)),
        };
        let mut store = Store::new(file, expected, PATIENCE.min(timeout * 4 / 5), log);
        let (jobs, mut waiting) = mpsc::channel::<Job>(QUEUE);
        let work = move || {
            while let Some(job) = waiting.blocking_recv() {
                // A panic rolls back and leaves its call in doubt; the next finds the store as it was.
                _ = catch_unwind(AssertUnwindSafe(|| job(&mut store)));
            }
        };
        let thread = std::thread::Builder::new().name("ledger-sqlite".to_owned());
        thread.spawn(work).map_err(|error| {
            LedgerError::Unreachable(format!("no thread for the ledger file {path}: {error}"))
        })?;
        Ok(Sqlite { jobs })
    }

    fn ask<'a, T: Send + 'static>(
        &'a self,
        work: impl FnOnce(&mut Store) -> Result<T, LedgerError> + Send + 'static,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let job: Job = Box::new(move |store| {
                if !reply.is_closed() {
                    // Nobody may be waiting any more: whoever was takes it as in doubt.
                    _ = reply.send(work(store));
                }
            });
            let gave_up = || "the ledger file's thread gave up".to_owned();
            self.jobs.send(job).await.map_err(|_| LedgerError::Unreachable(gave_up()))?;
            answer.await.unwrap_or_else(|_| Err(LedgerError::InDoubt(gave_up())))
        })
    }
}

impl Ledger for Sqlite {
    fn facts(&self, known: Option<Life>) -> Answer<'_, Facts> {
        self.ask(move |store| store.read(|tables| tables.facts(known)))
    }

    fn grant<'a>(&'a self, request: &'a GrantRequest) -> Answer<'a, Grant> {
        let request = request.clone();
        self.ask(move |store| store.write(|tables| tables.grant(&request)))
    }

    fn lead<'a>(&'a self, cluster: &'a str, holder: &'a str, ttl: Duration) -> Answer<'a, Lease> {
        let (cluster, holder) = (cluster.to_owned(), holder.to_owned());
        self.ask(move |store| store.write(|tables| tables.lead(&cluster, &holder, ttl)))
    }

    fn resign<'a>(&'a self, cluster: &'a str, holder: &'a str) -> Answer<'a, ()> {
        let (cluster, holder) = (cluster.to_owned(), holder.to_owned());
        self.ask(move |store| store.write(|tables| tables.resign(&cluster, &holder)))
    }

    fn add_demand<'a>(&'a self, cluster: &'a str, used: &'a [(Arc<str>, i64)]) -> Answer<'a, ()> {
        let (cluster, used) = (cluster.to_owned(), used.to_owned());
        self.ask(move |store| store.write(|tables| tables.add_demand(&cluster, &used)))
    }

    fn demand<'a>(&'a self, cluster: &'a str) -> Answer<'a, Vec<HourOfDemand>> {
        let cluster = cluster.to_owned();
        self.ask(move |store| store.read(|tables| tables.demand(&cluster)))
    }

    fn confirm<'a>(&'a self, cluster: &'a str, holder: &'a str, seen: &'a [Witness]) -> Answer<'a, ()> {
        let (cluster, holder, seen) = (cluster.to_owned(), holder.to_owned(), seen.to_owned());
        self.ask(move |store| store.write(|tables| tables.confirm(&cluster, &holder, &seen)))
    }

    fn halt<'a>(&'a self, sequence: &'a str, reason: &'a str) -> Answer<'a, ()> {
        let (sequence, reason) = (sequence.to_owned(), reason.to_owned());
        self.ask(move |store| store.write(|tables| tables.halt(&sequence, &reason)))
    }

    fn prune(&self, keep: Duration, limit: u32) -> Answer<'_, u64> {
        self.ask(move |store| store.write(|tables| tables.prune(keep, limit)))
    }
}

impl Admin for Sqlite {
    fn migrate(&self) -> Answer<'_, Migrated> {
        self.ask(Store::migrate)
    }

    fn create<'a>(&'a self, new: &'a NewSequence) -> Answer<'a, Created> {
        let new = new.clone();
        self.ask(move |store| store.write(|tables| tables.create(&new)))
    }

    fn set<'a>(&'a self, sequence: &'a str, change: &'a SequenceChange) -> Answer<'a, SequenceRow> {
        let (sequence, change) = (sequence.to_owned(), change.clone());
        self.ask(move |store| store.write(|tables| tables.set(&sequence, &change)))
    }

    fn set_on_failover(&self, to: OnFailover) -> Answer<'_, ()> {
        self.ask(move |store| store.write(|tables| tables.set_on_failover(to)))
    }

    fn advance<'a>(&'a self, sequence: &'a str, above: i64) -> Answer<'a, SequenceRow> {
        let sequence = sequence.to_owned();
        self.ask(move |store| store.write(|tables| tables.advance(&sequence, above)))
    }

    fn seen(&self) -> Answer<'_, Vec<ClusterSeen>> {
        self.ask(|store| store.read(|tables| tables.seen()))
    }

    fn resume<'a>(&'a self, sequence: &'a str) -> Answer<'a, bool> {
        let sequence = sequence.to_owned();
        self.ask(move |store| store.write(|tables| tables.resume(&sequence)))
    }

    fn retire<'a>(&'a self, sequence: &'a str) -> Answer<'a, bool> {
        let sequence = sequence.to_owned();
        self.ask(move |store| store.write(|tables| tables.retire(&sequence)))
    }

    fn lookup<'a>(&'a self, sequence: &'a str, id: i64) -> Answer<'a, Option<GrantRecord>> {
        let sequence = sequence.to_owned();
        self.ask(move |store| store.read(|tables| tables.lookup(&sequence, id)))
    }

    fn history(&self) -> Answer<'_, History> {
        self.ask(|store| store.read(|tables| tables.history()))
    }
}
