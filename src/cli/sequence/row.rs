//! A sequence as it is printed.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::block::SequenceFacts;
use crate::block::hour::{SLOT_US, SLOTS, share};
use crate::cli::format::duration;
use crate::ledger::SequenceRow;

/// A sequence in JSON. IDs are strings: not every reader's numbers hold an `i64`.
#[derive(Debug, Serialize)]
pub struct Row {
    name: Arc<str>,
    state: &'static str,
    generation: i64,
    first: String,
    last: String,
    granted: String,
    left: String,
    grants: i64,
    block_size: i64,
    buffer_seconds: Option<i64>,
    failover_gap: i64,
    /// After `ledger set --on-failover jump`, at most and lasting; null where the sequence waits for a person.
    jump_ids_per_second: Option<i64>,
    halted: Option<Arc<str>>,
}

impl From<&SequenceRow> for Row {
    fn from(row: &SequenceRow) -> Row {
        let facts = &row.facts;
        Row {
            name: Arc::clone(&facts.name),
            state: state(row),
            generation: facts.generation,
            first: facts.first.to_string(),
            last: facts.last.to_string(),
            granted: row.granted.to_string(),
            left: left(row).to_string(),
            grants: row.grants,
            block_size: facts.block_size,
            buffer_seconds: facts.buffer_seconds,
            failover_gap: facts.failover_gap,
            jump_ids_per_second: jump_rate(facts),
            halted: facts.halted.clone(),
        }
    }
}

/// `active`, `halted`, `exhausted` or `retired`, as in the status.
pub fn state(row: &SequenceRow) -> &'static str {
    match &row.facts {
        facts if facts.retired => "retired",
        facts if facts.halted.is_some() => "halted",
        _ if left(row) < 1 => "exhausted",
        _ => "active",
    }
}

/// IDs that can still be granted.
pub fn left(row: &SequenceRow) -> i64 {
    row.facts.last.saturating_sub(row.granted)
}

/// How much was granted of what there is: `0.0%` to `100.0%`.
pub fn used(row: &SequenceRow) -> String {
    let (first, last) = (i128::from(row.facts.first), i128::from(row.facts.last));
    let granted = i128::from(row.granted) - first + 1;
    let per_mille = granted * 1000 / (last - first + 1).max(1);
    format!("{}.{}%", per_mille / 10, per_mille % 10)
}

/// The sequence's own supply, or whose it is.
pub fn buffer(facts: &SequenceFacts) -> String {
    match facts.buffer_seconds.and_then(|seconds| u64::try_from(seconds).ok()) {
        Some(seconds) => duration(Duration::from_secs(seconds)),
        None => "hydrator's".to_owned(),
    }
}

/// IDs a second that the hourly cap lets through for good, of what an hour may see: its thirteen slots reach back 65 minutes.
fn lasting(ids: i64) -> i64 {
    ids / (SLOTS as i64 * SLOT_US / 1_000_000)
}

/// The highest lasting rate where the ledger jumps after a failover, in IDs a second; none where the sequence then waits.
pub fn jump_rate(facts: &SequenceFacts) -> Option<i64> {
    (facts.failover_gap > 0).then(|| lasting(facts.failover_gap))
}

/// What follows from the gap, for people: IDs skipped by a failover, and the highest lasting rate.
pub fn consequence(facts: &SequenceFacts) -> String {
    let gap = facts.failover_gap;
    let Some(rate) = jump_rate(facts) else {
        return "its failover gap is 0: after a failover the ledger waits for a person, whatever on_failover says; no hour is capped"
            .to_owned();
    };
    let per_mille = i128::from(gap) * 1000 / (i128::from(facts.last) - i128::from(facts.first) + 1).max(1);
    let part = match per_mille {
        0 => "less than 0.1 %".to_owned(),
        _ => format!("{}.{} %", per_mille / 10, per_mille % 10),
    };
    format!(
        "a failover of the ledger skips up to {gap} IDs ({part} of all); after 'blockhouse ledger set --on-failover jump' no \
         more than that are granted in any hour: {rate} IDs/s at most, lasting, {} of them through the pods",
        lasting(share(gap, true))
    )
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::ledger::NewSequence;

    /// IDs 1 to 1000, of which 250 were granted.
    pub fn quarter() -> SequenceRow {
        let facts = SequenceFacts {
            name: "tasks".into(),
            generation: 1,
            first: 1,
            last: 1000,
            block_size: 100,
            buffer_seconds: None,
            failover_gap: 0,
            halted: None,
            retired: false,
        };
        SequenceRow { facts, granted: 250, grants: 3 }
    }

    #[test]
    fn what_weighs_most_is_the_state() {
        let mut row = quarter();
        assert_eq!(state(&row), "active");
        row.granted = 1000;
        assert_eq!(state(&row), "exhausted");
        row.facts.halted = Some("why".into());
        assert_eq!(state(&row), "halted");
        row.facts.retired = true;
        assert_eq!(state(&row), "retired");
    }

    #[test]
    fn the_share_that_is_used_has_no_edge_at_the_end_of_i64() {
        let mut row = quarter();
        assert_eq!(used(&row), "25.0%");
        row.granted = 0;
        assert_eq!(used(&row), "0.0%");
        row.facts.last = i64::MAX;
        row.granted = i64::MAX;
        assert_eq!((used(&row), left(&row)), ("100.0%".to_owned(), 0));
    }

    #[test]
    fn a_gap_says_what_follows_from_it() {
        let mut facts = quarter().facts;
        assert!(consequence(&facts).contains("waits for a person"));
        facts.failover_gap = 300;
        assert!(consequence(&facts).contains("up to 300 IDs (30.0 % of all)"), "{}", consequence(&facts));
    }

    #[test]
    fn the_default_gap_of_each_size_says_what_follows_in_numbers() {
        for (last, says) in [
            (3_999_999, None),
            (i64::from(i32::MAX), Some(["2097151 IDs (less than 0.1 %", "537 IDs/s", "403 of them"])),
            ((1 << 53) - 1, Some(["1000000000 IDs (less than 0.1 %", "256410 IDs/s", "192307 of them"])),
            (i64::MAX, Some(["1000000000 IDs (less than 0.1 %", "256410 IDs/s", "192307 of them"])),
        ] {
            let failover_gap = NewSequence::default_gap(1, last);
            let facts = SequenceFacts { last, failover_gap, ..quarter().facts };
            let said = consequence(&facts);
            match says {
                Some(says) => assert!(says.iter().all(|what| said.contains(what)), "{said}"),
                None => assert!(said.contains("waits for a person"), "{said}"),
            }
            assert_eq!(jump_rate(&facts).is_some(), says.is_some());
        }
    }

    #[test]
    fn ids_are_strings_in_json() {
        let json = serde_json::to_value(Row::from(&quarter())).unwrap();
        assert_eq!((json["last"].as_str(), json["left"].as_str()), (Some("1000"), Some("750")));
        assert_eq!(json["block_size"].as_i64(), Some(100));
    }
}
