//! Faults as lines: where the role `chaos` runs, every call to the pods and to the ledger goes through one, and a fault is a lease
//! on a line. Elsewhere there are none, and nothing costs anything.
//!
//! A lease ends by itself at its deadline, whatever becomes of who laid it. A line only ever delays an answer, or fails a call
//! that it did not send: to everybody behind it that is a slow or lost server, and S1 to S6 hold as they do with one.

mod ledger;
mod line;
mod pods;

use std::rc::Rc;

pub use line::{Effect, Lease, Line};

use crate::ledger::Ledger;
use crate::pods::discovery::Roster;

/// The lines of one process. Clones are the same lines.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    /// To the ledger.
    pub ledger: Line,
    /// To all pods, from all threads.
    pub pods: Line,
    /// Before the process's slot at the ledger: held while a lease lies on it.
    pub slot: Line,
}

impl Lines {
    /// The ledger behind its line; a call that gets no connection fails after `connect_timeout`.
    pub fn to_ledger(&self, ledger: Rc<dyn Ledger>, connect_timeout: std::time::Duration) -> Rc<dyn Ledger> {
        Rc::new(ledger::Lined { ledger, line: self.ledger.clone(), connect_timeout })
    }

    /// The pods behind their line, also those that discovery finds later. The present thread must be a `LocalSet`'s or an arbiter's.
    pub fn to_pods(&self, roster: Roster) -> Roster {
        pods::lined(roster, self.pods.clone())
    }

    /// Ends whatever is laid on any of them.
    pub fn mend(&self) {
        self.ledger.mend();
        self.pods.mend();
        self.slot.mend();
    }
}
