//! The ledger behind a line.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::line::{Carried, Line, late};
use crate::block::{Life, Witness};
use crate::config::settings;
use crate::ledger::{
    Answer, Change, Condemned, Facts, Grant, GrantRequest, HourOfDemand, Lease, Ledger, LedgerError, Report,
    Reported,
};

pub(super) struct Lined {
    pub(super) ledger: Rc<dyn Ledger>,
    pub(super) line: Line,
    pub(super) connect_timeout: Duration,
}

impl Lined {
    /// What isn't sent certainly committed nothing; what was committed and comes too late is dropped, as when a network is slow (S1).
    fn carry<'a, T: 'a>(&'a self, call: impl FnOnce() -> Answer<'a, T> + 'a) -> Answer<'a, T> {
        Box::pin(async move {
            match self.line.pass(None, self.connect_timeout).await {
                Carried::Through(by) => {
                    let answer = call().await;
                    late(by).await;
                    answer
                }
                Carried::Refused => Err(LedgerError::Unreachable("connection refused (a drill)".to_owned())),
                Carried::Lost(after) => {
                    Err(LedgerError::Unreachable(format!("no connection within {after:.1?} (a drill)")))
                }
            }
        })
    }
}

impl Ledger for Lined {
    fn facts(&self, known: Option<Life>) -> Answer<'_, Facts> {
        self.carry(move || self.ledger.facts(known))
    }

    fn grant<'a>(&'a self, request: &'a GrantRequest) -> Answer<'a, Grant> {
        self.carry(|| self.ledger.grant(request))
    }

    fn lead<'a>(&'a self, cluster: &'a str, holder: &'a str, ttl: Duration) -> Answer<'a, Lease> {
        self.carry(move || self.ledger.lead(cluster, holder, ttl))
    }

    fn resign<'a>(&'a self, cluster: &'a str, holder: &'a str) -> Answer<'a, ()> {
        self.carry(|| self.ledger.resign(cluster, holder))
    }

    fn add_demand<'a>(&'a self, cluster: &'a str, used: &'a [(Arc<str>, i64)]) -> Answer<'a, ()> {
        self.carry(|| self.ledger.add_demand(cluster, used))
    }

    fn demand<'a>(&'a self, cluster: &'a str) -> Answer<'a, Vec<HourOfDemand>> {
        self.carry(|| self.ledger.demand(cluster))
    }

    fn halt<'a>(&'a self, sequence: &'a str, reason: &'a str) -> Answer<'a, ()> {
        self.carry(|| self.ledger.halt(sequence, reason))
    }

    fn report<'a>(&'a self, report: &'a Report) -> Answer<'a, Reported> {
        self.carry(|| self.ledger.report(report))
    }

    fn condemn<'a>(&'a self, life: Life, known_epoch: i64, why: &'a str) -> Answer<'a, Condemned> {
        self.carry(move || self.ledger.condemn(life, known_epoch, why))
    }

    fn prune(&self, keep: Duration, limit: u32) -> Answer<'_, u64> {
        self.carry(move || self.ledger.prune(keep, limit))
    }

    fn confirm<'a>(&'a self, cluster: &'a str, holder: &'a str, seen: &'a [Witness]) -> Answer<'a, ()> {
        self.carry(move || self.ledger.confirm(cluster, holder, seen))
    }

    fn log_in_with<'a>(&'a self, settings: &settings::Ledger) -> Result<Change<'a>, LedgerError> {
        self.ledger.log_in_with(settings)
    }
}
