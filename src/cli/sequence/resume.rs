//! `sequence resume`

use clap::Args;

use super::show_changed;
use crate::cli::failure::Outcome;
use crate::cli::global::{Change, ConfigArgs, Global};
use crate::cli::opened::Opened;
use crate::cli::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  blockhouse sequence resume tasks
  blockhouse sequence resume tasks --yes --json";

/// Allow grants of a halted sequence again, once the cause is resolved.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Resume {
    /// Which.
    #[arg(value_parser = super::name)]
    name: String,
    /// The sequence as it then is, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Resume {
    /// Resumes it, and tells the pods.
    ///
    /// # Errors
    /// There is none of that name, and the ledger's.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let opened = Opened::new(&self.config, global, ui).await?;
        let row = opened.row(&self.name).await?;
        let what = match &row.facts.halted {
            Some(why) => format!("resume '{}', which was halted: {why}", self.name),
            None => format!("resume '{}', which is not halted", self.name),
        };
        if !ui.may_change(&self.change, &what)? {
            return Ok(());
        }
        let was_halted = opened.change(opened.ledger.resume(&self.name)).await?;
        let line = if was_halted { "is resumed" } else { "was not halted" };
        show_changed(&opened, ui, &self.name, self.json, &format!("{} {line}", self.name)).await
    }
}
