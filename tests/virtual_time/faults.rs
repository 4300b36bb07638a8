//! A ledger and pods in memory, behind lines that fail in every way that a network and a server can.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use blockhouse::block::{Life, Span, Witness};
use blockhouse::config::settings;
use blockhouse::ledger::memory::Memory;
use blockhouse::ledger::{
    self, Condemned, Facts, Grant, GrantRequest, HourOfDemand, Lease, Ledger, LedgerError, Report, Reported,
};
use blockhouse::pods::memory::Server;
use blockhouse::pods::{
    self, End, Heartbeat, Inspection, List, Notice, Pod, PodError, Popped, Scope, Seen, Target,
};
use futures_util::future::pending;
use tokio::time::{Instant, sleep, timeout};

/// What a line does to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Carries it, in a moment.
    Well,
    /// Refuses it at once: it certainly didn't happen.
    Refuses,
    /// Swallows it: it doesn't happen, and nothing comes back.
    Swallows,
    /// Carries it, and swallows the answer.
    LosesReply,
    /// Carries it, and the answer takes this long.
    Late(Duration),
    /// The pod has no memory left for it.
    Full,
}

impl Line {
    /// Carries a call as the line is; what it refuses is `refused`.
    async fn carry<T, E>(self, call: impl Future<Output = Result<T, E>>, refused: E) -> Result<T, E> {
        sleep(MOMENT).await;
        match self {
            Line::Well => call.await,
            Line::Refuses | Line::Full => Err(refused),
            Line::Swallows => pending().await,
            Line::LosesReply => {
                let _ = call.await;
                pending().await
            }
            Line::Late(by) => {
                let answer = call.await;
                sleep(by).await;
                answer
            }
        }
    }
}

/// How long a call takes where nothing is wrong.
const MOMENT: Duration = Duration::from_millis(1);

/// The ledger, as one process reaches it.
#[derive(Clone)]
pub struct Link {
    ledger: Memory,
    pub line: Rc<Cell<Line>>,
    /// What the ledger answers instead of a grant.
    pub refusal: Rc<RefCell<Option<LedgerError>>>,
    /// When it was asked for what.
    asked: Rc<RefCell<Vec<(Instant, &'static str)>>>,
    under_way: Rc<Cell<usize>>,
    most_under_way: Rc<Cell<usize>>,
}

impl Link {
    pub fn new(ledger: Memory) -> Link {
        Link {
            ledger,
            line: Rc::new(Cell::new(Line::Well)),
            refusal: Rc::default(),
            asked: Rc::default(),
            under_way: Rc::default(),
            most_under_way: Rc::default(),
        }
    }

    /// Requests of this kind since `since`.
    pub fn asked_since(&self, what: &str, since: Instant) -> usize {
        self.asked.borrow().iter().filter(|(at, kind)| *at >= since && *kind == what).count()
    }

    /// When it was asked for what, since `since`.
    #[allow(dead_code, reason = "benches/herd.rs counts by it")]
    pub fn asked(&self, since: Instant) -> Vec<(Instant, &'static str)> {
        self.asked.borrow().iter().filter(|(at, _)| *at >= since).copied().collect()
    }

    /// The most requests that were under way at once.
    pub fn most_under_way(&self) -> usize {
        self.most_under_way.get()
    }

    async fn carry<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        self.asked.borrow_mut().push((Instant::now(), what));
        self.under_way.set(self.under_way.get() + 1);
        self.most_under_way.set(self.most_under_way.get().max(self.under_way.get()));
        let _under_way = UnderWay(&self.under_way);
        // A ledger knows no memory that could be full.
        let line = Some(self.line.get()).filter(|line| *line != Line::Full).unwrap_or(Line::Well);
        line.carry(call, LedgerError::Unreachable("connection refused".to_owned())).await
    }
}

