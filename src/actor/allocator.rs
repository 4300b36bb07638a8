//! Answers one worker's requests: from its leftovers, the reserve, the pods, and last the ledger.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Supervised, WrapFuture};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::buffer::{BufferHandle, Drawn};
use super::database::DatabaseHandle;
use super::desk::{Caller, Desk, Step};
use super::guard;
use super::handle::{Allocation, Home};
use super::known::Sequence;
use super::mailbox::{Mailbox, Panic};
use super::pod_set::Blocks;
use super::process::{Part, Process};
use super::refusals::{crowded, draining, overloaded, restarting, retired, starting, too_late, unknown};
use super::router::{Popped, RouterHandle, SILENCE};
use super::slot::Ask;
use crate::block::stash::Taken;
use crate::block::{Cause, Range, Refusal, Tier};
use crate::failpoint;
use crate::ledger::Purpose;

/// The worker's allocator, as the service sees it.
#[derive(Clone)]
pub struct AllocatorHandle {
    mailbox: Mailbox<Allocator>,
    process: Arc<Process>,
    /// Admission: a permit travels with each request, so that the mailbox is bounded (`grpc.max_in_flight`).
    permits: Arc<Semaphore>,
    router: RouterHandle,
    database: DatabaseHandle,
}

/// What an allocator needs to work.
pub struct Tiers {
    /// Tier 1 of the process.
    pub buffer: BufferHandle,
    /// Tier 2 of this worker.
    pub router: RouterHandle,
    /// Tier 3.
    pub database: DatabaseHandle,
}

/// One worker's allocator.
pub(super) struct Allocator {
    process: Arc<Process>,
    part: Arc<Part>,
    /// Its own.
    mailbox: Mailbox<Allocator>,
    tiers: Rc<Tiers>,
    worker: usize,
    rng: fastrand::Rng,
    /// By [`Sequence::index`].
    desks: Vec<Option<Desk>>,
    /// Set by a drain: nobody is served any more.
    closing: bool,
    /// Who waits for the end of the drain.
    drained: Option<oneshot::Sender<()>>,
}

struct Allocate {
    sequence: Arc<Sequence>,
    count: i64,
    deadline: Instant,
    caller: Caller,
}

/// Takes back what was allocated and not issued.
pub(super) struct TakeBack {
    pub(super) sequence: Arc<Sequence>,
    pub(super) ranges: Vec<Range>,
}

struct Drain {
    reply: oneshot::Sender<()>,
}

impl Message for Allocate {
    type Result = ();
}

impl Message for TakeBack {
    type Result = ();
}

impl Message for Drain {
    type Result = ();
}

/// Starts the allocator of `worker` on the present thread.
pub fn start(process: &Arc<Process>, worker: usize, tiers: Tiers, rng: fastrand::Rng) -> AllocatorHandle {
    let part = process.part("allocator", Some(worker));
    let (router, database) = (tiers.router.clone(), tiers.database.clone());
    let tiers = Rc::new(tiers);
    let mailbox = guard::start(process, &part, |mailbox| Allocator {
        process: Arc::clone(process),
        part: Arc::clone(&part),
        mailbox: mailbox.clone(),
        tiers,
        worker,
        rng,
        desks: Vec::new(),
        closing: false,
        drained: None,
    });
    let share = process.settings.grpc.max_in_flight.div_ceil(process.workers).min(Semaphore::MAX_PERMITS);
    let permits = Arc::new(Semaphore::new(share));
    AllocatorHandle { mailbox, process: Arc::clone(process), permits, router, database }
}

