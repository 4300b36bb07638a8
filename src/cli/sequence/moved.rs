//! What `advance` and `import` do alike: a sequence moves forward into a new generation.

use super::seen::Wait;
use super::show_changed;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::global::Change;
use crate::cli::opened::Opened;
use crate::cli::ui::Ui;
use crate::ledger::SequenceRow;

/// A move to ask for and to make.
pub struct Moved<'a> {
    /// The sequence as it is.
    pub row: &'a SequenceRow,
    /// The next grant begins above this, and above everything granted so far.
    pub above: i64,
}

impl Moved<'_> {
    /// Asks, moves, tells the pods, and waits until everybody has heard.
    ///
    /// # Errors
    /// The sequence ends before, wasn't confirmed, not everybody has heard in time, and the ledger's.
    pub async fn run(&self, opened: &Opened, ui: &Ui, change: &Change, wait: &Wait, json: bool) -> Outcome {
        let facts = &self.row.facts;
        if self.above > facts.last {
            let line = format!(
                "'{}' ends at {}, and {} lies above: raise its maximum first ('blockhouse sequence set {0} --max N'); \
                 nothing was changed",
                facts.name, facts.last, self.above
            );
            return Err(Failure::new(Exit::Failed, line));
        }
        ui.note(self.follows());
        if !ui.may_change(change, &self.what())? {
            return Ok(());
        }
        let moved = opened.change(opened.ledger.advance(&facts.name, self.above)).await?;
        let line = format!("{} is in generation {}: {}", facts.name, moved.facts.generation, next(&moved));
        show_changed(opened, ui, &facts.name, json, &line).await?;
        wait.until_seen(opened, ui, &facts.name).await
    }

    fn what(&self) -> String {
        let facts = &self.row.facts;
        let to = SequenceRow { granted: self.above.max(self.row.granted), ..self.row.clone() };
        format!("begin generation {} of '{}': {}", facts.generation + 1, facts.name, next(&to))
    }

    /// What is lost by it, for people.
    fn follows(&self) -> String {
        let skipped = self.above.saturating_sub(self.row.granted).max(0);
        format!(
            "skips {skipped} IDs that were never granted, and discards whatever pods and processes hold of those granted before"
        )
    }
}

/// The next ID of a row, for people.
fn next(row: &SequenceRow) -> String {
    match row.granted.checked_add(1).filter(|next| *next <= row.facts.last) {
        Some(next) => format!("the next ID is {next} or above"),
        None => format!("no ID is left below its maximum {}", row.facts.last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_says_where_it_goes_on_and_what_is_lost() {
        let row = super::super::quarter();
        let moved = Moved { row: &row, above: 499 };
        assert_eq!(moved.what(), "begin generation 2 of 'tasks': the next ID is 500 or above");
        assert!(moved.follows().starts_with("skips 249 IDs"), "{}", moved.follows());
        let behind = Moved { row: &row, above: 100 };
        assert_eq!(behind.what(), "begin generation 2 of 'tasks': the next ID is 251 or above");
        assert!(behind.follows().starts_with("skips 0 IDs"), "{}", behind.follows());
        let end = Moved { row: &row, above: 1000 };
        assert_eq!(end.what(), "begin generation 2 of 'tasks': no ID is left below its maximum 1000");
    }
}
