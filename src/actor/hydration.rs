//! One pass of the hydrator after the other: lead, learn, tell the pods, measure, fill, sweep.

mod standby;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use slog::info;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::database::DatabaseHandle;
use super::known::{Sequence, Snapshot};
use super::pod_set::{Member, PodSet};
use super::process::Process;
use super::slot::{Ask, Want};
use crate::block::chunk::CHUNK;
use crate::block::demand::{Forecast, Meter, Target};
use crate::block::health::Backoff;
use crate::block::witness::{Roll, Witness};
use crate::block::{Cause, Range, Reason};
use crate::ledger::{HourOfDemand, Lease, Ledger, Purpose};
use crate::pods::{End, Inspection, Notice, Scope};

/// Demand is written to the ledger, and read back, this often.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Old grant records are deleted this often, at most [`PRUNED`] at once.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
const PRUNED: u32 = 10_000;
/// One that doesn't lead reads the facts this often, so that it knows of a closed ledger too.
const STANDBY_READS: Duration = Duration::from_secs(10);
/// The most blocks of one grant. A pod that lacks more gets the rest in the next pass, which follows at once: so every pod and
/// sequence has its first blocks before any has all of them.
const LOAD: i64 = 100 * CHUNK as i64;
/// A pod is filled to this share of its `maxmemory`.
const FULL: f64 = 0.8;

/// What the hydrator remembers from pass to pass. All of it can be lost: demand is in the ledger, supply in the pods.
pub struct Hydration {
    process: Arc<Process>,
    database: DatabaseHandle,
    pods: Rc<PodSet>,
    rng: fastrand::Rng,
    leads: bool,
    demand: BTreeMap<Arc<str>, Demand>,
    /// The counters of each pod as last read.
    counted: BTreeMap<Arc<str>, Counted>,
    /// The cluster's processes.
    roll: Roll,
    /// What the ledger was last told of who has which catalogue.
    confirmed: Option<(Vec<Witness>, Instant)>,
    /// A leader that none of this cluster's pods has heard of, and since when.
    stranger: Option<(Arc<str>, Duration)>,
    saved_at: Option<Instant>,
    pruned_at: Option<Instant>,
    /// Pods that took no push lately.
    resting: BTreeMap<Arc<str>, Backoff>,
    /// What a failed push left in hand.
    held: Vec<Load>,
    /// Whether this pass left a gap that is worth another one at once.
    unfinished: bool,
}

/// IDs popped from one pod so far, by sequence, in one life of its counters.
struct Counted {
    token: Arc<str>,
    used: BTreeMap<Arc<str>, u64>,
}

/// IDs on their way to a pod.
struct Load {
    sequence: Arc<Sequence>,
    range: Range,
    block_size: i64,
}

/// What became of a load.
struct Pushed {
    address: Arc<str>,
    well: bool,
    held: Option<Load>,
}

/// Use of one sequence in this cluster.
struct Demand {
    meter: Meter,
    forecast: Forecast,
    /// Not yet written to the ledger.
    unsaved: i64,
}

/// One pod in this pass.
struct Measured {
    member: Rc<Member>,
    inspection: Inspection,
}

impl Hydration {
    /// Knows nothing yet.
    pub fn new(
        process: Arc<Process>,
        database: DatabaseHandle,
        pods: Rc<PodSet>,
        rng: fastrand::Rng,
    ) -> Hydration {
        Hydration {
            process,
            database,
            pods,
            rng,
            leads: false,
            demand: BTreeMap::new(),
            counted: BTreeMap::new(),
            roll: Roll::default(),
            confirmed: None,
            stranger: None,
            saved_at: None,
            pruned_at: None,
            resting: BTreeMap::new(),
            held: Vec::new(),
            unfinished: false,
        }
    }

