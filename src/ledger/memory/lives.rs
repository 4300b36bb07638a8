//! Close, report, open (S3), as `schema/lives.sql` does it: here without a server, so that it can be read, simulated and searched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::super::{
    Accept, Accepted, LifeRecord, Move, MoveRecord, Report, ReportRecord, Reported, SequenceRow, State,
};
use super::HOUR_US;
use super::tables::{Stored, Tables};
use crate::block::{Hour, Life, OnFailover, SequenceFacts};

/// A report is this fresh if it was read so shortly before the last record of the life that ended.
const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// Where a ledger runs: what tells a restart, a promotion and a restored dump apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Drawn once, kept by copies of the files.
    pub server: u64,
    /// Raised by a promotion: two that are promoted from one ancestor count alike.
    pub timeline: u32,
    /// Drawn at each start.
    pub start: u64,
    /// Drawn where a dump is restored.
    pub table: u64,
}

impl Place {
    /// What differs from where the ledger last ran, for people; `None` if nothing but the start does.
    fn difference(self, last: Place) -> Option<String> {
        let mut differs = Vec::new();
        if self.server != last.server {
            differs.push(format!(
                "another server answers: its system identifier is {}, the ledger last ran on {}",
                self.server, last.server
            ));
        }
        if self.timeline != last.timeline {
            differs.push(format!(
                "the server was promoted or restored to a point in time: its timeline is {}, the ledger last ran on {}",
                self.timeline, last.timeline
            ));
        }
        if self.table != last.table {
            differs.push("the table of sequences was made anew, as by restoring a dump".to_owned());
        }
        (!differs.is_empty()).then(|| differs.join("; "))
    }
}

/// What the ledger knows of its lives.
#[derive(Debug, Clone)]
pub(super) struct Lives {
    /// Where it last ran.
    pub last: Place,
    /// Every life that led here.
    pub table: Vec<LifeRecord>,
    /// When the life that ended last recorded anything.
    last_record_us: i64,
    /// What clusters report of the present closing; what answers another is of the past.
    reports: BTreeMap<String, Told>,
    /// IDs that nobody will get.
    pub moves: Vec<(Arc<str>, MoveRecord)>,
}

/// One cluster's word.
#[derive(Debug, Clone)]
struct Told {
    answers: Uuid,
    /// Who answered for the cluster: its leader, or anybody where nobody leads. `None` while only others have spoken.
    reporter: Option<Arc<str>>,
    /// Its processes may follow several.
    follows: BTreeSet<(i64, Uuid)>,
    read_at_us: Option<i64>,
    on_failover: Option<OnFailover>,
    sequences: BTreeMap<Arc<str>, Said>,
}

/// What one cluster knows of one sequence.
#[derive(Debug, Clone)]
struct Said {
    facts: SequenceFacts,
    high_water: i64,
    /// Somebody of it knows of no gap: nothing capped the sequence.
    uncapped: bool,
}

/// What is known of one sequence, by the ledger and by every report that answers the present closing.
struct Known {
    facts: SequenceFacts,
    here: bool,
    granted: i64,
    reported: Option<i64>,
    /// Nobody knows that nothing capped it.
    capped: bool,
}

impl Lives {
    pub fn new(last: Place, first: Life) -> Lives {
        let table = vec![LifeRecord { life: first, reason: "created".to_owned(), at_us: 0 }];
        Lives { last, table, last_record_us: 0, reports: BTreeMap::new(), moves: Vec::new() }
    }

    /// Whether `life` led here.
    pub fn hold(&self, life: Life) -> bool {
        self.table.iter().any(|record| record.life == life)
    }
}

impl Tables {
    /// Closes the ledger if it runs elsewhere than it last did.
    pub(super) fn fence(&mut self, here: Place, known_epoch: i64, token: impl FnOnce() -> Uuid) {
        let last = self.lives.last;
        if self.ledger.state != State::Open || here == last {
            return;
        }
        let why = here.difference(last).unwrap_or_else(|| "the server was restarted".to_owned());
        self.close(self.ledger.identity.life, known_epoch, &why, token());
    }

