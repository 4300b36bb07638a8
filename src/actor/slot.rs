//! The one request at a time that a process has with its ledger.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use slog::{error, info, warn};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::known::Sequence;
use super::pod_set::PodSet;
use super::process::{Fatal, Process};
use super::refusals::refusal;
use crate::block::health::Backoff;
use crate::block::size::GrantSize;
use crate::block::{Cause, Doubt, Life, Range, Refusal};
use crate::failpoint;
use crate::ledger::{Condemned, Grant, GrantRequest, Ledger, LedgerError, Purpose, Reported, State};

/// Unknown names cause at most one ledger read in this time.
const UNKNOWN_NAMES_EVERY: Duration = Duration::from_secs(10);
/// The purpose, as metrics name it, of whatever is no grant.
const OTHER: &str = "other";
/// A closed ledger is read again at most once in this time.
const CLOSED_READ_EVERY: Duration = Duration::from_secs(1);
/// A ledger that forgot a generation is closed for it this often at most.
const CONDEMNED_EVERY: Duration = Duration::from_secs(60);

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

/// What the slot is asked to do.
pub(super) enum Work {
    Grant { ask: Ask, reply: oneshot::Sender<Result<Range, Refusal>> },
    Refresh { max_age: Duration, reply: oneshot::Sender<Result<(), Refusal>> },
    LookUp { reply: oneshot::Sender<Result<(), Refusal>> },
    Other { what: &'static str, call: Call },
}

/// A call that answers its asker itself, and gives what became of it.
pub(super) type Call =
    Box<dyn FnOnce(Rc<dyn Ledger>) -> LocalBoxFuture<'static, Result<(), LedgerError>> + Send>;

/// What the request under way works with.
pub(super) struct Slot {
    process: Arc<Process>,
    ledger: Rc<dyn Ledger>,
    pods: Rc<PodSet>,
    state: RefCell<SlotState>,
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
    /// Why it is closed, until a grant, or its facts, say that it is open.
    closed: Option<String>,
    /// Why it must not be used though it is open, until its facts say otherwise.
    refused: Option<String>,
    /// What an open ledger had forgotten when its facts were last read.
    forgot: Option<String>,
    /// When it was last condemned for that.
    condemned_at: Option<Instant>,
    /// Whether the pods were asked what they witnessed: before that no grant is asked for.
    pods_heard: bool,
}

impl Work {
    pub(super) fn refuse(self, refusal: Refusal) {
        match self {
            Work::Grant { reply, .. } => _ = reply.send(Err(refusal)),
            Work::Refresh { reply, .. } | Work::LookUp { reply } => _ = reply.send(Err(refusal)),
            // Dropping the call drops its reply, which its asker sees.
            Work::Other { .. } => {}
        }
    }

    pub(super) fn abandoned(&self) -> bool {
        match self {
            Work::Grant { reply, .. } => reply.is_closed(),
            Work::Refresh { reply, .. } | Work::LookUp { reply } => reply.is_closed(),
            Work::Other { .. } => false,
        }
    }
}

impl Slot {
    pub(super) fn new(
        process: &Arc<Process>,
        ledger: Rc<dyn Ledger>,
        pods: Rc<PodSet>,
        rng: fastrand::Rng,
    ) -> Slot {
        let state = SlotState {
            // Whoever keeps the pods supplied finds the ledger again before anybody needs it; there are few of those.
            backoff: Backoff::new(
                Duration::from_millis(250),
                Duration::from_secs(if process.roles.hydrator { 1 } else { 10 }),
            ),
            sizes: Vec::new(),
            rng,
            read_at: None,
            looked_up_at: None,
            met: false,
            closed: None,
            refused: None,
            forgot: None,
            condemned_at: None,
            pods_heard: false,
        };
        Slot { process: Arc::clone(process), ledger, pods, state: state.into() }
    }

    /// Whether the facts were read for an unknown name a moment ago: another one waits for nothing.
    pub(super) fn looked_up(&self) -> bool {
        self.state.borrow().looked_up_at.is_some_and(|at| at.elapsed() < UNKNOWN_NAMES_EVERY)
    }

