//! The actors of one process, put together as `app.rs` does, on a memory ledger and in-process pods: no server is needed.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::field_reassign_with_default, reason = "settings read as in a file, a key a line")]

mod house;
mod panics;
mod requests;
mod stops;
mod supply;
