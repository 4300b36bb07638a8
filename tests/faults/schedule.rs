//! Faults drawn from a seed: what, when, for how long. The same seed gives the same schedule.

use std::time::Duration;

use fastrand::Rng;

use crate::support::toxics::{Toxic, Way};

/// Mean time between the beginnings of two faults.
const GAP_MS: u64 = 1_500;

/// How many of each there are.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub allocators: usize,
    pub hydrators: usize,
    pub pods: usize,
}

/// A process with lines of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Allocator(usize),
    Hydrator(usize),
}

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// From callers to an allocator.
    Front(usize),
    ToPod(Who, usize),
    ToLedger(Who),
}

/// Something that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Process(Who),
    Pod(usize),
    Ledger,
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A toxic on lines, in one or both directions.
    Poison { lines: Vec<Line>, ways: Vec<Way>, toxic: Toxic },
    /// `kill -9`, and a start when the time is over.
    Kill(Victim),
    /// SIGTERM, and a start when the time is over.
    Terminate(Who),
    /// SIGSTOP, and SIGCONT when the time is over.
    Freeze(Victim),
    /// A pod loses all that it holds.
    Flush(usize),
}

/// A fault with its times.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    pub at: Duration,
    pub lasts: Duration,
    pub fault: Fault,
}

impl Victim {
    pub fn name(self) -> &'static str {
        match self {
            Victim::Process(Who::Allocator(_)) => "allocator",
            Victim::Process(Who::Hydrator(_)) => "hydrator",
            Victim::Pod(_) => "pod",
            Victim::Ledger => "PostgreSQL",
        }
    }
}

impl Fault {
    /// The name in reports.
    pub fn name(&self) -> String {
        match self {
            Fault::Poison { ways, toxic, .. } => {
                let ways = match ways[..] {
                    [Way::Up] => "requests",
                    [Way::Down] => "replies",
                    _ => "both ways",
                };
                format!("{}, {ways}", toxic.name())
            }
            Fault::Kill(victim) => format!("killed {}", victim.name()),
            Fault::Terminate(who) => format!("terminated {}", Victim::Process(*who).name()),
            Fault::Freeze(victim) => format!("stopped {}", victim.name()),
            Fault::Flush(_) => "emptied pod".to_owned(),
        }
    }

    /// Who can't be struck a second time meanwhile.
    pub fn victim(&self) -> Option<Victim> {
        match *self {
            Fault::Poison { .. } => None,
            Fault::Kill(victim) | Fault::Freeze(victim) => Some(victim),
            Fault::Terminate(who) => Some(Victim::Process(who)),
            Fault::Flush(pod) => Some(Victim::Pod(pod)),
        }
    }
}

/// Endless, in the order of time.
pub struct Schedule {
    rng: Rng,
    size: Size,
    at: Duration,
}

impl Schedule {
    pub fn of(seed: u64, size: Size) -> Schedule {
        Schedule { rng: Rng::with_seed(seed), size, at: Duration::ZERO }
    }

    fn draw(&mut self) -> Fault {
        let who = self.who();
        match self.rng.u32(..100) {
            0..62 => self.poison(),
            62..78 => Fault::Kill(Victim::Process(who)),
            78..84 => Fault::Kill(Victim::Pod(self.rng.usize(..self.size.pods))),
            84..87 => Fault::Kill(Victim::Ledger),
            87..91 => Fault::Terminate(who),
            91..94 => Fault::Freeze(Victim::Process(who)),
            94..97 => Fault::Freeze(Victim::Pod(self.rng.usize(..self.size.pods))),
            97..98 => Fault::Freeze(Victim::Ledger),
            _ => Fault::Flush(self.rng.usize(..self.size.pods)),
        }
    }

    fn poison(&mut self) -> Fault {
        let toxic = any_toxic(&mut self.rng);
        let ways = match self.rng.u32(..3) {
            0 => vec![Way::Up],
            1 => vec![Way::Down],
            _ => vec![Way::Up, Way::Down],
        };
        Fault::Poison { lines: self.lines(), ways, toxic }
    }

    /// One line, or all that lead to one place.
    fn lines(&mut self) -> Vec<Line> {
        let (who, pod) = (self.who(), self.rng.usize(..self.size.pods));
        match self.rng.u32(..10) {
            0..3 => vec![Line::Front(self.rng.usize(..self.size.allocators))],
            3..6 => vec![Line::ToPod(who, pod)],
            6..7 => vec![Line::ToLedger(who)],
            7..8 => self.everybody().map(|who| Line::ToPod(who, pod)).collect(),
            8..9 => self.everybody().map(Line::ToLedger).collect(),
            // Cut off from all pods: the ledger alone serves.
            _ => (0..self.size.pods).map(|pod| Line::ToPod(who, pod)).collect(),
        }
    }

    fn who(&mut self) -> Who {
        let Size { allocators, hydrators, .. } = self.size;
        match self.rng.usize(..allocators + hydrators) {
            number if number < allocators => Who::Allocator(number),
            number => Who::Hydrator(number - allocators),
        }
    }

    fn everybody(&self) -> impl Iterator<Item = Who> + use<> {
        let Size { allocators, hydrators, .. } = self.size;
        (0..allocators).map(Who::Allocator).chain((0..hydrators).map(Who::Hydrator))
    }
}

impl Iterator for Schedule {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        self.at += Duration::from_millis(self.rng.u64(1..2 * GAP_MS));
        let lasts = Duration::from_millis(self.rng.u64(300..8_000));
        Some(Planned { at: self.at, lasts, fault: self.draw() })
    }
}

/// Each kind as often as the next, from hardly felt to worse than any time-out.
fn any_toxic(rng: &mut Rng) -> Toxic {
    match rng.u32(..8) {
        0 => Toxic::Latency(Duration::from_millis(rng.u64(1..400))),
        1 => Toxic::Jitter(Duration::from_millis(rng.u64(1..400))),
        2 => Toxic::Bandwidth(rng.u32(200..20_000)),
        3 => Toxic::Blackhole,
        4 => Toxic::Reset,
        5 => Toxic::Drop,
        6 => Toxic::Slice(rng.usize(1..40)),
        _ => Toxic::HalfClose,
    }
}
