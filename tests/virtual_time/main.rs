//! Whole processes of the real actors, several in one thread, on virtual time: what takes hours passes in a moment, and the
//! same seed gives the same run. The ledger and the pods are in memory, behind lines that fail as a test says.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::field_reassign_with_default, reason = "settings read as in a file, a key a line")]

mod cap;
mod conservation;
mod faults;
mod generations;
mod hydrator;
mod ledger;
mod periodic;
mod pods;
mod running;
mod world;
