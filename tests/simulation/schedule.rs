//! What a run consists of: drawn from its seed, and plain data from then on.

use std::fmt;
use std::time::Duration;

use crate::fault::{Fault, Swarm};

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    pub seed: u64,
    pub clusters: Vec<Cluster>,
    pub sequences: Vec<Sequence>,
    pub tuning: Tuning,
    pub load: Load,
    /// How long faults happen. Afterwards everything must recover.
    pub lasts: Duration,
    pub faults: Vec<Timed>,
}

/// Processes that share pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cluster {
    pub allocators: usize,
    pub hydrators: usize,
    pub pods: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    pub name: &'static str,
    pub first: i64,
    pub last: i64,
    pub block_size: i64,
    pub failover_gap: Option<i64>,
}

/// What the processes are told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    pub workers: usize,
    pub pod_timeout: Duration,
    pub ledger_timeout: Duration,
    /// Milliseconds of one way to a pod, and to the ledger, at most.
    pub latency: (u64, u64),
    pub interval: Duration,
    pub min_ids: i64,
    pub fallback_min_ids: i64,
    pub cover: Duration,
    pub exercise: f64,
    pub max_waiters: usize,
    pub connect_spread: Duration,
}

/// What callers do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Requests a second, in all.
    pub per_second: f64,
    /// IDs a request, at most.
    pub most: u32,
    /// How long callers wait, at least and at most.
    pub patience: (Duration, Duration),
    /// Callers in a thousand who go away before they are answered.
    pub cancels: u16,
}

/// A fault, and when it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    pub at: Duration,
    pub fault: Fault,
}

const SECOND: Duration = Duration::from_secs(1);

impl Schedule {
    /// The run of this seed.
    pub fn draw(seed: u64) -> Schedule {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let clusters: Vec<Cluster> = (0..[1, 1, 1, 2, 2, 3][rng.usize(..6)]).map(|_| cluster(rng)).collect();
        let mut sequences = sequences(rng);
        let (tuning, load) = (Tuning::draw(rng), Load::draw(rng));
        let least = least_block_size(&tuning, &load);
        for sequence in
            sequences.iter_mut().filter(|sequence| sequence.last - sequence.first > ENTRIES * least)
        {
            sequence.block_size = sequence.block_size.max(least);
        }
        let lasts = SECOND * rng.u32(10..40);
        let mut schedule = Schedule { seed, clusters, sequences, tuning, load, lasts, faults: Vec::new() };
        schedule.faults = Swarm::draw(rng).faults(&schedule, rng);
        schedule
    }

    /// The cluster that the issue measures the rate with: no faults, 3 allocators, 3 pods, 1 ledger, 200 requests a second.
    pub fn measure(lasts: Duration) -> Schedule {
        let rng = &mut fastrand::Rng::with_seed(1);
        Schedule {
            seed: 1,
            clusters: vec![Cluster { allocators: 3, hydrators: 1, pods: 3 }],
            sequences: vec![Sequence { first: 1, last: 1 << 53, ..SEQUENCES[0].clone() }],
            tuning: Tuning { exercise: 0.0001, ..Tuning::draw(rng) },
            load: Load { per_second: 200.0, most: 100, patience: (SECOND, SECOND * 2), cancels: 0 },
            lasts,
            faults: Vec::new(),
        }
    }

    /// The same without any fault but those with these numbers.
    pub fn only(&self, numbers: &[usize]) -> Schedule {
        let faults = numbers.iter().filter_map(|number| self.faults.get(*number).cloned()).collect();
        Schedule { faults, ..self.clone() }
    }

    /// The cluster of each slot, allocators before hydrators, cluster by cluster.
    pub fn slots(&self) -> Vec<Slot> {
        let mut slots = Vec::new();
        for (cluster, of) in self.clusters.iter().enumerate() {
            slots.extend((0..of.allocators).map(|_| Slot { cluster, hydrates: false }));
            slots.extend((0..of.hydrators).map(|_| Slot { cluster, hydrates: true }));
        }
        slots
    }

    /// The numbers of a cluster's pods.
    pub fn pods_of(&self, cluster: usize) -> std::ops::Range<usize> {
        let before: usize = self.clusters[..cluster].iter().map(|cluster| cluster.pods).sum();
        before..before + self.clusters[cluster].pods
    }

    pub fn pods(&self) -> usize {
        self.clusters.iter().map(|cluster| cluster.pods).sum()
    }
}

