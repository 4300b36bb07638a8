//! What callers are told when they get nothing: one place for the words.

use std::time::Duration;

use super::process::Process;
use super::slot::Ask;
use crate::block::{Reason, Refusal};
use crate::ledger::LedgerError;

pub(super) fn too_late() -> Refusal {
    Refusal::new(Reason::Deadline, "the deadline passed before enough IDs were at hand; nothing was taken")
}

/// An actor lost the request in a panic.
pub(super) fn restarting() -> Refusal {
    Refusal::new(Reason::Starting, "a part of this process failed and is being restarted")
        .retry_after(Duration::from_millis(50))
}

pub(super) fn starting() -> Refusal {
    Refusal::new(
        Reason::Starting,
        "this process doesn't know its ledger yet: neither a pod nor the ledger said",
    )
    .retry_after(Duration::from_millis(250))
}

pub(super) fn overloaded(limit: usize) -> Refusal {
    Refusal::new(Reason::Overloaded, "too many requests are under way in this process (grpc.max_in_flight)")
        .retry_after(Duration::from_millis(50))
        .with("field", "grpc.max_in_flight")
        .with("limit", limit)
}

pub(super) fn draining() -> Refusal {
    Refusal::new(Reason::Draining, "this process is stopping").retry_after(Duration::from_millis(100))
}

pub(super) fn retired(name: &str) -> Refusal {
    Refusal::new(
        Reason::SequenceRetired,
        format!("sequence '{name}' was retired: it hands out nothing any more"),
    )
    .with("sequence", name)
}

pub(super) fn unknown(name: &str) -> Refusal {
    let message = format!("no sequence '{name}': create it with `blockhouse sequence create {name}`");
    Refusal::new(Reason::SequenceUnknown, message).with("sequence", name)
}

pub(super) fn crowded() -> Refusal {
    Refusal::new(Reason::LedgerBusy, "too many callers wait for the ledger (fallback.max_waiters)")
        .retry_after(Duration::from_millis(250))
}

pub(super) fn busy(wait: Duration) -> Refusal {
    Refusal::new(
        Reason::LedgerBusy,
        "the ledger's one slot is taken, and the line before it is too slow (fallback.max_wait)",
    )
    .retry_after(wait.max(Duration::from_millis(50)))
}

/// What can be refused from memory, without asking the ledger each time.
pub(super) fn refuse_early(process: &Process, ask: &Ask) -> Option<Refusal> {
    let name = &ask.sequence.facts.name;
    if let Some(conflict) = &process.known.load().conflict {
        let message = format!(
            "two ledgers are named, so nothing is taken from tier 3: {conflict}; set ledger.id to the right one, or restart that Redis empty"
        );
        return Some(Refusal::new(Reason::LedgerUnreachable, message).retry_after(Duration::from_secs(1)));
    }
    if ask.sequence.facts.retired {
        return Some(Refusal::new(Reason::SequenceRetired, format!("sequence '{name}' was retired")));
    }
    if let Some(why) = &ask.sequence.facts.halted {
        return Some(halted(name, why));
    }
    let left = ask.sequence.left_at_most();
    (left < ask.least).then(|| exhausted(name, left, ask.least))
}

/// What puts a ledger that is refused right, for callers and operators alike.
pub(super) const RIGHT_LEDGER: &str = "point ledger.url, environment and ledger.id at the right ledger";

pub(super) fn halted(name: &str, why: &str) -> Refusal {
    let message = format!(
        "sequence '{name}' is halted ({why}); once the cause is resolved: `blockhouse sequence resume {name}`"
    );
    Refusal::new(Reason::SequenceHalted, message).with("sequence", name)
}

pub(super) fn exhausted(name: &str, left: i64, least: i64) -> Refusal {
    let message = format!(
        "sequence '{name}' has {left} IDs left in the ledger and {least} more are needed; raise its maximum with `blockhouse sequence set {name} --max N`"
    );
    Refusal::new(Reason::SequenceExhausted, message).with("sequence", name).with("left", left)
}

fn rate_capped(name: &str, gap: i64, allowed: i64) -> Refusal {
    let message = format!(
        "sequence '{name}' was granted what its failover_gap of {gap} allows in an hour, {allowed} IDs more are allowed now; to \
         allow more: `blockhouse sequence set {name} --failover-gap N`"
    );
    Refusal::new(Reason::SequenceRateCapped, message)
        .with("sequence", name)
        .with("field", "failover_gap")
        .with("limit", gap)
        .with("allowed", allowed)
}

/// The ledger's error as a caller sees it.
pub(super) fn refusal(error: &LedgerError, ask: Option<&Ask>, wait: Duration) -> Refusal {
    let name = ask.map_or("", |ask| &ask.sequence.facts.name);
    match error {
        LedgerError::Unknown(name) => {
            Refusal::new(Reason::SequenceUnknown, format!("the ledger has no sequence '{name}'"))
                .with("sequence", name)
        }
        LedgerError::Exhausted { left } => exhausted(name, *left, ask.map_or(1, |ask| ask.least)),
        LedgerError::Halted(why) => halted(name, why),
        LedgerError::Retired => {
            Refusal::new(Reason::SequenceRetired, format!("sequence '{name}' was retired"))
        }
        LedgerError::Closed(why) => {
            let message = format!(
                "the ledger is closed: {why}; see `blockhouse ledger show`, and accept it with `blockhouse ledger accept-failover`"
            );
            Refusal::new(Reason::LedgerClosed, message).retry_after(Duration::from_secs(5))
        }
        LedgerError::RateCapped { allowed, wait } => {
            let gap = ask.map_or(0, |ask| ask.sequence.facts.failover_gap);
            rate_capped(name, gap, *allowed).retry_after(*wait)
        }
        LedgerError::WentBack { .. } | LedgerError::Forgot(_) => halted(name, &error.to_string()),
        LedgerError::Wrong(why) => {
            let message = format!("the ledger is refused: {why}; {RIGHT_LEDGER}");
            Refusal::new(Reason::LedgerUnreachable, message).retry_after(wait.max(Duration::from_millis(250)))
        }
        LedgerError::Unreachable(_)
        | LedgerError::Conflict(_)
        | LedgerError::InDoubt(_)
        | LedgerError::Stale(_)
        | LedgerError::Schema(_)
        | LedgerError::Invalid(_) => {
            let message = format!("pods and reserve are empty, and the ledger can't be used: {error}");
            Refusal::new(Reason::LedgerUnreachable, message).retry_after(wait.max(Duration::from_millis(250)))
        }
    }
}
