//! How the process and its surroundings are, seen past the lines: so the role's own faults don't look like others'.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::actor::process::Process;
use crate::block::chaos::Health;
use crate::block::witness::{GONE, Present, Roll};
use crate::pods::discovery::Roster;
use crate::pods::{Pod, Scope, Seen, Target};
use crate::shutdown::{Phase, Phases};

/// A process that has a drill says so to the pods under a name that no process can have. Beside it stands what a process says that is
/// gone, so that nobody waits for it.
const DRILL: &str = "drill/";

pub(super) struct Lookout {
    process: Arc<Process>,
    roster: RefCell<Roster>,
    pods: RefCell<Option<Vec<Rc<dyn Pod>>>>,
    phases: Phases,
}

impl Lookout {
    pub(super) fn new(process: Arc<Process>, roster: Roster, phases: Phases) -> Lookout {
        Lookout { process, roster: roster.into(), pods: RefCell::default(), phases }
    }

    /// Asks every pod; bounded by the pods' own time-outs.
    pub(super) async fn look(&self) -> Health {
        let mut health = Health {
            serving: *self.phases.borrow() == Phase::Serving,
            ledger_up: self.process.ledger().state == "up",
            requests: self.process.metrics.requests(),
            ..Health::default()
        };
        let Some(scope) = self.scope() else { return health };
        let pods = self.pods();
        let inspections = join_all(pods.iter().map(|pod| pod.inspect(&scope, &[]))).await;
        let mut heard = Vec::new();
        for (pod, inspection) in pods.iter().zip(inspections) {
            health.pods.push((Arc::clone(pod.address()), inspection.is_ok()));
            heard.extend(inspection.map(|inspection| inspection.present).unwrap_or_default());
        }
        health.other_drill = self.other_drill(&heard);
        health.peers = self.peers(heard);
        health
    }

    /// Tells all pods that this process has a drill; other processes heed it for a minute.
    pub(super) async fn announce(&self) {
        let name = format!("{DRILL}{}", self.process.settings.instance);
        let seen = Seen { by: Some((name.into(), GONE)), ..Seen::default() };
        let pods = self.pods();
        // Those that don't hear it are no healthy ones, and count as such.
        let _ = join_all(pods.iter().map(|pod| pod.heartbeat(&seen))).await;
    }

    fn other_drill(&self, heard: &[Present]) -> Option<Arc<str>> {
        let own = &*self.process.settings.instance;
        let of_drills = heard.iter().filter_map(|present| present.instance.strip_prefix(DRILL));
        of_drills.filter(|name| *name != own).map(Arc::from).min()
    }

    fn peers(&self, heard: Vec<Present>) -> usize {
        let now = self.process.now();
        let mut roll = Roll::default();
        roll.hear(heard, now);
        let own = &self.process.settings.instance;
        roll.processes(now).iter().filter(|process| !process.silent && process.name != *own).count()
    }

    fn scope(&self) -> Option<Scope> {
        let known = self.process.known.load();
        let ledger = known.identity.as_ref()?.ledger;
        Some(Scope { ledger, cluster: Arc::clone(&self.process.settings.cluster) })
    }

    fn pods(&self) -> Vec<Rc<dyn Pod>> {
        let mut roster = self.roster.borrow_mut();
        let mut pods = self.pods.borrow_mut();
        if pods.is_none() || roster.has_changed().unwrap_or(false) {
            let targets = Arc::clone(&roster.borrow_and_update());
            let before = pods.take().unwrap_or_default();
            let kept = |address: &Arc<str>| before.iter().find(|pod| pod.address() == address).map(Rc::clone);
            let open = |target: &Arc<dyn Target>| {
                kept(target.address())
                    .unwrap_or_else(|| target.open(&self.process.settings.redis, &self.process.log))
            };
            *pods = Some(targets.iter().map(open).collect());
        }
        pods.clone().unwrap_or_default()
    }
}
