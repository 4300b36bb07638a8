//! `sequence import`

use clap::Args;

use super::moved::Moved;
use super::seen::Wait;
use crate::cli::failure::Outcome;
use crate::cli::global::{Change, ConfigArgs, Global};
use crate::cli::opened::Opened;
use crate::cli::ui::Ui;
use crate::ledger::SequenceRow;

const EXAMPLES: &str = "\
Examples:
  blockhouse sequence import tasks --above 4711 --yes
  blockhouse sequence import tasks --table public.tasks --column id --dry-run";

/// Take over IDs that were given by something else: a sequence goes on above them.
///
/// Whoever gave them must have stopped before. Everything that pods and processes still hold is discarded, so nothing at or below
/// is handed out any more. There is no way back.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Import {
    /// Which.
    #[arg(value_parser = super::name)]
    name: String,
    #[command(flatten)]
    from: From,
    /// The column that holds the IDs.
    #[arg(long, value_name = "COLUMN", requires = "table")]
    column: Option<String>,
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

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct From {
    /// The greatest ID given so far.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    above: Option<i64>,
    /// A table in the ledger's PostgreSQL database that holds the IDs.
    #[arg(long, value_name = "TABLE", requires = "column")]
    table: Option<String>,
}

impl Import {
    /// Moves it above what is taken over, and tells the pods.
    ///
    /// # Errors
    /// There is no sequence, table or column of that name, the IDs lie beyond the sequence's end, and the ledger's.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let opened = Opened::new(&self.config, global, ui).await?;
        let row = opened.row(&self.name).await?;
        let Some(above) = self.greatest(&opened, &row, ui).await? else { return Ok(()) };
        Moved { row: &row, above }.run(&opened, ui, &self.change, &self.wait, self.json).await
    }

    /// The greatest ID to take over; `None` where there is nothing to do, which is said.
    async fn greatest(&self, opened: &Opened, row: &SequenceRow, ui: &Ui) -> Outcome<Option<i64>> {
        let (above, place) = match (&self.from, &self.column) {
            (From { above: Some(above), .. }, _) => (Some(*above), String::new()),
            (From { table: Some(table), .. }, Some(column)) => {
                let place = format!(" in '{column}' of {table}");
                (opened.read(opened.ledger.greatest_in(table, column)).await?, place)
            }
            // The command line allows no other.
            _ => (None, String::new()),
        };
        let Some(above) = above else {
            ui.note(format_args!("there are no IDs{place}: nothing to import, nothing was changed"));
            return Ok(None);
        };
        ui.note(format_args!("the greatest ID{place} is {above}"));
        if above < row.facts.first {
            let (name, first) = (&self.name, row.facts.first);
            ui.note(format_args!(
                "'{name}' begins at {first}, above it: nothing to import, nothing was changed"
            ));
            return Ok(None);
        }
        Ok(Some(above))
    }
}
