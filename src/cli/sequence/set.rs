//! `sequence set`

use std::time::Duration;

use clap::Args;

use super::create::maximum;
use super::row::{buffer, consequence};
use super::seen::Wait;
use super::show_changed;
use crate::block::SequenceFacts;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::global::{Change, ConfigArgs, Global, whole_seconds};
use crate::cli::opened::Opened;
use crate::cli::ui::Ui;
use crate::ledger::{SequenceChange, decide};

const EXAMPLES: &str = "\
Examples:
  blockhouse sequence set tasks --block-size 5000
  blockhouse sequence set tasks --max int64 --dry-run
  blockhouse sequence set tasks --buffer 48h --failover-gap 2000000 --yes
  blockhouse sequence set tasks --buffer default";

/// Change how a sequence is handed out, or move its greatest ID.
///
/// A lower greatest ID begins a new generation: everything that pods and processes still hold is discarded.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Set {
    /// Which.
    #[arg(value_parser = super::name)]
    name: String,
    #[command(flatten)]
    to: To,
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
#[group(required = true, multiple = true)]
struct To {
    /// Another greatest ID, not below those granted: int32, js-safe, int64, or a number.
    #[arg(long, value_name = "MAX", value_parser = maximum)]
    max: Option<i64>,
    /// IDs in one pod entry, for blocks from now on.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    block_size: Option<i64>,
    /// Supply to keep in the pods; 'default' goes back to the hydrator's.
    #[arg(long, value_name = "DURATION", value_parser = buffer_or_default)]
    buffer: Option<Buffer>,
    /// IDs that a failover may skip.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    failover_gap: Option<i64>,
}

/// `None` is the hydrator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Buffer(Option<Duration>);

fn buffer_or_default(text: &str) -> Result<Buffer, String> {
    match text {
        "default" => Ok(Buffer(None)),
        text => whole_seconds(text).map(|seconds| Buffer(Some(seconds))),
    }
}

impl Set {
    /// Changes it, and tells the pods.
    ///
    /// # Errors
    /// There is none of that name, the maximum lies below what was granted, and the ledger's.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let opened = Opened::new(&self.config, global, ui).await?;
        let row = opened.row(&self.name).await?;
        if let Some(max) = self.to.max
            && max < row.granted.max(row.facts.first)
        {
            let line = format!(
                "the maximum of '{}' can't be lowered to {max}: IDs up to {} have been granted; nothing was changed",
                self.name, row.granted
            );
            return Err(Failure::new(Exit::Failed, line));
        }
        if self.change.dry_run {
            let mut changed = row.clone();
            decide::change(&mut changed, &self.to.change())
                .map_err(|why| Failure::new(Exit::Failed, why.to_string()))?;
            ui.note(consequence(&changed.facts));
        }
        let what = format!("set '{}': {}", self.name, self.to.describe(&row.facts));
        if !ui.may_change(&self.change, &what)? {
            return Ok(());
        }
        let changed = opened.change(opened.ledger.set(&self.name, &self.to.change())).await?;
        ui.note(consequence(&changed.facts));
        if changed.facts.failover_gap != row.facts.failover_gap {
            ui.note("where the ledger jumps, a greater gap counts once every cluster has seen it: seconds, where each has a hydrator");
        }
        show_changed(&opened, ui, &self.name, self.json, &what).await?;
        match changed.facts.generation > row.facts.generation {
            true => self.wait.until_seen(&opened, ui, &self.name).await,
            false => Ok(()),
        }
    }
}

impl To {
    fn change(&self) -> SequenceChange {
        SequenceChange {
            last: self.max,
            block_size: self.block_size,
            buffer: self.buffer.map(|Buffer(buffer)| buffer),
            failover_gap: self.failover_gap,
        }
    }

    /// `block size 1000 -> 5000, …`
    fn describe(&self, now: &SequenceFacts) -> String {
        let buffer_to = self.buffer.map(|Buffer(to)| {
            let to = to.and_then(|to| i64::try_from(to.as_secs()).ok());
            buffer(&SequenceFacts { buffer_seconds: to, ..now.clone() })
        });
        let changes = [
            ("maximum", now.last.to_string(), self.max.map(|to| to.to_string())),
            ("block size", now.block_size.to_string(), self.block_size.map(|to| to.to_string())),
            ("buffer", buffer(now), buffer_to),
            ("failover gap", now.failover_gap.to_string(), self.failover_gap.map(|to| to.to_string())),
        ];
        let lowered = self.max.is_some_and(|max| max < now.last);
        let generation =
            ("generation", now.generation.to_string(), lowered.then(|| (now.generation + 1).to_string()));
        let changes = changes
            .into_iter()
            .chain([generation])
            .filter_map(|(what, from, to)| Some(format!("{what} {from} -> {}", to?)));
        changes.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_described_by_what_it_changes() {
        let facts = super::super::quarter().facts;
        let to = To {
            max: None,
            block_size: Some(5000),
            buffer: Some(buffer_or_default("48h").unwrap()),
            failover_gap: None,
        };
        assert_eq!(to.describe(&facts), "block size 100 -> 5000, buffer hydrator's -> 2d");
        let lower = To { max: Some(500), block_size: None, buffer: None, failover_gap: None };
        assert_eq!(lower.describe(&facts), "maximum 1000 -> 500, generation 1 -> 2");
        assert_eq!(to.change().buffer, Some(Some(Duration::from_secs(48 * 3600))));
        assert_eq!(buffer_or_default("default"), Ok(Buffer(None)));
    }
}
