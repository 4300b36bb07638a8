//! The cluster's pods as one thread uses them: their connections, their health, and whose turn it is.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use slog::{info, warn};
use tokio::time::Instant;

use super::known::Sequence;
use super::process::Process;
use crate::block::chunk::{self, CHUNK};
use crate::block::health::PodHealth;
use crate::block::witness::{GONE, Kind};
use crate::block::{Cause, Doubt, Range, Span, Stamp, Witness};
use crate::failpoint;
use crate::pods::discovery::Roster;
use crate::pods::{End, Heartbeat, Pod, PodError, Popped, Seen};

/// All pods of the cluster.
pub struct PodSet {
    process: Arc<Process>,
    roster: RefCell<Roster>,
    members: RefCell<Vec<Rc<Member>>>,
    turn: Cell<usize>,
    rng: RefCell<fastrand::Rng>,
    /// The process ends: it says so in each heartbeat.
    leaving: Cell<bool>,
    /// Whether this set's view is the one that metrics and logs show (one per process).
    speaks: bool,
}

/// One pod.
pub struct Member {
    /// `host:port`
    pub address: Arc<str>,
    /// Its connection.
    pub pod: Rc<dyn Pod>,
    state: RefCell<MemberState>,
}

struct MemberState {
    health: PodHealth,
    seen: Seen,
    run_id: Arc<str>,
    last_error: Option<String>,
    /// Sequences (by index) with a pop under way here.
    popping: Vec<usize>,
}

/// One pod, as the status shows it.
pub struct MemberView {
    /// `host:port`
    pub address: Arc<str>,
    /// `up`, `down`, `refused`
    pub state: &'static str,
    /// `None` until known.
    pub run_id: Option<Arc<str>>,
    /// The latest, if it hasn't succeeded since.
    pub last_error: Option<String>,
}

/// What a round over the pods brought.
pub struct Blocks {
    /// The IDs, ours to serve.
    pub ranges: Vec<Range>,
    /// Whether every pod was tried and more was wanted.
    pub dry: bool,
}

impl PodSet {
    /// The pods of `roster`, for the present thread; connections are opened by the first heartbeat.
    pub fn new(process: Arc<Process>, roster: Roster, rng: fastrand::Rng, speaks: bool) -> PodSet {
        let set = PodSet {
            process,
            roster: RefCell::new(roster),
            members: RefCell::default(),
            turn: Cell::new(0),
            leaving: Cell::new(false),
            rng: RefCell::new(rng),
            speaks,
        };
        set.follow_roster();
        set.turn.set(set.rng.borrow_mut().usize(..));
        set
    }

    /// Pods that pops and pushes may go to.
    pub fn usable(&self) -> Vec<Rc<Member>> {
        self.members.borrow().iter().filter(|member| member.usable()).cloned().collect()
    }

    /// How many of those there are.
    pub fn usable_count(&self) -> usize {
        self.members.borrow().iter().filter(|member| member.usable()).count()
    }

    /// Every pod.
    pub fn view(&self) -> Vec<MemberView> {
        self.members.borrow().iter().map(|member| member.view()).collect()
    }

    /// Asks every pod that is due how it is and what it knows, all at once; bounded by the pods' own time-outs.
    pub async fn heartbeat(&self) {
        self.follow_roster();
        let now = self.process.now();
        let due: Vec<_> = {
            let members = self.members.borrow();
            members.iter().filter(|member| member.state.borrow().health.heartbeat_due(now)).cloned().collect()
        };
        join_all(due.iter().map(|member| self.beat(member))).await;
        self.refuse_doubles();
    }

    async fn beat(&self, member: &Rc<Member>) {
        let seen = Seen { by: self.speaks_of(), ..member.state.borrow().seen.clone() };
        let asked = Instant::now();
        let answer = member.pod.heartbeat(&seen).await;
        self.count(member, "heartbeat", &answer, asked);
        match answer {
            Ok(mut beat) => match self.process.known.hear_pod(&member.address, &mut beat) {
                Ok(()) => self.well(member, &beat),
                Err(why) => self.refuse(member, why),
            },
            Err(error) => self.failed(member, &error),
        }
    }

    /// One of a process's sets says which catalogue the process has: all of its threads have it.
    fn speaks_of(&self) -> Option<(Arc<str>, Stamp)> {
        let known = self.process.known.load();
        let has = known.identity.as_ref().filter(|_| self.speaks).map(|_| known.catalogue.stamp)?;
        let says = if self.leaving.get() { GONE } else { has };
        Some((Arc::clone(&self.process.settings.instance), says))
    }

    /// Says that the process gives nothing out any more.
    pub async fn leave(&self) {
        self.leaving.set(true);
        self.heartbeat().await;
    }

