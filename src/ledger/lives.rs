//! What is said to a ledger between two lives (S3): reports, and an operator's word.

use std::sync::Arc;

use crate::block::{Life, OnFailover, SequenceFacts};

/// What one cluster knows, said to a closed ledger.
#[derive(Debug, Clone)]
pub struct Report {
    /// Whose word it is.
    pub cluster: Arc<str>,
    /// Who says it.
    pub holder: Arc<str>,
    /// The closing that it answers.
    pub closed: Life,
    /// The life that is followed; `None` for somebody who knows nothing.
    pub follows: Option<Life>,
    /// When the high waters were read, by the clock of the ledger they were read from (µs since 1970).
    pub read_at_us: Option<i64>,
    /// What the ledger does after a failover, as far as is known: the change may be lost with the rest.
    pub on_failover: Option<OnFailover>,
    /// Every known sequence, and its high water.
    pub sequences: Vec<(SequenceFacts, i64)>,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// The ledger is open (again).
    Open,
    /// It stays closed, and for what it waits.
    Waits(String),
}

/// What became of a life that somebody condemned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condemned {
    /// It ended.
    Closed,
    /// The ledger that answers is in another one, or closed already: nothing was changed.
    Elsewhere,
    /// The engine keeps one life for good.
    OnlyLife,
}

/// How an operator accepts a failover.
#[derive(Debug, Clone, Default)]
pub struct Accept {
    /// Clusters whose report nobody waits for.
    pub without: Vec<String>,
    /// Sequences that must go on above this ID.
    pub at_least: Vec<(String, i64)>,
}

/// What accepting does, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What must be said or done first; nothing was changed then.
    pub problem: Option<String>,
    /// Every sequence, and where it goes on.
    pub moves: Vec<Move>,
}

/// One sequence's move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub sequence: Arc<str>,
    /// The ledger's counter.
    pub stands: i64,
    /// The greatest ID that anybody reports; `None` if nobody does.
    pub reported: Option<i64>,
    /// Nothing at or below it is granted any more.
    pub to: i64,
}

/// A move as recorded: IDs that nobody will get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveRecord {
    /// The life that began with it.
    pub epoch: i64,
    /// Where the counter stood.
    pub from: i64,
    /// Where it then stood.
    pub to: i64,
    /// How the ledger was opened: `restarted`, `accepted` or `jumped`.
    pub reason: String,
    /// By the ledger's clock, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

/// One cluster's report as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRecord {
    /// Which cluster.
    pub cluster: String,
    /// Who spoke for it; `None` if nobody has yet.
    pub reporter: Option<String>,
    /// The epoch of the life that it follows; `None` if it knows nothing.
    pub follows: Option<i64>,
    /// When it read what it knows, by the clock of the ledger that it read (µs since 1970).
    pub read_at_us: Option<i64>,
}