    /// One pass. What it could not push stays held for the next. Gives whether another one should follow at once.
    ///
    /// # Errors
    /// One line for the log.
    pub async fn pass(&mut self) -> Result<bool, String> {
        self.unfinished = false;
        let lease = self.lead().await?;
        let leads = lease.held;
        let max_age = if leads { Duration::ZERO } else { STANDBY_READS };
        self.database.refresh(max_age).await.map_err(|refusal| refusal.to_string())?;
        if !leads {
            self.look_for(&lease.leader).await;
            return Ok(false);
        }
        // What the pods are told is never older than what they know: a generation is not lowered.
        self.pods.heartbeat().await;
        let (read_at_us, known) = self.process.known.dated();
        self.tell(&known, read_at_us.unwrap_or(0)).await;
        let measured = self.measure(&known).await;
        self.count_use(&known, &measured);
        self.save_demand().await?;
        let mut trouble = self.confirm(&known, &measured).await.err();
        self.push_held().await;
        for (at, sequence) in known.sequences().enumerate() {
            if let Err(why) = self.fill(sequence, at, &measured).await {
                trouble = Some(why);
            }
        }
        self.sweep(&known, &measured).await;
        self.prune().await?;
        match trouble {
            Some(why) => Err(why),
            None => {
                self.process.metrics.hydrator_succeeded();
                self.process.supply(|supply| supply.last_success = Some(OffsetDateTime::now_utc()));
                Ok(self.unfinished)
            }
        }
    }

    /// Ends the role: what is held goes to the pods, the lead to whoever wants it.
    pub async fn end(mut self) {
        self.push_held().await;
        for load in self.held.drain(..) {
            load.range.discard(Cause::Stopped);
        }
        if self.leads {
            let settings = Arc::clone(&self.process.settings);
            let resign = self.database.call("resign", move |ledger| {
                Box::pin(async move { ledger.resign(&settings.cluster, &settings.instance).await })
            });
            if let Err(error) = resign.await {
                info!(self.process.log, "the lead was not given up, and ends by itself"; "error" => %error);
            }
        }
    }

    async fn lead(&mut self) -> Result<Lease, String> {
        let settings = Arc::clone(&self.process.settings);
        let ttl = lease(settings.hydrator.interval);
        let lease = self.database.call("lead", move |ledger| {
            Box::pin(async move { ledger.lead(&settings.cluster, &settings.instance, ttl).await })
        });
        let lease = lease.await.map_err(|error| error.to_string())?;
        if lease.held != self.leads {
            info!(self.process.log, "the cluster's lead changed"; "leader" => %lease.leader, "leads" => lease.held);
            // Another leader may have filled, counted and confirmed meanwhile.
            self.counted.clear();
            self.confirmed = None;
            self.saved_at = None;
        }
        self.leads = lease.held;
        self.process.metrics.set_hydrator_leader(lease.held);
        self.process.supply(|supply| {
            supply.leads = Some(lease.held);
            if lease.held {
                supply.stranger = None;
            } else {
                supply.blocks.clear();
                supply.sequences.clear();
                supply.hourly.clear();
                supply.capped.clear();
            }
        });
        Ok(lease)
    }

    /// Writes identity, catalogue and high water to every pod, monotonically.
    async fn tell(&self, known: &Snapshot, read_at_us: i64) {
        let Some(identity) = known.identity.clone() else { return };
        let notice = Notice {
            identity,
            cluster: Arc::clone(&self.process.settings.cluster),
            catalogue: Arc::clone(&known.catalogue),
            high_waters: known
                .sequences()
                .map(|sequence| (Arc::clone(&sequence.facts.name), sequence.high_water()))
                .collect(),
            read_at_us,
        };
        let members = self.pods.usable();
        join_all(members.iter().map(|member| async {
            let asked = Instant::now();
            let answer = member.pod.publish(&notice).await;
            self.pods.count(member, "publish", &answer, asked);
            if let Err(error) = answer {
                self.pods.failed(member, &error);
            }
        }))
        .await;
    }

    /// Writes to the ledger who of the cluster has which catalogue, where that has changed, and now and then: an operator's command
    /// waits for it, and so does a greater gap.
    async fn confirm(&mut self, known: &Snapshot, measured: &[Measured]) -> Result<(), String> {
        if self.pods.witnesses().iter().any(|pod| !pod.silent && pod.stamp < known.catalogue.stamp) {
            // They have just been told.
            self.pods.heartbeat().await;
        }
        let now = self.process.now();
        self.roll.hear(measured.iter().flat_map(|pod| pod.inspection.present.clone()), now);
        let mut seen = self.roll.processes(now);
        // Whoever isn't heard itself hears nobody.
        if !seen.iter().any(|witness| witness.name == self.process.settings.instance) {
            return Ok(());
        }
        seen.extend(self.pods.witnesses());
        if self.confirmed.as_ref().is_some_and(|(last, at)| *last == seen && at.elapsed() < SAVE_EVERY) {
            return Ok(());
        }
        let (settings, written) = (Arc::clone(&self.process.settings), seen.clone());
        let confirm = self.database.call("confirm", move |ledger: Rc<dyn Ledger>| {
            Box::pin(async move { ledger.confirm(&settings.cluster, &settings.instance, &written).await })
        });
        confirm.await.map_err(|error| error.to_string())?;
        self.confirmed = Some((seen, Instant::now()));
        Ok(())
    }

