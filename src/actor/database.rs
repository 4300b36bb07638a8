//! Tier 3 of the process: one connection, one request at a time.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Supervised, WrapFuture};
use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::guard;
use super::mailbox::{Mailbox, Panic};
use super::pod_set::PodSet;
use super::process::{Part, Process};
use super::refusals::{busy, refuse_early, restarting};
use super::slot::{Ask, Call, Slot, Work};
use crate::block::{Range, Refusal};
use crate::ledger::{Ledger, LedgerError, Purpose};

/// The process's way to the ledger.
#[derive(Clone)]
pub struct DatabaseHandle {
    mailbox: Mailbox<Database>,
    process: Arc<Process>,
}

struct Database {
    process: Arc<Process>,
    part: Arc<Part>,
    slot: Rc<Slot>,
    /// The line before the slot, one for each urgency.
    line: [VecDeque<Job>; 3],
    busy: bool,
    /// Set by a drain: nothing new is taken.
    closing: bool,
    /// Who waits for the end of the drain.
    drained: Option<oneshot::Sender<()>>,
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

struct Submit {
    urgency: Urgency,
    job: Job,
}

struct Drain {
    reply: oneshot::Sender<()>,
}

impl Message for Submit {
    type Result = ();
}

impl Message for Drain {
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
    let slot = Rc::new(Slot::new(process, ledger, pods, rng));
    let mailbox = guard::start(process, &part, |_| Database {
        process: Arc::clone(process),
        part: Arc::clone(&part),
        slot,
        line: Default::default(),
        busy: false,
        closing: false,
        drained: None,
    });
    DatabaseHandle { mailbox, process: Arc::clone(process) }
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
        let _ = self.mailbox.ask(|reply| Drain { reply }).await;
    }

    /// Makes the actor panic, for drills.
    pub fn panic(&self) {
        self.mailbox.send(Panic);
    }

    fn submit(&self, urgency: Urgency, what: Work, patient: bool) {
        self.mailbox.send(Submit { urgency, job: Job { what, since: Instant::now(), patient } });
    }
}

impl Database {
    /// Starts the next job if the slot is free.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        if self.busy {
            return;
        }
        let Some(job) = self.line.iter_mut().find_map(VecDeque::pop_front) else {
            if let Some(drained) = self.drained.take() {
                let _ = drained.send(());
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

impl Actor for Database {
    type Context = Context<Self>;
}

impl Supervised for Database {
    /// The request under way was dropped, and with it its connection; those in line stay there.
    fn restarting(&mut self, ctx: &mut Context<Self>) {
        self.busy = false;
        self.pump(ctx);
        // The timers of those in line are gone.
        ctx.run_later(self.process.settings.fallback.max_wait, |act, _| act.expire());
    }
}

impl Handler<Submit> for Database {
    type Result = ();

    fn handle(&mut self, submit: Submit, ctx: &mut Context<Self>) {
        self.part.handled();
        let max_wait = self.process.settings.fallback.max_wait;
        if self.closing || (self.busy && !submit.job.patient && max_wait.is_zero()) {
            submit.job.what.refuse(busy(max_wait));
            return;
        }
        if self.slot.looked_up()
            && let Work::LookUp { reply } = submit.job.what
        {
            // What is asked of a slot that is stuck isn't worth waiting for.
            let _ = reply.send(Ok(()));
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
        self.closing = true;
        self.drained = Some(drain.reply);
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
