//! Drills: which fault may be injected, when, for how long, and when it must end early.
//!
//! Only decisions: time, health and random numbers come in, a plan or a refusal with its reason goes out. Injecting is
//! `actor/chaos.rs`'s work, and the faults themselves are lines (`crate::chaos`) that mend themselves.

mod drills;
mod quiet;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use drills::{Begun, Drills, HISTORY_MAX, Outcome, Record, Stopped};
pub use quiet::Quiet;

/// Pods, or healthy other processes, that are left in any case, whatever the configuration says.
pub const LEAST_LEFT: usize = 2;
/// In smaller groups nothing is taken away.
pub const LEAST_GROUP: usize = LEAST_LEFT + 1;
/// No fault lasts longer, whatever the configuration says.
pub const LONGEST: Duration = Duration::from_secs(3600);
/// Over which faults are counted against `chaos.per_day`.
pub const DAY: Duration = Duration::from_secs(86_400);
/// Requests that an error share needs to mean something.
pub const LEAST_REQUESTS: u64 = 20;

/// What can be broken on purpose, in the process that breaks it and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// One actor panics.
    ActorPanic,
    /// Nobody listens at one pod's address.
    PodRefused,
    /// One pod answers late.
    PodSlow,
    /// One pod's network is dead: nothing comes back.
    PodGone,
    /// All pods are gone: the cache-outage drill.
    PodsGone,
    /// The ledger answers late.
    LedgerSlow,
    /// The ledger's network is dead.
    LedgerGone,
    /// The process's one slot at the ledger is taken.
    SlotHeld,
    /// The process drains and ends.
    ProcessTerminated,
}

/// What a fault is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// One actor, by the name that the status shows.
    Actor,
    /// One pod, by its address.
    Pod,
    /// There is nothing to choose.
    Nothing,
}

impl Fault {
    /// Every fault by its name, as configuration, metrics, commands and logs spell it.
    pub const NAMED: &'static [(&'static str, Fault)] = &[
        ("actor_panic", Fault::ActorPanic),
        ("pod_refused", Fault::PodRefused),
        ("pod_slow", Fault::PodSlow),
        ("pod_gone", Fault::PodGone),
        ("pods_gone", Fault::PodsGone),
        ("ledger_slow", Fault::LedgerSlow),
        ("ledger_gone", Fault::LedgerGone),
        ("slot_held", Fault::SlotHeld),
        ("process_terminated", Fault::ProcessTerminated),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Fault::NAMED[self as usize].0
    }

    /// For people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Fault::ActorPanic => "one actor panics",
            Fault::PodRefused => "one pod refuses connections",
            Fault::PodSlow => "one pod answers late",
            Fault::PodGone => "one pod's network is dead",
            Fault::PodsGone => "all pods are gone: the cache-outage drill",
            Fault::LedgerSlow => "the ledger answers late",
            Fault::LedgerGone => "the ledger's network is dead",
            Fault::SlotHeld => "the one slot at the ledger is taken",
            Fault::ProcessTerminated => "the process drains and ends",
        }
    }

    /// What it is aimed at.
    pub const fn aim(self) -> Aim {
        match self {
            Fault::ActorPanic => Aim::Actor,
            Fault::PodRefused | Fault::PodSlow | Fault::PodGone => Aim::Pod,
            _ => Aim::Nothing,
        }
    }

    /// Whether it is over as soon as it has happened.
    pub const fn is_instant(self) -> bool {
        matches!(self, Fault::ActorPanic | Fault::ProcessTerminated)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Its name, also with hyphens.
///
/// # Errors
/// One line for people.
impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let name = text.replace('-', "_");
        let found = Fault::NAMED.iter().find(|(known, _)| *known == name);
        found.map(|(_, fault)| *fault).ok_or_else(|| {
            let names: Vec<_> = Fault::NAMED.iter().map(|(name, _)| *name).collect();
            format!("'{text}' is no fault: say one of {}", names.join(", "))
        })
    }
}