    /// Compare-and-set: of many who see a reason one closes. Every cluster that led in the last hour that the ledger recorded is
    /// waited for.
    pub(super) fn close(&mut self, seen: Life, known_epoch: i64, why: &str, token: Uuid) -> bool {
        if self.ledger.state != State::Open || self.ledger.identity.life != seen {
            return false;
        }
        let life = Life { epoch: seen.epoch.max(known_epoch) + 1, token };
        self.ledger.identity.life = life;
        self.ledger.state = State::Closed(why.into());
        self.lives.table.push(LifeRecord { life, reason: why.to_owned(), at_us: self.now_us() });
        let records = self.sequences.values().flat_map(|stored| stored.records.values());
        let granted = records.map(|record| record.at_us).max();
        let led = self.leases.values().map(|lease| lease.renewed_us).max();
        let newest = granted.max(led).unwrap_or(i64::MIN);
        self.lives.last_record_us = newest;
        for lease in self.leases.values_mut() {
            lease.awaited = lease.renewed_us > newest.saturating_sub(HOUR_US);
        }
        true
    }

    /// A process's word on the present closing, then a try to open. The cluster has answered once its leader has, or anybody where
    /// nobody leads; what was said stays, and only grows.
    pub(super) fn report(&mut self, report: &Report, here: Place, spare: Uuid) -> Reported {
        if self.ledger.state == State::Open {
            return Reported::Open;
        }
        if self.ledger.identity.life.token != report.closed.token {
            return Reported::Waits("it was closed anew meanwhile".to_owned());
        }
        let now_us = self.now_us();
        let lease = self.leases.get(&*report.cluster);
        let leads = lease.is_none_or(|lease| lease.leader == report.holder || lease.end_us <= now_us);
        let said = self.lives.reports.remove(&*report.cluster);
        let said = said.filter(|said| said.answers == report.closed.token);
        self.lives.reports.insert(report.cluster.to_string(), tell(said, report, leads));
        self.open_if_safe(here, spare)
    }

    /// Opens a closed ledger if that is provably safe.
    fn open_if_safe(&mut self, here: Place, spare: Uuid) -> Reported {
        let absent = self.missing(&[]);
        if !absent.is_empty() {
            return Reported::Waits(format!("waits for the report of cluster {}", absent.join(", ")));
        }
        let answers = self.answers();
        let other: Vec<String> = answers
            .iter()
            .flat_map(|(name, told)| self.foreign(told).map(move |life| (name, life.epoch)))
            .map(|(name, epoch)| format!("cluster {name} follows life {epoch}, which did not lead here"))
            .collect();
        let known = self.known();
        let above: Vec<String> = known
            .values()
            .filter(|known| !known.here || known.reported > Some(known.granted))
            .map(|known| {
                let (name, reported) = (&known.facts.name, known.reported.unwrap_or(0));
                format!("{reported} of sequence {name} is known, its counter stands at {}", known.granted)
            })
            .collect();
        if here.difference(self.lives.last).is_some() || !other.is_empty() || !above.is_empty() {
            let stale = self.keeps_from_jumping(&known);
            if !other.is_empty() || !stale.is_empty() {
                let operator = vec!["an operator decides: `blockhouse ledger accept-failover`".to_owned()];
                return Reported::Waits([other, above, stale, operator].concat().join("; "));
            }
            let moves = self.targets(&[]);
            self.open_at(&moves, here, spare, "jumped");
            return Reported::Open;
        }
        let fresh = self.answered().filter_map(|(_, told)| told.read_at_us).max()
            >= Some(self.lives.last_record_us.saturating_sub(MINUTE_US));
        let since_us = self.lives.last_record_us.saturating_sub(if fresh { HOUR_US } else { DAY_US });
        let moves: Vec<Move> = known
            .into_values()
            .map(|known| {
                let records = self.sequences.get(&known.facts.name).map(|stored| stored.records.values());
                let late = records.into_iter().flatten().filter(|record| record.at_us > since_us);
                let lost: i64 = late.map(|record| record.span.count()).fold(0, i64::saturating_add);
                step(&known, known.granted, lost)
            })
            .collect();
        self.open_at(&moves, here, spare, "restarted");
        Reported::Open
    }

