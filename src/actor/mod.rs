//! The actors: thin shells that carry typed messages to the pure core.
//!
//! Awaits form a DAG, left to right; nothing awaits back:
//! `rpc → allocator → {buffer, router} → database → {ledger, pods}`, `hydrator → {database, pods}`, `chaos → {database, pods}`.
//! Nothing outside this module holds an address.

pub mod allocator;
pub mod buffer;
pub mod chaos;
pub mod database;
mod desk;
mod guard;
pub mod handle;
pub mod hydration;
pub mod hydrator;
pub mod known;
mod mailbox;
pub mod pod_set;
pub mod process;
mod refusals;
pub mod router;
pub mod slot;
mod status;
pub mod supervisor;
pub mod wiring;

pub use allocator::AllocatorHandle;
pub use handle::{Allocation, Issued};
pub use process::Process;
pub use supervisor::ControlHandle;
