//! Watches over the process: heartbeats of the pods, what is known, what a person should look at.
//!
//! Restarting is the guards' work (`guard.rs`); counting restarts and giving up is [`Process::failed`]'s.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Supervised, WrapFuture};
use slog::warn;
use time::OffsetDateTime;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::database::DatabaseHandle;
use super::guard;
use super::mailbox::{Mailbox, Panic};
use super::pod_set::PodSet;
use super::process::{Part, Process};
use super::router::HEARTBEAT;
use super::status::{problems, status};
use crate::observe::Status;
use crate::shutdown::{Phase, Phases};

/// Without any pod, the facts are read from the ledger this often; with pods, those of one that is down or closed.
const FACTS_NOW_AND_THEN: Duration = Duration::from_secs(60);
/// A thread that hasn't run for this long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// The process, as its admin pages see it.
#[derive(Clone)]
pub struct ControlHandle {
    mailbox: Mailbox<Supervisor>,
    process: Arc<Process>,
    phases: Phases,
    drain: watch::Sender<bool>,
}

struct Supervisor {
    process: Arc<Process>,
    part: Arc<Part>,
    pods: Rc<PodSet>,
    database: DatabaseHandle,
    phases: Phases,
    /// When each present problem was first seen.
    since: BTreeMap<String, OffsetDateTime>,
    beating: bool,
    reading: bool,
}

struct Look {
    reply: oneshot::Sender<Status>,
}

impl Message for Look {
    type Result = ();
}

/// Starts the supervisor on the present thread. `drain` is set when somebody asks for it.
pub fn start(
    process: &Arc<Process>,
    pods: Rc<PodSet>,
    database: DatabaseHandle,
    phases: Phases,
    drain: watch::Sender<bool>,
) -> ControlHandle {
    let part = process.part("supervisor", None);
    let mailbox = guard::start(process, &part, |_| Supervisor {
        process: Arc::clone(process),
        part: Arc::clone(&part),
        pods,
        database,
        phases: phases.clone(),
        since: BTreeMap::new(),
        beating: false,
        reading: false,
    });
    ControlHandle { mailbox, process: Arc::clone(process), phases, drain }
}

impl ControlHandle {
    /// Everything that `/api/v1/status` shows; bounded by a second.
    pub async fn status(&self) -> Status {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Look { reply });
        match timeout(Duration::from_secs(1), answer).await {
            Ok(Ok(status)) => status,
            _ => Status { state: "starting".to_owned(), ..Status::default() },
        }
    }

    /// Whether some tier can answer now and the process isn't draining.
    ///
    /// # Errors
    /// Why not, in one line for people.
    pub fn ready(&self) -> Result<(), String> {
        if *self.phases.borrow() >= Phase::Draining {
            return Err("draining: this process is about to stop".to_owned());
        }
        self.process.ready()
    }

    /// Whether the control thread and every worker ran within the last 10 s.
    ///
    /// # Errors
    /// Which didn't, in one line for people.
    pub fn alive(&self) -> Result<(), String> {
        let now = self.process.now();
        for part in self.process.parts() {
            let pulse = Duration::from_millis(part.pulse_ms.load(Ordering::Relaxed));
            if !pulse.is_zero() && now.saturating_sub(pulse) > STUCK {
                return Err(format!(
                    "{} hasn't run for {} s",
                    part.name,
                    now.saturating_sub(pulse).as_secs()
                ));
            }
        }
        Ok(())
    }

    /// Asks the process to drain and end, as SIGTERM does. Idempotent.
    pub fn drain(&self) {
        self.drain.send_replace(true);
    }

    /// Makes the actor panic, for drills.
    pub fn panic(&self) {
        self.mailbox.send(Panic);
    }
}

impl Supervisor {
    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.part.beat(self.process.now());
        if !self.beating {
            self.beating = true;
            let pods = Rc::clone(&self.pods);
            let beat = async move { pods.heartbeat().await };
            ctx.spawn(beat.into_actor(self).map(|(), act, _| act.beating = false));
        }
        self.read_facts(ctx);
        self.show();
    }

    /// Whoever has a pod to ask learns from it; without one the ledger is asked now and then. One that is down or closed is asked
    /// again as often as its back-off allows where nothing else can serve or this process keeps the pods supplied, and now and then
    /// by all others: else nobody notices that it is back before it is needed.
    fn read_facts(&mut self, ctx: &mut Context<Self>) {
        let from_pods = self.pods.usable_count() > 0 && self.process.known.load().identity.is_some();
        let away = matches!(self.process.ledger().state, "down" | "closed");
        if self.reading || from_pods && !away {
            return;
        }
        self.reading = true;
        let needed = !from_pods || self.process.roles.hydrator;
        let urgent = needed && (away || self.process.known.load().identity.is_none());
        let max_age = if urgent { HEARTBEAT } else { FACTS_NOW_AND_THEN };
        let database = self.database.clone();
        // Why it failed is in the status, and logged by the database actor.
        let read = async move { _ = database.refresh(max_age).await };
        ctx.spawn(read.into_actor(self).map(|(), act, _| act.reading = false));
    }

    /// Sets the gauges that follow from what is known, and notes, and logs, since when something is wrong.
    fn show(&mut self) {
        let metrics = &self.process.metrics;
        for sequence in self.process.known.load().sequences() {
            let facts = &sequence.facts;
            let space = (facts.last - facts.first) as f64 + 1.0;
            metrics.set_used_ratio(&facts.name, 1.0 - sequence.left_at_most() as f64 / space);
        }
        self.problems();
    }

    fn problems(&mut self) -> Vec<crate::observe::status::Problem> {
        let now = OffsetDateTime::now_utc();
        let found = problems(&self.process, &self.pods.view(), *self.phases.borrow());
        self.since.retain(|what, _| found.iter().any(|problem| problem.what == *what));
        let (since, log) = (&mut self.since, &self.process.log);
        found
            .into_iter()
            .map(|mut problem| {
                let at = since.entry(problem.what.clone()).or_insert_with(|| {
                    warn!(log, "a problem began"; "what" => &problem.what, "do" => &problem.remedy);
                    now
                });
                problem.since = crate::observe::log::rfc3339(*at);
                problem
            })
            .collect()
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(HEARTBEAT, Supervisor::tick);
    }
}

impl Supervised for Supervisor {
    /// `started` runs again after this.
    fn restarting(&mut self, _: &mut Context<Self>) {
        (self.beating, self.reading) = (false, false);
    }
}

impl Handler<Look> for Supervisor {
    type Result = ();

    fn handle(&mut self, look: Look, _: &mut Context<Self>) {
        self.part.handled();
        let phase = *self.phases.borrow();
        let mut status = status(&self.process, &self.pods.view(), phase);
        status.problems = self.problems();
        let _ = look.reply.send(status);
    }
}

impl Handler<Panic> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        self.part.handled();
        panic!("asked to");
    }
}
