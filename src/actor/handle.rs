//! What the service holds of its worker's allocator: typed async methods, no address.

use tokio::time::Instant;

use crate::block::{Range, Refusal, Span, Tier};

/// The worker's allocator, as the service sees it.
#[derive(Clone, Debug)]
pub struct AllocatorHandle {}

impl AllocatorHandle {
    /// Takes `count` IDs of `sequence` by `deadline`.
    ///
    /// # Errors
    /// The refusal to send to the caller: it carries reason, message and how long to wait.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: what had been taken goes back to the worker's memory.
    pub async fn allocate(
        &self,
        sequence: &str,
        count: u32,
        deadline: Instant,
    ) -> Result<Allocation, Refusal> {
        let _ = (sequence, count, deadline);
        Err(Refusal::new(crate::block::Reason::Starting, "not built yet"))
    }
}

/// IDs that are about to be answered. Dropped before [`Allocation::issue`], they go back to the worker's memory.
#[derive(Debug)]
pub struct Allocation {
    ranges: Vec<Range>,
    tier: Tier,
}

/// IDs that are the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Ascending, neither overlapping nor touching; the counts add up to what was asked.
    pub spans: Vec<Span>,
    /// The farthest tier that the answer needed.
    pub tier: Tier,
}

impl Allocation {
    /// The point of no return (S2): call it when the answer is handed to the transport.
    #[must_use]
    pub fn issue(self) -> Issued {
        Issued { spans: self.ranges.into_iter().map(Range::issue).collect(), tier: self.tier }
    }
}
