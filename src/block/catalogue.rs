//! What every process knows of the sequences, and how old that knowledge is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Orders what was published: a greater stamp is newer. Never compared across two ledgers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// The ledger's life.
    pub epoch: i64,
    /// Raised by the ledger with every change of a sequence's facts (not by grants).
    pub version: i64,
}

/// One sequence, as the ledger's row describes it, without its counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceFacts {
    /// `[a-z][a-z0-9_.-]{0,62}`.
    pub name: Arc<str>,
    /// Raised when what was granted before must no longer be used; 1 or more.
    pub generation: i64,
    /// The smallest ID.
    pub first: i64,
    /// The greatest ID.
    pub last: i64,
    /// IDs in one pod entry.
    pub block_size: i64,
    /// Seconds of supply the hydrator keeps, where the sequence has its own target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer_seconds: Option<i64>,
    /// What a failover may skip, in IDs.
    #[serde(default)]
    pub failover_gap: i64,
    /// Why tier 3 is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<Arc<str>>,
    /// Nothing is handed out any more, ever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
}

/// What a ledger does by itself once it has lost its past to a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailover {
    /// Waits for a person.
    #[default]
    Wait,
    /// Moves every sequence by its gap, which therefore caps what any hour may be granted.
    Jump,
}

impl OnFailover {
    /// The name in commands, columns and pods.
    pub const fn name(self) -> &'static str {
        match self {
            OnFailover::Wait => "wait",
            OnFailover::Jump => "jump",
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<OnFailover> {
        [OnFailover::Wait, OnFailover::Jump].into_iter().find(|one| one.name() == name)
    }
}

/// All sequences of a ledger at one stamp.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Catalogue {
    /// How new it is.
    #[serde(flatten)]
    pub stamp: Stamp,
    /// What the ledger does after a failover.
    #[serde(default)]
    pub on_failover: OnFailover,
    /// By name.
    pub sequences: BTreeMap<Arc<str>, SequenceFacts>,
}

impl Catalogue {
    /// Says what of it no ledger can have said, for people. Whoever reads a catalogue from memory that others can write to asks
    /// this first: what follows reckons with the numbers.
    pub fn check(&self) -> Result<(), String> {
        match self.sequences.iter().find(|(name, facts)| **name != facts.name || !facts.can_be()) {
            Some((name, _)) => Err(format!("no ledger has a sequence like its {name:?}")),
            None => Ok(()),
        }
    }
}

impl SequenceFacts {
    fn can_be(&self) -> bool {
        let numbered = self.generation >= 1 && self.block_size >= 1 && self.failover_gap >= 0;
        is_valid_name(&self.name) && 1 <= self.first && self.first <= self.last && numbered
    }
}

/// The longest name of a sequence, in bytes.
pub const NAME_MAX: usize = 63;

/// Whether `name` matches `[a-z][a-z0-9_.-]{0,62}`.
pub fn is_valid_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=NAME_MAX).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes[1..]
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> SequenceFacts {
        SequenceFacts {
            name: "tasks".into(),
            generation: 1,
            first: 1,
            last: i64::MAX,
            block_size: 1,
            buffer_seconds: None,
            failover_gap: 0,
            halted: None,
            retired: false,
        }
    }

    #[test]
    fn only_a_sequence_that_a_ledger_can_have_is_taken() {
        let check = |facts| {
            Catalogue { sequences: BTreeMap::from([("tasks".into(), facts)]), ..Catalogue::default() }.check()
        };
        assert_eq!(check(facts()), Ok(()));
        assert_eq!(check(SequenceFacts { first: 7, last: 7, ..facts() }), Ok(()));
        for wrong in [
            SequenceFacts { name: "other".into(), ..facts() },
            SequenceFacts { first: 0, ..facts() },
            SequenceFacts { first: i64::MIN, ..facts() },
            SequenceFacts { first: 2, last: 1, ..facts() },
            SequenceFacts { generation: 0, ..facts() },
            SequenceFacts { block_size: 0, ..facts() },
            SequenceFacts { failover_gap: -1, ..facts() },
        ] {
            let said = check(wrong.clone()).unwrap_err();
            assert!(said.contains("\"tasks\""), "{wrong:?}: {said}");
        }
        let nameless = SequenceFacts { name: "".into(), ..facts() };
        let sequences = BTreeMap::from([("".into(), nameless)]);
        Catalogue { sequences, ..Catalogue::default() }.check().unwrap_err();
    }

    #[test]
    fn a_name_begins_with_a_letter_and_has_63_bytes_at_most() {
        for name in ["a", "a-b_c.9", &"a".repeat(63)] {
            assert!(is_valid_name(name), "{name}");
        }
        for name in ["", "9a", "-a", "A", "aB", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_valid_name(name), "{name}");
        }
    }

    #[test]
    fn what_a_ledger_does_has_a_name_that_reads_back() {
        for one in [OnFailover::Wait, OnFailover::Jump] {
            assert_eq!(OnFailover::of_name(one.name()), Some(one));
        }
        assert_eq!((OnFailover::Wait.name(), OnFailover::of_name("leap")), ("wait", None));
    }
}
