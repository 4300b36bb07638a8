//! `sequence show`

use clap::Args;

use super::row::{buffer, consequence, left, state, used};
use super::show_row;
use crate::cli::failure::Outcome;
use crate::cli::global::{ConfigArgs, Global};
use crate::cli::opened::Opened;
use crate::cli::table::pairs;
use crate::cli::ui::Ui;
use crate::ledger::SequenceRow;

const EXAMPLES: &str = "\
Examples:
  blockhouse sequence show tasks
  blockhouse sequence show tasks --json | jq -r .granted";

/// Show one sequence, and what follows from how it is set.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Show {
    /// Which.
    #[arg(value_parser = super::name)]
    name: String,
    /// In JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Show {
    /// Prints it.
    ///
    /// # Errors
    /// There is none of that name, and the ledger's.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let opened = Opened::new(&self.config, global, ui).await?;
        let row = opened.row(&self.name).await?;
        if self.json {
            return show_row(ui, &row);
        }
        ui.data(page(&row))?;
        ui.note(consequence(&row.facts));
        Ok(())
    }
}

fn page(row: &SequenceRow) -> String {
    let facts = &row.facts;
    let state = match &facts.halted {
        Some(why) if !facts.retired => format!("halted: {why}"),
        _ => state(row).to_owned(),
    };
    pairs([
        ("name", facts.name.to_string()),
        ("state", state),
        ("first", facts.first.to_string()),
        ("last", facts.last.to_string()),
        ("granted", format!("{} ({} in {} grants)", row.granted, used(row), row.grants)),
        ("left", left(row).to_string()),
        ("generation", facts.generation.to_string()),
        ("block size", facts.block_size.to_string()),
        ("buffer", buffer(facts)),
        ("failover gap", facts.failover_gap.to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halted_sequence_says_why() {
        let mut row = super::super::quarter();
        row.facts.halted = Some("an overlap".into());
        let page = page(&row);
        assert!(page.contains("\nstate         halted: an overlap\n"), "{page}");
        assert!(page.contains("\ngranted       250 (25.0% in 3 grants)\n"), "{page}");
    }
}
