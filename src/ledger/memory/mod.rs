//! A ledger in memory: for simulation and tests, where time is virtual and everything repeats.

mod lives;
mod tables;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use self::lives::{Lives, Place};
use self::tables::{Led, Stored, Tables};
use super::decide::{self, LedgerRow};
use super::{
    Accept, Accepted, Admin, Answer, ClusterSeen, Condemned, Created, Expected, Facts, Grant, GrantRecord,
    GrantRequest, History, HourOfDemand, Lease, Ledger, LedgerError, Migrated, MoveRecord, NewSequence,
    Report, Reported, SequenceChange, SequenceRow, State,
};
use crate::block::{Identity, Life, OnFailover, Witness};

/// The schema that a ledger in memory claims to have.
const SCHEMA: i32 = 1;
const HOUR_US: i64 = 3_600_000_000;

/// A ledger in memory. A clone is another handle of the same ledger, on whatever thread.
///
/// Its clock starts at 0 when it is made and follows tokio's; its id and token come from the generator that it is
/// given: the same seed and the same calls give the same answers.
///
/// It runs somewhere, as a server does, and so goes through lives: [`Memory::restart`], [`Memory::copy`], [`Memory::promote`],
/// [`Memory::restore`] and [`Memory::restore_dump`] do to it what befalls a server, and the next call closes it (S3).
///
/// # Cancel safety
/// A call is carried out, whole, when its future is first polled; dropped before that, nothing happens.
#[derive(Clone)]
pub struct Memory {
    expected: Expected,
    server: Arc<Mutex<Server>>,
}

/// What runs the ledger.
struct Server {
    here: Place,
    rng: fastrand::Rng,
    tables: Tables,
}

impl Memory {
    /// A fresh ledger of the expected environment, already migrated.
    pub fn new(expected: Expected, mut rng: fastrand::Rng) -> Memory {
        let identity = Identity {
            ledger: uuid(&mut rng),
            environment: expected.environment.to_string(),
            life: Life { epoch: 1, token: uuid(&mut rng) },
        };
        let here = Place { server: rng.u64(..), timeline: 1, start: rng.u64(..), table: rng.u64(..) };
        let tables = Tables {
            started: Instant::now(),
            ahead_us: 0,
            lives: Lives::new(here, identity.life),
            ledger: LedgerRow {
                identity,
                state: State::Open,
                catalogue_version: 1,
                on_failover: OnFailover::Wait,
            },
            sequences: BTreeMap::new(),
            leases: BTreeMap::new(),
            seen: BTreeMap::new(),
            demand: BTreeMap::new(),
        };
        Memory { expected, server: Arc::new(Mutex::new(Server { here, rng, tables })) }
    }

    /// A handle of the same ledger for a process that expects something else.
    #[must_use]
    pub fn expecting(&self, expected: Expected) -> Memory {
        Memory { expected, server: Arc::clone(&self.server) }
    }

    /// Starts its server again: nothing is lost.
    pub fn restart(&self) {
        let mut server = self.server();
        server.here.start = server.rng.u64(..);
    }

    /// Another server with the same files, as a standby or a copy of the data folder has them now.
    #[must_use]
    pub fn copy(&self) -> Memory {
        let mut server = self.server();
        let mut rng = server.rng.fork();
        let here = Place { start: rng.u64(..), ..server.here };
        let tables = server.tables.clone();
        Memory { expected: self.expected.clone(), server: Arc::new(Mutex::new(Server { here, rng, tables })) }
    }

    /// Makes a copy the primary. Two that are promoted from one ancestor count the same timeline.
    pub fn promote(&self) {
        self.server().here.timeline += 1;
    }

    /// Puts the files of `older` in the place of its own, and starts again.
    pub fn restore(&self, older: &Memory) {
        let (timeline, table, tables) = {
            let older = older.server();
            (older.here.timeline, older.here.table, older.tables.clone())
        };
        let mut server = self.server();
        let start = server.rng.u64(..);
        server.here = Place { timeline, table, start, ..server.here };
        server.tables = tables;
    }

