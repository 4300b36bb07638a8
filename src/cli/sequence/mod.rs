//! `sequence`: what is numbered.

mod advance;
mod create;
mod halt;
mod import;
mod list;
mod moved;
mod resume;
mod retire;
mod row;
mod seen;
mod set;
mod show;

use clap::{Args, Subcommand};

pub use self::row::consequence;
#[cfg(test)]
pub use self::row::tests::quarter;
use super::failure::Outcome;
use super::global::Global;
use super::opened::Opened;
use super::pods::tell;
use super::ui::Ui;
use crate::block::catalogue::is_valid_name;
use crate::ledger::SequenceRow;

const EXAMPLES: &str = "\
Examples:
  blockhouse sequence create tasks
  blockhouse sequence list
  blockhouse sequence set tasks --block-size 5000
  blockhouse sequence advance tasks --to 5000000
  blockhouse sequence halt tasks --reason 'under investigation'";

/// Create, look at and change sequences.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, arg_required_else_help = true)]
pub struct Sequence {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(create::Create),
    List(list::List),
    Show(show::Show),
    Set(set::Set),
    Advance(advance::Advance),
    Import(import::Import),
    Halt(halt::Halt),
    Resume(resume::Resume),
    Retire(retire::Retire),
}

impl Sequence {
    /// Runs the one that was named.
    ///
    /// # Errors
    /// See each.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        match &self.command {
            Command::Create(create) => create.run(global, ui).await,
            Command::List(list) => list.run(global, ui).await,
            Command::Show(show) => show.run(global, ui).await,
            Command::Set(set) => set.run(global, ui).await,
            Command::Advance(advance) => advance.run(global, ui).await,
            Command::Import(import) => import.run(global, ui).await,
            Command::Halt(halt) => halt.run(global, ui).await,
            Command::Resume(resume) => resume.run(global, ui).await,
            Command::Retire(retire) => retire.run(global, ui).await,
        }
    }
}

/// A sequence's name.
///
/// # Errors
/// One line for people.
pub fn name(text: &str) -> Result<String, String> {
    if is_valid_name(text) {
        return Ok(text.to_owned());
    }
    Err("a sequence's name must match [a-z][a-z0-9_.-]{0,62}".to_owned())
}

/// After a change: tells the pods, and prints the sequence as it now is, or one line about it.
async fn show_changed(opened: &Opened, ui: &Ui, name: &str, json: bool, line: &str) -> Outcome {
    tell(opened, ui).await;
    match json {
        true => show_row(ui, &opened.row(name).await?),
        false => ui.lines([line]),
    }
}

fn show_row(ui: &Ui, row: &SequenceRow) -> Outcome {
    ui.json(&row::Row::from(row))
}
