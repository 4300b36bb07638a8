//! What the rest of the process holds of the actors: typed methods, no address.

use tokio::time::Instant;

use crate::block::{Range, Reason, Refusal, Span, Tier};
use crate::observe::Status;

/// The worker's allocator, as the service sees it.
#[derive(Clone, Debug)]
pub struct AllocatorHandle {}

impl AllocatorHandle {
    /// Takes `count` IDs of `sequence` by `deadline`. `sequence` is a valid name and `count` 1 or more.
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
        Err(Refusal::new(Reason::Starting, "not built yet"))
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
    /// Takes charge of what an answer is made of: ascending, neither overlapping nor touching.
    pub fn new(ranges: Vec<Range>, tier: Tier) -> Allocation {
        Allocation { ranges, tier }
    }

    /// The point of no return (S2): call it when the answer is handed to the transport.
    #[must_use]
    pub fn issue(self) -> Issued {
        Issued { spans: self.ranges.into_iter().map(Range::issue).collect(), tier: self.tier }
    }
}

/// The process, as its admin pages see it.
#[derive(Clone, Debug)]
pub struct ControlHandle {}

impl ControlHandle {
    /// Everything that `/api/v1/status` shows; gauges that follow from it are set on the way. Bounded: an actor that doesn't
    /// answer within a second is left out and named in `problems`.
    pub async fn status(&self) -> Status {
        Status::default()
    }

    /// Whether some tier can answer now and the process isn't draining; if not, why.
    ///
    /// # Errors
    /// One line for people.
    pub fn ready(&self) -> Result<(), String> {
        Err("not built yet".to_owned())
    }

    /// Whether the control thread and every worker ran within the last 10 s; if not, which didn't.
    ///
    /// # Errors
    /// One line for people.
    pub fn alive(&self) -> Result<(), String> {
        Ok(())
    }

    /// Asks the process to drain and end, as SIGTERM does. Idempotent.
    pub fn drain(&self) {}
}
