//! What can go wrong, and how often it does in one run.

use std::time::Duration;

use crate::ledgers::{Befalls, Stay};
use crate::net::{Moment, To, Trap, Ways, Weather};
use crate::schedule::{Schedule, Timed, least_block_size};

/// One fault.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Calls are lost, late or refused.
    Weather { ways: Ways, weather: Weather, lasts: Duration },
    /// A process ends at once, whatever it was doing.
    Crash { slot: usize, back_after: Duration },
    /// The same, at this moment of its next such call.
    Trap { trap: Trap },
    /// An actor panics.
    Panic { slot: usize, actor: &'static str },
    /// A process stops in order and hands back what it holds.
    Drain { slot: usize, back_after: Duration },
    /// A pod is restarted, and empty.
    PodRestarts { pod: usize },
    /// A pod is restarted with what it held `lag` seconds ago, or is another server that copied it.
    PodAged { pod: usize, lag: usize },
    /// Somebody empties a pod.
    PodFlushed { pod: usize },
    /// A pod follows a server that has what it held `lag` seconds ago, and is promoted again.
    PodDemoted { pod: usize, lag: usize, lasts: Duration },
    /// A replica is attached to a pod.
    PodReplicated { pod: usize, lasts: Duration },
    /// A pod's memory is replaced by an older copy while it runs on.
    PodRestored { pod: usize, lag: usize, lasts: Duration },
    /// A pod has no memory left.
    PodFull { pod: usize, lasts: Duration },
    /// A pod is no longer among the pods, for this long.
    PodGone { pod: usize, lasts: Duration },
    /// A sequence moves on by so many IDs, into a new generation.
    Advance { sequence: usize, by: i64 },
    /// What befalls the ledger's servers.
    Ledger { what: Befalls },
    /// Blocks of another size.
    BlockSize { sequence: usize, to: i64 },
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Kinds of faults, as a swarm turns them on and off.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $variant,)* }

        impl Kind {
            pub const ALL: &'static [Kind] = &[$(Kind::$variant,)*];

            /// The name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }
        }
    };
}

kinds! {
    Storm = "calls lost, late and refused at random",
    PodAway = "a pod that can't be reached",
    PodsAway = "no pod can be reached",
    LedgerAway = "a ledger that can't be reached",
    OneWay = "answers that are lost, for a while",
    LedgerSlow = "a ledger that answers too late",
    Crash = "a process that crashes",
    Trap = "a process that crashes in the middle of a call",
    Panic = "an actor that panics",
    Drain = "a process that drains",
    PodRestarts = "a pod that restarts empty",
    PodAged = "a pod restarted with what it held before",
    PodFlushed = "a pod flushed",
    PodDemoted = "a pod demoted and promoted again",
    PodReplicated = "a pod with a replica",
    PodRestored = "a pod's memory replaced by an older copy",
    Repeats = "answers that come again instead of others",
    PodFull = "a pod out of memory",
    PodGone = "a pod gone and found again",
    Advance = "a new generation",
    BlockSize = "blocks of another size",
    LedgerRestarts = "a ledger that restarts",
    LedgerFailover = "a failover that loses commits",
    LedgerSplit = "an old primary that goes on beside the new one",
    LedgerTwice = "two promotions of one ancestor",
    LedgerDump = "a ledger restored from a dump",
    LedgerRewound = "a ledger restored to a point in time",
    LedgerClock = "a ledger's clock that jumps",
}

const ACTORS: [&str; 6] = ["allocator", "router", "buffer", "database", "supervisor", "hydrator"];
const CALLS: [&str; 8] = ["pop", "push", "raise", "publish", "fallback", "exercise", "hydrate", "facts"];

impl Fault {
    /// Whether it needs to know what a pod held before.
    pub fn takes_a_pod_back(&self) -> bool {
        matches!(self.kind(), Kind::PodAged | Kind::PodDemoted | Kind::PodRestored)
    }

