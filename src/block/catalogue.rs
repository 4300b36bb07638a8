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
