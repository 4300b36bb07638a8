//! Ledger and pods, as one process reaches them through the network. What moves is written down on both sides.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blockhouse::block::{Life, Span, Witness};
use blockhouse::config::settings;
use blockhouse::ledger::memory::Memory;
use blockhouse::ledger::{self, Facts, Grant, GrantRequest, HourOfDemand, Lease, Ledger, LedgerError};
use blockhouse::ledger::{Condemned, Report, Reported};
use blockhouse::pods::memory::Server as Cache;
use blockhouse::pods::{
    self, End, Heartbeat, Inspection, List, Notice, Pod, PodError, Popped, Scope, Seen, Target,
};
use futures_util::FutureExt;
use tokio::time::timeout;

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
fn now<T, E>(answer: impl Future<Output = Result<T, E>>) -> Result<T, E> {
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

/// A pod's server, whoever asks. A clone is the same one.
#[derive(Clone)]
pub struct PodServer {
    pub number: usize,
    address: Arc<str>,
    state: Arc<Mutex<PodState>>,
}

struct PodState {
    cache: Cache,
    full: bool,
    /// So many pops from now on are forgotten: what they brought is handed out again.
    forgets_pops: u32,
}

impl PodServer {
    pub fn new(number: usize, rng: &mut fastrand::Rng) -> PodServer {
        let cache = Cache::new(number, rng);
        let address = Arc::clone(Target::address(&cache));
        PodServer {
            number,
            address,
            state: Arc::new(Mutex::new(PodState { cache, full: false, forgets_pops: 0 })),
        }
    }

    /// Another server process, which begins empty.
    pub fn restart(&self, rng: &mut fastrand::Rng) {
        self.state.lock().unwrap().cache = Cache::new(self.number, rng);
    }

    pub fn set_full(&self, full: bool) {
        self.state.lock().unwrap().full = full;
    }

    /// Hands out again what the next pops bring: for the canary.
    pub fn forget_pops(&self) {
        self.state.lock().unwrap().forgets_pops = 10;
    }

    fn pop(&self, list: &List, blocks: u32) -> Result<Popped, PodError> {
        let popped = now(self.cache().pop(list, blocks))?;
        let mut state = self.state.lock().unwrap();
        if state.forgets_pops > 0 && !popped.entries.is_empty() {
            state.forgets_pops -= 1;
            now(state.cache.push(list, &spans(&popped), End::Front, popped.high_water))?;
        }
        Ok(popped)
    }

    pub fn is_full(&self) -> bool {
        self.state.lock().unwrap().full
    }

    /// Everything that can still be popped of a list, which is empty afterwards.
    pub fn take_all(&self, list: &List) -> Vec<Span> {
        let popped = now(self.cache().pop(list, u32::MAX)).unwrap_or_default();
        popped.entries.iter().filter_map(|entry| entry.parse().ok()).collect()
    }

    /// Entries of a list.
    pub fn blocks(&self, list: &List) -> u64 {
        let lists = [(Arc::clone(&list.sequence), list.generation)];
        now(self.cache().inspect(&list.scope, &lists)).map_or(0, |inspection| inspection.blocks[0])
    }

    /// What an operator's command tells it.
    pub fn publish(&self, notice: &Notice) -> Result<(), PodError> {
        now(self.cache().publish(notice))
    }

    /// For the roster of one process.
    pub fn target(&self, net: &Arc<Net>, slot: usize, process: u32) -> Arc<dyn Target> {
        let way = Way { slot, process, server: Server::Pod(self.number) };
        Arc::new(At { net: Arc::clone(net), way, server: self.clone() })
    }

    fn cache(&self) -> Cache {
        self.state.lock().unwrap().cache.clone()
    }
}

struct At {
    net: Arc<Net>,
    way: Way,
    server: PodServer,
}

impl Target for At {
    fn address(&self) -> &Arc<str> {
        &self.server.address
    }

    fn shared(&self) -> bool {
        true
    }

    fn open(&self, settings: &settings::Redis, _: &slog::Logger) -> Rc<dyn Pod> {
        let (net, server) = (Arc::clone(&self.net), self.server.clone());
        Rc::new(Handle { net, way: self.way, server, timeout: settings.timeout })
    }
}

/// What a thread holds of a pod.
struct Handle {
    net: Arc<Net>,
    way: Way,
    server: PodServer,
    timeout: Duration,
}

impl Handle {
    async fn carry<T: Send + 'static>(
        &self,
        call: &'static str,
        work: impl FnOnce(&PodServer) -> Result<T, PodError> + Send + 'static,
    ) -> Result<T, PodError> {
        let (net, way, server) = (Arc::clone(&self.net), self.way, self.server.clone());
        let work = move || {
            if call == "push" && server.is_full() {
                return Err(PodError::Full("used memory > 'maxmemory'".to_owned()));
            }
            let result = work(&server);
            net.done(way, call);
            result
        };
        let refused = PodError::Failed("connection refused".to_owned());
        let answer = timeout(self.timeout, self.net.carry(way, call, refused, work)).await;
        answer.unwrap_or_else(|_| Err(PodError::InDoubt(format!("no answer within {:?}", self.timeout))))
    }
}

