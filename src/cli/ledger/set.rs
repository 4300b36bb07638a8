//! `ledger set`

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;

use crate::block::OnFailover;
use crate::cli::failure::Outcome;
use crate::cli::global::{Change, ConfigArgs, Global};
use crate::cli::opened::Opened;
use crate::cli::pods::tell;
use crate::cli::sequence::consequence;
use crate::cli::ui::Ui;
use crate::ledger::SequenceRow;

const EXAMPLES: &str = "\
Examples:
  blockhouse ledger set --on-failover jump --dry-run    says what follows for each sequence
  blockhouse ledger set --on-failover jump
  blockhouse ledger set --on-failover wait --yes";

/// Set what the ledger does once a failover or a restore may have cost it its newest grants.
///
/// 'wait' (the default): nothing is granted before a person accepts the failover; pods and reserve serve on meanwhile. 'jump': it
/// moves every sequence by its failover gap and goes on by itself where that is safe, and no more than the gap is granted in any hour. A sequence
/// without a gap keeps the whole ledger waiting.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Set {
    /// For all sequences and all clusters of this ledger.
    #[arg(long, value_name = "WHAT", value_parser = on_failover())]
    on_failover: OnFailover,
    /// What is set then, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    config: ConfigArgs,
}

fn on_failover() -> impl TypedValueParser<Value = OnFailover> {
    let names = PossibleValuesParser::new([OnFailover::Wait.name(), OnFailover::Jump.name()]);
    names.try_map(|name| OnFailover::of_name(&name).ok_or("say wait or jump"))
}

impl Set {
    /// Sets it, and tells the pods.
    ///
    /// # Errors
    /// A sequence was granted more than its gap in the last hour, and the ledger's.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let opened = Opened::new(&self.config, global, ui).await?;
        let (from, to) = (opened.read(opened.ledger.history()).await?.on_failover, self.on_failover);
        for line in follows(to, &opened.rows().await?) {
            ui.note(line);
        }
        let what = format!("set on_failover {} -> {}", from.name(), to.name());
        if !ui.may_change(&self.change, &what)? {
            return Ok(());
        }
        opened.change(opened.ledger.set_on_failover(to)).await?;
        tell(&opened, ui).await;
        if self.json { ui.json(&json!({ "on_failover": to })) } else { ui.lines([what]) }
    }
}

/// What follows, for people.
fn follows(to: OnFailover, rows: &[SequenceRow]) -> Vec<String> {
    if to == OnFailover::Wait {
        let line = "after a failover nothing is granted until 'blockhouse ledger accept-failover'; no hour is capped";
        return vec![line.to_owned()];
    }
    let active = rows.iter().filter(|row| !row.facts.retired);
    let each = active.map(|row| format!("{}: {}", row.facts.name, consequence(&row.facts)));
    let fence = "unless the ledger is replicated synchronously, fence the old primary off before a standby is promoted: what it \
                 goes on granting beside the new one stays below the gap for an hour only";
    each.chain([fence.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sequence::quarter;

    #[test]
    fn it_is_said_of_each_sequence_what_follows() {
        let mut rows = vec![quarter(), quarter(), quarter()];
        rows[1].facts.failover_gap = 3_900;
        rows[2].facts.retired = true;
        let said = follows(OnFailover::Jump, &rows);
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].starts_with("tasks: ") && said[0].contains("waits for a person"), "{said:?}");
        assert!(said[1].contains("3900 IDs") && said[1].contains("1 IDs/s"), "{said:?}");
        assert!(said[2].contains("fence the old primary"), "{said:?}");
        assert_eq!(follows(OnFailover::Wait, &rows).len(), 1);
    }
}
