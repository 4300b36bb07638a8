//! Tier 3 of the process: one connection, one request at a time.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, Supervised, WrapFuture};
use futures_util::future::LocalBoxFuture;
use slog::{error, info, warn};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::guard;
use super::known::Sequence;
use super::pod_set::PodSet;
use super::process::{Fatal, Part, Process};
use crate::block::health::Backoff;
use crate::block::size::GrantSize;
use crate::block::{Cause, Doubt, Range, Reason, Refusal};
use crate::ledger::{Grant, GrantRequest, Ledger, LedgerError, Purpose, State};

/// The process's way to the ledger.
#[derive(Clone)]
pub struct DatabaseHandle {
    address: Addr<Database>,
    part: Arc<Part>,
    process: Arc<Process>,
}

/// Asks for a grant.
pub struct Ask {
    /// Of which sequence.
    pub sequence: Arc<Sequence>,
    /// Why; decides whose turn it is.
    pub purpose: Purpose,
    /// The fewest IDs that are of use, 1 or more.
    pub least: i64,
    /// What is needed now, at least `least`.
    pub need: i64,
    /// What would be welcome.
    pub want: Want,
    /// For which pod's address, where it is a hydrate.
    pub pod: Option<Arc<str>>,
}

/// How much of a grant would be welcome beyond what is needed.
#[derive(Debug, Clone, Copy)]
pub enum Want {
    /// Nothing.
    Exactly,
    /// `fallback.cover` of this many IDs a second, within the bounds of a fallback grant.
    Cover(f64),
    /// This many IDs.
    UpTo(i64),
}

impl Ask {
    /// Exactly `count` IDs, or none.
    pub fn exactly(sequence: Arc<Sequence>, count: i64, purpose: Purpose) -> Ask {
        Ask { sequence, purpose, least: count, need: count, want: Want::Exactly, pod: None }
    }
}

/// Unknown names cause at most one ledger read in this time.
const UNKNOWN_NAMES_EVERY: Duration = Duration::from_secs(10);

struct Database {
    process: Arc<Process>,
    part: Arc<Part>,
    slot: Rc<Slot>,
    /// The line before the slot, one for each urgency.
    line: [VecDeque<Job>; 3],
    busy: bool,
    closing: Option<oneshot::Sender<()>>,
}

/// What the request under way works with.
struct Slot {
    process: Arc<Process>,
    ledger: Rc<dyn Ledger>,
    pods: Rc<PodSet>,
    state: std::cell::RefCell<SlotState>,
}

struct SlotState {
    backoff: Backoff,
    /// By [`Sequence::index`].
    sizes: Vec<Option<GrantSize>>,
    rng: fastrand::Rng,
    /// When the facts were last read, or tried to be.
    read_at: Option<Instant>,
    /// When that was last done for an unknown name.
    looked_up_at: Option<Instant>,
    /// Whether the ledger ever answered: before that a wrong one ends the process.
    met: bool,
    /// Whether the pods were asked what they witnessed: before that no grant is asked for.
    pods_heard: bool,
}

/// Fallback goes before exercise before everything else.
#[derive(Clone, Copy)]
enum Urgency {
    Fallback = 0,
    Exercise = 1,
    Rest = 2,
}

struct Job {
    what: Work,
    since: Instant,
    /// Answered `LEDGER_BUSY` if it still stands in line after `fallback.max_wait`.
    patient: bool,
}

enum Work {
    Grant { ask: Ask, reply: oneshot::Sender<Result<Range, Refusal>> },
    Refresh { max_age: Duration, reply: oneshot::Sender<Result<(), Refusal>> },
    LookUp { reply: oneshot::Sender<Result<(), Refusal>> },
    Other { what: &'static str, call: Call },
}

/// A call that answers its asker itself, and gives what became of it.
type Call = Box<dyn FnOnce(Rc<dyn Ledger>) -> LocalBoxFuture<'static, Result<(), LedgerError>> + Send>;

struct Submit {
    urgency: Urgency,
    job: Job,
}

struct Drain {
    reply: oneshot::Sender<()>,
}

struct Panic;

impl Message for Submit {
    type Result = ();
}

impl Message for Drain {
    type Result = ();
}

impl Message for Panic {
    type Result = ();
}

/// Starts the database actor on the present thread.
pub fn start(
    process: &Arc<Process>,
    ledger: Rc<dyn Ledger>,
    pods: Rc<PodSet>,
    rng: fastrand::Rng,
) -> DatabaseHandle {
    let part = process.part("database", None);
    let state = SlotState {
        backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(10)),
        sizes: Vec::new(),
        rng,
        read_at: None,
        looked_up_at: None,
        met: false,
        pods_heard: false,
    };
    let slot = Rc::new(Slot { process: Arc::clone(process), ledger, pods, state: state.into() });
    let address = guard::start(process, &part, |_| Database {
        process: Arc::clone(process),
        part: Arc::clone(&part),
        slot,
        line: Default::default(),
        busy: false,
        closing: None,
    });
    DatabaseHandle { address, part, process: Arc::clone(process) }
}