    /// What keeps a failover from being jumped: what nobody reports was granted after a report was read, no more than the gap where
    /// the report is of the last hour. A clock that was set back makes none younger than the newest time that anybody saw.
    fn keeps_from_jumping(&self, known: &BTreeMap<Arc<str>, Known>) -> Vec<String> {
        let answers: Vec<_> = self.answered().collect();
        let read = answers.iter().filter_map(|(_, told)| told.read_at_us).max();
        let newest_us = read.unwrap_or(i64::MIN).max(self.now_us()).max(self.lives.last_record_us);
        let mut reasons = Vec::new();
        if self.ledger.on_failover != OnFailover::Jump {
            reasons.push("it waits (on_failover)".to_owned());
        }
        if answers.is_empty() {
            reasons.push("nobody has reported".to_owned());
        }
        for (name, told) in &answers {
            if told.read_at_us.is_none_or(|at| at < newest_us - HOUR_US) {
                reasons.push(format!("the report of cluster {name} is over an hour old"));
            }
            if told.on_failover == Some(OnFailover::Wait) {
                reasons.push(format!("cluster {name} knows a ledger that waits"));
            }
        }
        let uncapped = known.values().filter(|known| !known.facts.retired && !known.capped);
        reasons.extend(uncapped.map(|known| format!("sequence {} has no failover_gap", known.facts.name)));
        reasons
    }

    /// An operator takes the ledger as it is now for the one to go on with.
    pub(super) fn accept(&mut self, accept: &Accept, really: bool, here: Place, spare: Uuid) -> Accepted {
        if self.ledger.state == State::Open {
            let problem = Some("the ledger is open: there is nothing to accept".to_owned());
            return Accepted { problem, moves: Vec::new() };
        }
        let absent = self.missing(&accept.without);
        let floor = |name: &str| accept.at_least.iter().any(|(floored, _)| floored == name);
        let unknown: Vec<String> = self
            .known()
            .into_values()
            .filter(|known| known.reported.is_none() && !known.facts.retired && !floor(&known.facts.name))
            .map(|known| known.facts.name.to_string())
            .collect();
        let problem = if !absent.is_empty() {
            Some(format!(
                "cluster {} has not reported what it knows; start a process of it, or name it with --without",
                absent.join(", ")
            ))
        } else if !unknown.is_empty() {
            Some(format!(
                "nobody knows what was granted of {}: say --at-least SEQUENCE=N for each, N at or above every ID that was ever given out",
                unknown.join(", ")
            ))
        } else {
            None
        };
        let moves = self.targets(&accept.at_least);
        if problem.is_none() && really {
            self.open_at(&moves, here, spare, "accepted");
        }
        Accepted { problem, moves }
    }

    /// Who has reported, and who is waited for.
    pub(super) fn reports(&self) -> Vec<ReportRecord> {
        let token = self.ledger.identity.life.token;
        let awaited = self.leases.iter().filter(|(_, lease)| lease.awaited).map(|(name, _)| name);
        let names: BTreeSet<&String> =
            awaited.chain(self.answers().into_iter().map(|(name, _)| name)).collect();
        let record = |name: &String| {
            let told = self.lives.reports.get(name).filter(|told| told.answers == token);
            ReportRecord {
                cluster: name.clone(),
                reporter: told.and_then(|told| told.reporter.as_deref()).map(str::to_owned),
                follows: told.and_then(|told| told.follows.last()).map(|(epoch, _)| *epoch),
                read_at_us: told.and_then(|told| told.read_at_us),
            }
        };
        names.into_iter().filter(|_| self.ledger.state != State::Open).map(record).collect()
    }

