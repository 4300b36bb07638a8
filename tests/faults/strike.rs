//! Carries faults out on a running field, undoes them, and knows what is well meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::block_in_place;

use crate::field::{Field, Member, discarded};
use crate::reach::Reach;
use crate::schedule::{Fault, Line, Victim, Who};
use crate::support::proxy::Proxy;

/// A drain may need its whole time, and a busy machine some more.
const DRAINED: Duration = Duration::from_secs(20);

/// Strikes a field.
pub struct Striker {
    pub field: Field,
    reach: Reach,
    /// Who is down or stopped.
    struck: Vec<Victim>,
    /// Pods that nobody has seen filled since they lost all they held.
    emptied: Vec<bool>,
    /// IDs discarded by cause, of processes that have ended; in the last moment of one that was killed it may have counted more.
    buried: BTreeMap<&'static str, u64>,
}

impl Striker {
    pub fn new(field: Field) -> Striker {
        let (allocators, pods) = (field.allocators.len(), field.cluster.pods.len());
        Striker {
            field,
            reach: Reach::new(allocators, pods),
            struck: Vec::new(),
            emptied: vec![false; pods],
            buried: BTreeMap::new(),
        }
    }

    /// Whether this can happen now.
    pub fn may(&self, fault: &Fault) -> bool {
        fault.victim().is_none_or(|victim| !self.struck.contains(&victim))
    }

    /// It happens. Gives what [`Striker::undo`] compares with.
    pub async fn strike(&mut self, fault: &Fault) -> u64 {
        let before = self.touched(fault);
        match fault {
            Fault::Poison { lines, ways, toxic } => {
                for line in lines.iter().map(|line| self.line(*line)) {
                    ways.iter().for_each(|way| line.poison(*way, *toxic));
                }
            }
            Fault::Kill(Victim::Process(who)) => {
                self.bury(*who).await;
                self.member(*who).process.kill();
            }
            Fault::Kill(Victim::Pod(pod)) => {
                self.field.cluster.pods[*pod].kill();
                self.emptied[*pod] = true;
            }
            Fault::Kill(Victim::Ledger) => block_in_place(|| self.postgres().kill()),
            Fault::Terminate(who) => {
                self.bury(*who).await;
                self.member(*who).process.signal(Signal::TERM);
            }
            Fault::Freeze(Victim::Process(who)) => self.member(*who).process.signal(Signal::STOP),
            Fault::Freeze(Victim::Pod(pod)) => self.field.cluster.pods[*pod].pause(),
            Fault::Freeze(Victim::Ledger) => self.field.cluster.ledger().pause(),
            Fault::Flush(pod) => {
                let flush = || self.field.cluster.pods[*pod].try_run::<()>(&["FLUSHALL"]);
                let _ = block_in_place(flush);
                self.emptied[*pod] = true;
            }
        }
        self.struck.extend(fault.victim());
        before
    }

    /// Its time is over. Whether it had an effect.
    pub async fn undo(&mut self, fault: &Fault, before: u64) -> bool {
        let fired = match fault {
            Fault::Poison { lines, ways, toxic } => {
                for line in lines.iter().map(|line| self.line(*line)) {
                    ways.iter().for_each(|way| line.heal(*way, *toxic));
                }
                self.touched(fault) > before
            }
            Fault::Kill(Victim::Process(who)) => {
                self.member(*who).process.start_again();
                true
            }
            Fault::Kill(Victim::Pod(pod)) => {
                block_in_place(|| self.field.cluster.pods[*pod].restart());
                true
            }
            Fault::Kill(Victim::Ledger) => {
                block_in_place(|| self.postgres().launch());
                true
            }
            Fault::Terminate(who) => {
                let process = &mut self.member(*who).process;
                process.exit(DRAINED).await;
                process.start_again();
                true
            }
            Fault::Freeze(Victim::Process(who)) => {
                self.member(*who).process.signal(Signal::CONT);
                true
            }
            Fault::Freeze(Victim::Pod(pod)) => {
                self.field.cluster.pods[*pod].resume();
                true
            }
            Fault::Freeze(Victim::Ledger) => {
                self.field.cluster.ledger().resume();
                true
            }
            Fault::Flush(_) => true,
        };
        let victim = fault.victim();
        self.struck.retain(|struck| Some(*struck) != victim);
        fired
    }

