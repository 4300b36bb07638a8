//! What this process knows, shared by its threads: a snapshot that readers take without a lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use slog::{Logger, error, info, warn};

use crate::block::{
    Age, Catalogue, Cause, Counters, Identity, Knowledge, Life, Range, SequenceFacts, Span, Stamp,
    tripwire::Tripwire,
};
use crate::config::Settings;
use crate::ledger::{Facts, Report, State};
use crate::observe::Metrics;
use crate::pods::{Heartbeat, List, Scope};

/// One sequence, at one stamp of the catalogue.
#[derive(Debug)]
pub struct Sequence {
    /// Dense, the same for the process's life: where actors keep what they know of it.
    pub index: usize,
    /// How new `facts` are.
    pub stamp: Stamp,
    /// As the catalogue has them.
    pub facts: SequenceFacts,
    /// What is counted of it.
    pub counters: Arc<Counters>,
    /// Its list on every pod.
    pub list: List,
    tripwire: Arc<Mutex<Tripwire>>,
}

impl Sequence {
    /// Takes charge of IDs, granted in `generation`, that enter this process to be served (S6).
    ///
    /// # Errors
    /// They overlap IDs that entered before: they are discarded and counted.
    pub fn admit(&self, span: Span, generation: i64, log: &Logger) -> Result<Range, Span> {
        let entered = locked(&self.tripwire).enter(span);
        match entered {
            Ok(()) => Ok(Range::hold(span, generation, Arc::clone(&self.counters.tally))),
            Err(served) => {
                self.counters.tally.count(Cause::Duplicate, span.count().unsigned_abs());
                self.counters.duplicate_ranges.fetch_add(1, Ordering::Relaxed);
                error!(log, "a range overlaps IDs served before and was discarded";
                    "sequence" => %self.facts.name, "range" => %span, "served" => %served);
                Err(served)
            }
        }
    }

    /// Whether this is newer than what `other` says.
    pub fn supersedes(&self, other: &Sequence) -> bool {
        self.stamp > other.stamp || self.facts.generation > other.facts.generation
    }

    /// The greatest ID known to have been granted, 0 if none is.
    pub fn high_water(&self) -> i64 {
        self.counters.high_water.load(Ordering::Acquire)
    }

    /// Learns of a greater high water. Only from the ledger's own words (S3).
    pub fn raise_high_water(&self, to: i64) {
        self.counters.high_water.fetch_max(to, Ordering::AcqRel);
    }

    /// IDs that the ledger can still grant at most: its counter never moves down (S4).
    pub fn left_at_most(&self) -> i64 {
        self.facts.last - self.high_water().clamp(self.facts.first - 1, self.facts.last)
    }
}

/// What was known at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Which ledger, in which life.
    pub identity: Option<Identity>,
    /// Whether pods may be popped.
    pub pods_usable: bool,
    /// Why tier 3 is stopped: somebody names another ledger.
    pub conflict: Option<String>,
    /// The catalogue that `sequences` was made from.
    pub catalogue: Arc<Catalogue>,
    by_name: HashMap<Arc<str>, Arc<Sequence>>,
}

impl Snapshot {
    /// By name.
    pub fn sequence(&self, name: &str) -> Option<&Arc<Sequence>> {
        self.by_name.get(name)
    }

    /// A generation that a ledger with this catalogue has lost, for people. Whoever asks took this snapshot before the ledger was asked.
    pub fn forgotten_by(&self, theirs: &Catalogue) -> Option<String> {
        self.catalogue.sequences.values().find_map(|ours| {
            let theirs = theirs.sequences.get(&ours.name)?;
            (theirs.generation < ours.generation).then(|| {
                format!(
                    "'{}' is in generation {}, but generation {} is known: the ledger went back in time",
                    ours.name, theirs.generation, ours.generation
                )
            })
        })
    }

