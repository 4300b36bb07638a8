//! Tier 1 of the process: the reserve, and the one who asks the ledger when it is needed.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Supervised, WrapFuture};
use slog::info;
use tokio::sync::oneshot;

use super::database::DatabaseHandle;
use super::guard;
use super::known::Sequence;
use super::mailbox::{Mailbox, Panic};
use super::pod_set::PodSet;
use super::process::{Part, Process};
use super::slot::{Ask, Want};
use crate::block::demand::Meter;
use crate::block::line::Line;
use crate::block::stash::joined;
use crate::block::{Cause, Range, Reason, Refusal, Stash, Tier};
use crate::failpoint;
use crate::ledger::Purpose;

/// The process's reserve, as its allocators see it.
#[derive(Clone)]
pub struct BufferHandle {
    mailbox: Mailbox<Buffer>,
}

/// IDs from the reserve or the ledger.
pub struct Drawn {
    /// The IDs, ours to serve.
    pub ranges: Vec<Range>,
    /// Where they come from.
    pub tier: Tier,
}

struct Buffer {
    process: Arc<Process>,
    part: Arc<Part>,
    database: DatabaseHandle,
    pods: Rc<PodSet>,
    /// By [`Sequence::index`].
    reserves: Vec<Option<Reserve>>,
    /// Set by a drain: what is here, and what still comes, goes back to the pods.
    closing: bool,
    /// Who waits for that.
    handed_back: Option<oneshot::Sender<()>>,
}

/// One sequence.
struct Reserve {
    sequence: Arc<Sequence>,
    stash: Stash,
    line: Line<Waiter>,
    /// A fetch or refill is under way.
    fetching: bool,
    meter: Meter,
    used: u64,
    /// What the newest fallback grant brought: below a quarter of it the reserve is refilled.
    granted: i64,
    /// While set, pods had nothing: the process lives on the ledger until this time.
    relying_until: Duration,
}

struct Waiter {
    least: i64,
    reply: oneshot::Sender<Result<Drawn, Refusal>>,
}

struct Draw {
    sequence: Arc<Sequence>,
    ids: i64,
    reply: oneshot::Sender<Drawn>,
}

struct Fetch {
    sequence: Arc<Sequence>,
    need: i64,
    least: i64,
    reply: oneshot::Sender<Result<Drawn, Refusal>>,
}

struct Deposit {
    sequence: Arc<Sequence>,
    ranges: Vec<Range>,
}

struct HandBack {
    reply: oneshot::Sender<()>,
}

impl Message for Draw {
    type Result = ();
}

impl Message for Fetch {
    type Result = ();
}

impl Message for Deposit {
    type Result = ();
}

impl Message for HandBack {
    type Result = ();
}

/// Starts the buffer on the present thread.
pub fn start(process: &Arc<Process>, database: DatabaseHandle, pods: Rc<PodSet>) -> BufferHandle {
    let part = process.part("buffer", None);
    let mailbox = guard::start(process, &part, |_| Buffer {
        process: Arc::clone(process),
        part: Arc::clone(&part),
        database,
        pods,
        reserves: Vec::new(),
        closing: false,
        handed_back: None,
    });
    BufferHandle { mailbox }
}

impl BufferHandle {
    /// Takes up to `ids` IDs from the reserve; empty is an answer. `None` if the buffer is being restarted.
    pub async fn draw(&self, sequence: Arc<Sequence>, ids: i64) -> Option<Drawn> {
        self.mailbox.ask(|reply| Draw { sequence, ids, reply }).await
    }

    /// Takes `need` IDs, at least `least` of them, out of a grant of the ledger that covers more than that. All who ask while a
    /// request is under way are served from it, and the rest stays in the reserve.
    ///
    /// # Errors
    /// Why the ledger gave nothing.
    ///
    /// # Cancel safety
    /// What nobody waits for any more stays in the reserve.
    pub async fn fetch(&self, sequence: Arc<Sequence>, need: i64, least: i64) -> Result<Drawn, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Fetch { sequence, need, least, reply });
        answer.await.unwrap_or_else(|_| {
            Err(Refusal::new(Reason::Starting, "the reserve failed and is being restarted")
                .retry_after(Duration::from_millis(50)))
        })
    }

    /// Adds ranges that nobody waits for.
    pub fn deposit(&self, sequence: Arc<Sequence>, ranges: Vec<Range>) {
        if !ranges.is_empty() {
            self.mailbox.send(Deposit { sequence, ranges });
        }
    }

    /// Gives everything back to the pods as blocks; the process can no longer issue it. Discards what no pod takes.
    pub async fn hand_back(&self) {
        let _ = self.mailbox.ask(|reply| HandBack { reply }).await;
    }

    /// Makes the actor panic, for drills.
    pub fn panic(&self) {
        self.mailbox.send(Panic);
    }
}