    /// Lets held caps go, once every cluster that was led in the last hour has seen the present catalogue, with all its processes
    /// and pods.
    pub(super) fn loosen(&mut self) {
        let now_us = self.now_us();
        let present = (self.ledger.identity.life.epoch, self.ledger.catalogue_version);
        let mut led = self.leases.iter().filter(|(_, lease)| lease.renewed_us > now_us - HOUR_US);
        let have_seen = led.all(|(cluster, _)| {
            let seen = self.seen.get(cluster).filter(|seen| !seen.is_empty());
            seen.is_some_and(|seen| seen.iter().all(|who| (who.stamp.epoch, who.stamp.version) >= present))
        });
        if have_seen {
            self.sequences.values_mut().for_each(|stored| stored.held = None);
        }
    }

    /// The clusters that have answered.
    fn answered(&self) -> impl Iterator<Item = (&String, &Told)> {
        self.answers().into_iter().filter(|(_, told)| told.reporter.is_some())
    }

    /// All that was said on the present closing.
    fn answers(&self) -> Vec<(&String, &Told)> {
        let token = self.ledger.identity.life.token;
        self.lives.reports.iter().filter(|(_, told)| told.answers == token).collect()
    }

    /// The lives that a cluster follows and that did not lead here.
    fn foreign<'a>(&'a self, told: &'a Told) -> impl Iterator<Item = Life> + 'a {
        let lives = told.follows.iter().map(|(epoch, token)| Life { epoch: *epoch, token: *token });
        lives.filter(|life| !self.lives.hold(*life))
    }

    /// The clusters that are waited for and haven't reported, but for those that somebody does without.
    fn missing(&self, without: &[String]) -> Vec<String> {
        let answered: Vec<&String> = self.answered().map(|(name, _)| name).collect();
        let awaited = self.leases.iter().filter(|(_, lease)| lease.awaited).map(|(name, _)| name);
        awaited.filter(|name| !without.contains(name) && !answered.contains(name)).cloned().collect()
    }

    fn known(&self) -> BTreeMap<Arc<str>, Known> {
        let here = self.sequences.iter().map(|(name, stored)| {
            let SequenceRow { facts, granted, .. } = stored.row.clone();
            let capped = facts.failover_gap > 0;
            (Arc::clone(name), Known { facts, here: true, granted, reported: None, capped })
        });
        let mut known: BTreeMap<_, _> = here.collect();
        for said in self.answers().into_iter().flat_map(|(_, told)| told.sequences.values()) {
            let Said { facts, high_water, uncapped } = said;
            let known = known.entry(Arc::clone(&facts.name)).or_insert_with(|| Known {
                facts: SequenceFacts { retired: false, ..facts.clone() },
                here: false,
                granted: facts.first - 1,
                reported: None,
                capped: true,
            });
            known.reported = known.reported.max(Some(*high_water));
            known.capped &= !uncapped;
            let ours = &mut known.facts;
            ours.generation = ours.generation.max(facts.generation);
            ours.failover_gap = ours.failover_gap.max(facts.failover_gap);
            if !known.here {
                (ours.first, ours.last) = (ours.first.min(facts.first), ours.last.max(facts.last));
                known.granted = ours.first - 1;
            }
        }
        known
    }

    /// Where each sequence goes on after a failover: above its counter, every report and its floor, by its gap.
    fn targets(&self, floors: &[(String, i64)]) -> Vec<Move> {
        let known = self.known();
        let target = |known: &Known| {
            let floor = floors.iter().find(|(name, _)| **name == *known.facts.name).map(|(_, floor)| *floor);
            let above = Some(known.granted).max(known.reported).max(floor).unwrap_or(0);
            step(known, above, known.facts.failover_gap)
        };
        known.values().map(target).collect()
    }

