//! All drills of one process: what runs, what ran, what may come next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Aim, DAY, Fault, Health, LEAST_GROUP, LEAST_LEFT, LONGEST, Limits, Moment, Plan, Refused, Requests, Wish,
};

/// The newest records are kept.
pub const HISTORY_MAX: usize = 100;
/// Requests of so long ago say whether the process is well enough for a drill.
const RECENT: Duration = Duration::from_secs(60);

/// After so long, on average, the schedule tries again what was refused for now.
const AGAIN: Duration = Duration::from_secs(600);

/// What was injected, or would have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// From 1, since the process began.
    pub number: u64,
    /// What.
    pub plan: Plan,
    /// When.
    pub began: Moment,
    /// How it ended, and when; `None` while it runs.
    pub ended: Option<(Outcome, Moment)>,
}

/// How a drill ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its time was over.
    Done,
    /// Before its time, and why.
    Ended(String),
    /// Nothing was done.
    DryRun,
}

/// Why the role injects nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// For people.
    pub why: String,
    /// Since when.
    pub at: Moment,
}

/// A drill that began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// The record's number.
    pub number: u64,
}

/// The drills of one process.
#[derive(Debug)]
pub struct Drills {
    limits: Limits,
    /// The newest record runs; with what had been asked when it began.
    running: Option<Requests>,
    history: VecDeque<Record>,
    begun: u64,
    /// When faults began within the last day, since the process started.
    starts: VecDeque<Duration>,
    last_end: Option<Duration>,
    stopped: Option<Stopped>,
    /// What was asked until when, over the last minute.
    asked: VecDeque<(Duration, Requests)>,
    next: Option<Duration>,
    next_termination: Option<Duration>,
}

impl Drills {
    /// None yet. `random` is drawn from `0.0..1.0`: so many processes that start together don't break together.
    pub fn new(limits: Limits, now: Duration, random: [f64; 2]) -> Drills {
        let mut drills = Drills {
            limits,
            running: None,
            history: VecDeque::new(),
            begun: 0,
            starts: VecDeque::new(),
            last_end: None,
            stopped: None,
            asked: VecDeque::new(),
            next: None,
            next_termination: None,
        };
        drills.next = after(now, drills.limits.every, random[0]);
        drills.next_termination = after(now, drills.limits.terminate_every, random[1]);
        drills
    }

    /// What the configuration allows.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What runs.
    pub fn running(&self) -> Option<&Record> {
        self.running.and(self.history.back())
    }

    /// The newest last; the first of them may be gone.
    pub fn history(&self) -> impl Iterator<Item = &Record> {
        self.history.iter()
    }

    /// Why nothing is injected any more, if so.
    pub fn stopped(&self) -> Option<&Stopped> {
        self.stopped.as_ref()
    }

    /// Takes note of what has been asked until now.
    pub fn heed(&mut self, requests: Requests, at: Moment) {
        while self.asked.front().is_some_and(|(then, _)| at.now.saturating_sub(*then) > RECENT) {
            self.asked.pop_front();
        }
        self.asked.push_back((at.now, requests));
    }

    /// The fault that the schedule wants now. `random` is drawn from `0.0..1.0`, `draw` from all numbers.
    pub fn due(&mut self, health: &Health, at: Moment, random: f64, draw: usize) -> Option<Wish> {
        if self.next_termination.is_some_and(|next| at.now >= next) {
            self.next_termination = after(at.now, self.limits.terminate_every, random);
            return Some(Wish::scheduled(Fault::ProcessTerminated));
        }
        if self.next.is_none_or(|next| at.now < next) {
            return None;
        }
        self.next = after(at.now, self.limits.every, random);
        let all = self.limits.faults.iter().filter(|fault| **fault != Fault::ProcessTerminated);
        let wishes: Vec<Wish> = all.map(|fault| Wish::scheduled(*fault)).collect();
        let may = |wish: &&Wish| self.consider(wish, health, at, draw).is_ok();
        let possible: Vec<&Wish> = wishes.iter().filter(may).collect();
        let possible = if possible.is_empty() { wishes.iter().collect() } else { possible };
        possible.get(draw % possible.len().max(1)).map(|wish| (*wish).clone())
    }

    /// What the schedule wanted was refused for now: it is tried again before long, and not all processes at once.
    pub fn postpone(&mut self, fault: Fault, at: Moment, random: f64) {
        let (next, every) = match fault {
            Fault::ProcessTerminated => (&mut self.next_termination, self.limits.terminate_every),
            _ => (&mut self.next, self.limits.every),
        };
        *next = after(at.now, every.min(AGAIN), random);
    }

