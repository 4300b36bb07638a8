//! The ledger, as one process reaches it through the network. What moves is written down on both sides.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use blockhouse::block::{Life, Witness};
use blockhouse::ledger::memory::Memory;
use blockhouse::ledger::{self, Facts, Grant, GrantRequest, HourOfDemand, Lease, Ledger, LedgerError};
use blockhouse::ledger::{Condemned, Report, Reported};
use futures_util::FutureExt;

use crate::ledgers::Ledgers;
use crate::net::{Net, Server, Way};

/// The ledger, as one process reaches it.
pub struct Link {
    net: Arc<Net>,
    way: Way,
    ledgers: Arc<Ledgers>,
    under_way: Rc<Cell<usize>>,
}

struct UnderWay(Rc<Cell<usize>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The engine never waits.
pub fn now<T, E>(answer: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    answer.now_or_never().expect("a server in memory answers at once")
}

impl Link {
    pub fn new(net: &Arc<Net>, slot: usize, process: u32, ledgers: &Arc<Ledgers>) -> Link {
        let way = Way { slot, process, server: Server::Ledger };
        Link { net: Arc::clone(net), way, ledgers: Arc::clone(ledgers), under_way: Rc::default() }
    }

    async fn carry<T: Send + 'static>(
        &self,
        call: &'static str,
        work: impl FnOnce(&Memory) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        {
            let mut journal = self.net.journal.lock();
            let at = journal.now();
            journal.checker.to_ledger(self.way.process, call, self.under_way.get(), at);
        }
        self.under_way.set(self.under_way.get() + 1);
        let _under_way = UnderWay(Rc::clone(&self.under_way));
        let (net, way, ledgers) = (Arc::clone(&self.net), self.way, Arc::clone(&self.ledgers));
        let refused = LedgerError::Unreachable("connection refused".to_owned());
        let work = move || {
            let result = work(&ledgers.of(way.slot));
            net.done(way, call);
            result
        };
        self.net.carry(way, call, refused, work).await
    }
}

impl Ledger for Link {
    fn facts(&self, known: Option<Life>) -> ledger::Answer<'_, Facts> {
        Box::pin(self.carry("facts", move |ledger| now(ledger.facts(known))))
    }

    fn grant<'a>(&'a self, request: &'a GrantRequest) -> ledger::Answer<'a, Grant> {
        let (asked, journal) = (request.clone(), self.net.journal.clone());
        Box::pin(async move {
            let work = move |ledger: &Memory| {
                let grant = now(ledger.grant(&asked))?;
                let mut journal = journal.lock();
                journal.note(format_args!("granted {} of {}", grant.span, asked.sequence));
                journal.granted(&asked.sequence, grant.span);
                Ok(grant)
            };
            let grant = self.carry(request.purpose.name(), work).await?;
            self.net.journal.lock().grant_received(self.way.process, &request.sequence, grant.span);
            Ok(grant)
        })
    }

    fn lead<'a>(&'a self, cluster: &'a str, holder: &'a str, ttl: Duration) -> ledger::Answer<'a, Lease> {
        let (cluster, holder) = (cluster.to_owned(), holder.to_owned());
        Box::pin(self.carry("lead", move |ledger| now(ledger.lead(&cluster, &holder, ttl))))
    }

    fn resign<'a>(&'a self, cluster: &'a str, holder: &'a str) -> ledger::Answer<'a, ()> {
        let (cluster, holder) = (cluster.to_owned(), holder.to_owned());
        Box::pin(self.carry("resign", move |ledger| now(ledger.resign(&cluster, &holder))))
    }

    fn add_demand<'a>(&'a self, cluster: &'a str, used: &'a [(Arc<str>, i64)]) -> ledger::Answer<'a, ()> {
        let (cluster, used) = (cluster.to_owned(), used.to_owned());
        Box::pin(self.carry("add_demand", move |ledger| now(ledger.add_demand(&cluster, &used))))
    }

    fn demand<'a>(&'a self, cluster: &'a str) -> ledger::Answer<'a, Vec<HourOfDemand>> {
        let cluster = cluster.to_owned();
        Box::pin(self.carry("demand", move |ledger| now(ledger.demand(&cluster))))
    }

    fn confirm<'a>(
        &'a self,
        cluster: &'a str,
        holder: &'a str,
        seen: &'a [Witness],
    ) -> ledger::Answer<'a, ()> {
        let (cluster, holder, seen) = (cluster.to_owned(), holder.to_owned(), seen.to_owned());
        Box::pin(self.carry("confirm", move |ledger| now(ledger.confirm(&cluster, &holder, &seen))))
    }

    fn halt<'a>(&'a self, sequence: &'a str, reason: &'a str) -> ledger::Answer<'a, ()> {
        let (sequence, reason) = (sequence.to_owned(), reason.to_owned());
        Box::pin(self.carry("halt", move |ledger| now(ledger.halt(&sequence, &reason))))
    }

    fn report<'a>(&'a self, report: &'a Report) -> ledger::Answer<'a, Reported> {
        let report = report.clone();
        Box::pin(self.carry("report", move |ledger| now(ledger.report(&report))))
    }

    fn condemn<'a>(&'a self, life: Life, known_epoch: i64, why: &'a str) -> ledger::Answer<'a, Condemned> {
        let why = why.to_owned();
        Box::pin(self.carry("condemn", move |ledger| now(ledger.condemn(life, known_epoch, &why))))
    }

    fn prune(&self, keep: Duration, limit: u32) -> ledger::Answer<'_, u64> {
        Box::pin(self.carry("prune", move |ledger| now(ledger.prune(keep, limit))))
    }
}