/// A place for a process: one starts in it, crashes, and another starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub cluster: usize,
    pub hydrates: bool,
}

/// The most blocks that a cluster's pods have of a sequence, about: millions would show nothing that thousands don't.
const ENTRIES: i64 = 2_000;

/// Below it, the pods would be filled with more entries than that.
pub fn least_block_size(tuning: &Tuning, load: &Load) -> i64 {
    let used = load.per_second * f64::from(load.most) / 2.0 * tuning.cover.as_secs_f64();
    (used as i64).max(tuning.min_ids) / ENTRIES + 1
}

fn cluster(rng: &mut fastrand::Rng) -> Cluster {
    Cluster { allocators: rng.usize(1..=4), hydrators: rng.usize(1..=2), pods: rng.usize(0..=4) }
}

// Whatever may be granted while a standby lags behind lies within the gap: of the small ones it is all there is.
const SEQUENCES: [Sequence; 5] = [
    Sequence { name: "tasks", first: 1, last: 1_000_000_000_000, block_size: 1_000, failover_gap: None },
    Sequence { name: "short", first: 1, last: 1_000, block_size: 10, failover_gap: Some(1_000) },
    Sequence {
        name: "edge",
        first: i64::MAX - 100_000_000_000,
        last: i64::MAX,
        block_size: 500,
        failover_gap: Some(1_000_000_000),
    },
    Sequence { name: "safe", first: 1 << 52, last: (1 << 53) - 1, block_size: 100, failover_gap: None },
    Sequence { name: "scarce", first: 1, last: 400_000, block_size: 200, failover_gap: Some(400_000) },
];

fn sequences(rng: &mut fastrand::Rng) -> Vec<Sequence> {
    let mut all = SEQUENCES.to_vec();
    rng.shuffle(&mut all);
    all.truncate(rng.usize(1..=3));
    // One at least lasts for the whole run.
    if !all.iter().any(|sequence| sequence.last - sequence.first > 10_000_000) {
        all[0] = SEQUENCES[0].clone();
    }
    all.sort_by_key(|sequence| sequence.name);
    all
}

impl Tuning {
    fn draw(rng: &mut fastrand::Rng) -> Tuning {
        Tuning {
            workers: rng.usize(1..=2),
            pod_timeout: Duration::from_millis([20, 50, 50, 200][rng.usize(..4)]),
            ledger_timeout: Duration::from_millis([500, 2_000, 5_000][rng.usize(..3)]),
            latency: (rng.u64(0..4), [1, 3, 20, 100][rng.usize(..4)]),
            interval: Duration::from_millis([1_000, 2_000, 5_000][rng.usize(..3)]),
            min_ids: [3_000, 30_000, 1_000_000][rng.usize(..3)],
            fallback_min_ids: [100, 1_000, 10_000][rng.usize(..3)],
            cover: Duration::from_secs([10, 60, 300][rng.usize(..3)]),
            exercise: [0.0, 0.0001, 0.02][rng.usize(..3)],
            max_waiters: [1024, 1024, 3][rng.usize(..3)],
            connect_spread: Duration::from_secs([0, 0, 2, 10][rng.usize(..4)]),
        }
    }
}

impl Load {
    fn draw(rng: &mut fastrand::Rng) -> Load {
        let least = Duration::from_millis([5, 50, 500][rng.usize(..3)]);
        Load {
            per_second: [5.0, 20.0, 60.0, 150.0][rng.usize(..4)],
            most: [1, 20, 300, 2_500][rng.usize(..4)],
            patience: (least, Duration::from_millis([1_000, 2_000, 5_000][rng.usize(..3)])),
            cancels: [0, 20, 200][rng.usize(..3)],
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?} of faults", self.seed, self.lasts)?;
        for (number, Cluster { allocators, hydrators, pods }) in self.clusters.iter().enumerate() {
            writeln!(f, "  cluster {number}: {allocators} allocators, {hydrators} hydrators, {pods} pods")?;
        }
        for Sequence { name, first, last, block_size, .. } in &self.sequences {
            writeln!(f, "  sequence {name}: {first} to {last} in blocks of {block_size}")?;
        }
        writeln!(f, "  {:?}", self.tuning)?;
        writeln!(f, "  {:?}", self.load)?;
        for (number, Timed { at, fault }) in self.faults.iter().enumerate() {
            writeln!(f, "  {number:>3} at {:>8.3} s {fault:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}
