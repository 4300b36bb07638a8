//! What all actors of one process share. Plain data and atomics: no actor, no address.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::ExposeSecret;
use slog::{Logger, crit, error};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use super::known::Known;
use crate::block::exercise::Exercise;
use crate::block::restarts::{Restarts, Verdict};
use crate::config::Settings;
use crate::observe::Metrics;
use crate::observe::metrics::Queue;
use crate::observe::status::Chaos;
use crate::role::Roles;

/// One process, as its actors see it.
pub struct Process {
    /// What it was told.
    pub settings: Arc<Settings>,
    /// What it counts.
    pub metrics: Metrics,
    /// Where it writes.
    pub log: Logger,
    /// What it knows.
    pub known: Known,
    /// Share and cap of exercises.
    pub exercise: Exercise,
    /// What it does.
    pub roles: Roles,
    /// Pods that can be used at present, as the control thread sees them.
    pub pods_up: AtomicUsize,
    /// Worker threads, 1 or more.
    pub workers: usize,
    /// When it began.
    pub started: Instant,
    /// How tier 3 is doing.
    pub ledger: Mutex<LedgerView>,
    /// Why the process must end, once it must.
    pub fatal: watch::Sender<Option<Fatal>>,
    supply: Mutex<Supply>,
    /// What the role chaos shows; `None` without it.
    chaos: Mutex<Option<Chaos>>,
    parts: Mutex<Vec<Arc<Part>>>,
}

/// Why a process must end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fatal {
    /// It is not meant to run here: another environment's ledger, a schema it can't read.
    Misplaced(String),
    /// An actor failed too often.
    Broken(String),
}

/// How tier 3 is doing, as the database actor last saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerView {
    /// `up`, `closed`, `down`, `refused`; empty before the first attempt.
    pub state: &'static str,
    /// The latest error, if nothing succeeded since.
    pub last_error: Option<String>,
}

/// One actor (or worker), as the status shows it.
#[derive(Debug)]
pub struct Part {
    /// `allocator-0`, `database`, …
    pub name: String,
    /// Without the worker's number.
    pub kind: &'static str,
    /// Since the start.
    pub restarts: AtomicU64,
    /// Messages sent and not yet handled.
    pub queued: Queue,
    /// When it last ran, in milliseconds since the process started; 0 for those that have no pulse.
    pub pulse_ms: AtomicU64,
    failures: Mutex<Restarts>,
}

/// What the leader sees of the supply, for the status.
#[derive(Debug, Clone, Default)]
pub struct Supply {
    /// `None` without the role.
    pub leads: Option<bool>,
    /// The last pass that succeeded.
    pub last_success: Option<OffsetDateTime>,
    /// Blocks by pod and sequence.
    pub blocks: BTreeMap<Arc<str>, BTreeMap<Arc<str>, u64>>,
    /// IDs in all pods, and how long they last, by sequence.
    pub sequences: BTreeMap<Arc<str>, (i64, Option<f64>)>,
    /// IDs that the cluster may use in an hour, by sequence.
    pub hourly: BTreeMap<Arc<str>, i64>,
    /// Sequences whose hourly cap kept the last pass from filling their pods.
    pub capped: BTreeSet<Arc<str>>,
    /// Who leads the cluster of this name without any of its pods having heard of it.
    pub stranger: Option<Arc<str>>,
}

impl Process {
    /// One that has just begun.
    pub fn new(
        settings: Arc<Settings>,
        roles: Roles,
        workers: usize,
        metrics: Metrics,
        log: Logger,
    ) -> Process {
        Process {
            known: Known::new(&settings, metrics.clone(), log.clone()),
            exercise: Exercise::new(settings.exercise.ratio, settings.exercise.max_per_minute),
            roles,
            pods_up: AtomicUsize::new(0),
            workers: workers.max(1),
            started: Instant::now(),
            ledger: Mutex::default(),
            fatal: watch::Sender::new(None),
            supply: Mutex::default(),
            chaos: Mutex::default(),
            parts: Mutex::default(),
            settings,
            metrics,
            log,
        }
    }

