//! Whole clusters of the real actors on virtual time, with faults, from one seed: `tests/simulate`.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its run")]
#![allow(clippy::field_reassign_with_default, reason = "settings read as in a file, a key a line")]

mod callers;
mod command;
mod fault;
mod faults;
mod journal;
mod ledgers;
mod log;
mod net;
mod operator;
mod panics;
mod pods;
mod run;
#[path = "../virtual_time/running.rs"]
mod running;
mod schedule;
mod selfcheck;
mod shrink;
mod ways;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
