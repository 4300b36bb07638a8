//! `config`: validate, show and explain the configuration.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::configured::sources;
use super::failure::{Exit, Failure, Outcome};
use super::global::{ConfigArgs, Global};
use super::ui::{Ui, say};
use crate::config::{self, Errors, Loaded, Problem, Shown, Sources, reference};

/// Exit code of a good configuration.
const OK: u8 = 0;
/// Exit code of a bad one.
const BAD: u8 = 78;

const EXAMPLES: &str = "\
Examples:
  blockhouse config check -c /etc/blockhouse      is it what 'serve' takes?
  blockhouse config print                         what is in effect, and where it came from
  blockhouse config reference > blockhouse.toml   every key, to start from";

/// Validate, show and explain the configuration.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, arg_required_else_help = true)]
pub struct Config {
    #[command(subcommand)]
    command: ConfigCommand,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Config {
    /// Runs the one that was named.
    ///
    /// # Errors
    /// The configuration is wrong; what and where was said.
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let (mut data, mut said) = (Vec::new(), Vec::new());
        let code =
            run(&self.command, sources(&self.config, global), &mut data, &mut said).map_err(|error| {
                Failure::new(Exit::Internal, format!("can't show the configuration: {error}"))
            })?;
        ui.data(data)?;
        String::from_utf8_lossy(&said).lines().for_each(say);
        if code == OK { Ok(()) } else { Err(Failure::silent(Exit::Config)) }
    }
}

/// What to do with the configuration.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Check that 'serve' would take it, and name everything that is wrong.
    #[command(
        before_help = "Examples:\n  blockhouse config check -c production.toml\n  blockhouse config check --json"
    )]
    Check(Format),
    /// Print every key as it is in effect and where it came from; secrets are hidden.
    #[command(
        before_help = "Examples:\n  blockhouse config print\n  blockhouse config print -c production.toml --json"
    )]
    Print(Format),
    /// Print every key with its default and meaning, as a file to start from.
    #[command(before_help = "Examples:\n  blockhouse config reference > blockhouse.toml")]
    Reference(Format),
}

/// How it is printed.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Format {
    /// For programs.
    #[arg(long)]
    pub json: bool,
}

/// Runs a command on what `sources` name: data goes to `out`, all else to `err`. Gives the exit code.
///
/// # Errors
/// Nobody reads what is written.
pub fn run(
    command: &ConfigCommand,
    sources: Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    match command {
        ConfigCommand::Check(format) => check(*format, sources, out, err),
        ConfigCommand::Print(format) => print(*format, sources, out, err),
        ConfigCommand::Reference(Format { json: true }) => json(&reference::entries(), out),
        ConfigCommand::Reference(Format { json: false }) => {
            out.write_all(reference::toml().as_bytes())?;
            Ok(OK)
        }
    }
}

#[derive(Serialize)]
struct Verdict<'a> {
    ok: bool,
    errors: &'a [Problem],
    warnings: &'a [Problem],
}

fn check(format: Format, sources: Sources, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let loaded = config::load(sources);
    let warnings = loaded.as_ref().map_or(&[][..], |loaded| &loaded.warnings);
    let checked = match &loaded {
        Ok(loaded) => loaded.settings.require_for_serve(),
        Err(errors) => Err(errors.clone()),
    };
    if format.json {
        let errors = checked.as_ref().err().map_or(&[][..], |errors| &errors.0);
        json(&Verdict { ok: checked.is_ok(), errors, warnings }, out)?;
        return Ok(if checked.is_ok() { OK } else { BAD });
    }
    warn(warnings, err)?;
    match checked {
        Ok(()) => {
            writeln!(out, "ok")?;
            Ok(OK)
        }
        Err(errors) => refuse(&errors, err),
    }
}

fn print(format: Format, sources: Sources, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let loaded = match config::load(sources) {
        Ok(loaded) => loaded,
        Err(errors) => return refuse(&errors, err),
    };
    warn(&loaded.warnings, err)?;
    if format.json {
        return json(&loaded.shown(), out);
    }
    out.write_all(lines(&loaded).as_bytes())?;
    Ok(OK)
}

/// Valid TOML, the origins as comments in a column of their own.
fn lines(loaded: &Loaded) -> String {
    let shown = loaded.shown();
    let settings: Vec<_> = shown.iter().map(setting).collect();
    let width = settings.iter().map(|setting| setting.chars().count()).filter(|width| *width <= 60).max();
    let lines = settings.iter().zip(&shown).map(|(setting, shown)| match &shown.origin {
        Some(origin) => format!("{setting:<width$}  # {origin}\n", width = width.unwrap_or(0)),
        None => format!("{setting}\n"),
    });
    lines.collect()
}

fn setting(shown: &Shown) -> String {
    match &shown.value {
        Some(value) => format!("{} = {value}", shown.key),
        None => format!("# {} is not set", shown.key),
    }
}

fn json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<u8> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(OK)
}

fn warn(warnings: &[Problem], err: &mut dyn Write) -> io::Result<()> {
    warnings.iter().try_for_each(|warning| writeln!(err, "warning: {warning}; ignored"))
}

fn refuse(errors: &Errors, err: &mut dyn Write) -> io::Result<u8> {
    writeln!(err, "{errors}")?;
    let count = match errors.0.len() {
        1 => "1 error".to_owned(),
        count => format!("{count} errors"),
    };
    writeln!(err, "error: the configuration has {count}; 'blockhouse config reference' lists every key")?;
    Ok(BAD)
}