impl DatabaseHandle {
    /// One grant, in its turn. The range is checked (S3, S6) and every pod that is up knows its high water.
    ///
    /// # Errors
    /// Why there is none; nothing is held then.
    ///
    /// # Cancel safety
    /// The request goes on. What nobody waits for any more is discarded and counted.
    pub async fn fetch(&self, ask: Ask) -> Result<Range, Refusal> {
        if let Some(refusal) = refuse_early(&self.process, &ask) {
            return Err(refusal);
        }
        let urgency = match ask.purpose {
            Purpose::Fallback => Urgency::Fallback,
            Purpose::Exercise => Urgency::Exercise,
            Purpose::Hydrate => Urgency::Rest,
        };
        let patient = matches!(ask.purpose, Purpose::Hydrate);
        let (reply, answer) = oneshot::channel();
        self.submit(urgency, Work::Grant { ask, reply }, patient);
        answer.await.unwrap_or_else(|_| Err(restarting()))
    }

    /// Reads identity, catalogue and counters, unless that was done or tried within `max_age`.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn refresh(&self, max_age: Duration) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.submit(Urgency::Rest, Work::Refresh { max_age, reply }, true);
        answer.await.unwrap_or_else(|_| Err(restarting()))
    }

    /// Reads the facts for the sake of an unknown name: at most once in 10 s, however many ask for however many names.
    ///
    /// # Errors
    /// Why they could not be read.
    pub async fn look_up(&self) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.submit(Urgency::Rest, Work::LookUp { reply }, true);
        answer.await.unwrap_or_else(|_| Err(restarting()))
    }

    /// Any other call of the ledger's, in its turn; bounded by `ledger.timeout`.
    ///
    /// # Errors
    /// The ledger's, or that the database actor is being restarted.
    pub async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        call: impl FnOnce(Rc<dyn Ledger>) -> LocalBoxFuture<'static, Result<T, LedgerError>> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let call: Call = Box::new(move |ledger| {
            let work = call(ledger);
            Box::pin(async move {
                let result = work.await;
                let outcome = result.as_ref().map(|_| ()).map_err(Clone::clone);
                let _ = reply.send(result);
                outcome
            })
        });
        self.submit(Urgency::Rest, Work::Other { what, call }, true);
        answer.await.unwrap_or_else(|_| Err(LedgerError::Unreachable("no answer in time".to_owned())))
    }

    /// Takes nothing new and waits for the request under way.
    pub async fn drain(&self) {
        let (reply, done) = oneshot::channel();
        self.part.sent();
        self.address.do_send(Drain { reply });
        let _ = done.await;
    }

    /// Makes the actor panic, for drills.
    pub fn panic(&self) {
        self.part.sent();
        self.address.do_send(Panic);
    }

    fn submit(&self, urgency: Urgency, what: Work, patient: bool) {
        self.part.sent();
        self.address.do_send(Submit { urgency, job: Job { what, since: Instant::now(), patient } });
    }
}

fn restarting() -> Refusal {
    Refusal::new(Reason::Starting, "the way to the ledger failed and is being restarted")
        .retry_after(Duration::from_millis(50))
}

fn busy(wait: Duration) -> Refusal {
    Refusal::new(
        Reason::LedgerBusy,
        "the ledger's one slot is taken, and the line before it is too slow (fallback.max_wait)",
    )
    .retry_after(wait.max(Duration::from_millis(50)))
}

