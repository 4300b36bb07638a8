//! What a Redis server would hold, and do for one call.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::Client;
use crate::block::chunk::CHUNK;
use crate::block::witness::{FORGOTTEN_AFTER, Present};
use crate::block::{Catalogue, Identity, Span, Stamp};
use crate::pods::counter::Counters;
use crate::pods::proof::{Life, Proof};
use crate::pods::session::Head;
use crate::pods::{End, Heartbeat, Inspection, List, Notice, PodError, Popped, Scope, Seen};

/// One in-process pod, shared by all threads of the process; a clone is the same pod. What it holds ends with the process.
#[derive(Clone)]
pub struct Server {
    address: Arc<str>,
    state: Arc<Mutex<State>>,
    /// What this process knows of it.
    counters: Arc<Counters>,
}

/// What a call asks for.
#[derive(Debug, Clone)]
pub enum Op {
    /// Nothing but the proof.
    Hello,
    /// See [`Pod::heartbeat`](crate::pods::Pod::heartbeat).
    Heartbeat(Seen),
    /// See [`Pod::pop`](crate::pods::Pod::pop).
    Pop {
        /// From where.
        list: List,
        /// Entries at most.
        blocks: u32,
    },
    /// See [`Pod::push`](crate::pods::Pod::push).
    Push {
        /// Whereto.
        list: List,
        /// At most a chunk.
        entries: Vec<Span>,
        /// Of the list.
        end: End,
        /// Raised first.
        high_water: i64,
    },
    /// See [`Pod::inspect`](crate::pods::Pod::inspect).
    Inspect {
        /// Sequence and generation of each.
        lists: Vec<(Arc<str>, i64)>,
    },
    /// See [`Pod::publish`](crate::pods::Pod::publish).
    Publish(Notice),
    /// See [`Pod::raise`](crate::pods::Pod::raise).
    Raise {
        /// Which.
        sequence: Arc<str>,
        /// Its new one, if that is higher.
        high_water: i64,
    },
    /// See [`Pod::sweep`](crate::pods::Pod::sweep).
    Sweep {
        /// Sequences and their present generations.
        keep: Vec<(Arc<str>, i64)>,
    },
}

/// What a call brought.
#[derive(Debug, Clone)]
pub enum Answered {
    /// It was declined: the proof says why.
    Declined,
    /// There is nothing to say.
    Done,
    /// To a heartbeat.
    Heartbeat(Heartbeat),
    /// To a pop.
    Popped(Popped),
    /// To an inspection.
    Inspection(Inspection),
    /// Lists that were deleted.
    Deleted(u64),
}

/// What a server held at some time: of a backup, or of another server.
#[derive(Debug, Clone, Default)]
pub struct Snapshot(BTreeMap<Life, Keys>);

struct State {
    rng: fastrand::Rng,
    life: Life,
    replica: bool,
    replicas: u64,
    /// By the life that wrote them: what an earlier one left is never read.
    keys: BTreeMap<Life, Keys>,
}

/// What stands under one life.
#[derive(Debug, Clone, Default)]
struct Keys {
    token: u64,
    popped: u64,
    restored: bool,
    owner: Option<Scope>,
    identity: Option<Identity>,
    catalogue: Catalogue,
    lists: BTreeMap<(Arc<str>, i64), VecDeque<Span>>,
    high_waters: BTreeMap<Arc<str>, i64>,
    raised: u64,
    read_at_us: Option<i64>,
    /// IDs popped, by sequence.
    used: BTreeMap<Arc<str>, u64>,
    /// Who was heard last with which catalogue, and when.
    present: BTreeMap<Arc<str>, (Stamp, Instant)>,
}

impl Server {
    /// An empty pod named `memory:NUMBER`, whose life is drawn from `rng`.
    pub fn new(number: usize, rng: &mut fastrand::Rng) -> Server {
        let mut rng = rng.fork();
        let life = Life { run_id: hex(&mut rng), replid: hex(&mut rng) };
        let state = State { rng, life, replica: false, replicas: 0, keys: BTreeMap::new() };
        Server {
            address: format!("memory:{number}").into(),
            state: Arc::new(Mutex::new(state)),
            counters: Arc::default(),
        }
    }

    /// The label of its metrics.
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// A connection of this process.
    pub fn connect(&self) -> Client<Server> {
        let rng = self.state().rng.fork();
        Client::new(Arc::clone(&self.address), self.clone(), Arc::clone(&self.counters), rng)
    }

    /// One call, as `proof.lua` and the script behind it do it.
    ///
    /// # Errors
    /// [`PodError::Refused`] from a publish that contradicts what the pod was told before. What the proof speaks against is no error
    /// here: whoever called comes to its own verdict.
    pub fn execute(&self, head: &Head, op: &Op) -> Result<(Proof, Answered), PodError> {
        self.state().execute(head, op)
    }

