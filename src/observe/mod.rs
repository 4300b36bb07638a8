//! What the outside sees of a process: log, metrics, status.

pub mod log;
pub mod metrics;
pub mod status;

pub use metrics::Metrics;
pub use status::Status;

/// Of the binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that the binary was built from, abbreviated; `unknown` where the build could not tell (no git, an archive) and
/// `BLOCKHOUSE_REVISION` didn't say.
pub const REVISION: &str = env!("BLOCKHOUSE_REVISION");