struct UnderWay<'a>(&'a Cell<usize>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Ledger for Link {
    fn facts(&self, known: Option<Life>) -> ledger::Answer<'_, Facts> {
        Box::pin(self.carry("facts", self.ledger.facts(known)))
    }

    fn grant<'a>(&'a self, request: &'a GrantRequest) -> ledger::Answer<'a, Grant> {
        let refusal = self.refusal.borrow().clone();
        Box::pin(self.carry(request.purpose.name(), async move {
            match refusal {
                Some(refusal) => Err(refusal),
                None => self.ledger.grant(request).await,
            }
        }))
    }

    fn lead<'a>(&'a self, cluster: &'a str, holder: &'a str, ttl: Duration) -> ledger::Answer<'a, Lease> {
        Box::pin(self.carry("lead", self.ledger.lead(cluster, holder, ttl)))
    }

    fn resign<'a>(&'a self, cluster: &'a str, holder: &'a str) -> ledger::Answer<'a, ()> {
        Box::pin(self.carry("resign", self.ledger.resign(cluster, holder)))
    }

    fn add_demand<'a>(&'a self, cluster: &'a str, used: &'a [(Arc<str>, i64)]) -> ledger::Answer<'a, ()> {
        Box::pin(self.carry("add_demand", self.ledger.add_demand(cluster, used)))
    }

    fn demand<'a>(&'a self, cluster: &'a str) -> ledger::Answer<'a, Vec<HourOfDemand>> {
        Box::pin(self.carry("demand", self.ledger.demand(cluster)))
    }

    fn confirm<'a>(
        &'a self,
        cluster: &'a str,
        holder: &'a str,
        seen: &'a [Witness],
    ) -> ledger::Answer<'a, ()> {
        Box::pin(self.carry("confirm", self.ledger.confirm(cluster, holder, seen)))
    }

    fn report<'a>(&'a self, report: &'a Report) -> ledger::Answer<'a, Reported> {
        Box::pin(self.carry("report", self.ledger.report(report)))
    }

    fn condemn<'a>(&'a self, life: Life, known_epoch: i64, why: &'a str) -> ledger::Answer<'a, Condemned> {
        Box::pin(self.carry("condemn", self.ledger.condemn(life, known_epoch, why)))
    }

    fn halt<'a>(&'a self, sequence: &'a str, reason: &'a str) -> ledger::Answer<'a, ()> {
        Box::pin(self.carry("halt", self.ledger.halt(sequence, reason)))
    }

    fn prune(&self, keep: Duration, limit: u32) -> ledger::Answer<'_, u64> {
        Box::pin(self.carry("prune", self.ledger.prune(keep, limit)))
    }
}

/// A pod's server. A clone is the same one.
#[derive(Clone)]
pub struct Cache {
    server: Server,
    inner: Rc<dyn Pod>,
    state: Arc<Mutex<State>>,
}

struct State {
    line: Line,
    /// Instead of `line`, by operation.
    lines: BTreeMap<&'static str, Line>,
    /// Used and greatest memory, as the server says.
    memory: Option<(u64, u64)>,
    asked: Vec<(Instant, &'static str)>,
}

/// What a thread holds of it.
struct Handle {
    pod: Rc<dyn Pod>,
    state: Arc<Mutex<State>>,
    timeout: Duration,
}

impl Cache {
    pub fn new(number: usize, rng: &mut fastrand::Rng) -> Cache {
        let server = Server::new(number, rng);
        let inner = server.open(&settings(), &log());
        let state = State { line: Line::Well, lines: BTreeMap::new(), memory: None, asked: Vec::new() };
        Cache { server, inner, state: Arc::new(Mutex::new(state)) }
    }

    /// For all operations from now on.
    pub fn set(&self, line: Line) {
        let mut state = self.state();
        state.line = line;
        state.lines.clear();
    }

    /// For one operation from now on.
    pub fn set_for(&self, operation: &'static str, line: Line) {
        self.state().lines.insert(operation, line);
    }