    async fn measure(&self, known: &Snapshot) -> Vec<Measured> {
        let Some(scope) = self.scope(known) else { return Vec::new() };
        let lists = lists(known);
        let members = self.pods.usable();
        let measured = join_all(members.into_iter().map(|member| async {
            let asked = Instant::now();
            let answer = member.pod.inspect(&scope, &lists).await;
            self.pods.count(&member, "inspect", &answer, asked);
            match answer {
                Ok(inspection) => Some(Measured { member, inspection }),
                Err(error) => {
                    self.pods.failed(&member, &error);
                    None
                }
            }
        }))
        .await;
        let measured: Vec<Measured> = measured.into_iter().flatten().collect();
        let blocks = measured.iter().map(|pod| {
            let by_sequence: BTreeMap<_, _> = lists
                .iter()
                .zip(&pod.inspection.blocks)
                .map(|((name, _), n)| (Arc::clone(name), *n))
                .collect();
            for (name, blocks) in &by_sequence {
                self.process.metrics.set_pod_blocks(&pod.member.address, name, *blocks);
            }
            (Arc::clone(&pod.member.address), by_sequence)
        });
        let blocks = blocks.collect();
        self.process.supply(|supply| supply.blocks = blocks);
        measured
    }

    /// What was popped since the last pass is what the cluster used.
    fn count_use(&mut self, known: &Snapshot, measured: &[Measured]) {
        let now = self.process.now();
        for pod in measured {
            let Inspection { counter_token, used_ids, .. } = &pod.inspection;
            let now_counted = Counted { token: Arc::clone(counter_token), used: used_ids.clone() };
            let before = self.counted.insert(Arc::clone(&pod.member.address), now_counted);
            let Some(before) = before.filter(|before| before.token == *counter_token) else { continue };
            for (name, ids) in used_ids {
                let since = ids.saturating_sub(before.used.get(name).copied().unwrap_or(0));
                if known.sequence(name).is_none() {
                    continue;
                }
                let ids = i64::try_from(since).unwrap_or(i64::MAX);
                let demand = demand_of(&mut self.demand, name, now);
                demand.meter.add(ids, now);
                demand.unsaved = demand.unsaved.saturating_add(ids);
            }
        }
        for sequence in known.sequences() {
            let demand = demand_of(&mut self.demand, &sequence.facts.name, now);
            demand.forecast.ids_per_second = demand.meter.per_second(now);
        }
    }

    /// Adds what was used to the ledger's history and reads it back, so that a restart doesn't forget.
    async fn save_demand(&mut self) -> Result<(), String> {
        if self.saved_at.is_some_and(|at| at.elapsed() < SAVE_EVERY) {
            return Ok(());
        }
        let used: Vec<_> = self
            .demand
            .iter()
            .filter(|(_, demand)| demand.unsaved > 0)
            .map(|(name, demand)| (Arc::clone(name), demand.unsaved))
            .collect();
        let cluster = Arc::clone(&self.process.settings.cluster);
        // Once sent it is not sent again: counted twice would be worse than forgotten.
        self.demand.values_mut().for_each(|demand| demand.unsaved = 0);
        let history = self.database.call("demand", move |ledger: Rc<dyn Ledger>| {
            Box::pin(async move {
                if !used.is_empty() {
                    ledger.add_demand(&cluster, &used).await?;
                }
                ledger.demand(&cluster).await
            })
        });
        let history = history.await.map_err(|error| error.to_string())?;
        self.remember(history);
        self.saved_at = Some(Instant::now());
        Ok(())
    }

    fn remember(&mut self, history: Vec<HourOfDemand>) {
        let now = self.process.now();
        self.demand.values_mut().for_each(|demand| demand.forecast.hours = [0; 24]);
        for hour in history {
            let demand = demand_of(&mut self.demand, &hour.sequence, now);
            if let Some(slot) = demand.forecast.hours.get_mut(usize::from(hour.hours_ago)) {
                *slot = hour.ids;
            }
        }
    }

