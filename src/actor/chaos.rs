//! The role chaos: injects faults into its own process, within limits, and takes each back.
//!
//! What may happen is decided by `block/chaos`; this carries time, health and wishes there, and lays and mends lines. Whatever
//! becomes of this actor, a fault ends: a panic drops the `Injection`, which mends, and a lease ends at its deadline by itself.

mod injection;
mod lookout;
mod view;

use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Supervised, WrapFuture};
use time::OffsetDateTime;
use tokio::sync::oneshot;

pub use self::injection::{Tools, Victims};
use self::lookout::Lookout;
pub use self::view::drill;
use super::guard;
use super::mailbox::{Mailbox, Panic};
use super::process::{Part, Process};
use super::router::HEARTBEAT;
use crate::block::chaos::{Fault, Refused, Wish};
use crate::chaos::Lines;
use crate::observe::status::Drill;
use crate::pods::discovery::Roster;
use crate::shutdown::Phases;

mod work;
use work::Work;

/// What the wall clock says: for quiet hours, and for people.
pub type Clock = Rc<dyn Fn() -> OffsetDateTime>;

/// The role, as the admin pages see it.
#[derive(Clone)]
pub struct ChaosHandle {
    mailbox: Mailbox<Chaos>,
    lines: Lines,
}

/// Where the role looks, so that what it breaks doesn't blind it.
pub struct Outlook {
    /// The pods, not behind their line.
    pub roster: Roster,
    /// Where the process is.
    pub phases: Phases,
    /// The time of the day.
    pub clock: Clock,
}

struct Chaos {
    process: Arc<Process>,
    part: Arc<Part>,
    work: Rc<Work>,
    looking: bool,
}

struct Inject {
    wish: Wish,
    reply: oneshot::Sender<Result<Drill, Refused>>,
}

struct Stop {
    why: String,
    reply: oneshot::Sender<()>,
}

impl Message for Inject {
    type Result = ();
}

impl Message for Stop {
    type Result = ();
}

/// Starts the role on the present thread.
pub fn start(process: &Arc<Process>, tools: Tools, outlook: Outlook, rng: fastrand::Rng) -> ChaosHandle {
    process.metrics.expect_chaos(Fault::NAMED.iter().map(|(name, _)| *name));
    let part = process.part("chaos", None);
    let lines = tools.lines.clone();
    let lookout = Lookout::new(Arc::clone(process), outlook.roster, outlook.phases);
    let work = Rc::new(Work::new(Arc::clone(process), lookout, tools, outlook.clock, rng));
    work.show();
    let mailbox = guard::start(process, &part, |_| Chaos {
        process: Arc::clone(process),
        part: Arc::clone(&part),
        work,
        looking: false,
    });
    ChaosHandle { mailbox, lines }
}

impl ChaosHandle {
    /// Injects a fault, or says what it would inject.
    ///
    /// # Errors
    /// Why it doesn't.
    ///
    /// # Cancel safety
    /// It is injected all the same.
    pub async fn inject(&self, wish: Wish) -> Result<Drill, Refused> {
        let answer = self.mailbox.ask(|reply| Inject { wish, reply }).await;
        answer.unwrap_or_else(|| Err(Refused::for_now("the role chaos is being restarted")))
    }

    /// Ends what runs, at once; nothing is injected any more by this process. Idempotent.
    pub async fn stop(&self, why: &str) {
        // Also where the actor rests after a panic.
        self.lines.mend();
        let why = why.to_owned();
        let _ = self.mailbox.ask(|reply| Stop { why, reply }).await;
    }

    /// Makes the actor panic, for tests.
    pub fn panic(&self) {
        self.mailbox.send(Panic);
    }
}

impl Chaos {
    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.part.beat(self.process.now());
        if std::mem::replace(&mut self.looking, true) {
            return;
        }
        let work = Rc::clone(&self.work);
        let turn = async move { work.turn().await };
        ctx.spawn(turn.into_actor(self).map(|(), act, _| act.looking = false));
    }
}

impl Actor for Chaos {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(HEARTBEAT, Chaos::tick);
    }
}

impl Supervised for Chaos {
    /// Whatever was injected is taken back. `started` runs again after this.
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.looking = false;
        self.work.failed();
    }
}

impl Handler<Inject> for Chaos {
    type Result = ();

    fn handle(&mut self, inject: Inject, ctx: &mut Context<Self>) {
        self.part.handled();
        let work = Rc::clone(&self.work);
        let attempt = async move {
            let outcome = work.attempt(&inject.wish).await;
            let _ = inject.reply.send(outcome);
        };
        ctx.spawn(attempt.into_actor(self));
    }
}

impl Handler<Stop> for Chaos {
    type Result = ();

    fn handle(&mut self, stop: Stop, _: &mut Context<Self>) {
        self.part.handled();
        self.work.stop(&stop.why);
        let _ = stop.reply.send(());
    }
}

impl Handler<Panic> for Chaos {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        self.part.handled();
        panic!("asked to");
    }
}