    /// Every pod as a witness: a usable one has what it last said, or was told since.
    pub fn witnesses(&self) -> Vec<Witness> {
        let members = self.members.borrow();
        let witness = |member: &Rc<Member>| {
            let state = member.state.borrow();
            let (stamp, silent) = (state.seen.stamp, !state.health.usable());
            Witness { kind: Kind::Pod, name: Arc::clone(&member.address), stamp, silent }
        };
        members.iter().map(witness).collect()
    }

    /// Takes up to `blocks` blocks, asking one pod after the other until every pod was tried.
    ///
    /// # Cancel safety
    /// What a dropped call had popped is discarded and counted.
    pub async fn pop(&self, sequence: &Arc<Sequence>, blocks: usize) -> Blocks {
        let mut ranges = Vec::new();
        let mut missing = blocks;
        let mut tried: Vec<Arc<str>> = Vec::new();
        while missing > 0 && self.process.known.load().pods_usable {
            let Some(member) = self.next_for(sequence.index, &tried) else { break };
            tried.push(Arc::clone(&member.address));
            let popped = self.pop_one(&member, sequence, missing.min(CHUNK)).await;
            missing = missing.saturating_sub(popped.entries.len());
            let newest = self.newest(&member, sequence, &popped).await;
            newest.raise_high_water(popped.high_water.min(newest.facts.last));
            for entry in popped.entries {
                ranges.extend(self.admit(&member, &newest, sequence.facts.generation, &entry));
            }
        }
        Blocks { ranges, dry: missing > 0 }
    }

    /// The next usable pod in turn that isn't in `tried`; one without a pop of this sequence under way where there is one.
    fn next_for(&self, index: usize, tried: &[Arc<str>]) -> Option<Rc<Member>> {
        let members = self.members.borrow();
        let count = members.len();
        let start = self.turn.get();
        self.turn.set(start.wrapping_add(1));
        let in_turn = || {
            (0..count)
                .map(|step| &members[start.wrapping_add(step) % count])
                .filter(|member| member.usable() && !tried.contains(&member.address))
        };
        let idle = in_turn().find(|member| !member.state.borrow().popping.contains(&index));
        idle.or_else(|| in_turn().next()).cloned()
    }

    /// The sequence as the catalogue has it; where an entry lies beyond that, as the pod has it: a maximum may have been
    /// raised since the last heartbeat.
    async fn newest(&self, member: &Rc<Member>, sequence: &Arc<Sequence>, popped: &Popped) -> Arc<Sequence> {
        let known = || self.process.known.newest(sequence);
        let last = known().facts.last;
        let beyond = |entry: &String| entry.parse::<Span>().is_ok_and(|span| span.last() > last);
        if popped.entries.iter().any(beyond) {
            self.beat(member).await;
        }
        known()
    }

    async fn pop_one(&self, member: &Rc<Member>, sequence: &Arc<Sequence>, blocks: usize) -> Popped {
        let most = sequence.facts.block_size.saturating_mul(i64::try_from(blocks).unwrap_or(i64::MAX));
        let doubt = Doubt::new(&sequence.counters.tally, most);
        let _under_way = UnderWay::new(member, sequence.index);
        let asked = Instant::now();
        let answer = member.pod.pop(&sequence.list, u32::try_from(blocks).unwrap_or(u32::MAX)).await;
        self.count_pop(member, &answer, asked);
        match answer {
            Ok(popped) => {
                failpoint::reach("pop.answered");
                doubt.settle();
                popped
            }
            Err(error) => {
                if !matches!(error, PodError::InDoubt(_)) {
                    doubt.settle();
                }
                self.failed(member, &error);
                Popped::default()
            }
        }
    }

    /// Takes charge of one entry popped from the list of `generation`, or discards it with a cause; never stops the next.
    fn admit(
        &self,
        member: &Member,
        sequence: &Arc<Sequence>,
        generation: i64,
        entry: &str,
    ) -> Option<Range> {
        let refused = |cause: Cause, ids: u64| {
            sequence.counters.tally.count(cause, ids);
            warn!(self.process.log, "a pod's entry was discarded"; "sequence" => %sequence.facts.name,
                "address" => %member.address, "entry" => entry, "cause" => cause.name());
            None
        };
        let Ok(span) = entry.parse::<Span>() else { return refused(Cause::Malformed, 1) };
        let ids = span.count().unsigned_abs();
        if generation < sequence.facts.generation {
            sequence.counters.tally.count(Cause::Advanced, ids);
            return None;
        }
        if !span.within(sequence.facts.first, sequence.facts.last) {
            return refused(Cause::Outside, ids);
        }
        // The pop returned the pod's own high water, which every push raises first: it is as fresh as the entry.
        if span.last() > sequence.high_water() {
            return refused(Cause::AboveHighWater, ids);
        }
        sequence.admit(span, generation, &self.process.log).ok()
    }