    /// Tops one sequence up on every pod that needs it: at most one grant each.
    async fn fill(
        &mut self,
        sequence: &Arc<Sequence>,
        at: usize,
        measured: &[Measured],
    ) -> Result<(), String> {
        let facts = &sequence.facts;
        let target = self.target(sequence);
        let blocks_on = |pod: &Measured| pod.inspection.blocks.get(at).copied().unwrap_or(0);
        self.show_supply(sequence, measured.iter().map(blocks_on).sum());
        if facts.retired || facts.halted.is_some() || measured.is_empty() || target.ids == 0 {
            self.show_cap(&facts.name, false);
            return Ok(());
        }
        let share = target.ids / i64::try_from(measured.len()).unwrap_or(i64::MAX);
        let share = share.max(target.block_size);
        let load = LOAD.saturating_mul(target.block_size);
        let mut pushes = Vec::new();
        let (mut trouble, mut capped) = (Ok(()), false);
        for pod in measured {
            if !self.may_fill(pod) {
                continue;
            }
            let have = i64::try_from(blocks_on(pod)).unwrap_or(i64::MAX).saturating_mul(target.block_size);
            let missing = share.saturating_sub(have) / target.block_size * target.block_size;
            // Small gaps wait until they are worth a grant.
            if missing < (share / 20).max(target.block_size) {
                continue;
            }
            let ask = Ask {
                sequence: Arc::clone(sequence),
                purpose: Purpose::Hydrate,
                least: 1,
                need: target.block_size,
                want: Want::UpTo(missing.min(load)),
                pod: Some(Arc::clone(&pod.member.address)),
            };
            match self.database.fetch(ask).await {
                Ok(range) => {
                    self.unfinished |= missing > load;
                    let load = Load { sequence: Arc::clone(sequence), range, block_size: target.block_size };
                    pushes.push(push(&self.process, &self.pods, Rc::clone(&pod.member), load));
                }
                // No trouble: what is left of the hour is for those who wait.
                Err(refusal) if refusal.reason == Reason::SequenceRateCapped => {
                    capped = true;
                    break;
                }
                Err(refusal) => {
                    trouble = Err(format!("{}: {refusal}", facts.name));
                    break;
                }
            }
        }
        for pushed in join_all(pushes).await {
            self.note_push(pushed);
        }
        self.show_cap(&facts.name, capped);
        trouble
    }

    fn target(&self, sequence: &Sequence) -> Target {
        let settings = &self.process.settings.hydrator;
        let facts = &sequence.facts;
        let own = facts.buffer_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let buffer = own.map_or(settings.buffer, Duration::from_secs);
        let forecast = self.demand.get(&facts.name).map_or(0, |demand| demand.forecast.ids(buffer));
        Target::new(forecast, settings.min_ids, settings.max_ids, sequence.left_at_most(), facts.block_size)
    }

    fn may_fill(&self, pod: &Measured) -> bool {
        if self.rests(&pod.member) {
            return false;
        }
        let (used, max) = (pod.inspection.used_memory, pod.inspection.max_memory);
        max == 0 || (used as f64) < FULL * max as f64
    }

    fn rests(&self, member: &Member) -> bool {
        let resting = self.resting.get(&member.address);
        resting.is_some_and(|rest| rest.wait(self.process.now()).is_some())
    }

    /// Keeps what a failed push left in hand; its pod gets nothing until its own back-off has passed.
    fn note_push(&mut self, pushed: Pushed) {
        if pushed.well {
            self.resting.remove(&pushed.address);
            return;
        }
        let interval = self.process.settings.hydrator.interval;
        let (now, random) = (self.process.now(), self.rng.f64());
        let resting = self.resting.entry(pushed.address);
        resting.or_insert_with(|| Backoff::new(interval * 2, interval * 60)).failed(now, random);
        self.held.extend(pushed.held);
    }

    /// Offers what is still held to one pod after the other.
    async fn push_held(&mut self) {
        for load in std::mem::take(&mut self.held) {
            let mut held = Some(load);
            for member in self.pods.usable() {
                if self.rests(&member) {
                    continue;
                }
                let Some(load) = held.take() else { break };
                let mut pushed = push(&self.process, &self.pods, member, load).await;
                held = pushed.held.take();
                self.note_push(pushed);
            }
            self.held.extend(held);
        }
    }