/// What can be refused from memory, without asking the ledger each time.
fn refuse_early(process: &Process, ask: &Ask) -> Option<Refusal> {
    let name = &ask.sequence.facts.name;
    if let Some(conflict) = &process.known.load().conflict {
        return Some(
            Refusal::new(Reason::LedgerUnreachable, conflict.clone()).retry_after(Duration::from_secs(1)),
        );
    }
    if ask.sequence.facts.retired {
        return Some(Refusal::new(Reason::SequenceRetired, format!("sequence '{name}' was retired")));
    }
    if let Some(why) = &ask.sequence.facts.halted {
        return Some(halted(name, why));
    }
    let left = ask.sequence.left_at_most();
    (left < ask.least).then(|| exhausted(name, left, ask.least))
}

fn halted(name: &str, why: &str) -> Refusal {
    let message = format!(
        "sequence '{name}' is halted ({why}); once the cause is resolved: `blockhouse sequence resume {name}`"
    );
    Refusal::new(Reason::SequenceHalted, message).with("sequence", name)
}

fn exhausted(name: &str, left: i64, least: i64) -> Refusal {
    let message = format!(
        "sequence '{name}' has {left} IDs left in the ledger and {least} more are needed; raise its maximum with `blockhouse sequence set {name} --max N`"
    );
    Refusal::new(Reason::SequenceExhausted, message).with("sequence", name).with("left", left)
}

/// The ledger's error as a caller sees it.
fn refusal(error: &LedgerError, ask: Option<&Ask>, wait: Duration) -> Refusal {
    let name = ask.map_or("", |ask| &ask.sequence.facts.name);
    match error {
        LedgerError::Unknown(name) => {
            Refusal::new(Reason::SequenceUnknown, format!("the ledger has no sequence '{name}'"))
                .with("sequence", name)
        }
        LedgerError::Exhausted { left } => exhausted(name, *left, ask.map_or(1, |ask| ask.least)),
        LedgerError::Halted(why) => halted(name, why),
        LedgerError::Retired => {
            Refusal::new(Reason::SequenceRetired, format!("sequence '{name}' was retired"))
        }
        LedgerError::Closed(why) => {
            let message = format!("the ledger is closed: {why}; see `blockhouse ledger show`");
            Refusal::new(Reason::LedgerClosed, message).retry_after(Duration::from_secs(5))
        }
        LedgerError::RateCapped { allowed } => {
            let message = format!(
                "the hourly cap of sequence '{name}' (failover_gap) is spent: {allowed} IDs are allowed now"
            );
            Refusal::new(Reason::SequenceRateCapped, message).retry_after(Duration::from_secs(60))
        }
        LedgerError::WentBack { .. } => halted(name, &error.to_string()),
        LedgerError::Unreachable(_)
        | LedgerError::Conflict(_)
        | LedgerError::InDoubt(_)
        | LedgerError::Stale(_)
        | LedgerError::Wrong(_)
        | LedgerError::Schema(_)
        | LedgerError::Invalid(_) => {
            let message = format!("pods and reserve are empty, and the ledger can't be used: {error}");
            Refusal::new(Reason::LedgerUnreachable, message).retry_after(wait.max(Duration::from_millis(250)))
        }
    }
}

impl Work {
    fn refuse(self, refusal: Refusal) {
        match self {
            Work::Grant { reply, .. } => _ = reply.send(Err(refusal)),
            Work::Refresh { reply, .. } | Work::LookUp { reply } => _ = reply.send(Err(refusal)),
            // Dropping the call drops its reply, which its asker sees.
            Work::Other { .. } => {}
        }
    }

    fn abandoned(&self) -> bool {
        match self {
            Work::Grant { reply, .. } => reply.is_closed(),
            Work::Refresh { reply, .. } | Work::LookUp { reply } => reply.is_closed(),
            Work::Other { .. } => false,
        }
    }
}

impl Database {
    /// Starts the next job if the slot is free.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        if self.busy {
            return;
        }
        let Some(job) = self.line.iter_mut().find_map(VecDeque::pop_front) else {
            if let Some(reply) = self.closing.take() {
                let _ = reply.send(());
            }
            return;
        };
        if job.what.abandoned() {
            return self.pump(ctx);
        }
        self.busy = true;
        let slot = Rc::clone(&self.slot);
        let work = async move { slot.run(job.what).await };
        ctx.spawn(work.into_actor(self).map(|(), act, ctx| {
            act.busy = false;
            act.pump(ctx);
        }));
    }

    /// Refuses those who stood in line too long.
    fn expire(&mut self) {
        let max_wait = self.process.settings.fallback.max_wait;
        for line in &mut self.line {
            let mut waiting = VecDeque::with_capacity(line.len());
            for job in line.drain(..) {
                if job.patient || job.since.elapsed() < max_wait {
                    waiting.push_back(job);
                } else {
                    job.what.refuse(busy(max_wait));
                }
            }
            *line = waiting;
        }
    }
}

