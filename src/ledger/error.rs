//! What can become of a ledger call.

use std::time::Duration;

/// What went wrong, by what the caller can do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// Certainly nothing committed; the ledger can't be reached or failed. Try again later.
    #[error("{0}")]
    Unreachable(String),
    /// Certainly nothing committed; the ledger asks to try again at once (a serialization failure, a deadlock).
    #[error("the ledger asks to try again: {0}")]
    Conflict(String),
    /// The request was sent and no commit was seen: what it granted, if anything, is discarded.
    #[error("no answer of the ledger: {0}")]
    InDoubt(String),
    /// No such sequence.
    #[error("sequence '{0}' does not exist")]
    Unknown(String),
    /// Fewer than `least` IDs are left.
    #[error("only {left} IDs are left")]
    Exhausted {
        /// How many.
        left: i64,
    },
    /// Tier 3 of the sequence is stopped.
    #[error("halted: {0}")]
    Halted(String),
    /// The sequence was retired.
    #[error("retired")]
    Retired,
    /// The ledger is between two lives.
    #[error("the ledger is closed: {0}")]
    Closed(String),
    /// The hourly cap is spent; the most that may be granted now.
    #[error("the hourly cap is spent ({allowed} IDs are allowed now)")]
    RateCapped {
        /// IDs that a smaller request could have.
        allowed: i64,
        /// When there will be enough, if nobody else takes it.
        wait: Duration,
    },
    /// Another life or generation than the caller knows: read the facts, then ask again.
    #[error("the ledger has moved on: {0}")]
    Stale(String),
    /// The counter lies below what the caller knows: the ledger went back in time (S3).
    #[error(
        "the counter stands at {granted}, but {known} is known to have been granted: the ledger went back in time"
    )]
    WentBack {
        /// The ledger's counter.
        granted: i64,
        /// What the caller passed in.
        known: i64,
    },
    /// A generation that the caller knows is unknown to the ledger: it went back in time (S3).
    #[error("{0}")]
    Forgot(String),
    /// Another environment's, or not the pinned one, or another line of history: never use it (S5).
    #[error("{0}")]
    Wrong(String),
    /// The schema is missing, too old, or too new for this binary.
    #[error("{0}")]
    Schema(String),
    /// The command can't be carried out as asked (a name taken, a lower maximum).
    #[error("{0}")]
    Invalid(String),
}

impl LedgerError {
    /// The value of the label `outcome`.
    pub const fn outcome(&self) -> &'static str {
        match self {
            LedgerError::Unreachable(_) => "unreachable",
            LedgerError::Conflict(_) => "conflict",
            LedgerError::InDoubt(_) => "in_doubt",
            LedgerError::Unknown(_) => "unknown",
            LedgerError::Exhausted { .. } => "exhausted",
            LedgerError::Halted(_) => "halted",
            LedgerError::Retired => "retired",
            LedgerError::Closed(_) => "closed",
            LedgerError::RateCapped { .. } => "rate_capped",
            LedgerError::Stale(_) => "stale",
            LedgerError::WentBack { .. } | LedgerError::Forgot(_) => "went_back",
            LedgerError::Wrong(_) => "wrong",
            LedgerError::Schema(_) => "schema",
            LedgerError::Invalid(_) => "invalid",
        }
    }
}
