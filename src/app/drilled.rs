//! The role chaos, as it is put beside the others: lines only where it may use them.

use std::rc::Rc;

use fastrand::Rng;
use time::OffsetDateTime;

use super::RunningWorker;
use crate::actor::chaos::Outlook;
use crate::actor::wiring::Actors;
use crate::chaos::Lines;
use crate::config::Settings;
use crate::ledger::{Admin, Ledger};
use crate::pods::discovery::Roster;
use crate::shutdown::Phases;

pub(super) struct Drilled {
    lines: Lines,
    wired: bool,
    outlook: Outlook,
}

impl Drilled {
    pub(super) fn new(settings: &Settings, roster: &Roster, phases: &Phases) -> Drilled {
        let outlook = Outlook {
            roster: roster.clone(),
            phases: phases.clone(),
            clock: Rc::new(OffsetDateTime::now_utc),
        };
        Drilled { lines: Lines::default(), wired: settings.chaos.enabled, outlook }
    }

    /// Ledger and pods, behind lines where a fault may come to lie on them.
    pub(super) fn lined(
        &self,
        settings: &Settings,
        ledger: Rc<dyn Admin>,
        roster: Roster,
    ) -> (Rc<dyn Ledger>, Roster) {
        if !self.wired {
            return (ledger, roster);
        }
        (self.lines.to_ledger(ledger, settings.ledger.connect_timeout), self.lines.to_pods(roster))
    }

    pub(super) fn start(self, actors: &mut Actors, workers: &[RunningWorker], rng: Rng) {
        let workers: Vec<_> = workers.iter().map(|worker| worker.actors.clone()).collect();
        actors.start_chaos(&workers, self.lines, self.outlook, rng);
    }
}