    /// Does one thing, and tells whoever asked.
    pub(super) async fn run(&self, work: Work) {
        match work {
            Work::Grant { ask, reply } => {
                let granted = self.grant(&ask).await;
                // Nobody waits any more: the range drops, which counts it.
                let _ = reply.send(granted);
            }
            Work::Refresh { max_age, reply } => {
                let _ = reply.send(if self.read_within(max_age) { Ok(()) } else { self.refresh().await });
            }
            Work::LookUp { reply } if self.looked_up() => _ = reply.send(Ok(())),
            Work::LookUp { reply } => {
                let read = self.refresh().await;
                self.state.borrow_mut().looked_up_at = Some(Instant::now());
                let _ = reply.send(read);
            }
            Work::Other { what, call } => {
                if let Err(error) = self.ask(call(Rc::clone(&self.ledger))).await {
                    warn!(self.process.log, "the ledger failed"; "request" => what, "error" => %error);
                }
            }
        }
    }

    /// Reads the facts, unless the ledger failed a moment ago.
    async fn refresh(&self) -> Result<(), Refusal> {
        let resting = !self.wait().is_zero();
        let read = if resting { Err(self.last_error()) } else { self.read_facts().await };
        read.map_err(|error| refusal(&error, None, self.wait()))
    }

    /// Whether the facts were read, or tried to be, so short a time ago.
    fn read_within(&self, age: Duration) -> bool {
        self.state.borrow().read_at.is_some_and(|at| at.elapsed() < age)
    }

    /// One request to the ledger: bounded by `ledger.timeout`, counted, and a failure noted.
    async fn request<T>(
        &self,
        purpose: &'static str,
        call: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let (bound, asked) = (self.process.settings.ledger.timeout, Instant::now());
        let no_answer = || LedgerError::InDoubt(format!("no answer within {bound:?} (ledger.timeout)"));
        let answer = timeout(bound, call).await.unwrap_or_else(|_| Err(no_answer()));
        let outcome = answer.as_ref().err().map_or("ok", LedgerError::outcome);
        self.process.metrics.ledger_request(purpose, outcome, asked.elapsed());
        answer.inspect_err(|error| self.heed(error))
    }

    /// The same for one that says nothing of whether the ledger is open.
    async fn ask<T>(&self, call: impl Future<Output = Result<T, LedgerError>>) -> Result<T, LedgerError> {
        self.request(OTHER, call).await.inspect(|_| self.spoke())
    }

    fn last_error(&self) -> LedgerError {
        LedgerError::Unreachable(self.process.ledger().last_error.unwrap_or_default())
    }

    fn wait(&self) -> Duration {
        self.state.borrow().backoff.wait(self.process.now()).unwrap_or_default()
    }

    /// Why it gives nothing at present, whoever asks, as it said last.
    fn shut(&self) -> Option<LedgerError> {
        let state = self.state.borrow();
        let closed = state.closed.clone().map(LedgerError::Closed);
        closed.or_else(|| state.refused.clone().map(LedgerError::Wrong))
    }

    /// What an open ledger has forgotten; to be condemned for it, but not again and again where that doesn't help.
    fn forgot(&self) -> Option<LedgerError> {
        let mut state = self.state.borrow_mut();
        let what = state.forgot.take()?;
        if state.condemned_at.is_some_and(|at| at.elapsed() < CONDEMNED_EVERY) {
            return Some(LedgerError::Stale(what));
        }
        state.condemned_at = Some(Instant::now());
        Some(LedgerError::Forgot(what))
    }

