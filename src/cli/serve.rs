//! `serve`: the service.

use clap::Args;

use super::configured::sources;
use super::failure::Outcome;
use super::global::{ConfigArgs, Global};
use super::run::{self, Command};
use super::ui::Ui;
use crate::actor::Process;
use crate::app::Running;
use crate::config::{Errors, Settings};
use crate::ledger::Admin;
use crate::role::Named;

const EXAMPLES: &str = "\
Examples:
  blockhouse serve                                     allocator and hydrator, configured by /etc/blockhouse
  blockhouse serve -c production.toml --role allocator
  blockhouse serve --role allocator,chaos              with drills, within the limits of chaos.*
  BLOCKHOUSE__LEDGER__URL=postgres://db/ids blockhouse serve --set redis.pods=redis://pod-1,redis://pod-2";

/// Run the service.
///
/// Never creates or changes the ledger's schema: 'blockhouse ledger migrate' does.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Serve {
    /// What the process does: allocator, hydrator, both, or all; and chaos, which must be named.
    #[arg(long, value_name = "ROLES", default_value = "all")]
    pub role: Named,
    #[command(flatten)]
    pub config: ConfigArgs,
}

impl Serve {
    /// Runs until a signal.
    ///
    /// # Errors
    /// It can't start or can't go on.
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        run::run(sources(&self.config, global), self.role.roles, ui, self)
    }
}

impl Command for Serve {
    fn check(&self, settings: &Settings) -> Result<(), Errors> {
        settings.require_for_serve()
    }

    fn chaos(&self) -> bool {
        self.role.chaos
    }

    async fn prepare(&self, _: &dyn Admin) -> Outcome {
        Ok(())
    }

    fn greet(&self, _: &Running, _: &Ui) -> Outcome {
        Ok(())
    }

    fn part(&self, _: &Process, _: &Ui) -> Outcome {
        Ok(())
    }
}
