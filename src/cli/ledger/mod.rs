//! `ledger`: the central database.

mod accept_failover;
mod migrate;
mod set;
mod show;

use clap::{Args, Subcommand};

use super::failure::Outcome;
use super::global::Global;
use super::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  blockhouse ledger migrate
  blockhouse ledger show
  blockhouse ledger set --on-failover jump --dry-run
  blockhouse ledger accept-failover --dry-run";

/// Prepare, look at and set the ledger.
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
    Set(set::Set),
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
            Command::Set(set) => set.run(global, ui).await,
        }
    }
}
