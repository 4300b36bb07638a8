//! `serve`: the service.

use clap::Args;

use super::failure::{Exit, Failure, Outcome};
use super::global::{ConfigArgs, Global};
use crate::role::Roles;

const EXAMPLES: &str = "\
Examples:
  blockhouse serve                                     allocator and hydrator, configured by /etc/blockhouse
  blockhouse serve -c production.toml --role allocator
  BLOCKHOUSE__LEDGER__URL=postgres://db/ids blockhouse serve --set redis.pods=redis://pod-1,redis://pod-2";

/// Run the service.
///
/// Never creates or changes the ledger's schema: 'blockhouse ledger migrate' does.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Serve {
    /// What the process does: allocator, hydrator, both, or all.
    #[arg(long, value_name = "ROLES", default_value = "all")]
    pub role: Roles,
    #[command(flatten)]
    pub config: ConfigArgs,
}

impl Serve {
    /// Runs until a signal.
    ///
    /// # Errors
    /// It can't start.
    pub fn run(&self, _global: &Global) -> Outcome {
        Err(Failure::new(Exit::Internal, "'serve' is wired to app.rs where the parts meet"))
    }
}
