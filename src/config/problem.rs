//! What is wrong with a configuration: where, which key, what is allowed, what was meant.

use std::fmt::{self, Write};

use serde::Serialize;

/// One thing to mend. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// `FILE:LINE:COLUMN`, `environment NAME`, `--set` or a flag; empty where something is missing everywhere.
    pub place: String,
    /// The key; empty where a file as a whole is wrong.
    pub key: String,
    /// What is wrong and what is allowed.
    pub what: String,
    /// What was probably meant, or what to do.
    pub hint: Option<String>,
}

impl Problem {
    /// Without a hint.
    pub fn new(place: impl Into<String>, key: impl Into<String>, what: impl Into<String>) -> Problem {
        Problem { place: place.into(), key: key.into(), what: what.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: Option<String>) -> Problem {
        self.hint = hint;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.place, &self.key] {
            if !part.is_empty() {
                write!(f, "{}: ", Harmless(part))?;
            }
        }
        write!(f, "{}", Harmless(&self.what))?;
        match &self.hint {
            Some(hint) => write!(f, "; {}", Harmless(hint)),
            None => Ok(()),
        }
    }
}

/// A text that can't move a terminal's cursor: names and values come from whoever wrote the file.
struct Harmless<'a>(&'a str);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => f.write_char(c),
        })
    }
}

/// Everything that is wrong, in the order of the sources; at least one problem. The exit code is 78.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(pub Vec<Problem>);

impl fmt::Display for Errors {
    /// One problem a line, no newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
