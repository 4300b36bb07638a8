//! The actors of one process, put together as `app.rs` does, on a memory ledger and in-process pods: no server is needed.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod house;
mod panics;
mod requests;
mod stops;