    /// Restores a dump that was taken of `older`: the rows as they were then, in tables that are new.
    pub fn restore_dump(&self, older: &Memory) {
        let tables = older.server().tables.clone();
        let mut server = self.server();
        server.here.table = server.rng.u64(..);
        server.tables = tables;
    }

    /// Sets its clock forward, or back, by so many µs.
    pub fn step_clock(&self, by_us: i64) {
        self.server().tables.ahead_us += by_us;
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        // A panic in here can't leave half a grant: each is decided first and then written.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer<'a, T>(
        &'a self,
        work: impl FnOnce(&mut Tables) -> Result<T, LedgerError> + 'a,
    ) -> Answer<'a, T> {
        self.answer_to(None, move |server| work(&mut server.tables))
    }

    /// The same for somebody who follows a life, with all that the server is.
    fn answer_to<'a, T>(
        &'a self,
        known: Option<Life>,
        work: impl FnOnce(&mut Server) -> Result<T, LedgerError> + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            let mut server = self.server();
            let Server { here, rng, tables } = &mut *server;
            tables.ledger.admit(&self.expected)?;
            tables.fence(*here, known.map_or(0, |life| life.epoch), || uuid(rng));
            work(&mut server)
        })
    }

    /// Lets `edit` change a sequence's row, and raises the catalogue's version if that changed its facts.
    fn alter<'a, T>(
        &'a self,
        sequence: &'a str,
        edit: impl FnOnce(&mut SequenceRow) -> Result<T, LedgerError> + 'a,
    ) -> Answer<'a, (SequenceRow, T)> {
        self.answer(move |tables| {
            let Stored { row, .. } = tables.sequences.get_mut(sequence).ok_or_else(|| unknown(sequence))?;
            let mut after = row.clone();
            let given = edit(&mut after)?;
            tables.ledger.allows(row, &after)?;
            if after.facts != row.facts {
                tables.ledger.catalogue_version += 1;
            }
            row.clone_from(&after);
            Ok((after, given))
        })
    }
}

impl Ledger for Memory {
    fn facts(&self, known: Option<Life>) -> Answer<'_, Facts> {
        self.answer_to(known, move |Server { tables, .. }| {
            let ledger = tables.ledger.clone();
            let descends = known.is_none_or(|known| tables.lives.hold(known));
            Ok(ledger.facts(tables.rows(), descends, tables.now_us()))
        })
    }

    fn grant<'a>(&'a self, request: &'a GrantRequest) -> Answer<'a, Grant> {
        self.answer_to(Some(request.life), |server| server.tables.grant(request))
    }

    fn lead<'a>(&'a self, cluster: &'a str, holder: &'a str, ttl: Duration) -> Answer<'a, Lease> {
        self.answer(move |tables| {
            let now_us = tables.now_us();
            let until_us = now_us.saturating_add(i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX));
            let lease = tables.leases.entry(cluster.to_owned()).or_insert_with(|| Led {
                leader: holder.into(),
                renewed_us: now_us,
                end_us: until_us,
                awaited: false,
            });
            let held = *lease.leader == *holder || lease.end_us <= now_us;
            if held {
                *lease = Led { leader: holder.into(), renewed_us: now_us, end_us: until_us, ..*lease };
            }
            Ok(Lease { held, leader: lease.leader.clone() })
        })
    }

    fn resign<'a>(&'a self, cluster: &'a str, holder: &'a str) -> Answer<'a, ()> {
        self.answer(move |tables| {
            let now_us = tables.now_us();
            if let Some(lease) = tables.leases.get_mut(cluster).filter(|lease| *lease.leader == *holder) {
                lease.end_us = now_us.min(lease.end_us);
            }
            Ok(())
        })
    }

    fn add_demand<'a>(&'a self, cluster: &'a str, used: &'a [(Arc<str>, i64)]) -> Answer<'a, ()> {
        self.answer(move |tables| {
            tables.add_demand(cluster, used);
            Ok(())
        })
    }

    fn demand<'a>(&'a self, cluster: &'a str) -> Answer<'a, Vec<HourOfDemand>> {
        self.answer(move |tables| Ok(tables.demand(cluster)))
    }

    fn confirm<'a>(&'a self, cluster: &'a str, holder: &'a str, seen: &'a [Witness]) -> Answer<'a, ()> {
        self.answer(move |tables| {
            if tables.leases.get(cluster).is_some_and(|lease| *lease.leader == *holder) {
                tables.seen.insert(cluster.to_owned(), seen.to_owned());
            }
            tables.loosen();
            Ok(())
        })
    }

    fn halt<'a>(&'a self, sequence: &'a str, reason: &'a str) -> Answer<'a, ()> {
        let halted = self.alter(sequence, move |row| {
            row.facts.halted.get_or_insert_with(|| reason.into());
            Ok(())
        });
        Box::pin(async { halted.await.map(|_| ()) })
    }

    fn report<'a>(&'a self, report: &'a Report) -> Answer<'a, Reported> {
        self.answer_to(report.follows, |Server { tables, here, rng }| {
            Ok(tables.report(report, *here, uuid(rng)))
        })
    }

    fn condemn<'a>(&'a self, life: Life, known_epoch: i64, why: &'a str) -> Answer<'a, Condemned> {
        self.answer_to(Some(life), move |Server { tables, rng, .. }| {
            Ok(if tables.close(life, known_epoch, why, uuid(rng)) {
                Condemned::Closed
            } else {
                Condemned::Elsewhere
            })
        })
    }

    fn prune(&self, keep: Duration, limit: u32) -> Answer<'_, u64> {
        self.answer(move |tables| Ok(tables.prune(keep, limit)))
    }
}