impl Slot {
    async fn run(&self, work: Work) {
        match work {
            Work::Grant { ask, reply } => {
                let granted = self.grant(&ask).await;
                // Nobody waits any more: the range drops, which counts it.
                let _ = reply.send(granted);
            }
            Work::Refresh { max_age, reply } => {
                let read_at = self.state.borrow().read_at;
                let _ = reply.send(self.refresh(read_at, max_age).await);
            }
            Work::LookUp { reply } => {
                let looked_up_at = self.state.borrow().looked_up_at;
                let read = self.refresh(looked_up_at, UNKNOWN_NAMES_EVERY).await;
                let mut state = self.state.borrow_mut();
                if looked_up_at.is_none_or(|at| at.elapsed() >= UNKNOWN_NAMES_EVERY) {
                    state.looked_up_at = Some(Instant::now());
                }
                let _ = reply.send(read);
            }
            Work::Other { what, call } => {
                let asked = Instant::now();
                let answer =
                    timeout(self.process.settings.ledger.timeout, call(Rc::clone(&self.ledger))).await;
                let answer = answer.unwrap_or_else(|_| Err(self.no_answer()));
                self.note("other", answer.as_ref().err(), asked);
                if let Err(error) = answer {
                    warn!(self.process.log, "the ledger failed"; "request" => what, "error" => %error);
                }
            }
        }
    }

    /// Reads the facts unless that was done within `max_age`, or the ledger failed a moment ago.
    async fn refresh(&self, last: Option<Instant>, max_age: Duration) -> Result<(), Refusal> {
        if last.is_some_and(|at| at.elapsed() < max_age) {
            return Ok(());
        }
        let resting = !self.wait().is_zero();
        let read = if resting { Err(self.last_error()) } else { self.read_facts().await };
        read.map_err(|error| refusal(&error, None, self.wait()))
    }

    fn no_answer(&self) -> LedgerError {
        LedgerError::InDoubt(format!(
            "no answer within {:?} (ledger.timeout)",
            self.process.settings.ledger.timeout
        ))
    }

    fn last_error(&self) -> LedgerError {
        LedgerError::Unreachable(self.process.ledger().last_error.unwrap_or_default())
    }

    fn wait(&self) -> Duration {
        self.state.borrow().backoff.wait(self.process.now()).unwrap_or_default()
    }

    async fn grant(&self, ask: &Ask) -> Result<Range, Refusal> {
        let wait = self.wait();
        if !wait.is_zero() {
            return Err(refusal(&self.last_error(), Some(ask), wait));
        }
        let mut tries = 0;
        let error = loop {
            tries += 1;
            match self.grant_once(ask).await {
                Ok(range) => return Ok(range),
                Err(LedgerError::Stale(_)) if tries == 1 => {
                    if let Err(error) = self.read_facts().await {
                        break error;
                    }
                }
                Err(LedgerError::Conflict(_)) if tries < 4 => {}
                Err(error) => break error,
            }
        };
        if matches!(error, LedgerError::WentBack { .. }) {
            self.halt(&ask.sequence, "high_water", &error.to_string()).await;
        }
        Err(refusal(&error, Some(ask), self.wait()))
    }

    /// Before its first grant a process reads what all reachable pods know, so that a ledger that went back in time meets a
    /// witness (S3).
    async fn hear_pods(&self) {
        if !std::mem::replace(&mut self.state.borrow_mut().pods_heard, true) {
            let _ = timeout(self.process.settings.redis.timeout, self.pods.heartbeat()).await;
        }
    }