    /// Moves every counter, brings back sequences that the ledger lost, and opens it where it runs now. `spare` is the token of
    /// another life, if one must begin.
    fn open_at(&mut self, moves: &[Move], here: Place, spare: Uuid, why: &str) {
        let now_us = self.now_us();
        for (name, known) in self.known() {
            let stored = self.sequences.entry(name).or_insert_with(|| Stored {
                row: SequenceRow { granted: known.granted, grants: 0, facts: known.facts.clone() },
                hour: Hour::default(),
                held: None,
                records: BTreeMap::new(),
            });
            let facts = &mut stored.row.facts;
            facts.generation = facts.generation.max(known.facts.generation);
        }
        self.follow_everybody(spare, why);
        let epoch = self.ledger.identity.life.epoch;
        for Move { sequence, to, .. } in moves {
            let Some(stored) = self.sequences.get_mut(sequence) else { continue };
            let from = stored.row.granted;
            if *to > from {
                stored.row.granted = *to;
                let made = MoveRecord { epoch, from, to: *to, reason: why.to_owned(), at_us: now_us };
                self.lives.moves.push((Arc::clone(sequence), made));
            }
        }
        self.leases.values_mut().for_each(|lease| lease.awaited = false);
        self.lives.last = here;
        self.ledger.state = State::Open;
        self.ledger.catalogue_version += 1;
    }

    /// Who follows another line comes along: that life led here by an operator's word, and the one that begins lies above it.
    fn follow_everybody(&mut self, spare: Uuid, why: &str) {
        let now_us = self.now_us();
        let followed: BTreeSet<(i64, Uuid)> = self
            .answers()
            .into_iter()
            .flat_map(|(_, told)| self.foreign(told))
            .map(|life| (life.epoch, life.token))
            .collect();
        let mut record = |life, reason: String| {
            if !self.lives.hold(life) {
                self.lives.table.push(LifeRecord { life, reason, at_us: now_us });
            }
        };
        for (epoch, token) in &followed {
            record(Life { epoch: *epoch, token: *token }, format!("followed by clusters when {why}"));
        }
        let highest = followed.last().map_or(0, |(epoch, _)| *epoch);
        let ours = &mut self.ledger.identity.life;
        if highest >= ours.epoch {
            *ours = Life { epoch: highest + 1, token: spare };
        }
        record(*ours, why.to_owned());
    }
}

/// A move of `known` from its counter to `gap` above `above`, no further than its end.
fn step(known: &Known, above: i64, gap: i64) -> Move {
    Move {
        sequence: Arc::clone(&known.facts.name),
        stands: known.granted,
        reported: known.reported,
        to: above.saturating_add(gap).min(known.facts.last),
    }
}

/// What a cluster has said in all, with `report`: nothing of it is taken back.
fn tell(said: Option<Told>, report: &Report, leads: bool) -> Told {
    let mut told = said.unwrap_or_else(|| Told {
        answers: report.closed.token,
        reporter: None,
        follows: BTreeSet::new(),
        read_at_us: None,
        on_failover: None,
        sequences: BTreeMap::new(),
    });
    told.follows.extend(report.follows.map(|life| (life.epoch, life.token)));
    if leads {
        told.reporter = Some(Arc::clone(&report.holder));
        told.read_at_us = told.read_at_us.max(report.read_at_us);
        if told.on_failover != Some(OnFailover::Wait) {
            told.on_failover = report.on_failover.or(told.on_failover);
        }
    }
    for (facts, high_water) in &report.sequences {
        let uncapped = facts.failover_gap == 0;
        let said = || Said { facts: facts.clone(), high_water: *high_water, uncapped };
        let known = told.sequences.entry(Arc::clone(&facts.name)).or_insert_with(said);
        known.high_water = known.high_water.max(*high_water);
        known.uncapped |= uncapped;
        known.facts.generation = known.facts.generation.max(facts.generation);
        known.facts.failover_gap = known.facts.failover_gap.max(facts.failover_gap);
    }
    told
}
