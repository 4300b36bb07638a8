//! `sequence halt`

use clap::Args;

use super::show_changed;
use crate::cli::failure::Outcome;
use crate::cli::format::one_line;
use crate::cli::global::{Change, ConfigArgs, Global};
use crate::cli::opened::Opened;
use crate::cli::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  blockhouse sequence halt tasks --reason 'IDs above 7000000 are being checked'
  blockhouse sequence halt tasks --dry-run";

/// Stop grants of a sequence.
///
/// What is in pods and memory is still handed out; then callers are refused, with the reason, until
/// 'blockhouse sequence resume'.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Halt {
    /// Which.
    #[arg(value_parser = super::name)]
    name: String,
    /// Why, for those who are refused and for those who come later.
    #[arg(long, value_name = "TEXT", default_value = "by an operator")]
    reason: String,
    /// The sequence as it then is, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Halt {
    /// Halts it, and tells the pods.
    ///
    /// # Errors
    /// There is none of that name, and the ledger's.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let opened = Opened::new(&self.config, global, ui).await?;
        let row = opened.row(&self.name).await?;
        if let Some(first) = &row.facts.halted {
            ui.note(format_args!("'{}' is halted already: {first}; the first reason stays", self.name));
        }
        if !ui.may_change(&self.change, &format!("stop all grants of '{}'", self.name))? {
            return Ok(());
        }
        let reason = one_line(&self.reason);
        opened.change(opened.ledger.halt(&self.name, &reason)).await?;
        let line = format!("{} is halted: {}", self.name, row.facts.halted.as_deref().unwrap_or(&reason));
        show_changed(&opened, ui, &self.name, self.json, &line).await
    }
}
