//! `sequence create`

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::row::consequence;
use super::show_row;
use crate::cli::configured::dev_knows;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::global::{Change, ConfigArgs, Global, whole_seconds};
use crate::cli::opened::Opened;
use crate::cli::pods::tell;
use crate::cli::ui::Ui;
use crate::ledger::decide::first_row;
use crate::ledger::{NewSequence, SequenceRow};

const EXAMPLES: &str = "\
Examples:
  blockhouse sequence create tasks
  blockhouse sequence create tasks --start 1000000 --max int32 --if-not-exists --yes
  blockhouse sequence create audit.events --max int64 --block-size 10000 --dry-run";

/// Create a sequence.
///
/// It can be taken from at once. A name is never reused.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Create {
    /// `[a-z][a-z0-9_.-]{0,62}`
    #[arg(value_parser = super::name)]
    name: String,
    /// The smallest ID.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..))]
    start: i64,
    /// The greatest ID: int32, js-safe (2^53 - 1), int64, or a number.
    #[arg(long, value_name = "MAX", default_value = "js-safe", value_parser = maximum)]
    max: i64,
    /// IDs in one pod entry.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(i64).range(1..))]
    block_size: i64,
    /// Supply to keep in the pods; the hydrator's where not given.
    #[arg(long, value_name = "DURATION", value_parser = whole_seconds)]
    buffer: Option<Duration>,
    /// IDs that a failover may skip [default: a 1024th of the IDs, 10^9 at most]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    failover_gap: Option<i64>,
    /// It is no error if there is one of that name.
    #[arg(long)]
    if_not_exists: bool,
    /// The sequence, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Create {
    /// Creates it, and tells the pods.
    ///
    /// # Errors
    /// The name is taken, and the ledger's.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let new = self.new_sequence();
        new.check().map_err(|why| Failure::new(Exit::Usage, why))?;
        let opened = Opened::new(&self.config, global, ui).await?;
        if self.change.dry_run {
            self.check_free(&opened, ui).await?;
            ui.note(consequence(
                &first_row(&new).map_err(|why| Failure::new(Exit::Usage, why.to_string()))?.facts,
            ));
        }
        let what = format!("create the sequence '{}' with IDs {} to {}", self.name, self.start, self.max);
        if !ui.may_change(&self.change, &what)? {
            return Ok(());
        }
        let created = opened.change(opened.ledger.create(&new)).await?;
        tell(&opened, ui).await;
        if opened.of_dev {
            dev_knows(&self.name, ui).await;
        }
        self.print(&created.row, created.new, ui)
    }

    fn new_sequence(&self) -> NewSequence {
        NewSequence {
            name: Arc::from(self.name.as_str()),
            first: self.start,
            last: self.max,
            block_size: self.block_size,
            buffer: self.buffer,
            failover_gap: self.failover_gap,
            if_not_exists: self.if_not_exists,
        }
    }

    /// What a dry run can know of the name.
    async fn check_free(&self, opened: &Opened, ui: &Ui) -> Outcome {
        if opened.rows().await?.iter().all(|row| *row.facts.name != *self.name) {
            return Ok(());
        }
        let line = format!("the sequence '{}' exists: see 'blockhouse sequence show {0}'", self.name);
        if !self.if_not_exists {
            return Err(Failure::new(Exit::Failed, line));
        }
        ui.note(line);
        Ok(())
    }

    fn print(&self, row: &SequenceRow, new: bool, ui: &Ui) -> Outcome {
        let facts = &row.facts;
        if !new && (facts.first, facts.last) != (self.start, self.max) {
            let (first, last) = (facts.first, facts.last);
            ui.warn(format_args!("'{}' existed, with IDs {first} to {last}: it stays as it was", self.name));
        }
        if self.json {
            return show_row(ui, row);
        }
        let was = if new { "created" } else { "existed before" };
        let ids = format!(
            "{} {was}: IDs {} to {}, blocks of {}",
            facts.name, facts.first, facts.last, facts.block_size
        );
        ui.lines([ids])?;
        ui.note(consequence(facts));
        Ok(())
    }
}

/// `--max`.
///
/// # Errors
/// One line for people.
pub fn maximum(text: &str) -> Result<i64, String> {
    match text {
        "int32" => Ok(i64::from(i32::MAX)),
        "js-safe" => Ok((1 << 53) - 1),
        "int64" => Ok(i64::MAX),
        number => match number.parse() {
            Ok(max @ 1..) => Ok(max),
            _ => Err("say int32, js-safe, int64, or a number from 1 to 9223372036854775807".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maximum_has_a_name_or_is_a_number() {
        for (text, max) in [
            ("int32", Ok(2_147_483_647)),
            ("js-safe", Ok(9_007_199_254_740_991)),
            ("int64", Ok(9_223_372_036_854_775_807)),
            ("5", Ok(5)),
        ] {
            assert_eq!(maximum(text), max);
        }
        for text in ["", "0", "-1", "int16", "9223372036854775808", "1e9"] {
            assert!(maximum(text).is_err(), "{text}");
        }
    }
}
