//! `completions`: for shells, by packages.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::failure::Outcome;
use super::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  blockhouse completions bash > /usr/share/bash-completion/completions/blockhouse
  blockhouse completions zsh > /usr/share/zsh/site-functions/_blockhouse";

/// Print a shell's completions.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Completions {
    /// For which shell.
    shell: Shell,
}

impl Completions {
    /// Prints them.
    ///
    /// # Errors
    /// Stdout can't be written.
    pub fn run(&self, ui: &Ui) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "blockhouse", &mut script);
        ui.data(script)
    }
}
