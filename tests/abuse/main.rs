//! Clients that mean harm, on raw sockets, against a real `blockhouse serve`: it stays up, its memory grows by 50 MB at most, and
//! others are answered within twice their normal p99.
//!
//! How the time is judged on a machine that does other things too: calm and attack take turns, a window of requests each, so that
//! whatever else the machine does falls on both; of each kind the *median* of the windows' p99 counts, and what is below [`FLOOR`] is
//! fast enough whatever the calm was, since an attacker on the same machine takes its processors too.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "../wire/frames.rs"]
mod frames;

mod support;

mod attacks;
mod idle;
mod victim;

use std::time::Duration;

/// What nobody calls slow.
const FLOOR: Duration = Duration::from_millis(50);

/// What an attack may cost in memory.
const MEMORY_KB: u64 = 50 * 1024;