    /// Every sequence, by name in order.
    pub fn sequences(&self) -> impl Iterator<Item = &Arc<Sequence>> {
        self.catalogue.sequences.keys().filter_map(|name| self.by_name.get(name))
    }
}

/// What the process knows. Readers load a [`Snapshot`]; whoever hears something new makes the next one.
pub struct Known {
    snapshot: ArcSwap<Snapshot>,
    inner: Mutex<Inner>,
    cluster: Arc<str>,
    /// When the ledger's facts and counters were last read, by this process or by whoever wrote them to a pod.
    age: Age,
    metrics: Metrics,
    log: Logger,
}

struct Inner {
    knowledge: Knowledge,
    /// What outlives every snapshot, by name.
    kept: BTreeMap<Arc<str>, Kept>,
}

struct Kept {
    index: usize,
    tripwire: Arc<Mutex<Tripwire>>,
}

/// A panic while the lock was held leaves plain data behind, which is checked where it is used.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// Nothing but the configuration.
    pub fn new(settings: &Settings, metrics: Metrics, log: Logger) -> Known {
        let knowledge = Knowledge::new(
            Arc::clone(&settings.environment),
            Arc::clone(&settings.cluster),
            settings.ledger.id,
        );
        Known {
            snapshot: ArcSwap::default(),
            inner: Mutex::new(Inner { knowledge, kept: BTreeMap::new() }),
            cluster: Arc::clone(&settings.cluster),
            age: Age::default(),
            metrics,
            log,
        }
    }

    /// What is known now.
    pub fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// One sequence, if known.
    pub fn sequence(&self, name: &str) -> Option<Arc<Sequence>> {
        self.snapshot.load().sequence(name).cloned()
    }

    /// The same sequence as it is known now: it may have moved on since `sequence` was looked up.
    pub fn newest(&self, sequence: &Arc<Sequence>) -> Arc<Sequence> {
        let known = self.snapshot.load();
        let now = known.sequence(&sequence.facts.name).filter(|now| now.supersedes(sequence));
        Arc::clone(now.unwrap_or(sequence))
    }

    /// Takes in a pod's heartbeat.
    ///
    /// # Errors
    /// Why the pod must not be used, for people.
    pub fn hear_pod(&self, address: &Arc<str>, beat: &mut Heartbeat) -> Result<(), String> {
        let mut inner = locked(&self.inner);
        let heard = inner.knowledge.hear_pod(
            address,
            beat.identity.as_ref(),
            beat.cluster.as_deref(),
            beat.catalogue.take(),
        );
        self.publish(&mut inner);
        heard?;
        drop(inner);
        for (name, value) in beat.high_waters.iter().flatten() {
            self.witness(name, *value, address);
        }
        self.age.vouch(beat.read_at_us.unwrap_or(0));
        Ok(())
    }

    /// Takes in what the ledger says of itself.
    ///
    /// # Errors
    /// Why it must not be used, for people.
    pub fn hear_ledger(&self, facts: Facts) -> Result<(), String> {
        let mut inner = locked(&self.inner);
        let open = facts.state == State::Open;
        let heard = inner.knowledge.hear_ledger(&facts.identity, facts.descends, open, facts.catalogue);
        self.publish(&mut inner);
        heard?;
        drop(inner);
        for (name, granted) in &facts.granted {
            self.metrics.sequence(name).high_water.fetch_max(*granted, Ordering::AcqRel);
        }
        if open {
            self.age.vouch(facts.read_at_us);
        }
        Ok(())
    }

    /// What is known, and when it was read from the ledger at the latest, by its own clock (µs since 1970), or before; `None` if never.
    /// High waters that are looked at after this are no older either.
    pub fn dated(&self) -> (Option<i64>, Arc<Snapshot>) {
        self.age.of(|| self.snapshot.load_full())
    }

    /// What is known here, for a ledger that was closed.
    pub fn report(&self, closed: Life, holder: &Arc<str>) -> Report {
        let (read_at_us, snapshot) = self.dated();
        let known = |sequence: &Arc<Sequence>| (sequence.facts.clone(), sequence.high_water());
        Report {
            cluster: Arc::clone(&self.cluster),
            holder: Arc::clone(holder),
            closed,
            follows: snapshot
                .identity
                .as_ref()
                .map(|identity| identity.life)
                .filter(|_| read_at_us.is_some()),
            read_at_us,
            on_failover: read_at_us.map(|_| snapshot.catalogue.on_failover),
            // Who never heard of a ledger that was open knows nothing, whatever a closed one said.
            sequences: if read_at_us.is_some() {
                snapshot.sequences().map(known).collect()
            } else {
                Vec::new()
            },
        }
    }

    /// A pod is no longer among the pods.
    pub fn forget_pod(&self, address: &str) {
        let mut inner = locked(&self.inner);
        inner.knowledge.forget_pod(address);
        self.publish(&mut inner);
    }

    /// A pod's high water is a witness, unless it lies above the sequence's end.
    fn witness(&self, name: &str, value: i64, address: &str) {
        let last = self.snapshot.load().sequence(name).map(|sequence| sequence.facts.last);
        match last {
            Some(last) if value > last => {
                warn!(self.log, "a pod's high water lies above the sequence's end and was not believed";
                    "sequence" => name, "address" => address, "high_water" => value, "last" => last);
            }
            Some(_) => _ = self.metrics.sequence(name).high_water.fetch_max(value, Ordering::AcqRel),
            // Not in the catalogue yet: nothing is granted of it before it is, and the pods are heard again.
            None => {}
        }
    }

    fn publish(&self, inner: &mut Inner) {
        let before = self.snapshot.load();
        let identity = inner.knowledge.identity().cloned();
        let conflict = inner.knowledge.conflict();
        let catalogue = Arc::clone(inner.knowledge.catalogue());
        if before.identity == identity
            && before.conflict == conflict
            && before.pods_usable == inner.knowledge.pods_usable()
            && Arc::ptr_eq(&before.catalogue, &catalogue)
        {
            return;
        }
        if let Some(identity) = identity.as_ref().filter(|new| before.identity.as_ref() != Some(*new)) {
            info!(self.log, "the ledger is known"; "ledger" => %identity.ledger, "epoch" => identity.life.epoch);
        }
        let scope = identity
            .as_ref()
            .map(|identity| Scope { ledger: identity.ledger, cluster: Arc::clone(&self.cluster) });
        let by_name =
            scope.map(|scope| self.sequences(&scope, &catalogue, &mut inner.kept)).unwrap_or_default();
        self.snapshot.store(Arc::new(Snapshot {
            identity,
            pods_usable: inner.knowledge.pods_usable(),
            conflict,
            catalogue,
            by_name,
        }));
    }

    fn sequences(
        &self,
        scope: &Scope,
        catalogue: &Catalogue,
        kept: &mut BTreeMap<Arc<str>, Kept>,
    ) -> HashMap<Arc<str>, Arc<Sequence>> {
        let mut by_name = HashMap::with_capacity(catalogue.sequences.len());
        for (name, facts) in &catalogue.sequences {
            let next = kept.len();
            let kept = kept
                .entry(Arc::clone(name))
                .or_insert_with(|| Kept { index: next, tripwire: Arc::default() });
            let counters = self.metrics.sequence(name);
            counters.halted.store(facts.halted.is_some(), Ordering::Relaxed);
            let sequence = Sequence {
                index: kept.index,
                stamp: catalogue.stamp,
                facts: facts.clone(),
                counters,
                list: List { scope: scope.clone(), sequence: Arc::clone(name), generation: facts.generation },
                tripwire: Arc::clone(&kept.tripwire),
            };
            by_name.insert(Arc::clone(name), Arc::new(sequence));
        }
        by_name
    }
}
