//! The rewind suite: pods and ledgers that come back as they were, under load, on real PostgreSQL and Redis. `tests/rewind-suite`.
//!
//! After each, everybody refuses what came back, waits for a person, or jumps above it; no ID comes twice; all are served again.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its run")]

mod command;
mod kinds;
mod ledgers;
mod pods;
#[allow(dead_code, reason = "the suite's servers can more than this needs")]
#[path = "../suite/support/mod.rs"]
mod support;
#[path = "../trials/mod.rs"]
mod trials;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
