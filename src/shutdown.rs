//! The phases of a process's life, as everything that serves sees them.

use tokio::sync::watch;

/// Where a process is between its start and its end. Only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not ready yet: requests are tried all the same.
    Starting,
    /// Ready.
    Serving,
    /// No longer ready, still serving: load balancers look away (`drain.delay`).
    Draining,
    /// Connections get GOAWAY, streams end, what is in flight is finished, nothing new is taken.
    Closing,
}

/// Says which phase it is, and waits for another.
pub type Phases = watch::Receiver<Phase>;

/// Waits until the phase is `phase` or later. Cancel safe. Also returns if nobody can move it any more.
pub async fn reached(phases: &mut Phases, phase: Phase) {
    let _ = phases.wait_for(|now| *now >= phase).await;
}