    async fn grant_once(&self, ask: &Ask) -> Result<Range, LedgerError> {
        let process = &self.process;
        self.hear_pods().await;
        if process.known.load().identity.is_none() {
            self.read_facts().await?;
        }
        let identity = process.known.load().identity.clone();
        let Some(identity) = identity else {
            return Err(LedgerError::Unreachable("the ledger's identity is not known yet".to_owned()));
        };
        // A catalogue read meanwhile may have moved the sequence to a new generation.
        let sequence =
            process.known.sequence(&ask.sequence.facts.name).unwrap_or_else(|| Arc::clone(&ask.sequence));
        let request = GrantRequest {
            sequence: Arc::clone(&sequence.facts.name),
            generation: sequence.facts.generation,
            life: identity.life,
            least: ask.least,
            need: ask.need,
            want: self.want(ask),
            known_high_water: sequence.high_water(),
            purpose: ask.purpose,
            holder: Arc::clone(&process.settings.instance),
            cluster: Arc::clone(&process.settings.cluster),
            pod: ask.pod.clone(),
        };
        let most = request.want.min(sequence.left_at_most() / 64).max(request.need);
        let doubt = Doubt::new(&sequence.counters.tally, most);
        let asked = Instant::now();
        let answer = timeout(process.settings.ledger.timeout, self.ledger.grant(&request)).await;
        let answer = answer.unwrap_or_else(|_| Err(self.no_answer()));
        self.note(ask.purpose.name(), answer.as_ref().err(), asked);
        let grant = match answer {
            Ok(grant) => grant,
            Err(error) => {
                if matches!(error, LedgerError::InDoubt(_)) {
                    self.size(&sequence, GrantSize::in_doubt);
                    drop(doubt);
                } else {
                    doubt.settle();
                }
                return Err(error);
            }
        };
        doubt.settle();
        self.size(&sequence, |size| size.granted(grant.span.count()));
        self.accept(ask, &sequence, &request, grant).await
    }

    /// Checks a grant again on this side (S3, S6), tells the pods, and takes charge of it.
    async fn accept(
        &self,
        ask: &Ask,
        sequence: &Arc<Sequence>,
        request: &GrantRequest,
        grant: Grant,
    ) -> Result<Range, LedgerError> {
        let span = grant.span;
        let sound = span.first() > request.known_high_water
            && span.count() >= request.least
            && span.within(sequence.facts.first, i64::MAX)
            && grant.generation == request.generation
            && grant.life == request.life;
        if !sound {
            sequence.counters.tally.count(Cause::Unproven, span.count().unsigned_abs());
            let known = request.known_high_water;
            error!(self.process.log, "a grant doesn't fit what was asked and was discarded";
                "sequence" => %sequence.facts.name, "range" => %span, "known_high_water" => known);
            return Err(LedgerError::WentBack { granted: span.first() - 1, known });
        }
        sequence.raise_high_water(span.last());
        let range = if matches!(ask.purpose, Purpose::Hydrate) {
            Range::hold(span, Arc::clone(&sequence.counters.tally))
        } else {
            match sequence.admit(span, &self.process.log) {
                Ok(range) => range,
                Err(served) => {
                    let why =
                        format!("grant {} ({span}) overlaps {served}, which was served before", grant.number);
                    self.halt(sequence, "tripwire", &why).await;
                    return Err(LedgerError::Halted(why));
                }
            }
        };
        if !matches!(ask.purpose, Purpose::Hydrate) {
            // A hydrate's pushes raise it themselves.
            self.pods.raise(sequence, span.last()).await;
        }
        Ok(range)
    }

    fn want(&self, ask: &Ask) -> i64 {
        let mut want = ask.need;
        self.size(&ask.sequence, |size| {
            want = match ask.want {
                Want::Exactly => ask.need,
                Want::Cover(ids_per_second) => size.cover(ask.need, ids_per_second),
                Want::UpTo(ids) => size.capped(ask.need, ids),
            };
        });
        want
    }

    fn size(&self, sequence: &Sequence, change: impl FnOnce(&mut GrantSize)) {
        let fallback = &self.process.settings.fallback;
        let sizes = &mut self.state.borrow_mut().sizes;
        if sizes.len() <= sequence.index {
            sizes.resize_with(sequence.index + 1, || None);
        }
        change(
            sizes[sequence.index]
                .get_or_insert_with(|| GrantSize::new(fallback.cover, fallback.min_ids, fallback.max_ids)),
        );
    }

