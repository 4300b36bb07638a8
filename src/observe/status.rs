//! The shape of `/api/v1/status`: filled in by the actors, served by `admin`, read by `blockhouse status`.
//! Fields are only ever added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Status {
    /// Of the binary.
    pub version: String,
    /// Of the binary's source.
    pub revision: String,
    /// `instance`
    pub instance: String,
    /// `environment`
    pub environment: String,
    /// `stage`
    pub stage: String,
    /// `cluster`
    pub cluster: String,
    /// `allocator`, `hydrator`
    pub roles: Vec<String>,
    /// `starting`, `serving`, `draining`
    pub state: String,
    /// Since the start.
    pub uptime_seconds: u64,
    /// Tier 3.
    pub ledger: Ledger,
    /// Tier 2.
    pub pods: Vec<Pod>,
    /// By name.
    pub sequences: Vec<Sequence>,
    /// Every actor.
    pub actors: Vec<Actor>,
    /// The role.
    pub hydrator: Hydrator,
    /// `None` without the role.
    pub chaos: Option<Chaos>,
    /// What a person should look at; empty is good.
    pub problems: Vec<Problem>,
}

/// Tier 3 as the process sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Ledger {
    /// Without secrets.
    pub url: String,
    /// `None` until known.
    pub id: Option<String>,
    /// `None` until known.
    pub epoch: Option<i64>,
    /// `up`, `closed`, `down`, `refused`
    pub state: String,
    /// The latest, if it hasn't succeeded since.
    pub last_error: Option<String>,
}

/// One pod as the process sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Pod {
    /// `host:port`
    pub address: String,
    /// `up`, `down`, `refused`
    pub state: String,
    /// `None` until known.
    pub run_id: Option<String>,
    /// By sequence; empty unless this process hydrates.
    pub blocks: BTreeMap<String, u64>,
    /// The latest, if it hasn't succeeded since.
    pub last_error: Option<String>,
}

/// One sequence as the process sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Sequence {
    /// Its name.
    pub name: String,
    /// Its generation.
    pub generation: i64,
    /// The last granted ID, decimal.
    pub granted: String,
    /// The greatest ID, decimal.
    pub last: String,
    /// IDs in the process's reserve.
    pub reserve_ids: i64,
    /// IDs in all pods; 0 unless this process hydrates.
    pub pod_ids: i64,
    /// How long the pods last; `None` without demand.
    pub supply_seconds: Option<f64>,
    /// This process's recent rate.
    pub ids_per_second: f64,
    /// `active`, `halted`, `exhausted`, `retired`
    pub state: String,
}

/// One actor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Actor {
    /// Its name, with the worker's number where there are several.
    pub name: String,
    /// Since the start.
    pub restarts: u64,
    /// Messages waiting.
    pub queued: u64,
}

/// The hydrator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Hydrator {
    /// Whether this process leads its cluster; `None` without the role.
    pub leader: Option<bool>,
    /// RFC 3339, UTC.
    pub last_success: Option<String>,
}

/// Something a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// RFC 3339, UTC.
    pub since: String,
    /// What to do.
    #[serde(rename = "do")]
    pub remedy: String,
}

/// Drills of the role chaos; also `/api/v1/chaos`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Chaos {
    /// `chaos.enabled`
    pub enabled: bool,
    /// `chaos.dry_run`
    pub dry_run: bool,
    /// Why nothing is injected any more, until the process is started again.
    pub stopped: Option<String>,
    /// What runs.
    pub running: Option<Drill>,
    /// Every fault that there is.
    pub faults: Vec<Fault>,
    /// The settings `chaos.*` as they are, but for the above.
    pub limits: BTreeMap<String, String>,
    /// The newest drills, the oldest of them first, what runs included.
    pub history: Vec<Drill>,
}

/// A fault that can be injected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Fault {
    /// Its name.
    pub name: String,
    /// What it is.
    pub meaning: String,
    /// Whether `chaos.faults` names it.
    pub allowed: bool,
    /// What it can be aimed at now; empty where there is nothing to choose.
    pub targets: Vec<String>,
}

/// A fault that was injected, or would have been.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Drill {
    /// From 1, since the process began.
    pub number: u64,
    /// Which.
    pub fault: String,
    /// Of what, where there is a choice.
    pub target: Option<String>,
    /// `schedule` or `hand`
    pub by: String,
    /// Nothing was done.
    pub dry_run: bool,
    /// RFC 3339, UTC.
    pub began: String,
    /// How long it was to last.
    pub seconds: f64,
    /// RFC 3339, UTC; `None` while it runs.
    pub ended: Option<String>,
    /// `done`, `ended`, `dry_run`; `None` while it runs.
    pub outcome: Option<String>,
    /// Why it ended before its time.
    pub why: Option<String>,
}
