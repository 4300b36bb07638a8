//! The suite against real servers: PostgreSQL, Redis, and the binary itself. Run by `tests/run`; plain `cargo test` leaves it out.

mod support;

mod cluster;
mod ledger;
mod pods;
mod service;