    /// Pushes `range` to one pod, as blocks of `block_size` IDs, in chunks. An unanswered chunk is discarded and counted (S2), and so is
    /// what was granted before the sequence's present generation.
    ///
    /// Gives how many IDs the pod took.
    ///
    /// # Errors
    /// The first failure, with what is still held: what the pod certainly doesn't have.
    pub async fn push(
        &self,
        member: &Rc<Member>,
        sequence: &Arc<Sequence>,
        range: Range,
        block_size: i64,
        end: End,
    ) -> Result<i64, Option<Range>> {
        let mut pushed = 0;
        let chunk_ids = block_size.saturating_mul(CHUNK as i64);
        let mut left = Some(range);
        while let Some(mut rest) = left.take() {
            let mut chunk = match rest.split_off_front(chunk_ids) {
                Some(head) => {
                    left = Some(rest);
                    head
                }
                None => rest,
            };
            let sequence = self.process.known.newest(sequence);
            if chunk.generation() < sequence.facts.generation {
                chunk.discard(Cause::Advanced);
                continue;
            }
            failpoint::reach("push.before");
            let entries: Vec<Span> = chunk::blocks(chunk.span(), block_size).collect();
            let asked = Instant::now();
            let answer = member.pod.push(&sequence.list, &entries, end, sequence.high_water()).await;
            self.count(member, "push", &answer, asked);
            match answer {
                Ok(()) => {
                    failpoint::reach("push.answered");
                    pushed += chunk.issue().count();
                }
                Err(error) => {
                    self.failed(member, &error);
                    if matches!(error, PodError::InDoubt(_)) {
                        chunk.discard(Cause::InDoubt);
                        return Err(left);
                    }
                    // The rest begins where the chunk ends, so the two join again.
                    let apart = left.and_then(|rest| chunk.join(rest).err());
                    debug_assert!(apart.is_none());
                    return Err(Some(chunk));
                }
            }
        }
        Ok(pushed)
    }

    /// Hands ranges back as blocks, to the front of the lists, pod after pod. What no pod takes is discarded as stopped.
    pub async fn hand_back(&self, sequence: &Arc<Sequence>, ranges: Vec<Range>) {
        for range in ranges {
            failpoint::reach("hand_back.before");
            let mut held = Some(range);
            for member in self.usable() {
                let Some(range) = held.take() else { break };
                if let Err(rest) =
                    self.push(&member, sequence, range, sequence.facts.block_size, End::Front).await
                {
                    held = rest;
                }
            }
            if let Some(range) = held {
                range.discard(Cause::Stopped);
            }
            failpoint::reach("hand_back.after");
        }
    }

    /// Tells all usable pods of a greater high water, at once; bounded by the pods' own time-outs.
    pub async fn raise(&self, sequence: &Arc<Sequence>, high_water: i64) {
        failpoint::reach("high_water.before");
        let members = self.usable();
        let name = &sequence.facts.name;
        join_all(members.iter().map(|member| async move {
            let asked = Instant::now();
            let answer = member.pod.raise(&sequence.list.scope, name, high_water).await;
            self.count(member, "raise", &answer, asked);
            if let Err(error) = answer {
                self.failed(member, &error);
            }
        }))
        .await;
        failpoint::reach("high_water.after");
    }

    /// Counts an answer of a pod's; `outcome` as the metric names it.
    pub fn count<T>(
        &self,
        member: &Member,
        operation: &'static str,
        answer: &Result<T, PodError>,
        asked: Instant,
    ) {
        let outcome = match answer {
            Ok(_) => "ok",
            Err(PodError::Failed(_) | PodError::Full(_)) => "failed",
            Err(PodError::InDoubt(_)) => "in_doubt",
            Err(PodError::Refused(_)) => "refused",
        };
        self.process.metrics.pod_request(&member.address, operation, outcome, asked.elapsed());
    }

    fn count_pop(&self, member: &Member, answer: &Result<Popped, PodError>, asked: Instant) {
        match answer {
            Ok(popped) if popped.entries.is_empty() => {
                self.process.metrics.pod_request(&member.address, "pop", "empty", asked.elapsed());
            }
            _ => self.count(member, "pop", answer, asked),
        }
    }

