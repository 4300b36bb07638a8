//! IDs that somebody holds (S2): a range can't be copied, moves at most once, and counts a discard
//! when it is dropped.

use std::fmt;
use std::sync::Arc;

use super::Span;
use super::sync::{AtomicU64, Ordering};

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why IDs will never be handed out.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Cause { $($(#[$doc])* $variant,)* }

        impl Cause {
            /// Every cause.
            pub const ALL: &'static [Cause] = &[$(Cause::$variant,)*];

            /// The value of the label `cause`.
            pub const fn name(self) -> &'static str {
                match self { $(Cause::$variant => $name,)* }
            }
        }
    };
}

causes! {
    /// A grant, push or pop got no answer. For a pop this is the most that it can have carried.
    InDoubt = "in_doubt",
    /// Granted before the sequence was moved to a new generation.
    Advanced = "advanced",
    /// Overlaps IDs that this process served before (S6).
    Duplicate = "duplicate",
    /// A pod's entry that isn't one: its IDs can't be known, it counts as one.
    Malformed = "malformed",
    /// Lies outside the sequence.
    Outside = "outside",
    /// Lies above everything the ledger is known to have granted.
    AboveHighWater = "above_high_water",
    /// Came with a proof that doesn't match: another life of the pod, or another question's answer.
    Unproven = "unproven",
    /// Its holder panicked.
    Panic = "panic",
    /// Its holder went away: a cancelled caller, a lost channel.
    Dropped = "dropped",
    /// Could not be handed back before the process ended.
    Stopped = "stopped",
}

/// What happened to one sequence's IDs in this process. Shared by all who hold its ranges.
#[derive(Debug, Default)]
pub struct Tally {
    discarded: [AtomicU64; Cause::ALL.len()],
}

impl Tally {
    /// Counts IDs that were never held here as a range, such as an entry that doesn't parse.
    pub fn count(&self, cause: Cause, ids: u64) {
        self.discarded[cause as usize].fetch_add(ids, Ordering::Relaxed);
    }

    /// IDs discarded with `cause` so far.
    pub fn discarded(&self, cause: Cause) -> u64 {
        self.discarded[cause as usize].load(Ordering::Relaxed)
    }

    /// IDs discarded so far, whatever the cause.
    pub fn discarded_in_all(&self) -> u64 {
        Cause::ALL.iter().map(|cause| self.discarded(*cause)).sum()
    }
}

/// IDs that the holder of this value, and nobody else, may give out.
///
/// There is no `Clone`, and every way out consumes it: [`Range::issue`] for an answer or a push
/// that is about to leave, [`Range::discard`] with a cause. Dropping it counts the IDs as
/// discarded, so that a panic, a cancelled caller or a lost channel loses nothing silently.
#[must_use = "dropping a range discards its IDs"]
pub struct Range {
    span: Span,
    /// Of the sequence, when the span was granted.
    generation: i64,
    tally: Arc<Tally>,
    armed: bool,
}

impl Range {
    /// Takes charge of `span`, which a committed grant or a proven pop has just given to this
    /// process (S1, S2). Making a second range of the same span is the one mistake that the type
    /// can't catch; the tripwire (S6) looks for it.
    pub fn hold(span: Span, generation: i64, tally: Arc<Tally>) -> Range {
        Range { span, generation, tally, armed: true }
    }

    /// The sequence's generation when the IDs were granted: in a later one nobody may use them.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// The IDs it stands for.
    pub fn span(&self) -> Span {
        self.span
    }

    /// How many IDs.
    pub fn count(&self) -> i64 {
        self.span.count()
    }

    /// Cuts `count` IDs off the front and keeps the rest: `1 <= count < self.count()`, else `None`
    /// and nothing changes.
    #[must_use = "dropping a range discards its IDs"]
    pub fn split_off_front(&mut self, count: i64) -> Option<Range> {
        let (head, tail) = self.span.split(count)?;
        self.span = tail;
        Some(Range::hold(head, self.generation, Arc::clone(&self.tally)))
    }

    /// Appends `next` where it begins right after this range and was granted in the same generation, else gives it back.
    pub fn join(&mut self, mut next: Range) -> Result<(), Range> {
        if self.generation != next.generation || !Arc::ptr_eq(&self.tally, &next.tally) {
            return Err(next);
        }
        match self.span.join(next.span) {
            Some(span) => {
                self.span = span;
                next.armed = false;
                Ok(())
            }
            None => Err(next),
        }
    }

    /// The point of no return: the IDs are handed to the transport, and are the receiver's
    /// whatever happens. Nothing here may use them again.
    #[must_use]
    pub fn issue(mut self) -> Span {
        self.armed = false;
        self.span
    }

    /// Gives the IDs up for `cause`.
    pub fn discard(mut self, cause: Cause) {
        self.armed = false;
        self.tally.count(cause, self.span.count().unsigned_abs());
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        if self.armed {
            let cause = if std::thread::panicking() { Cause::Panic } else { Cause::Dropped };
            self.tally.count(cause, self.span.count().unsigned_abs());
        }
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Range({})", self.span)
    }
}

/// IDs that something sent may carry until its answer proves otherwise (S2).
///
/// Made before a grant or a pop is sent. Dropped without [`Doubt::settle`] (a lost answer, a cancelled call, a panic),
/// it counts the most that can have been carried as discarded.
#[derive(Debug)]
pub struct Doubt {
    tally: Arc<Tally>,
    ids: u64,
}

impl Doubt {
    /// `ids` is the most that the answer can carry.
    pub fn new(tally: &Arc<Tally>, ids: i64) -> Doubt {
        Doubt { tally: Arc::clone(tally), ids: ids.max(0).unsigned_abs() }
    }

    /// The answer came: what it carried is known.
    pub fn settle(mut self) {
        self.ids = 0;
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        self.tally.count(Cause::InDoubt, self.ids);
    }
}
