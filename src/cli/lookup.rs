//! `lookup`: the grant an ID came from.

use clap::Args;
use serde_json::{Value, json};

use super::failure::{Exit, Failure, Outcome};
use super::format::{duration, moment};
use super::global::{ConfigArgs, Global};
use super::opened::Opened;
use super::table::pairs;
use super::ui::Ui;
use crate::ledger::{GrantRecord, MoveRecord, SequenceRow};

const EXAMPLES: &str = "\
Examples:
  blockhouse lookup tasks 123456
  blockhouse lookup tasks 123456 --json | jq -r .holder";

/// Show the grant an ID came from: when, to whom, what for.
///
/// The ledger knows to which process an ID was granted, not which caller then got it.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Lookup {
    /// Of which sequence.
    #[arg(value_parser = super::sequence::name)]
    sequence: String,
    /// The ID.
    #[arg(allow_negative_numbers = true)]
    id: i64,
    /// In JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Lookup {
    /// Prints the grant.
    ///
    /// # Errors
    /// The ID wasn't granted, or its grant isn't on record; and the ledger's.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let opened = Opened::new(&self.config, global, ui).await?;
        let Some(grant) = opened.read(opened.ledger.lookup(&self.sequence, self.id)).await? else {
            let row = opened.row(&self.sequence).await?;
            let kept = duration(opened.settings.ledger.keep_grants);
            let skipped = opened.read(opened.ledger.moved(&self.sequence, self.id)).await?;
            let why = match skipped {
                Some(skipped) => skipped_by(self.id, &self.sequence, &skipped),
                None => missing(self.id, &row, &kept),
            };
            return Err(Failure::new(Exit::Failed, why));
        };
        if self.json {
            return ui.json(&self.listed(&grant));
        }
        ui.data(self.page(&grant))?;
        ui.note("which caller got it, if any did, the ledger doesn't know");
        Ok(())
    }

    fn page(&self, grant: &GrantRecord) -> String {
        let (first, last) = (grant.span.first(), grant.span.last());
        let mut lines = vec![
            ("id", self.id.to_string()),
            ("sequence", self.sequence.clone()),
            ("granted", moment(grant.at_us)),
            ("grant", format!("number {}: {first}-{last}, {} IDs", grant.number, grant.span.count())),
            ("purpose", grant.purpose.clone()),
            ("holder", grant.holder.clone()),
            ("cluster", grant.cluster.clone()),
        ];
        lines.extend(grant.pod.clone().map(|pod| ("pod", pod)));
        lines.push(("epoch", grant.epoch.to_string()));
        lines.push(("generation", grant.generation.to_string()));
        pairs(lines)
    }

    fn listed(&self, grant: &GrantRecord) -> Value {
        json!({
            "sequence": self.sequence,
            "id": self.id.to_string(),
            "number": grant.number,
            "first": grant.span.first().to_string(),
            "last": grant.span.last().to_string(),
            "granted_at": moment(grant.at_us),
            "purpose": grant.purpose,
            "holder": grant.holder,
            "cluster": grant.cluster,
            "pod": grant.pod,
            "epoch": grant.epoch,
            "generation": grant.generation,
        })
    }
}

/// Nobody got it, and why.
fn skipped_by(id: i64, sequence: &str, by: &MoveRecord) -> String {
    format!(
        "{id} was skipped and is nobody's: when the ledger was opened again ({}) at {}, '{sequence}' went on from {} to {}, in life {}",
        by.reason,
        moment(by.at_us),
        by.from,
        by.to,
        by.epoch
    )
}

/// Why there is no grant.
fn missing(id: i64, row: &SequenceRow, kept: &str) -> String {
    let facts = &row.facts;
    let name = &facts.name;
    if id < facts.first || id > facts.last {
        return format!("{id} is no ID of '{name}': its IDs are {} to {}", facts.first, facts.last);
    }
    if id > row.granted {
        return format!("{id} has not been granted yet: '{name}' has come to {}", row.granted);
    }
    format!(
        "the grant of {id} is not on record: it is older than ledger.keep_grants ({kept}), or the ID was skipped"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Span;

    #[test]
    fn an_id_without_a_grant_says_why() {
        let row = super::super::sequence::quarter();
        for (id, why) in [
            (-1, "is no ID of 'tasks': its IDs are 1 to 1000"),
            (1001, "is no ID of 'tasks'"),
            (251, "has not been granted yet: 'tasks' has come to 250"),
            (250, "is not on record"),
        ] {
            let said = missing(id, &row, "400d");
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn an_id_that_was_skipped_says_when_and_by_what() {
        let by = MoveRecord { epoch: 3, from: 10, to: 20, reason: "restarted".to_owned(), at_us: 0 };
        let said = skipped_by(12, "tasks", &by);
        for part in ["12 was skipped", "(restarted)", "1970-01-01", "from 10 to 20", "life 3"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_grant_is_shown_with_its_pod_only_where_it_has_one() {
        let lookup = Lookup { sequence: "tasks".into(), id: 7, json: false, config: ConfigArgs::default() };
        let mut grant = GrantRecord {
            number: 2,
            span: Span::new(1, 100).unwrap(),
            generation: 1,
            epoch: 1,
            at_us: 0,
            purpose: "hydrate".into(),
            holder: "a-1".into(),
            cluster: "east".into(),
            pod: Some("pod-1:6379".into()),
        };
        assert!(
            lookup.page(&grant).contains("grant       number 2: 1-100, 100 IDs\n"),
            "{}",
            lookup.page(&grant)
        );
        assert!(lookup.page(&grant).contains("pod         pod-1:6379\n"));
        grant.pod = None;
        assert!(!lookup.page(&grant).contains("pod "));
        assert_eq!(lookup.listed(&grant)["pod"], Value::Null);
    }
}