    /// What it says of its memory: used bytes, and `maxmemory`.
    pub fn say_memory(&self, used: u64, max: u64) {
        self.state().memory = Some((used, max));
    }

    /// Calls of this operation since `since`.
    pub fn asked_since(&self, operation: &str, since: Instant) -> usize {
        self.state().asked.iter().filter(|(at, what)| *at >= since && *what == operation).count()
    }

    /// The pod itself, whatever its line does.
    pub fn pod(&self) -> &dyn Pod {
        &*self.inner
    }

    /// For the rosters of processes.
    pub fn target(&self) -> Arc<dyn Target> {
        Arc::new(At { server: self.server.clone(), state: Arc::clone(&self.state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

struct At {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Target for At {
    fn address(&self) -> &Arc<str> {
        Target::address(&self.server)
    }

    fn shared(&self) -> bool {
        true
    }

    fn open(&self, settings: &settings::Redis, log: &slog::Logger) -> Rc<dyn Pod> {
        let pod = self.server.open(settings, log);
        Rc::new(Handle { pod, state: Arc::clone(&self.state), timeout: settings.timeout })
    }
}

fn settings() -> settings::Redis {
    blockhouse::config::Settings::default().redis
}

fn log() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

impl Handle {
    async fn carry<T>(&self, operation: &'static str, call: pods::Answer<'_, T>) -> Result<T, PodError> {
        let line = {
            let mut state = self.state.lock().unwrap();
            state.asked.push((Instant::now(), operation));
            state.lines.get(operation).copied().unwrap_or(state.line)
        };
        let no_answer = || PodError::InDoubt(format!("no answer within {:?}", self.timeout));
        let refused = match line {
            Line::Full => PodError::Full("used memory > 'maxmemory'".to_owned()),
            _ => PodError::Failed("connection refused".to_owned()),
        };
        let answer = line.carry(call, refused);
        timeout(self.timeout, answer).await.unwrap_or_else(|_| Err(no_answer()))
    }
}

impl Pod for Handle {
    fn address(&self) -> &Arc<str> {
        self.pod.address()
    }

    fn heartbeat<'a>(&'a self, seen: &'a Seen) -> pods::Answer<'a, Heartbeat> {
        Box::pin(self.carry("heartbeat", self.pod.heartbeat(seen)))
    }

    fn pop<'a>(&'a self, list: &'a List, blocks: u32) -> pods::Answer<'a, Popped> {
        Box::pin(self.carry("pop", self.pod.pop(list, blocks)))
    }

    fn push<'a>(
        &'a self,
        list: &'a List,
        entries: &'a [Span],
        end: End,
        high_water: i64,
    ) -> pods::Answer<'a, ()> {
        Box::pin(self.carry("push", self.pod.push(list, entries, end, high_water)))
    }

    fn inspect<'a>(&'a self, scope: &'a Scope, lists: &'a [(Arc<str>, i64)]) -> pods::Answer<'a, Inspection> {
        let memory = self.state.lock().unwrap().memory;
        Box::pin(async move {
            let mut inspection = self.carry("inspect", self.pod.inspect(scope, lists)).await?;
            if let Some((used, max)) = memory {
                (inspection.used_memory, inspection.max_memory) = (used, max);
            }
            Ok(inspection)
        })
    }

    fn publish<'a>(&'a self, notice: &'a Notice) -> pods::Answer<'a, ()> {
        Box::pin(self.carry("publish", self.pod.publish(notice)))
    }

    fn raise<'a>(&'a self, scope: &'a Scope, sequence: &'a str, high_water: i64) -> pods::Answer<'a, ()> {
        Box::pin(self.carry("raise", self.pod.raise(scope, sequence, high_water)))
    }

    fn sweep<'a>(&'a self, scope: &'a Scope, keep: &'a [(Arc<str>, i64)]) -> pods::Answer<'a, u64> {
        Box::pin(self.carry("sweep", self.pod.sweep(scope, keep)))
    }
}
