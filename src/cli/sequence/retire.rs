//! `sequence retire`

use clap::Args;

use super::show_changed;
use crate::cli::failure::Outcome;
use crate::cli::global::{Change, ConfigArgs, Global};
use crate::cli::opened::Opened;
use crate::cli::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  blockhouse sequence retire tasks --dry-run
  blockhouse sequence retire tasks";

/// End a sequence for good.
///
/// No ID of it is ever handed out again, and its name is never reused. What was granted stays on record.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Retire {
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

impl Retire {
    /// Retires it, and tells the pods.
    ///
    /// # Errors
    /// There is none of that name, and the ledger's.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let opened = Opened::new(&self.config, global, ui).await?;
        let row = opened.row(&self.name).await?;
        let what = format!("end '{}' for good, at ID {}: this can't be undone", self.name, row.granted);
        if !ui.may_change(&self.change, &what)? {
            return Ok(());
        }
        let now = opened.change(opened.ledger.retire(&self.name)).await?;
        let line = if now { "is retired" } else { "was retired before" };
        show_changed(&opened, ui, &self.name, self.json, &format!("{} {line}", self.name)).await
    }
}