    /// Whether a fault may be injected now. `draw` is any number: it picks the target where none is named.
    ///
    /// # Errors
    /// What is in the way.
    pub fn consider(&self, wish: &Wish, health: &Health, at: Moment, draw: usize) -> Result<Plan, Refused> {
        self.allowed(wish)?;
        let lasts = self.length(wish)?;
        let target = target(wish, health, draw)?;
        if !health.serving {
            return Err(Refused::for_now("the process is starting or draining: drills need one that serves"));
        }
        self.timely(wish, at)?;
        if let Some(other) = &health.other_drill {
            let why =
                format!("{other} has a drill, or had one less than a minute ago: one at a time in a cluster");
            return Err(Refused::for_now(why));
        }
        self.healthy(wish.fault, target.as_ref(), health)?;
        if is_ledgers(wish.fault) && !health.ledger_up {
            return Err(Refused::for_now("the ledger doesn't answer anyhow"));
        }
        let before = self.asked.front().map_or(health.requests, |(_, then)| *then);
        self.few_errors(before, health.requests).map_err(Refused::for_now)?;
        let dry_run = wish.dry_run || self.limits.dry_run;
        Ok(Plan { fault: wish.fault, target, lasts, dry_run, by: wish.by })
    }

    /// Begins what was planned: the caller injects it, unless it is a dry run, which ends with this.
    ///
    /// # Panics
    /// Another one runs, or it would last too long: nobody may plan without asking [`Drills::consider`].
    pub fn begin(&mut self, plan: Plan, requests: Requests, at: Moment) -> Begun {
        assert!(self.running.is_none(), "one fault at once");
        assert!(plan.lasts <= self.limits.max_duration.min(LONGEST), "no fault lasts longer");
        self.begun += 1;
        let ended = plan.dry_run.then_some((Outcome::DryRun, at));
        if ended.is_none() {
            self.starts.retain(|start| at.now.saturating_sub(*start) < DAY);
            if plan.fault != Fault::ProcessTerminated {
                self.starts.push_back(at.now);
            }
            self.running = Some(requests);
        }
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(Record { number: self.begun, plan, began: at, ended });
        Begun { number: self.begun }
    }

    /// How what runs has to end now, if it has to: its time is over, or it must not go on.
    pub fn must_end(&self, health: &Health, at: Moment) -> Option<Outcome> {
        let (before, record) = (self.running?, self.history.back()?);
        if at.now >= record.began.now + record.plan.lasts {
            return Some(Outcome::Done);
        }
        if !health.serving {
            return Some(Outcome::Ended("the process drains".to_owned()));
        }
        let healthy = self.healthy(record.plan.fault, record.plan.target.as_ref(), health);
        let why =
            healthy.map_err(|refused| refused.why).and_then(|()| self.few_errors(before, health.requests));
        why.err().map(Outcome::Ended)
    }

    /// What ran is over.
    pub fn end(&mut self, outcome: Outcome, at: Moment) {
        if self.running.take().is_some()
            && let Some(record) = self.history.back_mut()
        {
            record.ended = Some((outcome, at));
            self.last_end = Some(at.now);
        }
    }

    /// Nothing is injected any more; the first reason stays. What runs must be ended by the caller.
    pub fn stop(&mut self, why: &str, at: Moment) {
        self.stopped.get_or_insert_with(|| Stopped { why: why.to_owned(), at });
    }

    /// What no waiting mends.
    fn allowed(&self, wish: &Wish) -> Result<(), Refused> {
        if !self.limits.enabled {
            return Err(Refused::never("chaos.enabled is false in this process's configuration"));
        }
        if let Some(stopped) = &self.stopped {
            return Err(Refused::never(format!(
                "drills were stopped ({}): only a restart takes them up again",
                stopped.why
            )));
        }
        if !self.limits.faults.contains(&wish.fault) {
            return Err(Refused::never(format!("chaos.faults doesn't name {}", wish.fault)));
        }
        Ok(())
    }

    /// How long it would last.
    fn length(&self, wish: &Wish) -> Result<Duration, Refused> {
        if wish.fault.is_instant() {
            return Ok(Duration::ZERO);
        }
        let most = self.limits.max_duration.min(LONGEST);
        let lasts = wish.lasts.unwrap_or(self.limits.duration.min(most));
        if lasts > most {
            let why = format!("{lasts:?} is longer than {most:?}, the most that chaos.max_duration allows");
            return Err(Refused::never(why));
        }
        if lasts.is_zero() {
            return Err(Refused::never("a fault that lasts no time shows nothing"));
        }
        Ok(lasts)
    }

