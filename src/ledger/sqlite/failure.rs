//! What SQLite's errors mean for what was asked: certainly not carried out, or in doubt (S1).

use rusqlite::ErrorCode;

use crate::ledger::LedgerError;

/// What a transaction gives.
pub type Outcome<T> = Result<T, Failure>;

/// Why a transaction gave nothing.
#[derive(Debug)]
pub enum Failure {
    /// We refused, and rolled back.
    Refused(LedgerError),
    /// SQLite failed before the commit.
    Before(rusqlite::Error),
    /// The commit failed.
    Commit(rusqlite::Error),
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Failure {
        Failure::Refused(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Failure {
        Failure::Before(error)
    }
}

impl Failure {
    /// What the caller is told of a failure of the ledger in the file `path`.
    pub fn explain(self, path: &str) -> LedgerError {
        match self {
            Failure::Refused(error) => error,
            Failure::Before(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
                LedgerError::Wrong(format!("{path}: not an SQLite database, so no ledger"))
            }
            Failure::Before(rusqlite::Error::InvalidColumnName(column)) => LedgerError::Schema(format!(
                "{path}: an earlier build made this ledger, it has no {column}: run `blockhouse ledger migrate`"
            )),
            Failure::Before(error) => LedgerError::Unreachable(describe(path, &error)),
            Failure::Commit(error) => match error.sqlite_error_code() {
                // A full disk fails while the record of the commit is being written, a lock before it is.
                Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy) => {
                    LedgerError::Unreachable(describe(path, &error))
                }
                _ => LedgerError::InDoubt(describe(path, &error)),
            },
        }
    }
}

/// What happened, where, and what to do.
fn describe(path: &str, error: &rusqlite::Error) -> String {
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process keeps the ledger file locked"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "the ledger file can't be written; check its permissions and its folder's"
        }
        Some(ErrorCode::CannotOpen) => {
            "the ledger file can't be opened; check that its folder exists and can be written"
        }
        Some(ErrorCode::DiskFull) => "there is no room for the ledger file",
        Some(ErrorCode::DatabaseCorrupt) => "the ledger file is damaged",
        Some(ErrorCode::SystemIoFailure) => "reading or writing the ledger file failed",
        _ => "the ledger file failed",
    };
    format!("{path}: {advice} ({error})")
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn error(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn what_fails_before_the_commit_is_certain() {
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_IOERR,
            ffi::SQLITE_NOMEM,
        ] {
            let told = Failure::Before(error(code)).explain("x.sqlite");
            assert!(
                matches!(&told, LedgerError::Unreachable(why) if why.starts_with("x.sqlite: ")),
                "{told:?}"
            );
        }
        let told = Failure::Before(error(ffi::SQLITE_NOTADB)).explain("x.sqlite");
        assert!(matches!(told, LedgerError::Wrong(_)));
    }

    #[test]
    fn a_commit_that_fails_is_in_doubt_unless_nothing_can_have_been_written() {
        for code in [
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_NOMEM,
            ffi::SQLITE_ERROR,
        ] {
            let told = Failure::Commit(error(code)).explain("x.sqlite");
            assert!(matches!(told, LedgerError::InDoubt(_)), "{told:?}");
        }
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_BUSY] {
            let told = Failure::Commit(error(code)).explain("x.sqlite");
            assert!(matches!(told, LedgerError::Unreachable(_)), "{told:?}");
        }
    }
}