    /// Looks at everything once more; gives which allocators can answer, and who ended though nobody struck it.
    pub async fn look(&mut self) -> (std::collections::BTreeSet<usize>, Vec<String>) {
        let mut ended = Vec::new();
        let now = Instant::now();
        for number in 0..self.field.allocators.len() {
            let struck = self.struck.contains(&Victim::Process(Who::Allocator(number)));
            let member = &mut self.field.allocators[number];
            let ready = !struck && member.is_ready().await;
            let of = &mut self.reach.allocators[number];
            of.ready.see(ready, now);
            of.front.see(member.front.is_clean(), now);
            of.to_ledger.see(member.ledger.is_clean(), now);
            let lines = of.to_pods.iter_mut().zip(&member.pods);
            lines.for_each(|(well, line)| well.see(line.is_clean(), now));
        }
        for (victim, member) in members(&mut self.field) {
            if !self.struck.contains(&victim)
                && let Some(status) = member.process.ended()
            {
                ended.push(format!("{} ended with {status}", member.process.name()));
            }
        }
        for pod in 0..self.emptied.len() {
            let struck = self.struck.contains(&Victim::Pod(pod));
            if self.emptied[pod] && !struck {
                self.emptied[pod] = !block_in_place(|| self.field.cluster.is_filled(pod));
            }
            self.reach.pods[pod].see(!struck && !self.emptied[pod], now);
        }
        self.reach.ledger.see(!self.struck.contains(&Victim::Ledger), now);
        (self.reach.able(Instant::now()), ended)
    }

    /// IDs discarded by cause, of all processes and all their lives.
    pub async fn discarded(&self) -> BTreeMap<&'static str, u64> {
        let mut all = self.buried.clone();
        for member in self.field.members() {
            if let Some(metrics) = member.metrics().await {
                discarded(&metrics).for_each(|(cause, ids)| *all.entry(cause).or_default() += ids);
            }
        }
        all
    }

    async fn bury(&mut self, who: Who) {
        if let Some(metrics) = self.member(who).metrics().await {
            discarded(&metrics).for_each(|(cause, ids)| *self.buried.entry(cause).or_default() += ids);
        }
    }

    fn touched(&self, fault: &Fault) -> u64 {
        match fault {
            Fault::Poison { lines, .. } => lines.iter().map(|line| self.line(*line).touched()).sum(),
            _ => 0,
        }
    }

    fn postgres(&mut self) -> &mut crate::support::postgres::Postgres {
        self.field.cluster.postgres.as_mut().expect("the plan has a ledger")
    }

    fn member(&mut self, who: Who) -> &mut Member {
        match who {
            Who::Allocator(number) => &mut self.field.allocators[number],
            Who::Hydrator(number) => &mut self.field.hydrators[number],
        }
    }

    fn line(&self, line: Line) -> &Proxy {
        let member = |who| match who {
            Who::Allocator(number) => &self.field.allocators[number],
            Who::Hydrator(number) => &self.field.hydrators[number],
        };
        match line {
            Line::Front(number) => &self.field.allocators[number].front,
            Line::ToPod(who, pod) => &member(who).pods[pod],
            Line::ToLedger(who) => &member(who).ledger,
        }
    }
}

fn members(field: &mut Field) -> impl Iterator<Item = (Victim, &mut Member)> {
    let allocators = field.allocators.iter_mut().enumerate();
    let hydrators = field.hydrators.iter_mut().enumerate();
    let allocators = allocators.map(|(number, member)| (Victim::Process(Who::Allocator(number)), member));
    allocators.chain(hydrators.map(|(number, member)| (Victim::Process(Who::Hydrator(number)), member)))
}
