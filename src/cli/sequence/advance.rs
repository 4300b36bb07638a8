//! `sequence advance`

use clap::Args;

use super::moved::Moved;
use super::seen::Wait;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::global::{Change, ConfigArgs, Global};
use crate::cli::opened::Opened;
use crate::cli::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  blockhouse sequence advance tasks --to 5000000 --dry-run
  blockhouse sequence advance tasks --to 5000000 --yes";

/// Move a sequence forward: it goes on with a greater ID.
///
/// Everything that pods and processes still hold of the IDs below is discarded, so nothing below is handed out any more.
/// There is no way back.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Advance {
    /// Which.
    #[arg(value_parser = super::name)]
    name: String,
    /// The next ID; above everything granted so far.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    to: i64,
    /// The sequence as it then is, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Advance {
    /// Moves it, and tells the pods.
    ///
    /// # Errors
    /// There is none of that name, it ends before `--to` or is there already, and the ledger's.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let opened = Opened::new(&self.config, global, ui).await?;
        let row = opened.row(&self.name).await?;
        if self.to <= row.granted {
            let line = format!(
                "'{}' has granted IDs up to {} and only moves forward: say --to {} or more; nothing was changed",
                self.name,
                row.granted,
                row.granted.saturating_add(1)
            );
            return Err(Failure::new(Exit::Failed, line));
        }
        let moved = Moved { row: &row, above: self.to - 1 };
        moved.run(&opened, ui, &self.change, &self.wait, self.json).await
    }
}
