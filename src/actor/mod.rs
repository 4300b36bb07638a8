//! The actors: thin shells that carry typed messages to the pure core.

pub mod handle;

pub use handle::{Allocation, AllocatorHandle, ControlHandle, Issued};
