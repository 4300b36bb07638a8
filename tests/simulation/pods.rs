//! The pods' servers, and a pod as one process reaches it through the network. What moves is written down on both sides.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use blockhouse::block::{Life, Span};
use blockhouse::config::settings;
use blockhouse::pods::counter::{Counters, Known};
use blockhouse::pods::memory::{Answered, Carrier, Client, Op, Server, Snapshot};
use blockhouse::pods::proof::Proof;
use blockhouse::pods::session::Head;
use blockhouse::pods::{
    self, End, Heartbeat, Inspection, List, Notice, Pod, PodError, Popped, Scope, Seen, Target,
};
use tokio::time::timeout;

use crate::net::{self, Net, Way};
use crate::ways::now;

/// A pod's server, whoever asks. A clone is the same one.
#[derive(Clone)]
pub struct PodServer {
    pub number: usize,
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    full: bool,
    /// So many pops from now on are forgotten: what they brought is handed out again.
    forgets_pops: u32,
    /// What it held, second by second.
    snapshots: VecDeque<Snapshot>,
    /// What each process that ever asked knows of its pop counter.
    known: Vec<Arc<Counters>>,
}

/// Snapshots that are kept.
const KEPT: usize = 10;

impl PodServer {
    pub fn new(number: usize, rng: &mut fastrand::Rng) -> PodServer {
        PodServer { number, server: Server::new(number, rng), state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it in hand")
    }

    /// Another server process, which begins empty.
    pub fn restart(&self) {
        self.server.restart(Snapshot::default());
    }

    /// Another server process, which begins with what this one, or one that copied it, held a while ago.
    pub fn restart_with_older(&self, lag: usize) {
        self.server.restart(self.older(lag));
    }

    /// It follows another server, which has what this one held a while ago.
    pub fn demote(&self, lag: usize) {
        self.server.demote(self.older(lag));
    }

    /// It is its own master again.
    pub fn promote(&self) {
        self.server.promote();
    }

    pub fn attach(&self, replicas: u64) {
        self.server.attach(replicas);
    }

    pub fn flush(&self) {
        self.server.flush();
    }

    /// Puts an older copy in the place of its memory while it runs on, where some process knows better; that one is the first who
    /// asks. Whoever doesn't know better can't notice, which is why the configuration of our Redis forbids what does this.
    pub fn restore(&self, lag: usize) -> bool {
        let (older, life) = (self.older(lag), self.server.life());
        let Some((token, popped)) = older.counter(&life) else { return false };
        let known: Vec<Known> = self.state().known.iter().map(|counters| known(counters, &life)).collect();
        let Some(better) = known.into_iter().find(|known| known.token == token && known.popped > popped)
        else {
            return false;
        };
        let present = self.server.snapshot();
        self.server.restore(older);
        let head = Head { nonce: String::new(), life: life.into(), known: better, scope: None, token: 1 };
        let noticed = self.server.execute(&head, &Op::Hello).is_ok_and(|(proof, _)| proof.restored);
        if !noticed {
            // Nobody may use it at present, whatever its memory.
            self.server.restore(present);
        }
        noticed
    }

    /// Remembers what it holds.
    pub fn back_up(&self) {
        let snapshot = self.server.snapshot();
        let snapshots = &mut self.state().snapshots;
        snapshots.push_back(snapshot);
        if snapshots.len() > KEPT {
            snapshots.pop_front();
        }
    }

    fn older(&self, lag: usize) -> Snapshot {
        let state = self.state();
        let at = state.snapshots.len().saturating_sub(1 + lag);
        state.snapshots.get(at).cloned().unwrap_or_default()
    }

    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    pub fn is_full(&self) -> bool {
        self.state().full
    }

    /// Hands out again what the next pops bring: for the canary.
    pub fn forget_pops(&self) {
        self.state().forgets_pops = 10;
    }

    /// Whether a process that knows it well may use it.
    pub fn is_pod(&self) -> bool {
        self.server.is_pod()
    }

    /// Everything that could still be popped of a list.
    pub fn spans(&self, list: &List) -> Vec<Span> {
        self.server.spans(list)
    }

    /// Entries of a list.
    pub fn blocks(&self, list: &List) -> u64 {
        self.server.blocks(list)
    }

    /// Which life of the ledger it was told of.
    pub fn told_of(&self) -> Option<Life> {
        let heartbeat = now(self.server.connect().heartbeat(&Seen::default())).ok()?;
        heartbeat.identity.map(|identity| identity.life)
    }

    /// What an operator's command tells it.
    pub fn publish(&self, notice: &Notice) -> Result<(), PodError> {
        now(self.server.connect().publish(notice))
    }

    /// For the roster of one process.
    pub fn target(&self, net: &Arc<Net>, slot: usize, process: u32, rng: fastrand::Rng) -> Arc<dyn Target> {
        let way = Way { slot, process, server: net::Server::Pod(self.number) };
        let counters: Arc<Counters> = Arc::default();
        self.state().known.push(Arc::clone(&counters));
        Arc::new(At { net: Arc::clone(net), way, server: self.clone(), counters, rng: Mutex::new(rng) })
    }

    /// One call, as it arrives.
    fn execute(&self, head: &Head, op: &Op) -> Result<(Proof, Answered), PodError> {
        let answer = self.server.execute(head, op)?;
        if let (Op::Pop { list, .. }, Answered::Popped(popped)) = (op, &answer.1)
            && !popped.entries.is_empty()
            && self.forgets()
        {
            let (list, entries, high_water) = (list.clone(), spans(popped), popped.high_water);
            self.server.execute(head, &Op::Push { list, entries, end: End::Front, high_water })?;
        }
        Ok(answer)
    }

    fn forgets(&self) -> bool {
        let state = &mut *self.state();
        let forgets = state.forgets_pops > 0;
        state.forgets_pops = state.forgets_pops.saturating_sub(1);
        forgets
    }
}

fn known(counters: &Counters, life: &pods::proof::Life) -> Known {
    counters.of(life).lock().expect("nobody panics with it in hand").known()
}

struct At {
    net: Arc<Net>,
    way: Way,
    server: PodServer,
    /// What the process knows.
    counters: Arc<Counters>,
    rng: Mutex<fastrand::Rng>,
}

impl Target for At {
    fn address(&self) -> &Arc<str> {
        self.server.server.address()
    }

