//! What a ledger in memory stores, and what each call does to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::decide::{self, Capped, LedgerRow};
use super::super::{
    ClusterSeen, Created, Grant, GrantRecord, GrantRequest, HourOfDemand, LeaseRecord, LedgerError,
    NewSequence, SequenceRow, State,
};
use super::HOUR_US;
use super::lives::Lives;
use crate::block::{Hour, OnFailover, Witness};

/// Everything it stores.
#[derive(Clone)]
pub(super) struct Tables {
    pub(super) started: Instant,
    /// By how much its clock is ahead, in µs.
    pub(super) ahead_us: i64,
    pub(super) lives: Lives,
    pub(super) ledger: LedgerRow,
    pub(super) sequences: BTreeMap<Arc<str>, Stored>,
    /// By cluster.
    pub(super) leases: BTreeMap<String, Led>,
    /// By cluster: who has which catalogue.
    pub(super) seen: BTreeMap<String, Vec<Witness>>,
    /// By cluster, hour and sequence.
    pub(super) demand: BTreeMap<(String, i64, Arc<str>), i64>,
}

/// Who leads a cluster, or led last.
#[derive(Debug, Clone)]
pub(super) struct Led {
    pub(super) leader: Arc<str>,
    pub(super) renewed_us: i64,
    pub(super) end_us: i64,
    /// Whether its report is waited for.
    pub(super) awaited: bool,
}

/// One sequence.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) row: SequenceRow,
    pub(super) hour: Hour,
    /// A cap that stays until every cluster knows of a looser one.
    pub(super) held: Option<i64>,
    /// Its grants, by first ID.
    pub(super) records: BTreeMap<i64, GrantRecord>,
}

impl Tables {
    pub(super) fn now_us(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX).saturating_add(self.ahead_us)
    }

    pub(super) fn rows(&self) -> Vec<SequenceRow> {
        self.sequences.values().map(|stored| stored.row.clone()).collect()
    }

    pub(super) fn grant(&mut self, request: &GrantRequest) -> Result<Grant, LedgerError> {
        let at_us = self.now_us();
        let Some(Stored { row, hour, held, records }) = self.sequences.get_mut(&request.sequence) else {
            let capped = Capped { hour: &Hour::default(), held: None, now_us: at_us };
            return decide::grant(&self.ledger, None, 0, request, &capped);
        };
        let capped = Capped { hour, held: *held, now_us: at_us };
        let recorded = records.last_key_value().map_or(0, |(_, record)| record.span.last());
        let grant = decide::grant(&self.ledger, Some(row), recorded, request, &capped)?;
        (row.granted, row.grants) = (grant.span.last(), grant.number);
        hour.add(grant.span.count(), Hour::slot_of(at_us));
        records.insert(grant.span.first(), decide::record(&grant, request, at_us));
        Ok(grant)
    }

    pub(super) fn create(&mut self, new: &NewSequence) -> Result<Created, LedgerError> {
        let row = decide::first_row(new)?;
        if let Some(Stored { row, .. }) = self.sequences.get(&new.name) {
            decide::taken(new)?;
            return Ok(Created { row: row.clone(), new: false });
        }
        let stored = Stored { row: row.clone(), hour: Hour::default(), held: None, records: BTreeMap::new() };
        self.sequences.insert(new.name.clone(), stored);
        self.ledger.catalogue_version += 1;
        Ok(Created { row, new: true })
    }

    /// Where a gap would cap a sequence, it must cover the last hour.
    pub(super) fn check_gap(&self, sequence: &str, gap: Option<i64>) -> Result<(), LedgerError> {
        let (Some(gap), OnFailover::Jump) = (gap, self.ledger.on_failover) else { return Ok(()) };
        let stored = self.sequences.get(sequence);
        let over =
            stored.and_then(|Stored { row, hour, .. }| decide::over(&row.facts, gap, hour, self.now_us()));
        decide::may_cap(over.as_slice())
    }

    pub(super) fn set_on_failover(&mut self, to: OnFailover) -> Result<(), LedgerError> {
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
        let before = self.ledger.on_failover;
        for Stored { row, held, .. } in self.sequences.values_mut() {
            *held = decide::cap(before, row.facts.failover_gap, *held);
        }
        self.ledger.on_failover = to;
        self.ledger.catalogue_version += 1;
        self.loosen();
        Ok(())
    }

    pub(super) fn prune(&mut self, keep: Duration, limit: u32) -> u64 {
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

    pub(super) fn add_demand(&mut self, cluster: &str, used: &[(Arc<str>, i64)]) {
        let hour = self.now_us() / HOUR_US;
        self.demand.retain(|(_, then, _), _| hour - then < 24);
        for (sequence, ids) in used.iter().filter(|(_, ids)| *ids > 0) {
            let sum = self.demand.entry((cluster.to_owned(), hour, sequence.clone())).or_default();
            *sum = sum.saturating_add(*ids);
        }
    }

    pub(super) fn demand(&self, cluster: &str) -> Vec<HourOfDemand> {
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

    pub(super) fn seen(&self) -> Vec<ClusterSeen> {
        let now_us = self.now_us();
        let mut by_cluster: BTreeMap<String, ClusterSeen> = BTreeMap::new();
        let led = self.leases.iter().filter(|(_, lease)| lease.end_us > now_us);
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

    pub(super) fn leases(&self) -> Vec<LeaseRecord> {
        let now_us = self.now_us();
        let leases = self.leases.iter();
        leases
            .map(|(cluster, lease)| LeaseRecord {
                cluster: cluster.clone(),
                leader: lease.leader.to_string(),
                seconds_left: (lease.end_us - now_us).div_euclid(1_000_000),
            })
            .collect()
    }
}
