//! What the role does in its turn: look, end what must end, begin what is due or wished for.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slog::{debug, info, warn};
use tokio::time::Instant;

use super::Clock;
use super::injection::{Injection, Tools};
use super::lookout::Lookout;
use super::view::{drill, view};
use crate::actor::process::Process;
use crate::block::chaos::{Drills, Fault, Health, Moment, Outcome, Plan, Refused, Wish};
use crate::observe::status::Drill;

/// While a drill runs, the other processes of the cluster are told so this often; they heed it for a minute.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Work {
    process: Arc<Process>,
    lookout: Lookout,
    tools: Tools,
    clock: Clock,
    rng: RefCell<fastrand::Rng>,
    drills: RefCell<Drills>,
    injection: RefCell<Option<Injection>>,
    /// Whether one is about to begin.
    preparing: Cell<bool>,
    announced: Cell<Option<Instant>>,
    /// As last seen, for those who ask what could be aimed at.
    seen: RefCell<Health>,
}

/// Set while an attempt is under way, however it ends.
struct Preparing<'a>(&'a Cell<bool>);

impl Drop for Preparing<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Work {
    pub(super) fn new(
        process: Arc<Process>,
        lookout: Lookout,
        tools: Tools,
        clock: Clock,
        mut rng: fastrand::Rng,
    ) -> Work {
        let drills = Drills::new(process.settings.chaos.clone(), process.now(), [rng.f64(), rng.f64()]);
        Work {
            process,
            lookout,
            tools,
            clock,
            rng: rng.into(),
            drills: drills.into(),
            injection: RefCell::default(),
            preparing: Cell::new(false),
            announced: Cell::new(None),
            seen: RefCell::default(),
        }
    }

    /// Once a second.
    pub(super) async fn turn(self: &Rc<Self>) {
        if !self.process.settings.chaos.enabled {
            return;
        }
        let health = self.look().await;
        let at = self.moment();
        self.drills.borrow_mut().heed(health.requests, at);
        let must_end = self.drills.borrow().must_end(&health, at);
        if let Some(outcome) = must_end {
            self.end(outcome);
        }
        if self.injection.borrow().is_some() {
            self.announce_now_and_then().await;
        } else if !self.preparing.get() && health.serving {
            let (random, draw) = self.draw();
            let due = self.drills.borrow_mut().due(&health, at, random, draw);
            if let Some(wish) = due
                && let Err(refused) = self.attempt(&wish).await
            {
                self.put_off(wish.fault, &refused);
            }
        }
        self.show();
    }

    /// Injects what is wished for, if it may be. Before that the cluster's other processes are told, and asked once more: of two that
    /// begin at the same moment one sees the other at least, and gives way.
    pub(super) async fn attempt(self: &Rc<Self>, wish: &Wish) -> Result<Drill, Refused> {
        if self.preparing.replace(true) {
            return Err(Refused::for_now("another fault is about to be injected: one at once"));
        }
        let _preparing = Preparing(&self.preparing);
        let (_, draw) = self.draw();
        let health = self.look().await;
        let plan = self.consider(wish, &health, draw)?;
        if plan.dry_run {
            return Ok(self.begin(plan, &health));
        }
        self.lookout.announce().await;
        self.announced.set(Some(Instant::now()));
        let health = self.look().await;
        let plan = self.consider(wish, &health, draw)?;
        Ok(self.begin(plan, &health))
    }

    /// What was due can't be now, or not as it is.
    fn put_off(&self, fault: Fault, refused: &Refused) {
        let (random, _) = self.draw();
        if refused.for_now {
            self.drills.borrow_mut().postpone(fault, self.moment(), random);
        } else {
            info!(self.process.log, "a drill was due and is left out"; "fault" => fault.name(), "why" => %refused);
        }
    }

    /// Nothing is injected any more.
    pub(super) fn stop(&self, why: &str) {
        let at = self.moment();
        if self.drills.borrow().stopped().is_none() {
            info!(self.process.log, "drills are stopped"; "why" => why);
        }
        self.drills.borrow_mut().stop(why, at);
        self.end(Outcome::Ended(why.to_owned()));
        self.show();
    }

    /// The actor panicked in the midst of something.
    pub(super) fn failed(&self) {
        self.preparing.set(false);
        self.end(Outcome::Ended("the role chaos panicked".to_owned()));
        self.show();
    }

    /// Tells whoever looks.
    pub(super) fn show(&self) {
        self.process.set_chaos(view(&self.drills.borrow(), &self.seen.borrow()));
    }

    async fn look(&self) -> Health {
        let mut health = self.lookout.look().await;
        health.actors = self.tools.victims.names();
        *self.seen.borrow_mut() = health.clone();
        health
    }

    fn consider(&self, wish: &Wish, health: &Health, draw: usize) -> Result<Plan, Refused> {
        let at = self.moment();
        let plan = self.drills.borrow().consider(wish, health, at, draw);
        if let Err(refused) = &plan {
            debug!(self.process.log, "a fault was refused"; "fault" => wish.fault.name(), "why" => %refused);
        }
        plan
    }

    fn begin(&self, plan: Plan, health: &Health) -> Drill {
        let at = self.moment();
        let (fault, target) = (plan.fault.name(), plan.target.clone().unwrap_or_default());
        let (seconds, by, dry_run) = (plan.lasts.as_secs_f64(), plan.by.name(), plan.dry_run);
        self.drills.borrow_mut().begin(plan.clone(), health.requests, at);
        if dry_run {
            info!(self.process.log, "a drill would begin, were this not a dry run";
                "fault" => fault, "target" => &*target, "seconds" => seconds, "by" => by);
        } else {
            warn!(self.process.log, "a drill begins";
                "fault" => fault, "target" => &*target, "seconds" => seconds, "by" => by);
            self.process.metrics.chaos_fault(fault);
            *self.injection.borrow_mut() = Some(self.tools.inject(&plan, &self.process.settings.chaos));
            if plan.fault.is_instant() {
                self.end(Outcome::Done);
            }
        }
        self.show();
        let begun = self.drills.borrow().history().last().map(drill).unwrap_or_default();
        if plan.fault == Fault::ProcessTerminated && !dry_run {
            (self.tools.terminate)();
        }
        begun
    }

    /// Takes back what was injected.
    fn end(&self, outcome: Outcome) {
        let injection = self.injection.borrow_mut().take();
        drop(injection);
        let running = self.drills.borrow().running().map(|record| record.plan.fault.name());
        let Some(fault) = running else { return };
        let how = match &outcome {
            Outcome::Ended(why) => why.clone(),
            Outcome::Done | Outcome::DryRun => "its time is over".to_owned(),
        };
        info!(self.process.log, "a drill is over"; "fault" => fault, "how" => how);
        let at = self.moment();
        self.drills.borrow_mut().end(outcome, at);
    }

    fn draw(&self) -> (f64, usize) {
        let mut rng = self.rng.borrow_mut();
        (rng.f64(), rng.usize(..))
    }

    async fn announce_now_and_then(&self) {
        if self.announced.get().is_none_or(|then| then.elapsed() >= ANNOUNCE_EVERY) {
            self.announced.set(Some(Instant::now()));
            self.lookout.announce().await;
        }
    }

    fn moment(&self) -> Moment {
        Moment { now: self.process.now(), unix_s: (self.clock)().unix_timestamp() }
    }
}
