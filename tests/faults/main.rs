//! The binary, PostgreSQL and Redis under faults that are drawn from a seed. `tests/soak --help` says what there is; the tools that
//! `tests/run` brings must be there.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its run")]

#[allow(dead_code, reason = "the suite's own, of which this needs a part")]
#[path = "../suite/support/mod.rs"]
mod support;

mod account;
mod cancels;
mod command;
mod edges;
mod field;
mod judge;
mod patterns;
mod pauses;
mod proxies;
mod reach;
mod releases;
mod schedule;
mod sizes;
mod soak;
mod strike;
mod traffic;
mod trial;
mod windows;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