    pub fn kind(&self) -> Kind {
        match self {
            Fault::Weather { ways, weather, .. } => match (ways.to, weather) {
                (_, Weather { loses: 1000, .. } | Weather { refuses: 1000, .. }) => match ways.to {
                    To::Ledger => Kind::LedgerAway,
                    To::Pod(_) => Kind::PodAway,
                    _ => Kind::PodsAway,
                },
                (_, Weather { loses_reply: 1000, .. }) => Kind::OneWay,
                (To::Ledger, Weather { late: 1000, .. }) => Kind::LedgerSlow,
                (_, Weather { repeats: 1.., .. }) => Kind::Repeats,
                _ => Kind::Storm,
            },
            Fault::Crash { .. } => Kind::Crash,
            Fault::Trap { .. } => Kind::Trap,
            Fault::Panic { .. } => Kind::Panic,
            Fault::Drain { .. } => Kind::Drain,
            Fault::PodRestarts { .. } => Kind::PodRestarts,
            Fault::PodAged { .. } => Kind::PodAged,
            Fault::PodFlushed { .. } => Kind::PodFlushed,
            Fault::PodDemoted { .. } => Kind::PodDemoted,
            Fault::PodReplicated { .. } => Kind::PodReplicated,
            Fault::PodRestored { .. } => Kind::PodRestored,
            Fault::PodFull { .. } => Kind::PodFull,
            Fault::PodGone { .. } => Kind::PodGone,
            Fault::Advance { .. } => Kind::Advance,
            Fault::BlockSize { .. } => Kind::BlockSize,
            Fault::Ledger { what } => match what {
                Befalls::Restart => Kind::LedgerRestarts,
                Befalls::Failover { stay: Stay::Nobody, .. } => Kind::LedgerFailover,
                Befalls::Failover { .. } => Kind::LedgerSplit,
                Befalls::TwoPromotions { .. } => Kind::LedgerTwice,
                Befalls::Dump { .. } => Kind::LedgerDump,
                Befalls::Rewind { .. } => Kind::LedgerRewound,
                Befalls::Clock { .. } => Kind::LedgerClock,
            },
        }
    }
}

/// Which kinds are on in one run, and how many of each happen in a minute.
pub struct Swarm(Vec<(Kind, f64)>);

impl Swarm {
    pub fn draw(rng: &mut fastrand::Rng) -> Swarm {
        // From hardly any kind to nearly all of them.
        let share = rng.f64() * 0.8 + 0.1;
        let mut on: Vec<(Kind, f64)> = Vec::new();
        for kind in Kind::ALL {
            let mut rate = [1.0, 5.0, 15.0, 40.0][rng.usize(..4)];
            if *kind >= Kind::LedgerFailover && *kind < Kind::LedgerClock {
                // Each takes an operator some seconds.
                rate /= 10.0;
            }
            if rng.f64() < share {
                on.push((*kind, rate));
            }
        }
        if on.is_empty() {
            on.push((Kind::Storm, 6.0));
        }
        Swarm(on)
    }

    /// The faults of a run, in time.
    pub fn faults(&self, schedule: &Schedule, rng: &mut fastrand::Rng) -> Vec<Timed> {
        let lasts = schedule.lasts.as_secs_f64();
        let mut faults = Vec::new();
        for (kind, rate) in &self.0 {
            let mut at = 0.0;
            loop {
                at += -rng.f64().max(1e-9).ln() * 60.0 / rate;
                if at >= lasts {
                    break;
                }
                if let Some(fault) = draw(*kind, schedule, rng) {
                    faults.push(Timed { at: Duration::from_millis((at * 1000.0) as u64), fault });
                }
            }
        }
        faults.sort_by_key(|timed| timed.at);
        faults
    }
}

/// From a moment to half a minute, short ones oftener.
fn a_while(rng: &mut fastrand::Rng) -> Duration {
    Duration::from_millis((100.0 * 300f64.powf(rng.f64())) as u64)
}