    /// Since the process started.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Adds an actor to those that the status shows.
    pub fn part(&self, kind: &'static str, worker: Option<usize>) -> Arc<Part> {
        let part = Arc::new(Part {
            name: worker.map_or_else(|| kind.to_owned(), |worker| format!("{kind}-{worker}")),
            kind,
            restarts: AtomicU64::new(0),
            queued: self.metrics.queue(kind),
            pulse_ms: AtomicU64::new(0),
            failures: Mutex::default(),
        });
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&part));
        part
    }

    /// Every actor.
    pub fn parts(&self) -> Vec<Arc<Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An actor panicked: gives how long to pause before it goes on, or `None` if the process is to end.
    pub fn failed(&self, part: &Part, panic: &str) -> Option<Duration> {
        let verdict = part.failures.lock().unwrap_or_else(PoisonError::into_inner).failed(self.now());
        part.restarts.fetch_add(1, Ordering::Relaxed);
        self.metrics.actor_restart(part.kind, "panic");
        match verdict {
            Verdict::Restart(pause) => {
                error!(self.log, "an actor panicked and is restarted";
                    "actor" => &part.name, "panic" => panic, "pause_ms" => u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
                Some(pause)
            }
            Verdict::GiveUp => {
                crit!(self.log, "an actor panics again and again: the process ends"; "actor" => &part.name, "panic" => panic);
                self.end(Fatal::Broken(format!(
                    "actor {} panicked more than {} times in {} s, last with: {panic}",
                    part.name,
                    crate::block::restarts::LIMIT,
                    crate::block::restarts::WINDOW.as_secs()
                )));
                None
            }
        }
    }

    /// Whether some tier can answer now.
    ///
    /// # Errors
    /// Why not, in one line for people.
    pub fn ready(&self) -> Result<(), String> {
        let known = self.known.load();
        if known.identity.is_none() {
            return Err("starting: neither a pod nor the ledger has said yet which ledger this is".to_owned());
        }
        let reserve =
            || known.sequences().any(|sequence| sequence.counters.reserve_ids.load(Ordering::Relaxed) > 0);
        if self.pods_up.load(Ordering::Relaxed) > 0 || self.ledger().state == "up" || reserve() {
            return Ok(());
        }
        let LedgerView { state, last_error } = self.ledger();
        Err(format!(
            "no tier can answer: all pods are away, the reserve is empty, and the ledger is {}: {}",
            if state.is_empty() { "not reached yet" } else { state },
            last_error.as_deref().unwrap_or("no error so far")
        ))
    }

    /// Where the ledger is, without secrets; empty where none is configured.
    pub fn ledger_url(&self, redact: impl Fn(&str) -> String) -> String {
        self.settings.ledger.url.as_ref().map_or_else(String::new, |url| redact(url.expose_secret()))
    }

    /// Says that the process must end; the first reason stays.
    pub fn end(&self, fatal: Fatal) {
        self.fatal.send_if_modified(|now| {
            let first = now.is_none();
            now.get_or_insert(fatal);
            first
        });
    }

    /// Sets how tier 3 is doing.
    pub fn set_ledger(&self, state: &'static str, last_error: Option<String>) {
        self.metrics.set_ledger_up(state == "up");
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = LedgerView { state, last_error };
    }

    /// Reads or changes what the hydrator shows.
    pub fn supply<T>(&self, with: impl FnOnce(&mut Supply) -> T) -> T {
        with(&mut self.supply.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the role chaos shows; `None` without it.
    pub fn chaos(&self) -> Option<Chaos> {
        self.chaos.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets what the role chaos shows.
    pub(super) fn set_chaos(&self, chaos: Chaos) {
        *self.chaos.lock().unwrap_or_else(PoisonError::into_inner) = Some(chaos);
    }

    /// How tier 3 is doing.
    pub fn ledger(&self) -> LedgerView {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Part {
    /// A message was sent.
    pub fn sent(&self) {
        self.queued.add(1);
    }

    /// Its thread runs.
    pub fn beat(&self, now: Duration) {
        self.pulse_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A message is being handled.
    pub fn handled(&self) {
        self.queued.add(-1);
    }
}
