//! Keeps the pods supplied: an actor that makes one pass at a time, and the pass itself.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Supervised, WrapFuture};
use slog::{debug, warn};
use tokio::sync::oneshot;

use super::guard;
use super::hydration::Hydration;
use super::mailbox::{Mailbox, Panic};
use super::process::{Part, Process};
use crate::block::health::Backoff;

/// A pass that failed is tried again within this time: a ledger that is back opens when its clusters have spoken, and grants to whoever
/// asks.
const RETRY_WITHIN: Duration = Duration::from_secs(1);

/// The hydrator, as the supervisor sees it.
#[derive(Clone)]
pub struct HydratorHandle {
    mailbox: Mailbox<Hydrator>,
}

struct Hydrator {
    process: Arc<Process>,
    part: Arc<Part>,
    /// Away while a pass is under way.
    hydration: Option<Hydration>,
    rebuild: Box<dyn Fn() -> Hydration>,
    backoff: Backoff,
    /// Why the last pass failed.
    failure: Option<String>,
    rng: fastrand::Rng,
    closing: Option<oneshot::Sender<()>>,
}

struct Drain {
    reply: oneshot::Sender<()>,
}

impl Message for Drain {
    type Result = ();
}

/// Starts the hydrator on the present thread; `rebuild` makes its state, again after a panic.
pub fn start(
    process: &Arc<Process>,
    rebuild: impl Fn() -> Hydration + 'static,
    rng: fastrand::Rng,
) -> HydratorHandle {
    let part = process.part("hydrator", None);
    let interval = process.settings.hydrator.interval;
    let mailbox = guard::start(process, &part, |_| Hydrator {
        process: Arc::clone(process),
        part: Arc::clone(&part),
        hydration: Some(rebuild()),
        rebuild: Box::new(rebuild),
        backoff: Backoff::new((interval / 4).min(RETRY_WITHIN), RETRY_WITHIN),
        failure: None,
        rng,
        closing: None,
    });
    HydratorHandle { mailbox }
}

impl HydratorHandle {
    /// Waits for the pass under way, gives what it holds back to the pods, and resigns.
    pub async fn drain(&self) {
        let _ = self.mailbox.ask(|reply| Drain { reply }).await;
    }

    /// Makes the actor panic, for drills.
    pub fn panic(&self) {
        self.mailbox.send(Panic);
    }
}

impl Hydrator {
    fn pass(&mut self, ctx: &mut Context<Self>) {
        let Some(mut hydration) = self.hydration.take() else { return };
        let work = async move {
            let done = hydration.pass().await;
            (hydration, done)
        };
        ctx.spawn(work.into_actor(self).map(|(hydration, done), act, ctx| {
            act.hydration = Some(hydration);
            if act.closing.is_some() {
                return act.close(ctx);
            }
            let now = act.process.now();
            let wait = match done {
                Ok(unfinished) => {
                    act.backoff.succeeded();
                    act.failure = None;
                    if unfinished { Duration::ZERO } else { act.process.settings.hydrator.interval }
                }
                Err(why) => {
                    act.backoff.failed(now, act.rng.f64());
                    act.note(why);
                    act.backoff.wait(now).unwrap_or_default()
                }
            };
            ctx.run_later(wait, Hydrator::pass);
        }));
    }

    /// Warns once of each reason: it may be the same for a day.
    fn note(&mut self, why: String) {
        if self.failure.as_ref() == Some(&why) {
            debug!(self.process.log, "a hydrator pass failed again"; "error" => &why);
        } else {
            warn!(self.process.log, "a hydrator pass failed"; "error" => &why);
        }
        self.failure = Some(why);
    }

    fn close(&mut self, ctx: &mut Context<Self>) {
        let (Some(reply), Some(hydration)) = (self.closing.take(), self.hydration.take()) else { return };
        let work = async move {
            hydration.end().await;
            let _ = reply.send(());
        };
        ctx.spawn(work.into_actor(self));
    }
}

impl Actor for Hydrator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.pass(ctx);
    }
}

impl Supervised for Hydrator {
    /// The pass under way was dropped; what it held is counted as discarded. `started` runs again after this.
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.hydration = Some((self.rebuild)());
    }
}

impl Handler<Drain> for Hydrator {
    type Result = ();

    fn handle(&mut self, drain: Drain, ctx: &mut Context<Self>) {
        self.part.handled();
        self.closing = Some(drain.reply);
        if self.hydration.is_some() {
            self.close(ctx);
        }
    }
}

impl Handler<Panic> for Hydrator {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        self.part.handled();
        panic!("asked to");
    }
}
