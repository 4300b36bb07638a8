//! How a command ends when it doesn't end well.

use std::fmt;

/// The exit codes of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Nobody reads the output any more: there is nothing left to do, and nothing went wrong.
    Done = 0,
    /// A check failed, or the request can't succeed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Something can't be reached.
    Unreachable = 69,
    /// A defect of ours.
    Internal = 70,
    /// Refused; the same request may succeed later.
    Refused = 75,
    /// Not allowed.
    Denied = 77,
    /// The configuration, or what it points at, is wrong.
    Config = 78,
    /// A second SIGINT.
    Interrupted = 130,
    /// A second SIGTERM.
    Terminated = 143,
}

/// The end of a command that can't go on: an exit code, and the one last line that says what is wrong, where, and
/// what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The last line on stderr; nothing is printed where it is empty.
    pub line: String,
}

impl Failure {
    /// Ends with `exit`, and says why.
    pub fn new(exit: Exit, line: impl Into<String>) -> Failure {
        Failure { exit, line: line.into() }
    }

    /// Ends with `exit` and without a word: all was said before, or nobody listens.
    pub fn silent(exit: Exit) -> Failure {
        Failure { exit, line: String::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// What every command gives back.
pub type Outcome<T = ()> = Result<T, Failure>;
