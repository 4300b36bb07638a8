//! How each fault is made, and unmade.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::actor::database::DatabaseHandle;
use crate::block::chaos::{Fault, Limits, Plan};
use crate::chaos::{Effect, Lease, Line, Lines};

/// Actors by the name that the status shows, and what makes each of them panic.
#[derive(Default)]
pub struct Victims(BTreeMap<Arc<str>, Box<dyn Fn()>>);

/// What faults are made with.
pub struct Tools {
    /// To the ledger and to the pods.
    pub lines: Lines,
    /// Actors to panic.
    pub victims: Victims,
    /// The slot to hold.
    pub database: DatabaseHandle,
    /// How long the slot may be held by one call.
    pub ledger_timeout: Duration,
    /// Asks the process to drain and end.
    pub terminate: Box<dyn Fn()>,
}

/// A fault that is in effect. Dropped, it is taken back.
pub(super) struct Injection {
    lines: Lines,
    holding: Option<JoinHandle<()>>,
}

impl Victims {
    /// One more.
    pub fn add(&mut self, name: impl Into<Arc<str>>, panic: impl Fn() + 'static) {
        self.0.insert(name.into(), Box::new(panic));
    }

    /// Who they are.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.0.keys().cloned().collect()
    }

    fn panic(&self, name: &str) {
        if let Some(panic) = self.0.get(name) {
            panic();
        }
    }
}

impl Tools {
    /// Puts a fault into effect. The process is not terminated by this.
    pub(super) fn inject(&self, plan: &Plan, limits: &Limits) -> Injection {
        let mut injection = Injection { lines: self.lines.clone(), holding: None };
        let lay = |line: &Line, effect: Effect| {
            line.lay(Lease { effect, only: plan.target.clone(), until: Instant::now() + plan.lasts });
        };
        match plan.fault {
            Fault::ActorPanic => self.victims.panic(plan.target.as_deref().unwrap_or_default()),
            Fault::PodRefused => lay(&self.lines.pods, Effect::Refuses),
            Fault::PodSlow => lay(&self.lines.pods, Effect::Slow(limits.pod_latency)),
            Fault::PodGone | Fault::PodsGone => lay(&self.lines.pods, Effect::Gone),
            Fault::LedgerSlow => lay(&self.lines.ledger, Effect::Slow(limits.ledger_latency)),
            Fault::LedgerGone => lay(&self.lines.ledger, Effect::Gone),
            Fault::SlotHeld => {
                lay(&self.lines.slot, Effect::Gone);
                injection.holding = Some(self.hold());
            }
            Fault::ProcessTerminated => {}
        }
        injection
    }

    /// Takes the slot again and again, until the lease is over. Each call ends with a question that the ledger answers, so that what
    /// the process thinks of it stays true.
    fn hold(&self) -> JoinHandle<()> {
        let (database, line, most) =
            (self.database.clone(), self.lines.slot.clone(), self.ledger_timeout / 2);
        tokio::task::spawn_local(async move {
            while line.effect(None).is_some() {
                let line = line.clone();
                let held = database.call("drill", move |ledger| {
                    Box::pin(async move {
                        line.clear(most).await;
                        ledger.facts(None).await.map(|_| ())
                    })
                });
                if held.await.is_err() {
                    // Whatever ails the ledger now is no drill.
                    return;
                }
            }
        })
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.lines.mend();
        if let Some(holding) = &self.holding {
            holding.abort();
        }
    }
}