    fn show_supply(&self, sequence: &Arc<Sequence>, blocks: u64) {
        let facts = &sequence.facts;
        let ids = i64::try_from(blocks).unwrap_or(i64::MAX).saturating_mul(facts.block_size);
        let rate = self.demand.get(&facts.name).map_or(0.0, |demand| {
            let day: f64 = demand.forecast.hours.iter().map(|ids| *ids as f64).sum();
            demand.forecast.ids_per_second.max(day / 86_400.0)
        });
        let seconds = (rate > 0.0).then(|| ids as f64 / rate);
        self.process.metrics.set_supply_seconds(&facts.name, seconds);
        let hourly = self.demand.get(&facts.name).map_or(0, |demand| demand.forecast.busiest_hour());
        self.process.supply(|supply| {
            supply.sequences.insert(Arc::clone(&facts.name), (ids, seconds));
            supply.hourly.insert(Arc::clone(&facts.name), hourly);
        });
    }

    /// Shows whether the hourly cap keeps the pods of a sequence from being filled; logs when that begins.
    fn show_cap(&self, name: &Arc<str>, capped: bool) {
        let changed = self.process.supply(|supply| match capped {
            true => supply.capped.insert(Arc::clone(name)),
            false => supply.capped.remove(name),
        });
        if changed && capped {
            info!(self.process.log, "the pods are filled later: what failover_gap allows them in an hour is spent";
                "sequence" => %name);
        }
    }

    async fn sweep(&self, known: &Snapshot, measured: &[Measured]) {
        let Some(scope) = self.scope(known) else { return };
        let keep = lists(known);
        join_all(measured.iter().map(|pod| async {
            let asked = Instant::now();
            let answer = pod.member.pod.sweep(&scope, &keep).await;
            self.pods.count(&pod.member, "sweep", &answer, asked);
            match answer {
                Ok(0) => {}
                Ok(lists) => {
                    info!(self.process.log, "old lists were deleted"; "address" => %pod.member.address, "lists" => lists);
                }
                Err(error) => self.pods.failed(&pod.member, &error),
            }
        }))
        .await;
    }

    async fn prune(&mut self) -> Result<(), String> {
        if self.pruned_at.is_some_and(|at| at.elapsed() < PRUNE_EVERY) {
            return Ok(());
        }
        let keep = self.process.settings.ledger.keep_grants;
        let pruned = self
            .database
            .call("prune", move |ledger| Box::pin(async move { ledger.prune(keep, PRUNED).await }));
        pruned.await.map_err(|error| error.to_string())?;
        self.pruned_at = Some(Instant::now());
        Ok(())
    }

    fn scope(&self, known: &Snapshot) -> Option<Scope> {
        let identity = known.identity.as_ref()?;
        Some(Scope { ledger: identity.ledger, cluster: Arc::clone(&self.process.settings.cluster) })
    }
}

/// Pushes one load to one pod. Holds nothing of the hydration, so that several pods are filled at once.
fn push(
    process: &Arc<Process>,
    pods: &Rc<PodSet>,
    member: Rc<Member>,
    load: Load,
) -> impl Future<Output = Pushed> + use<> {
    let (process, pods) = (Arc::clone(process), Rc::clone(pods));
    async move {
        let Load { sequence, range, block_size } = load;
        let pushed = pods.push(&member, &sequence, range, block_size, End::Back).await;
        let address = Arc::clone(&member.address);
        match pushed {
            Ok(ids) => {
                process.metrics.hydrated(&sequence.facts.name, &address, ids.unsigned_abs());
                Pushed { address, well: true, held: None }
            }
            Err(rest) => {
                let held = rest.map(|range| Load { sequence, range, block_size });
                Pushed { address, well: false, held }
            }
        }
    }
}

fn demand_of<'a>(
    demand: &'a mut BTreeMap<Arc<str>, Demand>,
    name: &Arc<str>,
    now: Duration,
) -> &'a mut Demand {
    demand.entry(Arc::clone(name)).or_insert_with(|| Demand {
        meter: Meter::new(now),
        forecast: Forecast::default(),
        unsaved: 0,
    })
}

/// The present list of every sequence, in the order of [`Snapshot::sequences`].
fn lists(known: &Snapshot) -> Vec<(Arc<str>, i64)> {
    known.sequences().map(|sequence| (Arc::clone(&sequence.facts.name), sequence.facts.generation)).collect()
}

/// How long a lead lasts without renewal: a standby looks each interval, so it takes over within 15 s.
fn lease(interval: Duration) -> Duration {
    (interval * 2).clamp(Duration::from_secs(3), Duration::from_secs(10))
}