    fn shared(&self) -> bool {
        true
    }

    fn open(&self, settings: &settings::Redis, _: &slog::Logger) -> Rc<dyn Pod> {
        let line = Line {
            net: Arc::clone(&self.net),
            way: self.way,
            server: self.server.clone(),
            timeout: settings.timeout,
            last: RefCell::default(),
        };
        let rng = self.rng.lock().expect("nobody panics with it in hand").fork();
        let (net, way, address) = (Arc::clone(&self.net), self.way, Arc::clone(self.address()));
        Rc::new(Handle { net, way, client: Client::new(address, line, Arc::clone(&self.counters), rng) })
    }
}

/// One connection, through the network.
struct Line {
    net: Arc<Net>,
    way: Way,
    server: PodServer,
    timeout: Duration,
    /// The answer that came last.
    last: RefCell<Option<(Proof, Answered)>>,
}

impl Carrier for Line {
    async fn carry(&self, head: Head, op: Op) -> Result<(Proof, Answered), PodError> {
        let (net, way, server, call) = (Arc::clone(&self.net), self.way, self.server.clone(), name(&op));
        let work = move || {
            if call == "push" && server.is_full() {
                return Err(PodError::Full("used memory > 'maxmemory'".to_owned()));
            }
            let answer = server.execute(&head, &op)?;
            write_down(&net, &op, &answer.1);
            net.done(way, call);
            Ok(answer)
        };
        let refused = PodError::Failed("connection refused".to_owned());
        let answer = timeout(self.timeout, self.net.carry(self.way, call, refused, work)).await;
        let in_doubt = || Err(PodError::InDoubt(format!("no answer within {:?}", self.timeout)));
        let answer = answer.unwrap_or_else(|_| in_doubt())?;
        let last = self.last.replace(Some(answer.clone()));
        Ok(last.filter(|_| self.net.repeats(self.way)).unwrap_or(answer))
    }
}

/// As the traps and the log name them.
fn name(op: &Op) -> &'static str {
    match op {
        Op::Hello => "hello",
        Op::Heartbeat(_) => "heartbeat",
        Op::Pop { .. } => "pop",
        Op::Push { .. } => "push",
        Op::Inspect { .. } => "inspect",
        Op::Publish(_) => "publish",
        Op::Raise { .. } => "raise",
        Op::Sweep { .. } => "sweep",
    }
}

/// What the server let go of, and what it took.
fn write_down(net: &Net, op: &Op, answered: &Answered) {
    match (op, answered) {
        (_, Answered::Declined) => {}
        (Op::Pop { list, .. }, Answered::Popped(popped)) => {
            net.journal.lock().popped(&list.sequence, &spans(popped));
        }
        (Op::Push { list, entries, .. }, _) => net.journal.lock().pushed(&list.sequence, entries),
        _ => {}
    }
}

/// What a thread holds of a pod.
struct Handle {
    net: Arc<Net>,
    way: Way,
    client: Client<Line>,
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
        self.client.address()
    }

    fn heartbeat<'a>(&'a self, seen: &'a Seen) -> pods::Answer<'a, Heartbeat> {
        self.client.heartbeat(seen)
    }

    fn pop<'a>(&'a self, list: &'a List, blocks: u32) -> pods::Answer<'a, Popped> {
        Box::pin(async move {
            let popped = self.client.pop(list, blocks).await?;
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
        Box::pin(async move {
            self.net.journal.lock().push_sent(self.way.process, &list.sequence, entries);
            let mut sent = Sent { handle: self, sequence: &list.sequence, entries, answered: false };
            let answer = self.client.push(list, entries, end, high_water).await;
            sent.answered = true;
            if matches!(answer, Err(PodError::Failed(_) | PodError::Full(_) | PodError::Refused(_))) {
                self.net.journal.lock().push_came_back(self.way.process, &list.sequence, entries);
            }
            answer
        })
    }

    fn inspect<'a>(&'a self, scope: &'a Scope, lists: &'a [(Arc<str>, i64)]) -> pods::Answer<'a, Inspection> {
        self.client.inspect(scope, lists)
    }

    fn publish<'a>(&'a self, notice: &'a Notice) -> pods::Answer<'a, ()> {
        self.client.publish(notice)
    }

    fn raise<'a>(&'a self, scope: &'a Scope, sequence: &'a str, high_water: i64) -> pods::Answer<'a, ()> {
        self.client.raise(scope, sequence, high_water)
    }

    fn sweep<'a>(&'a self, scope: &'a Scope, keep: &'a [(Arc<str>, i64)]) -> pods::Answer<'a, u64> {
        self.client.sweep(scope, keep)
    }
}

fn spans(popped: &Popped) -> Vec<Span> {
    popped.entries.iter().filter_map(|entry| entry.parse().ok()).collect()
}
