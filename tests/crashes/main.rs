//! The crash matrix: every named instant of a process, and what is killed while the process stands there. `tests/crash-matrix`.
//!
//! A process stops at a point of `src/failpoint.rs` and stays there; something is killed with SIGKILL at that instant, and started
//! again; the process goes on, where it wasn't what was killed. Real PostgreSQL, Redis and processes, with callers all the time.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its run")]

mod command;
mod hold;
mod points;
#[allow(dead_code, reason = "the suite's servers can more than this needs")]
#[path = "../suite/support/mod.rs"]
mod support;
mod trial;
#[path = "../trials/mod.rs"]
mod trials;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
