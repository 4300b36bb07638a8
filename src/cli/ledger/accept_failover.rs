//! `ledger accept-failover`

use clap::Args;
use serde_json::json;

use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::global::{Change, ConfigArgs, Global};
use crate::cli::opened::Opened;
use crate::cli::table::{Cell, Table};
use crate::cli::ui::Ui;
use crate::ledger::{Accept, Accepted, State};

const EXAMPLES: &str = "\
Examples:
  blockhouse ledger accept-failover --dry-run                    what is known, and where each sequence would go on
  blockhouse ledger accept-failover --yes
  blockhouse ledger accept-failover --without eu-west-1          nobody of that cluster is left
  blockhouse ledger accept-failover --at-least tasks=91000000    nobody knows what was granted of it";

/// Let a closed ledger go on where it runs now, above everything that anybody knows to have been granted.
///
/// First make sure that the old one is off: IDs that it still grants are not known here.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct AcceptFailover {
    /// A cluster that nobody waits for any more. Can be repeated.
    #[arg(long, value_name = "CLUSTER")]
    without: Vec<String>,
    /// A sequence that must go on above this ID. Can be repeated.
    #[arg(long, value_name = "SEQUENCE=N", value_parser = floor)]
    at_least: Vec<(String, i64)>,
    /// What is done, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    config: ConfigArgs,
}

fn floor(text: &str) -> Result<(String, i64), String> {
    let rule = "a sequence, '=' and an ID, such as tasks=91000000";
    let (name, id) = text.split_once('=').ok_or(rule)?;
    let name = crate::cli::sequence::name(name)?;
    let id = id.replace('_', "").parse().ok().filter(|id| *id > 0).ok_or(rule)?;
    Ok((name, id))
}

impl AcceptFailover {
    /// Accepts.
    ///
    /// # Errors
    /// The ledger is open, a cluster hasn't reported, nobody knows a sequence, and the ledger's.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let opened = Opened::new(&self.config, global, ui).await?;
        let facts = opened.read(opened.ledger.facts(None)).await?;
        let State::Closed(why) = &facts.state else {
            return Err(Failure::new(Exit::Failed, "the ledger is open: there is nothing to accept"));
        };
        ui.note(format_args!("closed: {why}"));
        let accept = Accept { without: self.without.clone(), at_least: self.at_least.clone() };
        let plan = opened.read(opened.ledger.accept(&accept, false)).await?;
        self.show(ui, &plan)?;
        if let Some(problem) = plan.problem {
            return Err(Failure::new(Exit::Failed, problem));
        }
        let what = "open the ledger, with every sequence where it is said above";
        if !ui.may_change(&self.change, what)? {
            return Ok(());
        }
        if let Some(problem) = opened.change(opened.ledger.accept(&accept, true)).await?.problem {
            return Err(Failure::new(Exit::Failed, problem));
        }
        let life = opened.read(opened.ledger.facts(None)).await?.identity.life;
        ui.lines([format_args!("accepted: the ledger is open in life {}", life.epoch)])
    }

    fn show(&self, ui: &Ui, plan: &Accepted) -> Outcome {
        if self.json {
            let moves: Vec<_> = plan
                .moves
                .iter()
                .map(|to| {
                    json!({
                        "sequence": &*to.sequence,
                        "stands": to.stands.to_string(),
                        "reported": to.reported.map(|id| id.to_string()),
                        "to": to.to.to_string(),
                    })
                })
                .collect();
            return ui.json(&json!({ "problem": plan.problem, "moves": moves }));
        }
        let mut table = Table::new(["SEQUENCE", ">LEDGER", ">REPORTED", ">GOES ON ABOVE", ">SKIPPED"]);
        for to in &plan.moves {
            let reported = to.reported.map_or_else(|| "-".to_owned(), |id| id.to_string());
            let skipped = to.to - to.reported.unwrap_or(to.stands).max(to.stands);
            let cells = [
                to.sequence.to_string(),
                to.stands.to_string(),
                reported,
                to.to.to_string(),
                skipped.to_string(),
            ];
            table.row(cells.map(Cell::from));
        }
        ui.data(table.render(ui.colour()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_a_sequence_and_an_id() {
        assert_eq!(floor("tasks=91_000"), Ok(("tasks".to_owned(), 91_000)));
        for wrong in ["tasks", "tasks=", "tasks=0", "tasks=-1", "=5", "Tasks=5", "tasks=x"] {
            assert!(floor(wrong).is_err(), "{wrong}");
        }
    }
}
