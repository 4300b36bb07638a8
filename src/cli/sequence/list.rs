//! `sequence list`

use clap::Args;

use super::row::{Row, buffer, jump_rate, state, used};
use crate::cli::failure::Outcome;
use crate::cli::global::{ConfigArgs, Global};
use crate::cli::opened::Opened;
use crate::cli::table::{Cell, Look, Table};
use crate::cli::ui::Ui;
use crate::ledger::SequenceRow;

const EXAMPLES: &str = "\
Examples:
  blockhouse sequence list
  blockhouse sequence list --json | jq -r '.[] | select(.state == \"halted\") | .name'";

/// List all sequences, as the ledger has them.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct List {
    /// A list, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl List {
    /// Prints them.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let opened = Opened::new(&self.config, global, ui).await?;
        let rows = opened.rows().await?;
        if self.json {
            return ui.json(&rows.iter().map(Row::from).collect::<Vec<_>>());
        }
        if rows.is_empty() {
            ui.note("no sequences yet: 'blockhouse sequence create NAME' makes one");
            return Ok(());
        }
        ui.data(table(&rows).render(ui.colour()))
    }
}

fn table(rows: &[SequenceRow]) -> Table<9> {
    let mut table = Table::new([
        "NAME",
        "STATE",
        ">GRANTED",
        ">MAX",
        ">USED",
        ">BLOCK",
        "BUFFER",
        ">FAILOVER GAP",
        ">IDS/S WITH JUMP",
    ]);
    for row in rows {
        let look = match state(row) {
            "active" => Look::Good,
            "retired" => Look::Plain,
            _ => Look::Bad,
        };
        table.row([
            (&*row.facts.name).into(),
            Cell::look(state(row), look),
            row.granted.to_string().into(),
            row.facts.last.to_string().into(),
            used(row).into(),
            row.facts.block_size.to_string().into(),
            buffer(&row.facts).into(),
            row.facts.failover_gap.to_string().into(),
            jump_rate(&row.facts).map_or("waits".to_owned(), |rate| rate.to_string()).into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_one_row() {
        let page = table(&[super::super::quarter()]).render(false);
        let row = page.lines().nth(1).unwrap();
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>(),
            ["tasks", "active", "250", "1000", "25.0%", "100", "hydrator's", "0", "waits"]
        );
    }
}
