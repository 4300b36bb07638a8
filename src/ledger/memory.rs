//! A ledger in memory: for simulation and tests, where time is virtual and everything repeats.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::decide::{self, LedgerRow};
use super::{
    Admin, Answer, ClusterSeen, Created, Expected, Facts, Grant, GrantRecord, GrantRequest, History,
    HourOfDemand, Lease, LeaseRecord, Ledger, LedgerError, LifeRecord, Migrated, NewSequence, SequenceChange,
    SequenceRow, State,
};
use crate::block::{Hour, Identity, Life, OnFailover, Witness};

/// The schema that a ledger in memory claims to have.
const SCHEMA: i32 = 1;
const HOUR_US: i64 = 3_600_000_000;

/// A ledger in memory. A clone is another handle of the same ledger, on whatever thread.
///
/// Its clock starts at 0 when it is made and follows tokio's; its id and token come from the generator that it is
/// given: the same seed and the same calls give the same answers.
///
/// # Cancel safety
/// A call is carried out, whole, when its future is first polled; dropped before that, nothing happens.
#[derive(Clone)]
pub struct Memory {
    expected: Expected,
    tables: Arc<Mutex<Tables>>,
}

/// Everything it stores.
struct Tables {
    started: Instant,
    ledger: LedgerRow,
    sequences: BTreeMap<Arc<str>, Stored>,
    /// By cluster: who leads, and until when.
    leases: BTreeMap<String, (Arc<str>, i64)>,
    /// By cluster: who has which catalogue.
    seen: BTreeMap<String, Vec<Witness>>,
    /// By cluster, hour and sequence.
    demand: BTreeMap<(String, i64, Arc<str>), i64>,
}

/// One sequence.
struct Stored {
    row: SequenceRow,
    hour: Hour,
    /// Its grants, by first ID.
    records: BTreeMap<i64, GrantRecord>,
}