    /// One at once, with pauses, not too many, not in quiet hours.
    fn timely(&self, wish: &Wish, at: Moment) -> Result<(), Refused> {
        if let Some(record) = self.running() {
            return Err(Refused::for_now(format!("{} runs: one fault at once", record.plan.fault)));
        }
        if let Some(quiet) = self.limits.quiet.iter().find(|quiet| quiet.covers(at.unix_s)) {
            return Err(Refused::for_now(format!("these are quiet hours ({quiet} UTC, chaos.quiet)")));
        }
        let since = self.last_end.map(|end| at.now.saturating_sub(end));
        if let Some(since) = since.filter(|since| *since < self.limits.pause) {
            let left = Duration::from_secs((self.limits.pause - since).as_secs().max(1));
            let why =
                format!("the last fault is over for less than chaos.pause: the next may come in {left:?}");
            return Err(Refused::for_now(why));
        }
        let today = self.starts.iter().filter(|start| at.now.saturating_sub(**start) < DAY).count();
        // Terminations have a pace of their own.
        if wish.fault != Fault::ProcessTerminated && today >= self.limits.per_day {
            let why = format!("{today} faults within a day are all that chaos.per_day allows");
            return Err(Refused::for_now(why));
        }
        Ok(())
    }

    /// Enough is left that works.
    fn healthy(&self, fault: Fault, target: Option<&Arc<str>>, health: &Health) -> Result<(), Refused> {
        let (min_pods, min_peers) =
            (self.limits.min_pods.max(LEAST_LEFT), self.limits.min_peers.max(LEAST_LEFT));
        if health.peers < min_peers {
            let why = format!(
                "{} other processes of the cluster are heard, and {min_peers} must be (chaos.min_peers)",
                health.peers
            );
            return Err(Refused::for_now(why));
        }
        if !is_ledgers(fault) {
            self.pods_left(fault, target, health, min_pods)?;
        } else if health.healthy_pods() < min_pods {
            let why = format!(
                "{} pods answer, and {min_pods} must where the ledger is the fault's target (chaos.min_pods)",
                health.healthy_pods()
            );
            return Err(Refused::for_now(why));
        }
        Ok(())
    }

    fn pods_left(
        &self,
        fault: Fault,
        target: Option<&Arc<str>>,
        health: &Health,
        min_pods: usize,
    ) -> Result<(), Refused> {
        if fault == Fault::PodsGone {
            if health.pods.is_empty() {
                return Err(Refused::never("there are no pods that could be gone"));
            }
            return match health.ledger_up {
                true => Ok(()),
                false => Err(Refused::for_now("the ledger doesn't answer: without pods nothing would")),
            };
        }
        if fault.aim() != Aim::Pod {
            return Ok(());
        }
        if health.pods.len() < LEAST_GROUP {
            let why = format!(
                "{} pods are too few: nothing is taken from fewer than {LEAST_GROUP}",
                health.pods.len()
            );
            return Err(Refused::never(why));
        }
        let others =
            health.pods.iter().filter(|(address, healthy)| *healthy && Some(address) != target).count();
        if others < min_pods {
            let why = format!("{others} other pods answer, and {min_pods} must be left (chaos.min_pods)");
            return Err(Refused::for_now(why));
        }
        Ok(())
    }

    fn few_errors(&self, before: Requests, now: Requests) -> Result<(), String> {
        let share = now.failed_share(before).filter(|share| *share > self.limits.max_errors);
        share.map_or(Ok(()), |share| {
            Err(format!("{:.1} % of requests fail, above chaos.max_errors", share * 100.0))
        })
    }
}

fn is_ledgers(fault: Fault) -> bool {
    matches!(fault, Fault::LedgerSlow | Fault::LedgerGone | Fault::SlotHeld)
}

/// What it is aimed at: the one that is named, or one that can be.
fn target(wish: &Wish, health: &Health, draw: usize) -> Result<Option<Arc<str>>, Refused> {
    let (what, all): (&str, Vec<&Arc<str>>) = match wish.fault.aim() {
        Aim::Nothing => {
            return match &wish.target {
                None => Ok(None),
                Some(named) => Err(Refused::never(format!("{} has no target, such as {named}", wish.fault))),
            };
        }
        Aim::Actor => ("actor", health.actors.iter().collect()),
        Aim::Pod => {
            let healthy = health.pods.iter().filter(|(_, healthy)| *healthy);
            ("pod that answers", healthy.map(|(address, _)| address).collect())
        }
    };
    let Some(named) = &wish.target else {
        let drawn = all.get(draw % all.len().max(1)).map(|name| Arc::clone(name));
        return drawn.map(Some).ok_or_else(|| Refused::for_now(format!("there is no {what}")));
    };
    match all.iter().find(|name| **name == named) {
        Some(name) => Ok(Some(Arc::clone(name))),
        None => {
            let names: Vec<&str> = all.iter().map(|name| &***name).collect();
            Err(Refused::never(format!("'{named}' is no {what}: there are {}", names.join(", "))))
        }
    }
}

/// Once in `every` on average, from half to one and a half of it; never where that is 0.
fn after(now: Duration, every: Duration, random: f64) -> Option<Duration> {
    (!every.is_zero()).then(|| now + every.mul_f64(0.5 + random.clamp(0.0, 1.0)))
}