impl Admin for Memory {
    fn migrate(&self) -> Answer<'_, Migrated> {
        self.answer(|tables| {
            Ok(Migrated { identity: tables.ledger.identity.clone(), from: SCHEMA, to: SCHEMA })
        })
    }

    fn create<'a>(&'a self, new: &'a NewSequence) -> Answer<'a, Created> {
        self.answer(|tables| tables.create(new))
    }

    fn set<'a>(&'a self, sequence: &'a str, change: &'a SequenceChange) -> Answer<'a, SequenceRow> {
        let covers = self.answer(move |tables| tables.check_gap(sequence, change.failover_gap));
        let hold = self.answer(move |tables| {
            if change.failover_gap.is_some()
                && let Some(Stored { row, held, .. }) = tables.sequences.get_mut(sequence)
            {
                *held = decide::cap(tables.ledger.on_failover, row.facts.failover_gap, *held);
            }
            Ok(())
        });
        let changed = self.alter(sequence, |row| decide::change(row, change));
        Box::pin(async {
            covers.await?;
            hold.await?;
            let (row, ()) = changed.await?;
            self.server().tables.loosen();
            Ok(row)
        })
    }

    fn set_on_failover(&self, to: OnFailover) -> Answer<'_, ()> {
        self.answer(move |tables| tables.set_on_failover(to))
    }

    fn advance<'a>(&'a self, sequence: &'a str, above: i64) -> Answer<'a, SequenceRow> {
        let advanced = self.alter(sequence, move |row| decide::advance(row, above));
        Box::pin(async { advanced.await.map(|(row, ())| row) })
    }

    fn seen(&self) -> Answer<'_, Vec<ClusterSeen>> {
        self.answer(|tables| Ok(tables.seen()))
    }

    fn resume<'a>(&'a self, sequence: &'a str) -> Answer<'a, bool> {
        let resumed = self.alter(sequence, |row| Ok(row.facts.halted.take().is_some()));
        Box::pin(async { resumed.await.map(|(_, was_halted)| was_halted) })
    }

    fn retire<'a>(&'a self, sequence: &'a str) -> Answer<'a, bool> {
        let retired = self.alter(sequence, |row| Ok(!std::mem::replace(&mut row.facts.retired, true)));
        Box::pin(async { retired.await.map(|(_, was_active)| was_active) })
    }

    fn lookup<'a>(&'a self, sequence: &'a str, id: i64) -> Answer<'a, Option<GrantRecord>> {
        self.answer(move |tables| {
            let Stored { records, .. } = tables.sequences.get(sequence).ok_or_else(|| unknown(sequence))?;
            let below = records.range(..=id).next_back();
            Ok(below.map(|(_, record)| record).filter(|record| record.span.last() >= id).cloned())
        })
    }

    fn moved<'a>(&'a self, sequence: &'a str, id: i64) -> Answer<'a, Option<MoveRecord>> {
        self.answer(move |tables| {
            let mut moves = tables.lives.moves.iter();
            let by = moves.find(|(name, by)| **name == *sequence && by.from < id && id <= by.to);
            Ok(by.map(|(_, by)| by.clone()))
        })
    }

    fn accept<'a>(&'a self, accept: &'a Accept, really: bool) -> Answer<'a, Accepted> {
        self.answer_to(None, move |Server { tables, here, rng }| {
            Ok(tables.accept(accept, really, *here, uuid(rng)))
        })
    }

    fn history(&self) -> Answer<'_, History> {
        self.answer(|tables| {
            let LedgerRow { identity, state, on_failover, .. } = tables.ledger.clone();
            let lives = tables.lives.table.clone();
            Ok(History {
                identity,
                state,
                schema: (SCHEMA, SCHEMA),
                engine: vec![("engine".to_owned(), "memory".to_owned())],
                on_failover,
                lives,
                leases: tables.leases(),
                reports: tables.reports(),
                sequences: tables.rows(),
            })
        })
    }
}