impl Memory {
    /// A fresh ledger of the expected environment, already migrated.
    pub fn new(expected: Expected, mut rng: fastrand::Rng) -> Memory {
        let mut uuid = || uuid::Builder::from_random_bytes(rng.u128(..).to_be_bytes()).into_uuid();
        let identity = Identity {
            ledger: uuid(),
            environment: expected.environment.to_string(),
            life: Life { epoch: 1, token: uuid() },
        };
        let tables = Tables {
            started: Instant::now(),
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
        Memory { expected, tables: Arc::new(Mutex::new(tables)) }
    }

    /// A handle of the same ledger for a process that expects something else.
    #[must_use]
    pub fn expecting(&self, expected: Expected) -> Memory {
        Memory { expected, tables: Arc::clone(&self.tables) }
    }

    fn answer<'a, T>(
        &'a self,
        work: impl FnOnce(&mut Tables) -> Result<T, LedgerError> + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            // A panic in here can't leave half a grant: each is decided first and then written.
            let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            tables.ledger.admit(&self.expected)?;
            work(&mut tables)
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

impl Tables {
    fn now_us(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    fn rows(&self) -> Vec<SequenceRow> {
        self.sequences.values().map(|stored| stored.row.clone()).collect()
    }

    fn grant(&mut self, request: &GrantRequest) -> Result<Grant, LedgerError> {
        let at_us = self.now_us();
        let Some(Stored { row, hour, records }) = self.sequences.get_mut(&request.sequence) else {
            return decide::grant(&self.ledger, None, 0, request, (&Hour::default(), at_us));
        };
        let recorded = records.last_key_value().map_or(0, |(_, record)| record.span.last());
        let grant = decide::grant(&self.ledger, Some(row), recorded, request, (hour, at_us))?;
        (row.granted, row.grants) = (grant.span.last(), grant.number);
        hour.add(grant.span.count(), Hour::slot_of(at_us));
        records.insert(grant.span.first(), decide::record(&grant, request, at_us));
        Ok(grant)
    }

    fn create(&mut self, new: &NewSequence) -> Result<Created, LedgerError> {
        let row = decide::first_row(new)?;
        if let Some(Stored { row, .. }) = self.sequences.get(&new.name) {
            decide::taken(new)?;
            return Ok(Created { row: row.clone(), new: false });
        }
        let stored = Stored { row: row.clone(), hour: Hour::default(), records: BTreeMap::new() };
        self.sequences.insert(new.name.clone(), stored);
        self.ledger.catalogue_version += 1;
        Ok(Created { row, new: true })
    }

    /// Where a gap would cap a sequence, it must cover the last hour.
    fn check_gap(&self, sequence: &str, gap: Option<i64>) -> Result<(), LedgerError> {
        let (Some(gap), OnFailover::Jump) = (gap, self.ledger.on_failover) else { return Ok(()) };
        let stored = self.sequences.get(sequence);
        let over =
            stored.and_then(|Stored { row, hour, .. }| decide::over(&row.facts, gap, hour, self.now_us()));
        decide::may_cap(over.as_slice())
    }

    fn set_on_failover(&mut self, to: OnFailover) -> Result<(), LedgerError> {
        if to == self.ledger.on_failover {
            return Ok(());
        }
        if to == OnFailover::Jump {
            if let State::Closed(why) = &self.ledger.state {
                return Err(LedgerError::Closed(why.to_string()));
            }
            let now_us = self.now_us();
            let sequences = self.sequences.values();
            let over = |Stored { row, hour, .. }: &Stored| {
                decide::over(&row.facts, row.facts.failover_gap, hour, now_us)
            };
            decide::may_cap(&sequences.filter_map(over).collect::<Vec<_>>())?;
        }
        self.ledger.on_failover = to;
        self.ledger.catalogue_version += 1;
        Ok(())
    }

    fn prune(&mut self, keep: Duration, limit: u32) -> u64 {
        let before_us = self.now_us().saturating_sub(i64::try_from(keep.as_micros()).unwrap_or(i64::MAX));
        let mut deleted = 0;
        for Stored { records, .. } in self.sequences.values_mut() {
            while records.len() > 1 && deleted < u64::from(limit) {
                match records.first_entry().filter(|oldest| oldest.get().at_us < before_us) {
                    Some(oldest) => oldest.remove(),
                    None => break,
                };
                deleted += 1;
            }
        }
        deleted
    }

    fn add_demand(&mut self, cluster: &str, used: &[(Arc<str>, i64)]) {
        let hour = self.now_us() / HOUR_US;
        self.demand.retain(|(_, then, _), _| hour - then < 24);
        for (sequence, ids) in used.iter().filter(|(_, ids)| *ids > 0) {
            let sum = self.demand.entry((cluster.to_owned(), hour, sequence.clone())).or_default();
            *sum = sum.saturating_add(*ids);
        }
    }

    fn demand(&self, cluster: &str) -> Vec<HourOfDemand> {
        let hour = self.now_us() / HOUR_US;
        let hours = self.demand.iter().filter(|((whose, then, _), _)| whose == cluster && hour - then < 24);
        hours
            .map(|((_, then, sequence), ids)| HourOfDemand {
                sequence: sequence.clone(),
                hours_ago: u8::try_from(hour - then).unwrap_or(0),
                ids: *ids,
            })
            .collect()
    }

    fn seen(&self) -> Vec<ClusterSeen> {
        let now_us = self.now_us();
        let mut by_cluster: BTreeMap<String, ClusterSeen> = BTreeMap::new();
        let led = self.leases.iter().filter(|(_, (_, until_us))| *until_us > now_us);
        led.for_each(|(cluster, _)| by_cluster.entry(cluster.clone()).or_default().led = true);
        let records = self.sequences.values().flat_map(|stored| stored.records.values());
        for record in records.filter(|record| record.at_us > now_us - HOUR_US) {
            let holders = &mut by_cluster.entry(record.cluster.clone()).or_default().holders;
            if let Err(at) = holders.binary_search(&record.holder) {
                holders.insert(at, record.holder.clone());
            }
        }
        let seen = |cluster: &str| self.seen.get(cluster).cloned().unwrap_or_default();
        by_cluster
            .into_iter()
            .map(|(cluster, found)| ClusterSeen { seen: seen(&cluster), cluster, ..found })
            .collect()
    }

    fn leases(&self) -> Vec<LeaseRecord> {
        let now_us = self.now_us();
        let leases = self.leases.iter();
        leases
            .map(|(cluster, (leader, until_us))| LeaseRecord {
                cluster: cluster.clone(),
                leader: leader.to_string(),
                seconds_left: (until_us - now_us).div_euclid(1_000_000),
            })
            .collect()
    }
}

impl Ledger for Memory {
    fn facts(&self, known: Option<Life>) -> Answer<'_, Facts> {
        self.answer(move |tables| {
            let ledger = tables.ledger.clone();
            let descends = known.is_none_or(|known| known == ledger.identity.life);
            Ok(ledger.facts(tables.rows(), descends, tables.now_us()))
        })
    }

    fn grant<'a>(&'a self, request: &'a GrantRequest) -> Answer<'a, Grant> {
        self.answer(|tables| tables.grant(request))
    }

    fn lead<'a>(&'a self, cluster: &'a str, holder: &'a str, ttl: Duration) -> Answer<'a, Lease> {
        self.answer(move |tables| {
            let now_us = tables.now_us();
            let until_us = now_us.saturating_add(i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX));
            let (leader, end_us) =
                tables.leases.entry(cluster.to_owned()).or_insert_with(|| (holder.into(), until_us));
            let held = **leader == *holder || *end_us <= now_us;
            if held {
                (*leader, *end_us) = (holder.into(), until_us);
            }
            Ok(Lease { held, leader: leader.clone() })
        })
    }

    fn resign<'a>(&'a self, cluster: &'a str, holder: &'a str) -> Answer<'a, ()> {
        self.answer(move |tables| {
            let now_us = tables.now_us();
            if let Some((_, end_us)) =
                tables.leases.get_mut(cluster).filter(|(leader, _)| **leader == *holder)
            {
                *end_us = now_us.min(*end_us);
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
            if tables.leases.get(cluster).is_some_and(|(leader, _)| **leader == *holder) {
                tables.seen.insert(cluster.to_owned(), seen.to_owned());
            }
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
        let changed = self.alter(sequence, |row| decide::change(row, change));
        Box::pin(async {
            covers.await?;
            changed.await.map(|(row, ())| row)
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

    fn history(&self) -> Answer<'_, History> {
        self.answer(|tables| {
            let LedgerRow { identity, state, on_failover, .. } = tables.ledger.clone();
            let lives = vec![LifeRecord { life: identity.life, reason: "created".to_owned(), at_us: 0 }];
            Ok(History {
                identity,
                state,
                schema: (SCHEMA, SCHEMA),
                engine: vec![("engine".to_owned(), "memory".to_owned())],
                on_failover,
                lives,
                leases: tables.leases(),
                reports: Vec::new(),
                sequences: tables.rows(),
            })
        })
    }
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
