//! `ledger migrate`

use clap::Args;
use serde::Serialize;

use crate::cli::failure::Outcome;
use crate::cli::global::{Change, ConfigArgs, Global};
use crate::cli::opened::Opened;
use crate::cli::ui::Ui;
use crate::ledger::Migrated;

const EXAMPLES: &str = "\
Examples:
  blockhouse ledger migrate                      asks before
  blockhouse ledger migrate --yes -c production.toml
  blockhouse ledger migrate --yes --json | jq -r .id";

/// Create or upgrade the ledger's schema.
///
/// Can be repeated. The release before this one still runs on the new schema.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Migrate {
    /// The ledger's identity and schema, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    config: ConfigArgs,
}

/// What was done, in JSON.
#[derive(Serialize)]
struct Done {
    id: String,
    environment: String,
    epoch: i64,
    schema_before: i32,
    schema: i32,
}

impl Migrate {
    /// Migrates.
    ///
    /// # Errors
    /// The ledger is another environment's, and the ledger's.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let opened = Opened::new(&self.config, global, ui).await?;
        let what = format!(
            "create or upgrade the schema of this ledger for the environment '{}'",
            opened.settings.environment
        );
        if !ui.may_change(&self.change, &what)? {
            return Ok(());
        }
        let Migrated { identity, from, to } = opened.migration(opened.ledger.migrate()).await?;
        if self.json {
            return ui.json(&Done {
                id: identity.ledger.to_string(),
                environment: identity.environment,
                epoch: identity.life.epoch,
                schema_before: from,
                schema: to,
            });
        }
        ui.lines([done(from, to), format!("ledger.id = \"{}\"", identity.ledger)])?;
        if opened.settings.ledger.id.is_none() {
            ui.note(
                "put that line into the configuration: it pins this ledger, so that no other is ever used",
            );
        }
        Ok(())
    }
}

fn done(from: i32, to: i32) -> String {
    match from {
        0 => format!("created schema {to}"),
        from if from == to => format!("schema {to} is up to date"),
        from => format!("upgraded schema {from} to {to}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_says_what_it_did() {
        assert_eq!(done(0, 2), "created schema 2");
        assert_eq!(done(1, 2), "upgraded schema 1 to 2");
        assert_eq!(done(2, 2), "schema 2 is up to date");
    }
}