    /// What it holds now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.state().keys.clone())
    }

    /// Another process of the server starts, with what a snapshot holds.
    pub fn restart(&self, with: Snapshot) {
        let state = &mut *self.state();
        state.life = Life { run_id: hex(&mut state.rng), replid: hex(&mut state.rng) };
        (state.replica, state.replicas, state.keys) = (false, 0, with.0);
    }

    /// The server follows another one, whose memory takes the place of its own.
    pub fn demote(&self, with: Snapshot) {
        let mut state = self.state();
        (state.replica, state.keys) = (true, with.0);
    }

    /// It is on its own again.
    pub fn promote(&self) {
        let state = &mut *self.state();
        if state.replica {
            state.replica = false;
            state.life.replid = hex(&mut state.rng);
        }
    }

    /// How many replicas are attached to it from now on.
    pub fn attach(&self, replicas: u64) {
        self.state().replicas = replicas;
    }

    /// Somebody empties it.
    pub fn flush(&self) {
        self.state().keys.clear();
    }

    /// Somebody puts an older copy in the place of its memory while it runs on: only the pop counter tells.
    pub fn restore(&self, older: Snapshot) {
        self.state().keys = older.0;
    }

    /// Which life it is in.
    pub fn life(&self) -> Life {
        self.state().life.clone()
    }

    /// Whether processes that know all of it may use it.
    pub fn is_pod(&self) -> bool {
        let state = self.state();
        let restored = state.keys.get(&state.life).is_some_and(|keys| keys.restored);
        !state.replica && state.replicas == 0 && !restored
    }

    /// What a list of its present life holds.
    pub fn spans(&self, list: &List) -> Vec<Span> {
        self.state().spans(list).map(|spans| spans.iter().copied().collect()).unwrap_or_default()
    }

    /// Entries of that list.
    pub fn blocks(&self, list: &List) -> u64 {
        self.state().spans(list).map_or(0, |spans| spans.len() as u64)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    /// Of the pop counter that a life left in it: its token, and how many entries were popped.
    pub fn counter(&self, life: &Life) -> Option<(u64, u64)> {
        self.0.get(life).map(|keys| (keys.token, keys.popped))
    }
}

fn hex(rng: &mut fastrand::Rng) -> String {
    format!("{:032x}", rng.u128(..))
}

impl State {
    fn spans(&self, list: &List) -> Option<&VecDeque<Span>> {
        self.keys.get(&self.life)?.lists.get(&(Arc::clone(&list.sequence), list.generation))
    }

    fn execute(&mut self, head: &Head, op: &Op) -> Result<(Proof, Answered), PodError> {
        let role = if self.replica { "slave" } else { "master" };
        let mut proof = Proof {
            nonce: head.nonce.clone(),
            done: false,
            life: self.life.clone(),
            role: role.to_owned(),
            replicas: self.replicas,
            cluster_node: false,
            owner: (String::new(), String::new()),
            token: 0,
            popped: 0,
            restored: false,
        };
        let is_bound = !head.life.run_id.is_empty();
        if self.replica || self.replicas != 0 || (is_bound && *head.life != self.life) {
            return Ok((proof, Answered::Declined));
        }
        let keys = self.keys.entry(self.life.clone()).or_default();
        if keys.token == 0 {
            // Begins anywhere, so that a reader never takes another pod's count for this one's.
            (keys.token, keys.raised) = (head.token, head.token);
        }
        keys.restored |= keys.token == head.known.token && head.known.popped > keys.popped;
        if let Some(Scope { ledger, cluster }) = &keys.owner {
            proof.owner = (ledger.to_string(), cluster.to_string());
        }
        (proof.token, proof.popped, proof.restored) = (keys.token, keys.popped, keys.restored);
        let foreign = |scope: &Scope| keys.owner.as_ref().is_some_and(|owner| owner != scope);
        if keys.restored || head.scope.as_ref().is_some_and(foreign) {
            return Ok((proof, Answered::Declined));
        }
        proof.done = true;
        let answered = keys.execute(head.scope.as_ref(), &self.life, op)?;
        proof.popped = keys.popped;
        Ok((proof, answered))
    }
}

impl Keys {
    fn execute(&mut self, scope: Option<&Scope>, life: &Life, op: &Op) -> Result<Answered, PodError> {
        Ok(match op {
            Op::Hello => Answered::Done,
            Op::Heartbeat(seen) => Answered::Heartbeat(self.heartbeat(life, seen)),
            Op::Pop { list, blocks } => Answered::Popped(self.pop(list, *blocks)),
            Op::Push { list, entries, end, high_water } => {
                self.claim(scope);
                self.push(list, entries, *end, *high_water);
                Answered::Done
            }
            Op::Inspect { lists } => Answered::Inspection(self.inspect(lists)),
            Op::Publish(notice) => {
                self.agree(notice)?;
                self.claim(scope);
                self.publish(notice);
                Answered::Done
            }
            Op::Raise { sequence, high_water } => {
                self.claim(scope);
                self.raise(sequence, *high_water);
                Answered::Done
            }
            Op::Sweep { keep } => Answered::Deleted(self.sweep(keep)),
        })
    }