    /// A call failed: the pod counts as tried until a heartbeat succeeds. A push refused for want of memory is the
    /// exception: the pod's own blocks are still served.
    pub fn failed(&self, member: &Member, error: &PodError) {
        match error {
            PodError::Refused(why) => self.refuse(member, why.clone()),
            PodError::Full(_) => member.state.borrow_mut().last_error = Some(error.to_string()),
            PodError::Failed(_) | PodError::InDoubt(_) => {
                let retry_at = self.retry_at();
                self.change(member, PodHealth::Down { retry_at }, Some(error.to_string()));
            }
        }
    }

    fn refuse(&self, member: &Member, why: String) {
        let retry_at = self.retry_at();
        if self.change(member, PodHealth::Refused { retry_at }, Some(why)) {
            self.process.metrics.fence_trip("pod");
        }
    }

    fn well(&self, member: &Member, beat: &Heartbeat) {
        {
            let mut state = member.state.borrow_mut();
            state.run_id = Arc::clone(&beat.run_id);
            state.seen = Seen { stamp: beat.stamp, high_waters: beat.high_waters_seen, by: None };
        }
        self.change(member, PodHealth::Up, None);
    }

    fn retry_at(&self) -> Duration {
        let spread = 0.9 + 0.2 * self.rng.borrow_mut().f64();
        self.process.now() + self.process.settings.redis.retry_after.mul_f64(spread)
    }

    /// Gives whether the pod's state is another than before.
    fn change(&self, member: &Member, health: PodHealth, error: Option<String>) -> bool {
        let mut state = member.state.borrow_mut();
        let changed = state.health.name() != health.name();
        state.health = health;
        state.last_error = error;
        if self.speaks {
            self.process.metrics.set_pod_up(&member.address, state.health.usable());
        }
        drop(state);
        if self.speaks {
            self.process.pods_up.store(self.usable_count(), std::sync::atomic::Ordering::Relaxed);
        }
        let state = member.state.borrow();
        if changed && self.speaks {
            let name = state.health.name();
            match &state.last_error {
                Some(error) => warn!(self.process.log, "a pod can't be used"; "address" => %member.address,
                    "state" => name, "error" => error),
                None => info!(self.process.log, "a pod can be used"; "address" => %member.address),
            }
        }
        changed
    }

    /// The same server under two addresses is one pod.
    fn refuse_doubles(&self) {
        let mut first: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
        for member in self.usable() {
            let run_id = Arc::clone(&member.state.borrow().run_id);
            if let Some(other) = first.get(&run_id) {
                self.refuse(&member, format!("this is the same server as {other}: name each pod once"));
            } else {
                first.insert(run_id, Arc::clone(&member.address));
            }
        }
    }

    fn follow_roster(&self) {
        let mut roster = self.roster.borrow_mut();
        let mut members = self.members.borrow_mut();
        if !members.is_empty() && !roster.has_changed().unwrap_or(false) {
            return;
        }
        let targets = Arc::clone(&roster.borrow_and_update());
        members.retain(|member| {
            let stays = targets.iter().any(|target| *target.address() == member.address);
            if !stays && self.speaks {
                self.process.known.forget_pod(&member.address);
                self.process.metrics.pod_gone(&member.address);
            }
            stays
        });
        for target in targets.iter() {
            if !members.iter().any(|member| member.address == *target.address()) {
                let pod = target.open(&self.process.settings.redis, &self.process.log);
                members.push(Rc::new(Member::new(Arc::clone(target.address()), pod)));
            }
        }
        members.sort_by(|a, b| a.address.cmp(&b.address));
    }
}

impl Member {
    fn new(address: Arc<str>, pod: Rc<dyn Pod>) -> Member {
        let state = MemberState {
            health: PodHealth::Unknown,
            seen: Seen::default(),
            run_id: Arc::from(""),
            last_error: None,
            popping: Vec::new(),
        };
        Member { address, pod, state: RefCell::new(state) }
    }

    fn usable(&self) -> bool {
        self.state.borrow().health.usable()
    }

    fn view(&self) -> MemberView {
        let state = self.state.borrow();
        MemberView {
            address: Arc::clone(&self.address),
            state: state.health.name(),
            run_id: (!state.run_id.is_empty()).then(|| Arc::clone(&state.run_id)),
            last_error: state.last_error.clone(),
        }
    }
}

/// A pop under way at one pod for one sequence.
struct UnderWay<'a>(&'a Member, usize);

impl<'a> UnderWay<'a> {
    fn new(member: &'a Member, index: usize) -> UnderWay<'a> {
        member.state.borrow_mut().popping.push(index);
        UnderWay(member, index)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let popping = &mut self.0.state.borrow_mut().popping;
        if let Some(at) = popping.iter().position(|index| *index == self.1) {
            popping.swap_remove(at);
        }
    }
}
