//! The command line: one file per command; parse, run, one exit code, one clear last line.

mod admin;
mod chaos;
mod completions;
pub mod config;
pub mod configured;
mod dev;
mod drain;
pub mod failure;
mod format;
pub mod global;
mod health;
mod http;
mod ledger;
mod lookup;
mod man;
mod opened;
mod pods;
mod reload;
mod run;
mod sequence;
mod serve;
mod status;
mod table;
mod take;
pub mod ui;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio::task::LocalSet;

use self::failure::{Exit, Failure, Outcome};
use self::format::one_line;
use self::global::Global;
use self::ui::{Ui, say};

const EXAMPLES: &str = "\
Examples:
  blockhouse dev                        everything in one process, to try it out
  blockhouse take tasks -n 1000         a thousand IDs of the sequence 'tasks'
  blockhouse status --watch             how the processes are doing
  blockhouse ledger migrate             make the ledger's schema, then
  blockhouse sequence create tasks      a sequence, then
  blockhouse serve                      the service";

/// Version and revision.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BLOCKHOUSE_REVISION"), ")");

/// Hands out sequential IDs, each one once, through memory, Redis pods and a central ledger.
#[derive(Debug, Parser)]
#[command(name = "blockhouse", version = VERSION, before_help = EXAMPLES, max_term_width = 110)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Dev),
    Serve(serve::Serve),
    Take(take::Take),
    Status(status::Status),
    Sequence(sequence::Sequence),
    Ledger(ledger::Ledger),
    Lookup(lookup::Lookup),
    Config(config::Config),
    Health(health::Health),
    Drain(drain::Drain),
    Chaos(chaos::Chaos),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Command {
    fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        match self {
            Command::Dev(dev) => dev.run(global, ui),
            Command::Serve(serve) => serve.run(global, ui),
            Command::Take(take) => block_on(take.run(ui)),
            Command::Status(status) => block_on(status.run(ui)),
            Command::Sequence(sequence) => block_on(sequence.run(global, ui)),
            Command::Ledger(ledger) => block_on(ledger.run(global, ui)),
            Command::Lookup(lookup) => block_on(lookup.run(global, ui)),
            Command::Config(config) => config.run(global, ui),
            Command::Health(health) => block_on(health.run()),
            Command::Drain(drain) => block_on(drain.run(ui)),
            Command::Chaos(chaos) => block_on(chaos.run(ui)),
            Command::Completions(completions) => completions.run(ui),
            Command::Man(man) => man.run(ui),
        }
    }
}

/// What `main` is: parses the arguments, runs the command, says why it failed.
pub fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(told) => {
            // Help and version go to stdout, where nobody may be reading any more.
            let _ = told.print();
            return ExitCode::from(u8::try_from(told.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    let ui = Ui::new(&cli.global);
    let ended = catch_unwind(AssertUnwindSafe(|| cli.command.run(&cli.global, &ui)));
    let failure = match ended {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(failure)) => failure,
        // The panic hook has said where.
        Err(_) => Failure::new(Exit::Internal, "blockhouse has a defect (see above): please report it"),
    };
    if !failure.line.is_empty() {
        say(&format!("error: {}", one_line(&failure.line)));
    }
    ExitCode::from(failure.exit as u8)
}

fn parse() -> Result<Cli, clap::Error> {
    // clap knows NO_COLOR, and our flag only once it has parsed it, which is too late for help and errors.
    let plain = std::env::args_os().any(|argument| argument == "--no-color");
    let colour = if plain { ColorChoice::Never } else { ColorChoice::Auto };
    Cli::from_arg_matches(&Cli::command().color(colour).try_get_matches()?)
}

/// Runs a command on this thread. What it left running (a name look-up) is not waited for.
fn block_on(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, format!("can't start a runtime: {error}")))?;
    let outcome = LocalSet::new().block_on(&runtime, command);
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_every_argument_a_help() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            let examples = command.get_before_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.starts_with("Examples:\n  "), "{name}: {examples}");
            assert!(command.get_about().is_some(), "{name}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name}: {}", argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
