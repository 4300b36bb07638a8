//! How a command that needs the configuration gets it.

use super::failure::{Exit, Failure, Outcome};
use super::global::{ConfigArgs, Global};
use crate::config::Settings;

/// The configuration, and where the ledger in it came from.
pub struct Configured {
    /// Resolved.
    pub settings: Settings,
    /// The ledger's URL, with its secrets.
    pub url: String,
    /// For people: `ledger.url in /etc/blockhouse/ledger.toml`.
    pub origin: String,
}

/// The configuration of a command that acts on the ledger; without any, that of a running `dev`.
///
/// # Errors
/// The configuration is wrong, or names no ledger.
pub async fn settings(config: &ConfigArgs, global: &Global) -> Outcome<Configured> {
    let _ = (config, global);
    Err(Failure::new(Exit::Internal, "not wired yet"))
}
