//! `man`: manual pages, for packages.

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man as Page;

use super::Cli;
use super::failure::{Exit, Failure, Outcome};
use super::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  blockhouse man | man -l -
  blockhouse man > blockhouse.1
  blockhouse man sequence create > blockhouse-sequence-create.1";

/// Print a manual page, in troff.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Man {
    /// Of which command; of blockhouse itself where none is named.
    command: Vec<String>,
}

impl Man {
    /// Prints it.
    ///
    /// # Errors
    /// No such command, or stdout can't be written.
    pub fn run(&self, ui: &Ui) -> Outcome {
        let mut all = Cli::command().disable_help_subcommand(true);
        // Global flags and full names reach the subcommands only then.
        all.build();
        let mut command = &all;
        for name in &self.command {
            command = command.find_subcommand(name).ok_or_else(|| {
                let line = format!("'{}' is no command: see 'blockhouse --help'", self.command.join(" "));
                Failure::new(Exit::Usage, line)
            })?;
        }
        let page = render(command)
            .map_err(|error| Failure::new(Exit::Internal, format!("can't write the page: {error}")))?;
        ui.data(page)
    }
}

/// The page, its examples first as in the help.
fn render(command: &Command) -> std::io::Result<Vec<u8>> {
    let source = concat!("blockhouse ", env!("CARGO_PKG_VERSION"));
    let page = Page::new(command.clone()).source(source);
    let mut out = Vec::new();
    page.render_title(&mut out)?;
    page.render_name_section(&mut out)?;
    page.render_synopsis_section(&mut out)?;
    if let Some(examples) = command.get_before_help() {
        out.extend(examples_section(&examples.to_string()).bytes());
    }
    page.render_description_section(&mut out)?;
    page.render_options_section(&mut out)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut out)?;
    }
    if command.get_version().is_some() {
        page.render_version_section(&mut out)?;
    }
    Ok(out)
}

/// The lines below `Examples:` as they are.
fn examples_section(examples: &str) -> String {
    let lines = examples.lines().skip(1).map(|line| {
        // A line that begins with a dot or a quote would be a command; `-` alone becomes a hyphen.
        format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-"))
    });
    format!(".SH EXAMPLES\n.nf\n{}.fi\n", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_keep_their_lines_and_their_hyphens() {
        assert_eq!(
            examples_section("Examples:\n  a -n 1\n.b \\"),
            ".SH EXAMPLES\n.nf\n\\&  a \\-n 1\n\\&.b \\e\n.fi\n"
        );
    }
}