impl Buffer {
    /// The reserve of a sequence, as it is known now.
    fn reserve(&mut self, sequence: &Arc<Sequence>) -> &mut Reserve {
        let sequence = &self.process.known.newest(sequence);
        let index = sequence.index;
        if self.reserves.len() <= index {
            self.reserves.resize_with(index + 1, || None);
        }
        let now = self.process.now();
        let reserve = self.reserves[index].get_or_insert_with(|| Reserve::new(Arc::clone(sequence), now));
        if sequence.supersedes(&reserve.sequence) {
            reserve.follow(sequence);
        }
        reserve
    }

    /// Serves the line from the reserve; if some still wait, asks the ledger for them.
    fn advance(&mut self, sequence: &Arc<Sequence>, ctx: &mut Context<Self>) {
        let now = self.process.now();
        let cover = self.process.settings.fallback.cover;
        let reserve = self.reserve(sequence);
        reserve.serve();
        if reserve.fetching || reserve.line.is_empty() {
            return;
        }
        let need = (reserve.line.ids() - reserve.stash.ids()).max(1);
        let least = (reserve.least() - reserve.stash.ids()).max(1);
        let rate = reserve.rate(now);
        reserve.fetching = true;
        reserve.relying_until = now + cover;
        let ask = Ask {
            sequence: Arc::clone(sequence),
            purpose: Purpose::Fallback,
            least,
            need,
            want: Want::Cover(rate),
            pod: None,
        };
        let database = self.database.clone();
        let work = async move { database.fetch(ask).await };
        self.await_grant(sequence, work, ctx);
    }

    fn await_grant(
        &mut self,
        sequence: &Arc<Sequence>,
        work: impl Future<Output = Result<Range, Refusal>> + 'static,
        ctx: &mut Context<Self>,
    ) {
        let sequence = Arc::clone(sequence);
        ctx.spawn(work.into_actor(self).map(move |fetched, act, ctx| {
            let reserve = act.reserve(&sequence);
            reserve.fetching = false;
            match fetched {
                Ok(range) => {
                    failpoint::reach("grant.received");
                    reserve.granted = range.count();
                    reserve.stash.put(range, Tier::Ledger);
                    act.advance(&sequence, ctx);
                    act.reserve(&sequence).stash.settle();
                }
                Err(refusal) => {
                    reserve.turn_away(&refusal);
                    act.advance(&sequence, ctx);
                }
            }
            act.proceed_hand_back(ctx);
        }));
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.process.now();
        self.part.beat(now);
        if self.closing {
            return;
        }
        let known = Arc::clone(&self.process.known.load());
        for sequence in known.sequences() {
            let reserve = self.reserve(sequence);
            reserve.sample(now);
            if reserve.runs_low(now) {
                self.refill(sequence, ctx);
            }
        }
    }

    /// During a drain: once nothing is under way any more, gives everything back to the pods.
    fn proceed_hand_back(&mut self, ctx: &mut Context<Self>) {
        if !self.closing || self.reserves.iter().flatten().any(|reserve| reserve.fetching) {
            return;
        }
        let held: Vec<_> = self
            .reserves
            .iter_mut()
            .flatten()
            .map(|reserve| {
                let ranges = joined(reserve.stash.drain().collect());
                reserve.show();
                (Arc::clone(&reserve.sequence), ranges)
            })
            .collect();
        let (pods, handed_back) = (Rc::clone(&self.pods), self.handed_back.take());
        let work = async move {
            for (sequence, ranges) in held {
                pods.hand_back(&sequence, ranges).await;
            }
            if let Some(reply) = handed_back {
                let _ = reply.send(());
            }
        };
        ctx.spawn(work.into_actor(self));
    }

    /// Asks again before the reserve runs dry, so that nobody waits at the edge: the pods first, as any request does.
    fn refill(&mut self, sequence: &Arc<Sequence>, ctx: &mut Context<Self>) {
        let now = self.process.now();
        let reserve = self.reserve(sequence);
        reserve.fetching = true;
        let ask = Ask {
            sequence: Arc::clone(sequence),
            purpose: Purpose::Fallback,
            least: 1,
            need: 1,
            want: Want::Cover(reserve.rate(now)),
            pod: None,
        };
        let (pods, database) = (Rc::clone(&self.pods), self.database.clone());
        let work = async move {
            let popped = pods.pop(&ask.sequence, 1).await;
            match popped.ranges.into_iter().next() {
                Some(block) => Refilled::Pods(block),
                None => Refilled::Ledger(database.fetch(ask).await),
            }
        };
        let sequence = Arc::clone(sequence);
        ctx.spawn(work.into_actor(self).map(move |refilled, act, ctx| {
            let cover = act.process.settings.fallback.cover;
            let log = act.process.log.clone();
            let now = act.process.now();
            let reserve = act.reserve(&sequence);
            reserve.fetching = false;
            match refilled {
                Refilled::Pods(block) => {
                    info!(log, "the pods have blocks again"; "sequence" => %sequence.facts.name);
                    reserve.relying_until = Duration::ZERO;
                    reserve.stash.put(block, Tier::Memory);
                }
                Refilled::Ledger(Ok(range)) => {
                    reserve.granted = range.count();
                    reserve.relying_until = now + cover;
                    reserve.stash.put(range, Tier::Memory);
                }
                // Those who come to want it ask again, and are told why not.
                Refilled::Ledger(Err(_)) => {}
            }
            act.advance(&sequence, ctx);
            act.proceed_hand_back(ctx);
        }));
    }
}