impl AllocatorHandle {
    /// Takes `count` IDs of `sequence` by `deadline`. `sequence` is a valid name and `count` 1 or more.
    ///
    /// # Errors
    /// The refusal to send to the caller: it carries reason, message and how long to wait.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: what had been taken goes back to the worker's memory.
    pub async fn allocate(
        &self,
        sequence: &str,
        count: u32,
        deadline: Instant,
    ) -> Result<Allocation, Refusal> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| self.refuse_entry())?;
        let answer =
            timeout_at(deadline, self.ask_until_current(sequence, i64::from(count), deadline, permit)).await;
        answer.unwrap_or_else(|_| Err(too_late()))
    }

    /// Asks again where the sequence moved to a new generation before the answer was here: the old one goes back, and is discarded.
    /// The last look before the point of no return (S2).
    async fn ask_until_current(
        &self,
        name: &str,
        count: i64,
        deadline: Instant,
        mut permit: OwnedSemaphorePermit,
    ) -> Result<Allocation, Refusal> {
        loop {
            let allocation = self.ask(name, count, deadline, permit).await?;
            if self.process.now().saturating_sub(self.router.heard()) > SILENCE {
                self.catch_up().await;
            }
            if allocation.is_current(&self.process.known) {
                return Ok(allocation);
            }
            permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| self.refuse_entry())?;
        }
    }

    /// This thread has not run for a while, or hears nothing: whatever it has at hand may have been moved past meanwhile. Whoever has no
    /// pod to ask asks the ledger.
    async fn catch_up(&self) {
        let settings = &self.process.settings;
        if self.process.pods_up.load(Ordering::Relaxed) > 0 {
            let bound = settings.redis.connect_timeout + settings.redis.timeout;
            let _ = timeout(bound, self.router.listen()).await;
        } else {
            let began = self.process.now();
            // Whether it could be read or not: more than ask can't be done.
            if timeout(settings.fallback.max_wait, self.database.refresh(SILENCE)).await.is_ok() {
                self.router.heard_elsewhere(began);
            }
        }
    }

    async fn ask(
        &self,
        name: &str,
        count: i64,
        deadline: Instant,
        permit: OwnedSemaphorePermit,
    ) -> Result<Allocation, Refusal> {
        let sequence = match self.process.known.sequence(name) {
            Some(sequence) => sequence,
            None => self.look_up(name).await?,
        };
        if sequence.facts.retired {
            return Err(retired(name));
        }
        let (reply, answer) = oneshot::channel();
        let caller = Caller { reply, _permit: permit };
        self.mailbox.send(Allocate { sequence, count, deadline, caller });
        answer.await.unwrap_or_else(|_| Err(restarting()))
    }

    /// An unknown name: the pods may know it by now, else the ledger is asked, at most once in 10 s for all names.
    async fn look_up(&self, name: &str) -> Result<Arc<Sequence>, Refusal> {
        self.router.listen().await;
        if let Some(sequence) = self.process.known.sequence(name) {
            return Ok(sequence);
        }
        let read = self.database.look_up().await;
        if let Some(sequence) = self.process.known.sequence(name) {
            return Ok(sequence);
        }
        match (read, self.process.known.load().identity.is_some()) {
            (Err(refusal), false) => Err(refusal),
            (Ok(()), false) => Err(starting()),
            (_, true) => Err(unknown(name)),
        }
    }

    fn refuse_entry(&self) -> Refusal {
        if self.permits.is_closed() {
            return draining();
        }
        overloaded(self.process.settings.grpc.max_in_flight)
    }

    /// Stops taking requests, waits for pops under way, and gives all leftovers to the buffer.
    pub async fn drain(&self) {
        self.permits.close();
        let _ = self.mailbox.ask(|reply| Drain { reply }).await;
    }

    /// Makes the actor panic, for drills.
    pub fn panic(&self) {
        self.mailbox.send(Panic);
    }
}

impl Allocator {
    fn desk(&mut self, sequence: &Arc<Sequence>) -> &mut Desk {
        let index = sequence.index;
        if self.desks.len() <= index {
            self.desks.resize_with(index + 1, || None);
        }
        let home =
            || Home { mailbox: self.mailbox.clone(), sequence: Arc::clone(sequence), worker: self.worker };
        let desk = self.desks[index].get_or_insert_with(|| Desk::new(home()));
        if sequence.supersedes(&desk.home.sequence) {
            failpoint::reach("generation.observed");
            desk.follow(home());
        }
        desk
    }

    /// Serves who can be served, and asks the next tier for what is missing.
    fn advance(&mut self, sequence: &Arc<Sequence>, ctx: &mut Context<Self>) {
        self.serve(sequence);
        let max_waiters = self.max_waiters();
        let desk = self.desk(sequence);
        if desk.line.is_empty() {
            return;
        }
        // The desk may know a newer generation than the one who asked.
        let sequence = &Arc::clone(&desk.home.sequence);
        match desk.next_step() {
            Step::Wait => {}
            Step::Draw(ids) => self.draw(sequence, ids, ctx),
            Step::Pop(blocks) => self.pop(sequence, blocks, ctx),
            Step::Fetch { need, least } => {
                while desk.line.len() > max_waiters {
                    let Some(caller) = desk.line.leave_last() else { break };
                    let _ = caller.reply.send(Err(crowded()));
                }
                self.fetch(sequence, need, least, ctx);
            }
        }
    }

    fn serve(&mut self, sequence: &Arc<Sequence>) {
        loop {
            let desk = self.desk(sequence);
            let Some((caller, taken)) = desk.line.serve(&mut desk.leftovers) else { break };
            self.answer(sequence, caller, taken);
        }
        let desk = self.desk(sequence);
        desk.leftovers.settle();
        if desk.line.is_empty() {
            desk.reserve_dry = false;
            desk.pods_dry = false;
        }
    }

