//! What a failure says about the commit (S1).

use std::error::Error as _;
use std::fmt;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

use super::super::LedgerError;

/// Whether a statement could change anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    Writes,
}

/// A statement that was sent and not seen to commit.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server said that it rolled back.
    RolledBack { code: SqlState, message: String },
    /// Nobody knows.
    Lost(String),
}

impl Failure {
    pub(super) fn new(error: &Error) -> Failure {
        match error.as_db_error() {
            Some(answer) if is_certain(answer) => {
                Failure::RolledBack { code: answer.code().clone(), message: said(answer) }
            }
            _ => Failure::Lost(chain(error)),
        }
    }

    /// Whether the connection can be used again.
    pub(super) fn leaves_connection(&self) -> bool {
        matches!(self, Failure::RolledBack { .. })
    }

    pub(super) fn into_error(self, effect: Effect) -> LedgerError {
        match self {
            Failure::Lost(why) if effect == Effect::Reads => LedgerError::Unreachable(why),
            Failure::Lost(why) => LedgerError::InDoubt(why),
            Failure::RolledBack { code, message } => rolled_back(&code, message),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::RolledBack { message, .. } | Failure::Lost(message) => f.write_str(message),
        }
    }
}

/// An ERROR ends the transaction before its commit. FATAL and PANIC may come after it, a pooler reports lost servers as class
/// 08, and 40003 says 'unknown' itself.
fn is_certain(answer: &DbError) -> bool {
    answer.parsed_severity() == Some(Severity::Error)
        && *answer.code() != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
        && !answer.code().code().starts_with("08")
        && !answer.code().code().starts_with("XX")
}

fn rolled_back(code: &SqlState, message: String) -> LedgerError {
    match *code {
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => {
            LedgerError::Conflict(message)
        }
        SqlState::UNDEFINED_TABLE
        | SqlState::UNDEFINED_COLUMN
        | SqlState::UNDEFINED_FUNCTION
        | SqlState::INVALID_SCHEMA_NAME => LedgerError::Schema(format!(
            "there is no ledger here that this release can use: run `blockhouse ledger migrate`, and set \
             ledger.incarnation = \"none\" where the engine is only compatible with PostgreSQL ({message})"
        )),
        SqlState::READ_ONLY_SQL_TRANSACTION | SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => {
            LedgerError::Unreachable(format!(
                "the server is read-only, probably a standby: point ledger.url at the primary ({message})"
            ))
        }
        // Data that a check or a type refuses: asking again is no use.
        _ if code.code().starts_with("22") || code.code().starts_with("23") => LedgerError::Invalid(message),
        _ => LedgerError::Unreachable(message),
    }
}

/// PgBouncer takes no `options` unless it is told to ignore them.
pub(super) fn is_refused_by_pooler(error: &Error) -> bool {
    error.as_db_error().is_some_and(|answer| {
        *answer.code() == SqlState::PROTOCOL_VIOLATION && answer.message().contains("startup parameter")
    })
}

fn said(answer: &DbError) -> String {
    let mut text = format!("{} (SQLSTATE {})", answer.message(), answer.code().code());
    for more in [answer.detail(), answer.hint()].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(more);
    }
    text
}

/// An error with its sources, on one line.
pub(super) fn chain(error: &Error) -> String {
    if let Some(answer) = error.as_db_error() {
        return said(answer);
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
