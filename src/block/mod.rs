//! The pure core: values and decisions, with input and time passed in.
//!
//! Nothing here waits, does I/O, reads a clock, draws a random number or logs, so all of it is
//! tested exhaustively and with properties. Shared state is limited to atomic counters.

pub mod age;
pub mod catalogue;
pub mod chaos;
pub mod checker;
pub mod chunk;
pub mod counters;
pub mod demand;
pub mod exercise;
pub mod health;
pub mod hour;
pub mod knowledge;
pub mod life;
pub mod line;
pub mod range;
pub mod refusal;
pub mod restarts;
pub mod size;
pub mod span;
pub mod span_set;
pub mod stash;
mod sync;
pub mod tripwire;
pub mod witness;

pub use age::Age;
pub use catalogue::{Catalogue, OnFailover, SequenceFacts, Stamp};
pub use counters::Counters;
pub use hour::Hour;
pub use knowledge::Knowledge;
pub use life::{Identity, Life};
pub use range::{Cause, Doubt, Range, Tally};
pub use refusal::{Reason, Refusal};
pub use span::Span;
pub use span_set::SpanSet;
pub use stash::Stash;
pub use witness::Witness;

/// The farthest tier that an answer needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Left over from an earlier pop or grant, in this process.
    Memory,
    /// A block from one of the cluster's pods.
    Pods,
    /// A fresh grant of the ledger.
    Ledger,
}

impl Tier {
    /// Every tier, nearest first.
    pub const ALL: [Tier; 3] = [Tier::Memory, Tier::Pods, Tier::Ledger];

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Memory => "memory",
            Tier::Pods => "pods",
            Tier::Ledger => "ledger",
        }
    }
}

#[cfg(test)]
mod tests;