/// `None` where the run has nothing that this could happen to.
fn draw(kind: Kind, schedule: &Schedule, rng: &mut fastrand::Rng) -> Option<Fault> {
    let slots = schedule.slots();
    let slot = rng.usize(..slots.len());
    let pod = (schedule.pods() > 0).then(|| rng.usize(..schedule.pods().max(1)));
    let sequence = rng.usize(..schedule.sequences.len());
    let back_after = Duration::from_millis(rng.u64(..3_000));
    let lasts = a_while(rng);
    // One process, one cluster, or everybody.
    let (of, cluster) = match rng.u32(..3) {
        0 => (Some(slot), None),
        1 => (None, Some(slots[slot].cluster)),
        _ => (None, None),
    };
    let ways = |to| Ways { slot: of, cluster, to };
    let gone = match rng.bool() {
        true => Weather { refuses: 1000, ..Weather::default() },
        false => Weather { loses: 1000, ..Weather::default() },
    };
    let ledger = |what| Some(Fault::Ledger { what });
    let weather = |to, weather| Some(Fault::Weather { ways: ways(to), weather, lasts });
    let anywhere = || match (rng.u32(..4), pod) {
        (0, _) => To::Ledger,
        (1, _) => To::Pods,
        (2, Some(pod)) => To::Pod(pod),
        _ => To::Anything,
    };
    match kind {
        Kind::Storm => {
            let to = { anywhere }();
            let mut chance = || if rng.bool() { rng.u16(..300) } else { 0 };
            let (refuses, loses, loses_reply, late) = (chance(), chance(), chance(), chance());
            let late_by = Duration::from_millis(rng.u64(1..400));
            weather(to, Weather { refuses, loses, loses_reply, late, late_by, repeats: 0 })
        }
        Kind::PodAway => weather(To::Pod(pod?), gone),
        Kind::PodsAway => weather(To::Pods, gone),
        Kind::LedgerAway => weather(To::Ledger, gone),
        Kind::OneWay => {
            let to = { anywhere }();
            weather(to, Weather { loses_reply: 1000, ..Weather::default() })
        }
        Kind::LedgerSlow => {
            let late_by = Duration::from_millis(rng.u64(100..8_000));
            weather(To::Ledger, Weather { late: 1000, late_by, ..Weather::default() })
        }
        Kind::Crash => Some(Fault::Crash { slot, back_after }),
        Kind::Trap => {
            let call = CALLS[rng.usize(..CALLS.len())];
            let moment = [Moment::Sent, Moment::Done, Moment::Answered][rng.usize(..3)];
            Some(Fault::Trap { trap: Trap { slot, call, moment } })
        }
        Kind::Panic => Some(Fault::Panic { slot, actor: ACTORS[rng.usize(..ACTORS.len())] }),
        Kind::Drain => Some(Fault::Drain { slot, back_after }),
        Kind::PodRestarts => Some(Fault::PodRestarts { pod: pod? }),
        Kind::PodAged => Some(Fault::PodAged { pod: pod?, lag: rng.usize(..10) }),
        Kind::PodFlushed => Some(Fault::PodFlushed { pod: pod? }),
        Kind::PodDemoted => Some(Fault::PodDemoted { pod: pod?, lag: rng.usize(..10), lasts }),
        Kind::PodReplicated => Some(Fault::PodReplicated { pod: pod?, lasts }),
        Kind::PodRestored => Some(Fault::PodRestored { pod: pod?, lag: rng.usize(..10), lasts }),
        Kind::Repeats => weather(To::Pods, Weather { repeats: rng.u16(1..300), ..Weather::default() }),
        Kind::PodFull => Some(Fault::PodFull { pod: pod?, lasts }),
        Kind::PodGone => Some(Fault::PodGone { pod: pod?, lasts }),
        Kind::Advance => Some(Fault::Advance { sequence, by: rng.i64(0..5_000) }),
        Kind::LedgerRestarts => ledger(Befalls::Restart),
        Kind::LedgerFailover => ledger(Befalls::Failover { lag: rng.usize(..20), stay: Stay::Nobody }),
        Kind::LedgerSplit => {
            let stay = if rng.bool() { Stay::Cluster(slots[slot].cluster) } else { Stay::Some(rng.u64(..)) };
            ledger(Befalls::Failover { lag: rng.usize(..20), stay })
        }
        Kind::LedgerTwice => ledger(Befalls::TwoPromotions { lag: rng.usize(..20), split: rng.u64(..) }),
        Kind::LedgerDump => ledger(Befalls::Dump { lag: rng.usize(..20) }),
        Kind::LedgerRewound => ledger(Befalls::Rewind { lag: rng.usize(..20) }),
        Kind::LedgerClock => {
            let far = [2, 120, 4_000, 100_000][rng.usize(..4)];
            ledger(Befalls::Clock { by_us: rng.i64(-far..=far) * 1_000_000 })
        }
        Kind::BlockSize => {
            let least = least_block_size(&schedule.tuning, &schedule.load);
            Some(Fault::BlockSize { sequence, to: least * [1, 3, 40, 700][rng.usize(..4)] })
        }
    }
}