/// Entries under way to a pod. Whoever drops the call leaves them to the network, and counts them as discarded all the same.
struct Sent<'a> {
    handle: &'a Handle,
    sequence: &'a str,
    entries: &'a [Span],
    answered: bool,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let mut journal = self.handle.net.journal.lock();
            journal.push_dropped(self.handle.way.process, self.sequence, self.entries);
        }
    }
}

impl Pod for Handle {
    fn address(&self) -> &Arc<str> {
        &self.server.address
    }

    fn heartbeat<'a>(&'a self, seen: &'a Seen) -> pods::Answer<'a, Heartbeat> {
        let seen = seen.clone();
        Box::pin(self.carry("heartbeat", move |server| now(server.cache().heartbeat(&seen))))
    }

    fn pop<'a>(&'a self, list: &'a List, blocks: u32) -> pods::Answer<'a, Popped> {
        let (of, journal) = (list.clone(), self.net.journal.clone());
        Box::pin(async move {
            let work = move |server: &PodServer| {
                let popped = server.pop(&of, blocks)?;
                journal.lock().popped(&of.sequence, &spans(&popped));
                Ok(popped)
            };
            let popped = self.carry("pop", work).await?;
            self.net.journal.lock().pop_received(self.way.process, &list.sequence, &spans(&popped));
            Ok(popped)
        })
    }

    fn push<'a>(
        &'a self,
        list: &'a List,
        entries: &'a [Span],
        end: End,
        high_water: i64,
    ) -> pods::Answer<'a, ()> {
        let (to, pushed, journal) = (list.clone(), entries.to_vec(), self.net.journal.clone());
        Box::pin(async move {
            self.net.journal.lock().push_sent(self.way.process, &list.sequence, entries);
            let work = move |server: &PodServer| {
                now(server.cache().push(&to, &pushed, end, high_water))?;
                journal.lock().pushed(&to.sequence, &pushed);
                Ok(())
            };
            let mut sent = Sent { handle: self, sequence: &list.sequence, entries, answered: false };
            let answer = self.carry("push", work).await;
            sent.answered = true;
            if matches!(answer, Err(PodError::Failed(_) | PodError::Full(_) | PodError::Refused(_))) {
                self.net.journal.lock().push_came_back(self.way.process, &list.sequence, entries);
            }
            answer
        })
    }

    fn inspect<'a>(&'a self, scope: &'a Scope, lists: &'a [(Arc<str>, i64)]) -> pods::Answer<'a, Inspection> {
        let (scope, lists) = (scope.clone(), lists.to_owned());
        Box::pin(self.carry("inspect", move |server| now(server.cache().inspect(&scope, &lists))))
    }

    fn publish<'a>(&'a self, notice: &'a Notice) -> pods::Answer<'a, ()> {
        let notice = notice.clone();
        Box::pin(self.carry("publish", move |server| now(server.cache().publish(&notice))))
    }

    fn raise<'a>(&'a self, scope: &'a Scope, sequence: &'a str, high_water: i64) -> pods::Answer<'a, ()> {
        let (scope, sequence) = (scope.clone(), sequence.to_owned());
        Box::pin(self.carry("raise", move |server| now(server.cache().raise(&scope, &sequence, high_water))))
    }

    fn sweep<'a>(&'a self, scope: &'a Scope, keep: &'a [(Arc<str>, i64)]) -> pods::Answer<'a, u64> {
        let (scope, keep) = (scope.clone(), keep.to_owned());
        Box::pin(self.carry("sweep", move |server| now(server.cache().sweep(&scope, &keep))))
    }
}

fn spans(popped: &Popped) -> Vec<Span> {
    popped.entries.iter().filter_map(|entry| entry.parse().ok()).collect()
}