    /// A caller who gave up gets nothing, and what it was to get stays (S2).
    fn answer(&mut self, sequence: &Arc<Sequence>, caller: Caller, taken: Taken) {
        let home = Arc::clone(&self.desk(sequence).home);
        let allocation = Allocation::at_home(taken.ranges, taken.tier, home);
        failpoint::reach("answer.taken");
        if let Err(Ok(unwanted)) = caller.reply.send(Ok(allocation)) {
            let ranges = unwanted.take_back();
            self.desk(sequence).leftovers.put_back(ranges);
        }
    }

    fn draw(&mut self, sequence: &Arc<Sequence>, ids: i64, ctx: &mut Context<Self>) {
        self.desk(sequence).drawing = true;
        let tiers = Rc::clone(&self.tiers);
        let of = Arc::clone(sequence);
        let work = async move { tiers.buffer.draw(of, ids).await };
        let sequence = Arc::clone(sequence);
        ctx.spawn(work.into_actor(self).map(move |drawn, act, ctx| {
            let sequence = act.process.known.newest(&sequence);
            let desk = act.desk(&sequence);
            desk.drawing = false;
            match drawn {
                Some(drawn) if !drawn.ranges.is_empty() => desk.put(drawn),
                _ => desk.reserve_dry = true,
            }
            act.proceed(&sequence, ctx);
        }));
    }

    fn pop(&mut self, sequence: &Arc<Sequence>, blocks: usize, ctx: &mut Context<Self>) {
        let ids = sequence.facts.block_size.saturating_mul(i64::try_from(blocks).unwrap_or(i64::MAX));
        let desk = self.desk(sequence);
        desk.pops += 1;
        desk.popping_ids = desk.popping_ids.saturating_add(ids);
        let tiers = Rc::clone(&self.tiers);
        let of = Arc::clone(sequence);
        let work = async move { tiers.router.pop(of, blocks).await };
        let sequence = Arc::clone(sequence);
        ctx.spawn(work.into_actor(self).map(move |popped, act, ctx| {
            let of = sequence.facts.generation;
            let sequence = act.process.known.newest(&sequence);
            let desk = act.desk(&sequence);
            desk.pops -= 1;
            desk.popping_ids -= ids;
            let nothing = Popped { blocks: Blocks { ranges: Vec::new(), dry: true }, usable: 0 };
            let Popped { blocks, usable } = popped.unwrap_or(nothing);
            desk.pops_at_once = usable.max(1);
            // That an old list is empty says nothing of the new one.
            desk.pods_dry = blocks.dry && of == sequence.facts.generation;
            desk.put(Drawn { ranges: blocks.ranges, tier: Tier::Pods });
            act.proceed(&sequence, ctx);
        }));
    }

    fn fetch(&mut self, sequence: &Arc<Sequence>, need: i64, least: i64, ctx: &mut Context<Self>) {
        self.desk(sequence).drawing = true;
        let tiers = Rc::clone(&self.tiers);
        let of = Arc::clone(sequence);
        let work = async move { tiers.buffer.fetch(of, need, least).await };
        let sequence = Arc::clone(sequence);
        ctx.spawn(work.into_actor(self).map(move |fetched, act, ctx| {
            let sequence = act.process.known.newest(&sequence);
            let desk = act.desk(&sequence);
            desk.drawing = false;
            desk.reserve_dry = false;
            desk.pods_dry = false;
            match fetched {
                Ok(drawn) => {
                    desk.put(drawn);
                    act.proceed(&sequence, ctx);
                }
                Err(refusal) => act.turn_away(&sequence, &refusal, ctx),
            }
        }));
    }

    /// Tier 3 refused: who can be served from what is at hand is, everybody else is told why. Nothing was taken. Where only
    /// too little is left, that goes for the first in line: others may want less.
    fn turn_away(&mut self, sequence: &Arc<Sequence>, refusal: &Refusal, ctx: &mut Context<Self>) {
        loop {
            self.serve(sequence);
            let Some((_, caller)) = self.desk(sequence).line.leave() else { break };
            let _ = caller.reply.send(Err(refusal.clone()));
            if refusal.leaves_some() {
                break;
            }
        }
        self.proceed(sequence, ctx);
    }

    /// Goes on after an answer: serves, or during a drain looks whether all is in.
    fn proceed(&mut self, sequence: &Arc<Sequence>, ctx: &mut Context<Self>) {
        if self.closing {
            return self.close();
        }
        self.desk(sequence).line.forget(|caller| caller.reply.is_closed());
        self.advance(sequence, ctx);
    }

