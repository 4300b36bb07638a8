//! The suite against real servers: PostgreSQL, Redis, and the binary itself. Run by `tests/run`; plain `cargo test` leaves it out.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[allow(dead_code, reason = "tests/faults uses it too, and needs another part of it")]
mod support;

#[path = "../wire/mod.rs"]
mod wire;

#[path = "../conformance/mod.rs"]
mod conformance;

mod capped;
mod chaos;
mod closed;
mod cluster;
mod compose;
mod embedded;
mod failovers;
mod faults_ledger;
mod faults_pods;
mod generations;
mod halts;
mod harness;
mod herd;
mod histories;
mod ledger;
mod ledger_conformance;
mod lives;
mod metrics;
mod outages;
mod pods;
mod process;
mod reload;
mod replication;
mod restarts;
mod service;