    /// The first that writes decides whose pod it is.
    fn claim(&mut self, scope: Option<&Scope>) {
        if self.owner.is_none() {
            self.owner = scope.cloned();
        }
    }

    fn raise(&mut self, sequence: &str, high_water: i64) {
        if high_water > self.high_waters.get(sequence).copied().unwrap_or(0) {
            self.high_waters.insert(sequence.into(), high_water);
            self.raised += 1;
        }
    }

    fn heartbeat(&mut self, life: &Life, seen: &Seen) -> Heartbeat {
        if let Some((instance, stamp)) = &seen.by {
            self.present.insert(instance.clone(), (*stamp, Instant::now()));
        }
        let stamp = self.catalogue.stamp;
        let published = self.identity.is_some();
        Heartbeat {
            run_id: life.run_id.as_str().into(),
            identity: self.identity.clone(),
            cluster: self.owner.as_ref().map(|owner| owner.cluster.clone()),
            stamp,
            catalogue: (published && stamp != seen.stamp).then(|| self.catalogue.clone()),
            high_waters_seen: self.raised,
            high_waters: (self.raised != seen.high_waters).then(|| self.high_waters.clone()),
            read_at_us: self.read_at_us,
        }
    }

    fn pop(&mut self, list: &List, blocks: u32) -> Popped {
        let high_water = self.high_waters.get(&list.sequence).copied().unwrap_or(0);
        let Some(spans) = self.lists.get_mut(&(list.sequence.clone(), list.generation)) else {
            return Popped { entries: Vec::new(), high_water };
        };
        let popped: Vec<Span> = spans.drain(..spans.len().min(blocks as usize)).collect();
        self.popped += popped.len() as u64;
        let used = self.used.entry(list.sequence.clone()).or_default();
        *used += popped.iter().map(|span| span.count().unsigned_abs()).sum::<u64>();
        Popped { entries: popped.iter().map(Span::to_string).collect(), high_water }
    }

    fn push(&mut self, list: &List, entries: &[Span], end: End, high_water: i64) {
        assert!(entries.len() <= CHUNK, "a push of more than one chunk");
        self.raise(&list.sequence, high_water);
        let spans = self.lists.entry((list.sequence.clone(), list.generation)).or_default();
        match end {
            End::Back => spans.extend(entries),
            End::Front => entries.iter().rev().for_each(|span| spans.push_front(*span)),
        }
    }

    fn inspect(&mut self, lists: &[(Arc<str>, i64)]) -> Inspection {
        let entries: usize = self.lists.values().map(VecDeque::len).sum();
        let blocks = lists.iter().map(|list| self.lists.get(list).map_or(0, |spans| spans.len() as u64));
        Inspection {
            blocks: blocks.collect(),
            used_memory: (entries * size_of::<Span>()) as u64,
            max_memory: 0,
            counter_token: self.token.to_string().into(),
            used_ids: self.used.clone(),
            present: self.present(),
        }
    }

    fn present(&mut self) -> Vec<Present> {
        self.present.retain(|_, (_, at)| at.elapsed() <= FORGOTTEN_AFTER);
        let present = self.present.iter();
        present
            .map(|(instance, (stamp, at))| Present {
                instance: instance.clone(),
                stamp: *stamp,
                ago: at.elapsed(),
            })
            .collect()
    }

    /// Whether a notice speaks of the environment and of the line of history that the pod was told of.
    fn agree(&self, notice: &Notice) -> Result<(), PodError> {
        let ours = &notice.identity;
        let Some(theirs) = &self.identity else { return Ok(()) };
        if theirs.environment != ours.environment {
            return Err(PodError::Refused(format!(
                "it belongs to environment '{}', not to '{}'",
                theirs.environment, ours.environment
            )));
        }
        if theirs.life.epoch == ours.life.epoch && theirs.life != ours.life {
            return Err(PodError::Refused(format!(
                "it knows life {} of the ledger as {}, and this ledger as {}: two lines of history",
                theirs.life.epoch, theirs.life.token, ours.life.token
            )));
        }
        Ok(())
    }

    fn publish(&mut self, notice: &Notice) {
        let life = &notice.identity.life;
        if self.identity.as_ref().is_none_or(|theirs| life.epoch > theirs.life.epoch) {
            self.identity = Some(notice.identity.clone());
        }
        if notice.catalogue.stamp > self.catalogue.stamp {
            self.catalogue = (*notice.catalogue).clone();
        }
        for (sequence, high_water) in &notice.high_waters {
            self.raise(sequence, *high_water);
        }
        self.read_at_us = self.read_at_us.max(Some(notice.read_at_us));
    }

    fn sweep(&mut self, keep: &[(Arc<str>, i64)]) -> u64 {
        let before = self.lists.len();
        self.lists.retain(|(sequence, generation), _| {
            !keep.iter().any(|(kept, present)| kept == sequence && generation < present)
        });
        (before - self.lists.len()) as u64
    }
}
