//! What the outside sees of a process: log, metrics, status.

pub mod log;
pub mod metrics;
pub mod status;

pub use metrics::Metrics;
pub use status::Status;