    /// Ends a drain once nothing is under way any more: leftovers go to the buffer.
    fn close(&mut self) {
        let mut desks = self.desks.iter_mut().flatten();
        if !desks.all(|desk| desk.pops == 0 && !desk.drawing) {
            return;
        }
        for desk in self.desks.iter_mut().flatten() {
            let ranges: Vec<Range> = desk.leftovers.drain().collect();
            self.tiers.buffer.deposit(Arc::clone(&desk.home.sequence), ranges);
        }
        if let Some(drained) = self.drained.take() {
            let _ = drained.send(());
        }
    }

    /// Callers that may wait for the ledger at this worker: those beside the one that asks it.
    fn max_waiters(&self) -> usize {
        1 + self.process.settings.fallback.max_waiters / self.process.workers
    }

    fn join_line(&mut self, request: Allocate, ctx: &mut Context<Self>) {
        let max_waiters = self.max_waiters();
        let desk = self.desk(&request.sequence);
        if desk.drawing && desk.pods_dry && desk.line.len() >= max_waiters {
            let _ = request.caller.reply.send(Err(crowded()));
            return;
        }
        desk.line.join(request.count, request.caller);
        self.advance(&request.sequence, ctx);
    }

    /// Sends this very request straight to the ledger, and on to the normal path if that fails or takes too long. What comes
    /// later goes to the reserve, so a client never notices.
    fn exercise(&mut self, request: Allocate, ctx: &mut Context<Self>) {
        let patience = (request.deadline.saturating_duration_since(Instant::now()) / 2)
            .min(self.process.settings.fallback.max_wait);
        let ask = Ask::exactly(Arc::clone(&request.sequence), request.count, Purpose::Exercise);
        let (database, buffer) = (self.tiers.database.clone(), self.tiers.buffer.clone());
        let metrics = self.process.metrics.clone();
        let sequence = Arc::clone(&request.sequence);
        let (first, early) = oneshot::channel();
        tokio::task::spawn_local(async move {
            let fetched = database.fetch(ask).await;
            metrics.exercise(if fetched.is_ok() { "ok" } else { "failed" });
            if let Err(Ok(late)) = first.send(fetched) {
                buffer.deposit(sequence, vec![late]);
            }
        });
        let work = async move { timeout(patience, early).await };
        ctx.spawn(work.into_actor(self).map(move |fetched, act, ctx| match fetched {
            Ok(Ok(Ok(range))) => {
                let taken = Taken { ranges: vec![range], tier: Tier::Ledger };
                act.answer(&request.sequence, request.caller, taken);
            }
            _ if act.closing => _ = request.caller.reply.send(Err(draining())),
            _ => act.join_line(request, ctx),
        }));
    }
}

impl Actor for Allocator {
    type Context = Context<Self>;
}

impl Supervised for Allocator {
    /// Callers in line see their channel close; what was at hand is given up.
    fn restarting(&mut self, _: &mut Context<Self>) {
        for mut desk in std::mem::take(&mut self.desks).into_iter().flatten() {
            desk.leftovers.discard(Cause::Panic);
        }
        if self.closing {
            self.close();
        }
    }
}

impl Handler<Allocate> for Allocator {
    type Result = ();

    fn handle(&mut self, request: Allocate, ctx: &mut Context<Self>) {
        self.part.handled();
        if self.closing {
            let _ = request.caller.reply.send(Err(draining()));
            return;
        }
        if self.process.exercise.pick(self.rng.f64(), self.process.now()) {
            self.exercise(request, ctx);
        } else {
            self.join_line(request, ctx);
        }
    }
}

impl Handler<TakeBack> for Allocator {
    type Result = ();

    fn handle(&mut self, back: TakeBack, ctx: &mut Context<Self>) {
        self.part.handled();
        if self.closing {
            self.tiers.buffer.deposit(back.sequence, back.ranges);
            return;
        }
        let sequence = self.process.known.newest(&back.sequence);
        self.desk(&sequence).leftovers.put_back(back.ranges);
        self.advance(&sequence, ctx);
    }
}

impl Handler<Drain> for Allocator {
    type Result = ();

    fn handle(&mut self, drain: Drain, _: &mut Context<Self>) {
        self.part.handled();
        self.closing = true;
        self.drained = Some(drain.reply);
        for desk in self.desks.iter_mut().flatten() {
            while let Some((_, caller)) = desk.line.leave() {
                let _ = caller.reply.send(Err(draining()));
            }
        }
        self.close();
    }
}

impl Handler<Panic> for Allocator {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        self.part.handled();
        panic!("asked to");
    }
}