/// What the configuration allows (`chaos.*`).
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Without it everything is refused.
    pub enabled: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Which faults there may be, by schedule or by hand.
    pub faults: Vec<Fault>,
    /// Between two scheduled faults, on average; 0 = none by schedule.
    pub every: Duration,
    /// Between two terminations of the process, on average; 0 = none by schedule.
    pub terminate_every: Duration,
    /// When there are none.
    pub quiet: Vec<Quiet>,
    /// How long one lasts unless somebody says otherwise.
    pub duration: Duration,
    /// The longest that one may last.
    pub max_duration: Duration,
    /// From the end of one to the beginning of the next, at least.
    pub pause: Duration,
    /// The most in 24 hours.
    pub per_day: usize,
    /// Healthy pods that must be left.
    pub min_pods: usize,
    /// Healthy other processes of the cluster that must be there.
    pub min_peers: usize,
    /// Share of requests that fail, above which a drill ends.
    pub max_errors: f64,
    /// By how much a slow pod's answers are late.
    pub pod_latency: Duration,
    /// By how much a slow ledger's answers are late.
    pub ledger_latency: Duration,
}

/// A moment, by two clocks: time since the process began decides everything but quiet hours and what people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Since the process began.
    pub now: Duration,
    /// Seconds since 1970, UTC.
    pub unix_s: i64,
}

/// How the process and its surroundings are, faults of ours left out.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Whether the process serves: neither starting nor draining.
    pub serving: bool,
    /// Every pod, and whether it answers.
    pub pods: Vec<(Arc<str>, bool)>,
    /// Other processes of the cluster that were heard within seconds.
    pub peers: usize,
    /// Whether the ledger answers and is open, as the process sees it.
    pub ledger_up: bool,
    /// Another process of the cluster that has a drill, or had one less than a minute ago.
    pub other_drill: Option<Arc<str>>,
    /// Actors that can be made to panic.
    pub actors: Vec<Arc<str>>,
    /// Requests so far.
    pub requests: Requests,
}

impl Health {
    fn healthy_pods(&self) -> usize {
        self.pods.iter().filter(|(_, healthy)| *healthy).count()
    }
}

/// Requests of the whole process since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requests {
    /// All that were answered, with IDs or not.
    pub all: u64,
    /// Those that failed for want of IDs in time: not for what the caller did wrong.
    pub failed: u64,
}

impl Requests {
    /// The share that failed since `then`; `None` where too few were asked to tell.
    pub fn failed_share(self, then: Requests) -> Option<f64> {
        let all = self.all.saturating_sub(then.all);
        let failed = self.failed.saturating_sub(then.failed);
        (all >= LEAST_REQUESTS).then(|| failed as f64 / all as f64)
    }
}

/// Who wants a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The schedule.
    Schedule,
    /// An operator.
    Hand,
}

impl By {
    /// As the history shows it.
    pub const fn name(self) -> &'static str {
        match self {
            By::Schedule => "schedule",
            By::Hand => "hand",
        }
    }
}

/// A fault that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which.
    pub fault: Fault,
    /// Of what; drawn where it isn't named.
    pub target: Option<Arc<str>>,
    /// How long; `chaos.duration` where it isn't said.
    pub lasts: Option<Duration>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Who.
    pub by: By,
}

impl Wish {
    /// The schedule's.
    pub fn scheduled(fault: Fault) -> Wish {
        Wish { fault, target: None, lasts: None, dry_run: false, by: By::Schedule }
    }
}

/// A fault that may be injected now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Which.
    pub fault: Fault,
    /// Of what, where there is a choice.
    pub target: Option<Arc<str>>,
    /// How long; 0 where it is over at once.
    pub lasts: Duration,
    /// Nothing is to be done.
    pub dry_run: bool,
    /// Who wants it.
    pub by: By,
}

/// Why a fault is not injected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// Whether the same may be allowed later, without anybody changing the configuration.
    pub for_now: bool,
    /// For people: what is in the way, and what it would take.
    pub why: String,
}

impl Refused {
    /// It won't do as it is.
    pub fn never(why: impl Into<String>) -> Refused {
        Refused { for_now: false, why: why.into() }
    }

    /// It may do later.
    pub fn for_now(why: impl Into<String>) -> Refused {
        Refused { for_now: true, why: why.into() }
    }
}

#[cfg(test)]
mod tests;
