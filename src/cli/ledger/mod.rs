//! `ledger`: the central database.

mod accept_failover;
mod migrate;
mod show;

use clap::{Args, Subcommand};

use super::failure::Outcome;
use super::global::Global;
use super::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  blockhouse ledger migrate
  blockhouse ledger show
  blockhouse ledger accept-failover --dry-run";

/// Prepare and look at the ledger.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, arg_required_else_help = true)]
pub struct Ledger {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Migrate(migrate::Migrate),
    Show(show::Show),
    AcceptFailover(accept_failover::AcceptFailover),
}

impl Ledger {
    /// Runs the one that was named.
    ///
    /// # Errors
    /// See each.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        match &self.command {
            Command::Migrate(migrate) => migrate.run(global, ui).await,
            Command::Show(show) => show.run(global, ui).await,
            Command::AcceptFailover(accept) => accept.run(global, ui).await,
        }
    }
}
