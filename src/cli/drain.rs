//! `drain`: ask processes to end, as SIGTERM does.

use clap::Args;
use http::Method;
use serde::Serialize;

use super::admin::{Admins, not_blockhouse};
use super::failure::Outcome;
use super::global::{AdminArgs, Change};
use super::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  blockhouse drain --yes                                  the local process
  blockhouse drain --admin http://ids-1:7421              another one; asks before
  blockhouse drain --admin http://ids-1:7421 --dry-run    only say what would be done";

/// Ask a process to drain and end.
///
/// It stops being ready, waits for load balancers to look away, finishes what is in flight, hands back what it holds,
/// and ends. The command doesn't wait for that.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Drain {
    /// A list of what was asked, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    change: Change,
}

/// One process that was asked.
#[derive(Serialize)]
struct Asked {
    admin: String,
    state: &'static str,
}

impl Drain {
    /// Asks every process in turn; stops at the first that can't be asked.
    ///
    /// # Errors
    /// A process can't be reached, or doesn't let us in.
    pub async fn run(&self, ui: &Ui) -> Outcome {
        let admins = Admins::new(&self.admin)?;
        let names: Vec<_> = admins.endpoints().iter().map(ToString::to_string).collect();
        if !ui.may_change(&self.change, &format!("drain and end {}", names.join(", ")))? {
            return Ok(());
        }
        let mut asked = Vec::new();
        for endpoint in admins.endpoints() {
            let answer = admins.ask(endpoint, Method::POST, "/api/v1/drain").await?;
            if !answer.status.is_success() {
                return Err(not_blockhouse(endpoint, answer.status));
            }
            if !self.json {
                ui.data(format!("{endpoint} is draining\n"))?;
            }
            asked.push(Asked { admin: endpoint.to_string(), state: "draining" });
        }
        if self.json { ui.json(&asked) } else { Ok(()) }
    }
}