enum Refilled {
    Pods(Range),
    Ledger(Result<Range, Refusal>),
}

impl Reserve {
    fn new(sequence: Arc<Sequence>, now: Duration) -> Reserve {
        let mut stash = Stash::default();
        stash.follow(sequence.facts.generation);
        Reserve {
            used: sequence.counters.allocated_ids_in_all(),
            sequence,
            stash,
            line: Line::default(),
            fetching: false,
            meter: Meter::new(now),
            granted: 0,
            relying_until: Duration::ZERO,
        }
    }

    /// The catalogue changed. What was granted before a new generation must not be used any more.
    fn follow(&mut self, sequence: &Arc<Sequence>) {
        self.stash.follow(sequence.facts.generation);
        self.sequence = Arc::clone(sequence);
        self.show();
    }

    fn show(&self) {
        self.sequence.counters.reserve_ids.store(self.stash.ids(), Ordering::Relaxed);
    }

    fn sample(&mut self, now: Duration) {
        let used = self.sequence.counters.allocated_ids_in_all();
        let since = i64::try_from(used.saturating_sub(self.used)).unwrap_or(i64::MAX);
        self.meter.add(since, now);
        self.used = used;
        self.sequence.counters.set_ids_per_second(self.meter.per_second(now));
    }

    fn rate(&mut self, now: Duration) -> f64 {
        self.sample(now);
        self.meter.per_second(now)
    }

    fn least(&self) -> i64 {
        self.line.front().map_or(1, |waiter| waiter.least)
    }

    fn runs_low(&self, now: Duration) -> bool {
        let low = self.stash.ids() < self.granted / 4;
        low && now < self.relying_until && !self.fetching && !self.sequence.facts.retired
    }

    fn take(&mut self, ids: i64) -> Drawn {
        let taken = self.stash.take_up_to(ids);
        self.show();
        Drawn { ranges: taken.ranges, tier: taken.tier }
    }

    /// Gives each in line what it needs, or at least what is of use to it.
    fn serve(&mut self) {
        while let Some(least) = self.line.front().map(|waiter| waiter.least) {
            if self.stash.ids() < least {
                break;
            }
            let Some((need, waiter)) = self.line.leave() else { break };
            let drawn = self.take(need);
            if let Err(Ok(unwanted)) = waiter.reply.send(Ok(drawn)) {
                self.stash.put_back(unwanted.ranges);
            }
        }
        self.show();
    }

    /// Where only too little is left, that goes for the first in line: others may want less.
    fn turn_away(&mut self, refusal: &Refusal) {
        while let Some((_, waiter)) = self.line.leave() {
            let _ = waiter.reply.send(Err(refusal.clone()));
            if refusal.leaves_some() {
                break;
            }
        }
    }
}

impl Actor for Buffer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(Duration::from_secs(1), Buffer::tick);
    }
}

impl Supervised for Buffer {
    /// The reserve is given up; those in line see their channel close.
    /// `started` runs again after this.
    fn restarting(&mut self, _: &mut Context<Self>) {
        for mut reserve in std::mem::take(&mut self.reserves).into_iter().flatten() {
            reserve.stash.discard(Cause::Panic);
            reserve.show();
        }
        self.handed_back = None;
    }
}

impl Handler<Draw> for Buffer {
    type Result = ();

    fn handle(&mut self, draw: Draw, _: &mut Context<Self>) {
        self.part.handled();
        let reserve = self.reserve(&draw.sequence);
        let drawn = reserve.take(draw.ids);
        if let Err(unwanted) = draw.reply.send(drawn) {
            reserve.stash.put_back(unwanted.ranges);
            reserve.show();
        }
    }
}

impl Handler<Fetch> for Buffer {
    type Result = ();

    fn handle(&mut self, fetch: Fetch, ctx: &mut Context<Self>) {
        self.part.handled();
        let reserve = self.reserve(&fetch.sequence);
        reserve.line.join(fetch.need, Waiter { least: fetch.least, reply: fetch.reply });
        self.advance(&fetch.sequence, ctx);
    }
}

impl Handler<Deposit> for Buffer {
    type Result = ();

    fn handle(&mut self, deposit: Deposit, ctx: &mut Context<Self>) {
        self.part.handled();
        self.reserve(&deposit.sequence).stash.put_back(deposit.ranges);
        self.advance(&deposit.sequence, ctx);
        self.proceed_hand_back(ctx);
    }
}

impl Handler<HandBack> for Buffer {
    type Result = ();

    fn handle(&mut self, hand_back: HandBack, ctx: &mut Context<Self>) {
        self.part.handled();
        self.closing = true;
        self.handed_back = Some(hand_back.reply);
        self.proceed_hand_back(ctx);
    }
}

impl Handler<Panic> for Buffer {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        self.part.handled();
        panic!("asked to");
    }
}