    async fn grant(&self, ask: &Ask) -> Result<Range, Refusal> {
        let wait = self.wait();
        if !wait.is_zero() {
            return Err(refusal(&self.last_error(), Some(ask), wait));
        }
        if let Some(shut) = self.shut().filter(|_| self.read_within(CLOSED_READ_EVERY)) {
            return Err(refusal(&shut, Some(ask), CLOSED_READ_EVERY));
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
                    if let Some(error) = self.forgot() {
                        break error;
                    }
                }
                Err(LedgerError::Closed(_)) if tries == 1 && !self.read_within(CLOSED_READ_EVERY) => {
                    // Telling it what is known may open it.
                    if let Err(error) = self.read_facts().await {
                        break error;
                    }
                }
                Err(LedgerError::Conflict(_)) if tries < 4 => {}
                Err(error) => break error,
            }
        };
        let error = match error {
            LedgerError::WentBack { .. } | LedgerError::Forgot(_) => self.condemn(&ask.sequence, error).await,
            other => other,
        };
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
            // Nobody follows a life that may never be open.
            let unknown = || LedgerError::Unreachable("the ledger's identity is not known yet".to_owned());
            return Err(self.shut().unwrap_or_else(unknown));
        };
        // A catalogue read meanwhile may have moved the sequence to a new generation.
        let sequence = process.known.newest(&ask.sequence);
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
        let left = sequence.left_at_most();
        let most = request.want.min(left / 64).max(request.need).min(left);
        let doubt = Doubt::new(&sequence.counters.tally, most);
        let asked = failpoint::sent("grant.sent", self.ledger.grant(&request));
        let grant = match self.request(ask.purpose.name(), asked).await {
            Ok(grant) => grant,
            Err(error) => {
                if let LedgerError::Exhausted { left } = &error {
                    // Somebody else used it up: from now on that is known here without asking.
                    sequence.raise_high_water(sequence.facts.last.saturating_sub(*left));
                }
                if matches!(error, LedgerError::InDoubt(_)) {
                    self.size(&sequence, GrantSize::in_doubt);
                    drop(doubt);
                } else {
                    doubt.settle();
                }
                return Err(error);
            }
        };
        failpoint::reach("grant.committed");
        self.answered();
        self.open();
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
            Range::hold(span, grant.generation, Arc::clone(&sequence.counters.tally))
        } else {
            match sequence.admit(span, grant.generation, &self.process.log) {
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

    /// The ledger went back in time and doesn't know it: the life that it is in ends here. Where the engine has but one life, tier 3 of
    /// the sequence stops instead.
    ///
    /// Gives what the ledger is for whoever asked.
    async fn condemn(&self, sequence: &Arc<Sequence>, went_back: LedgerError) -> LedgerError {
        let life = self.process.known.load().identity.as_ref().map(|identity| identity.life);
        let Some(life) = life else { return went_back };
        let why = went_back.to_string();
        match self.request(OTHER, self.ledger.condemn(life, life.epoch, &why)).await {
            Ok(Condemned::Closed) => {
                self.process.metrics.fence_trip("high_water");
                error!(self.process.log, "the ledger went back in time and was closed";
                    "sequence" => %sequence.facts.name, "epoch" => life.epoch, "why" => &why);
            }
            // Somebody closed it before, or another server has answered: what it says now counts.
            Ok(Condemned::Elsewhere) => {}
            Ok(Condemned::OnlyLife) => {
                self.halt(sequence, "high_water", &why).await;
                return went_back;
            }
            // It is noted, and the next grant meets the same counter.
            Err(error) => return error,
        }
        if let Err(error) = self.read_facts().await {
            return error;
        }
        let closed = self.state.borrow().closed.clone();
        closed.map_or(
            LedgerError::Conflict("another server answers than a moment ago".to_owned()),
            LedgerError::Closed,
        )
    }

    /// A fence tripped: tier 3 of the sequence stops until a person looked.
    async fn halt(&self, sequence: &Arc<Sequence>, fence: &'static str, why: &str) {
        self.process.metrics.fence_trip(fence);
        error!(self.process.log, "a fence tripped: tier 3 of the sequence is halted";
            "sequence" => %sequence.facts.name, "fence" => fence, "why" => why);
        let _ = self.ask(self.ledger.halt(&sequence.facts.name, why)).await;
        // Reading the facts again makes the halt known here at once.
        let _ = self.read_facts().await;
    }

    /// Reads the facts. A closed ledger is told what this cluster knows, which may open it.
    async fn read_facts(&self) -> Result<(), LedgerError> {
        match self.learn().await? {
            (_, State::Open) => self.open(),
            (closed, State::Closed(why)) => match self.report(closed).await? {
                Reported::Open => match self.learn().await? {
                    (_, State::Open) => self.open(),
                    (_, State::Closed(why)) => self.closed(&why),
                },
                Reported::Waits(_) => self.closed(&why),
            },
        }
        Ok(())
    }

    /// Hears what the ledger says of itself: in which life it is, and whether it is open.
    async fn learn(&self) -> Result<(Life, State), LedgerError> {
        self.state.borrow_mut().read_at = Some(Instant::now());
        let before = self.process.known.load();
        let known = before.identity.as_ref().map(|identity| identity.life);
        let facts = self.request(OTHER, self.ledger.facts(known)).await?;
        self.answered();
        let (life, state) = (facts.identity.life, facts.state.clone());
        self.state.borrow_mut().forgot = before.forgotten_by(&facts.catalogue);
        if let Err(why) = self.process.known.hear_ledger(facts) {
            self.process.metrics.fence_trip("identity");
            if let State::Closed(reason) = state {
                // Whoever decides how it goes on must know of the other line; then this process comes along.
                let _ = self.report(life).await;
                self.closed(&reason);
                return Err(LedgerError::Closed(reason.to_string()));
            }
            {
                let mut state = self.state.borrow_mut();
                (state.closed, state.refused) = (None, Some(why.clone()));
            }
            let error = LedgerError::Wrong(why);
            self.show("refused", Some(error.to_string()));
            return Err(error);
        }
        self.state.borrow_mut().refused = None;
        Ok((life, state))
    }

    /// Says what this cluster knows to a ledger that is closed.
    async fn report(&self, closed: Life) -> Result<Reported, LedgerError> {
        // Each time: the pods may have been told of a life since, that this process didn't meet.
        self.state.borrow_mut().pods_heard = false;
        self.hear_pods().await;
        let report = self.process.known.report(closed, &self.process.settings.instance);
        let reported = self.request(OTHER, self.ledger.report(&report)).await?;
        info!(self.process.log, "told the closed ledger what is known"; "outcome" => ?reported);
        Ok(reported)
    }

    /// What a failure says of the ledger: the state that the status shows, and when to try again.
    fn heed(&self, error: &LedgerError) {
        match error {
            LedgerError::Unreachable(_) | LedgerError::InDoubt(_) => {
                self.failed();
                self.show("down", Some(error.to_string()));
            }
            LedgerError::Wrong(why) | LedgerError::Schema(why) => {
                self.failed();
                self.show("refused", Some(why.clone()));
                if !self.state.borrow().met {
                    self.process.end(Fatal::Misplaced(why.clone()));
                }
            }
            LedgerError::Closed(why) => {
                self.answered();
                self.closed(why);
            }
            _ => self.spoke(),
        }
    }

    /// A closed ledger answers much; only a grant, or facts that say so, show that it is open.
    fn spoke(&self) {
        self.answered();
        let closed = self.state.borrow().closed.clone();
        match closed {
            Some(why) => self.closed(&why),
            None => self.open(),
        }
    }

    fn failed(&self) {
        let mut state = self.state.borrow_mut();
        let random = state.rng.f64();
        state.backoff.failed(self.process.now(), random);
    }

    fn answered(&self) {
        let mut state = self.state.borrow_mut();
        state.backoff.succeeded();
        state.met = true;
    }

    fn open(&self) {
        self.state.borrow_mut().closed = None;
        self.show("up", None);
    }

    /// A fence tripped (S3): counted once, however often the ledger says so.
    fn closed(&self, why: &str) {
        let before = self.state.borrow_mut().closed.replace(why.to_owned());
        if before.as_deref() != Some(why) {
            self.process.metrics.fence_trip("incarnation");
        }
        self.show("closed", Some(why.to_owned()));
    }

    /// Sets how the ledger is doing, and logs a change.
    fn show(&self, state: &'static str, error: Option<String>) {
        if self.process.ledger().state != state {
            match &error {
                Some(error) => {
                    warn!(self.process.log, "the ledger can't be used"; "state" => state, "error" => error);
                }
                None => info!(self.process.log, "the ledger answers"),
            }
        }
        self.process.set_ledger(state, error);
    }
}
