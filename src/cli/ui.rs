//! What a command prints: data on stdout, all else on stderr.

use std::fmt::Display;
use std::io::{self, BufRead, BufWriter, ErrorKind, IsTerminal, Write};

use serde::Serialize;

use super::failure::{Exit, Failure, Outcome};
use super::format::one_line;
use super::global::{Change, Global};

/// The terminal, or whatever stands in its place.
pub struct Ui {
    quiet: bool,
    colour: bool,
    colour_allowed: bool,
    terminal: bool,
}

impl Ui {
    /// As the flags and the environment say.
    pub fn new(global: &Global) -> Ui {
        let terminal = io::stdout().is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour_allowed = !dumb && !global.no_color && !set("NO_COLOR");
        Ui { quiet: global.quiet, terminal, colour: terminal && colour_allowed, colour_allowed }
    }

    /// Whether colours are allowed on stdout.
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// Whether the log may have colours, where it goes to a terminal.
    pub fn log_colour(&self) -> bool {
        self.colour_allowed
    }

    /// Whether stdout is a terminal.
    pub fn terminal(&self) -> bool {
        self.terminal
    }

    /// Text on stdout, as it is.
    ///
    /// # Errors
    /// A reader that went away ends the command without a word.
    pub fn data(&self, text: impl AsRef<[u8]>) -> Outcome {
        self.write(|out| out.write_all(text.as_ref()))
    }

    /// Lines on stdout, buffered.
    ///
    /// # Errors
    /// See [`Ui::data`].
    pub fn lines<T: Display>(&self, lines: impl IntoIterator<Item = T>) -> Outcome {
        self.write(|out| lines.into_iter().try_for_each(|line| writeln!(out, "{line}")))
    }

    /// JSON on stdout, indented.
    ///
    /// # Errors
    /// See [`Ui::data`].
    pub fn json(&self, value: &impl Serialize) -> Outcome {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new(Exit::Internal, format!("can't write JSON: {error}")))?;
        self.lines([text])
    }

    fn write(&self, what: impl FnOnce(&mut BufWriter<io::StdoutLock<'_>>) -> io::Result<()>) -> Outcome {
        let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
        let written = what(&mut out).and_then(|()| out.flush());
        // What is still buffered after an error must not be tried again on drop.
        let _ = out.into_parts();
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::silent(Exit::Done),
            _ => Failure::new(
                Exit::Internal,
                format!("can't write to stdout: {}", super::http::reason(&error)),
            ),
        })
    }

    /// A line on stderr for people, unless they asked for quiet.
    pub fn note(&self, line: impl Display) {
        if !self.quiet {
            say(&line.to_string());
        }
    }

    /// A line on stderr that quiet doesn't silence.
    pub fn warn(&self, line: impl Display) {
        say(&format!("warning: {}", one_line(&line.to_string())));
    }

    /// Asks before something is changed: `what` says what is about to happen.
    /// `false` means: do nothing and end well (`--dry-run`).
    ///
    /// # Errors
    /// No terminal to ask on and no `--yes`, or the answer was no.
    pub fn may_change(&self, change: &Change, what: &str) -> Outcome<bool> {
        if change.dry_run {
            self.note(format_args!("would {what}; nothing was changed (--dry-run)"));
            return Ok(false);
        }
        if change.yes {
            return Ok(true);
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            let line = format!("about to {what}: add --yes to do so where there is no terminal to ask on");
            return Err(Failure::new(Exit::Usage, line));
        }
        let _ = write!(io::stderr(), "About to {what}. Go on? [y/N] ");
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(true);
        }
        Err(Failure::new(Exit::Failed, "not confirmed: nothing was changed"))
    }
}

/// A line on stderr. Nobody may be listening, and that is no reason to stop.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