    /// A fence tripped: tier 3 of the sequence stops until a person looked.
    async fn halt(&self, sequence: &Arc<Sequence>, fence: &'static str, why: &str) {
        self.process.metrics.fence_trip(fence);
        error!(self.process.log, "a fence tripped: tier 3 of the sequence is halted";
            "sequence" => %sequence.facts.name, "fence" => fence, "why" => why);
        let asked = Instant::now();
        let halt = self.ledger.halt(&sequence.facts.name, why);
        let answer = timeout(self.process.settings.ledger.timeout, halt).await;
        let answer = answer.unwrap_or_else(|_| Err(self.no_answer()));
        self.note("other", answer.as_ref().err(), asked);
        // Reading the facts again makes the halt known here at once.
        let _ = self.read_facts().await;
    }

    async fn read_facts(&self) -> Result<(), LedgerError> {
        self.state.borrow_mut().read_at = Some(Instant::now());
        let known = self.process.known.load().identity.as_ref().map(|identity| identity.life);
        let asked = Instant::now();
        let answer = timeout(self.process.settings.ledger.timeout, self.ledger.facts(known)).await;
        let answer = answer.unwrap_or_else(|_| Err(self.no_answer()));
        self.note("other", answer.as_ref().err(), asked);
        let facts = answer?;
        let closed = match &facts.state {
            State::Open => None,
            State::Closed(why) => Some(LedgerError::Closed(why.to_string())),
        };
        if let Err(why) = self.process.known.hear_ledger(facts) {
            self.process.metrics.fence_trip("identity");
            let error = LedgerError::Wrong(why);
            self.process.set_ledger("refused", Some(error.to_string()));
            return Err(error);
        }
        if let Some(closed) = closed {
            self.process.set_ledger("closed", Some(closed.to_string()));
        }
        Ok(())
    }

    /// Notes what became of a request: the metric, the state that the status shows, when to try again.
    fn note(&self, purpose: &'static str, error: Option<&LedgerError>, asked: Instant) {
        let outcome = error.map_or("ok", LedgerError::outcome);
        self.process.metrics.ledger_request(purpose, outcome, asked.elapsed());
        let before = self.process.ledger().state;
        let mut state = self.state.borrow_mut();
        let random = state.rng.f64();
        match error {
            Some(LedgerError::Unreachable(_) | LedgerError::InDoubt(_)) => {
                state.backoff.failed(self.process.now(), random);
                self.process.set_ledger("down", error.map(ToString::to_string));
            }
            Some(LedgerError::Wrong(why) | LedgerError::Schema(why)) => {
                state.backoff.failed(self.process.now(), random);
                self.process.set_ledger("refused", Some(why.clone()));
                if !state.met {
                    self.process.end(Fatal::Misplaced(why.clone()));
                }
            }
            Some(LedgerError::Closed(why)) => {
                state.backoff.succeeded();
                self.process.set_ledger("closed", Some(why.clone()));
            }
            _ => {
                state.backoff.succeeded();
                state.met = true;
                self.process.set_ledger("up", None);
            }
        }
        let after = self.process.ledger();
        if before != after.state {
            match after.last_error {
                Some(error) => {
                    warn!(self.process.log, "the ledger can't be used"; "state" => after.state, "error" => error)
                }
                None => info!(self.process.log, "the ledger answers"),
            }
        }
    }
}

impl Actor for Database {
    type Context = Context<Self>;
}

impl Supervised for Database {
    /// The request under way was dropped, and with it its connection; those in line stay there.
    fn restarting(&mut self, ctx: &mut Context<Self>) {
        self.busy = false;
        self.pump(ctx);
    }
}

impl Handler<Submit> for Database {
    type Result = ();

    fn handle(&mut self, submit: Submit, ctx: &mut Context<Self>) {
        self.part.handled();
        let max_wait = self.process.settings.fallback.max_wait;
        if self.closing.is_some() || (self.busy && !submit.job.patient && max_wait.is_zero()) {
            submit.job.what.refuse(busy(max_wait));
            return;
        }
        let waits = self.busy && !submit.job.patient;
        self.line[submit.urgency as usize].push_back(submit.job);
        self.pump(ctx);
        if waits {
            ctx.run_later(max_wait, |act, _| act.expire());
        }
    }
}

impl Handler<Drain> for Database {
    type Result = ();

    fn handle(&mut self, drain: Drain, ctx: &mut Context<Self>) {
        self.part.handled();
        for job in self.line.iter_mut().flat_map(std::mem::take) {
            job.what.refuse(busy(Duration::ZERO));
        }
        self.closing = Some(drain.reply);
        self.pump(ctx);
    }
}

impl Handler<Panic> for Database {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        self.part.handled();
        panic!("asked to");
    }
}
