//! `blockhouse` hands out sequential IDs through memory, Redis pods and a central ledger.
//!
//! This library holds everything that the binary is made of. It promises no stability: applications use the
//! `blockhouse-client` crate, operators the binary. Start reading at `ARCHITECTURE.md`, then [`block`].
//!
//! Imports point downward only: `cli` → `app` → {`rpc`, `admin`, `actor`} → {`ledger`, `pods`} → `block`;
//! `observe` and `config` are leaves that anyone may use. `tests/tidy.rs` holds it.

pub mod actor;
pub mod admin;
pub mod app;
pub mod block;
pub mod chaos;
pub mod cli;
pub mod config;
pub mod failpoint;
pub mod ledger;
pub mod observe;
pub mod pods;
pub mod role;
pub mod rpc;
pub mod shutdown;