fn uuid(rng: &mut fastrand::Rng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.u128(..).to_be_bytes()).into_uuid()
}

fn unknown(sequence: &str) -> LedgerError {
    LedgerError::Unknown(sequence.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Purpose;

    fn ledger(seed: u64) -> Memory {
        let expected = Expected { environment: "test".into(), id: None };
        Memory::new(expected, fastrand::Rng::with_seed(seed))
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(future)
    }

    #[test]
    fn the_same_seed_is_the_same_ledger() {
        let identity = |seed| block_on(async { ledger(seed).facts(None).await.unwrap().identity });
        assert_eq!(identity(1), identity(1));
        assert_ne!(identity(1), identity(2));
    }

    #[test]
    fn a_call_that_nobody_polled_did_not_happen() {
        block_on(async {
            let ledger = ledger(1);
            let new = NewSequence {
                name: "tasks".into(),
                first: 1,
                last: 1000,
                block_size: 10,
                buffer: None,
                failover_gap: None,
                if_not_exists: false,
            };
            ledger.create(&new).await.unwrap();
            let request = GrantRequest {
                sequence: "tasks".into(),
                generation: 1,
                life: ledger.facts(None).await.unwrap().identity.life,
                least: 1,
                need: 1,
                want: 1,
                known_high_water: 0,
                purpose: Purpose::Fallback,
                holder: "holder".into(),
                cluster: "cluster".into(),
                pod: None,
            };
            drop(ledger.grant(&request));
            assert_eq!(ledger.grant(&request).await.unwrap().span.first(), 1);
        });
    }

    #[test]
    fn demand_is_known_by_the_hour_for_a_day() {
        block_on(async {
            let ledger = ledger(1);
            for ids in 1..=30 {
                ledger.add_demand("cluster", &[("tasks".into(), ids)]).await.unwrap();
                tokio::time::advance(Duration::from_secs(3600)).await;
            }
            let mut hours = ledger.demand("cluster").await.unwrap();
            hours.sort_by_key(|hour| hour.hours_ago);
            let known: Vec<_> = hours.iter().map(|hour| (hour.hours_ago, hour.ids)).collect();
            assert_eq!(known, (1..24).zip((8..=30).rev()).collect::<Vec<_>>());
        });
    }
}
