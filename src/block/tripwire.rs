//! The last check before a range is served (S6).

use std::collections::{BTreeMap, VecDeque};

use super::Span;

/// How many intervals a sequence's tripwire remembers.
pub const INTERVALS: usize = 65_536;

/// Remembers what entered this process to be served, and notices what enters twice.
///
/// Memory is bounded: of `limit` intervals the oldest is forgotten first. A span that begins right
/// after a remembered one extends it, so a long run of ascending blocks takes one interval.
#[derive(Debug)]
pub struct Tripwire {
    limit: usize,
    /// First ID → last ID; disjoint.
    served: BTreeMap<i64, i64>,
    /// The keys of `served`, oldest first.
    order: VecDeque<i64>,
}

impl Tripwire {
    /// One that remembers `limit` intervals, 1 or more.
    pub fn new(limit: usize) -> Tripwire {
        Tripwire { limit: limit.max(1), served: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Remembers `span`.
    ///
    /// # Errors
    /// A remembered interval that shares an ID with it; then nothing changes.
    pub fn enter(&mut self, span: Span) -> Result<(), Span> {
        if let Some((&first, &last)) = self.served.range(..=span.last()).next_back()
            && last >= span.first()
        {
            let count = (last - first).saturating_add(1);
            return Err(Span::new(first, count).unwrap_or(span));
        }
        if let Some((_, last)) = self.served.range_mut(..span.first()).next_back()
            && *last + 1 == span.first()
        {
            *last = span.last();
            return Ok(());
        }
        if self.order.len() == self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.served.remove(&oldest);
        }
        self.served.insert(span.first(), span.last());
        self.order.push_back(span.first());
        Ok(())
    }
}

impl Default for Tripwire {
    fn default() -> Tripwire {
        Tripwire::new(INTERVALS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(first: i64, count: i64) -> Span {
        Span::new(first, count).unwrap()
    }

    #[test]
    fn the_oldest_interval_is_forgotten_first() {
        let mut wire = Tripwire::new(2);
        for first in [1, 10, 20] {
            wire.enter(span(first, 2)).unwrap();
        }
        assert_eq!(wire.enter(span(11, 1)), Err(span(10, 2)));
        assert_eq!(wire.enter(span(1, 1)), Ok(()));
    }

    #[test]
    fn ascending_blocks_take_one_interval() {
        let mut wire = Tripwire::new(2);
        for first in [1, 100, 110, 120] {
            wire.enter(span(first, 10)).unwrap();
        }
        assert_eq!(wire.enter(span(5, 1)), Err(span(1, 10)), "it is not forgotten");
        assert_eq!(wire.enter(span(125, 1)), Err(span(100, 30)));
    }

    #[test]
    fn the_end_of_i64_is_no_edge() {
        let mut wire = Tripwire::default();
        wire.enter(span(i64::MAX - 1, 2)).unwrap();
        assert!(wire.enter(span(i64::MAX, 1)).is_err());
        wire.enter(span(i64::MAX - 2, 1)).unwrap();
        assert!(wire.enter(span(1, i64::MAX)).is_err());
    }

    proptest! {
        /// Within its memory it agrees with a plain list.
        #[test]
        fn it_agrees_with_a_plain_list(spans in prop::collection::vec((1i64..300, 1i64..20), 1..200)) {
            let mut wire = Tripwire::default();
            let mut plain: Vec<Span> = Vec::new();
            for (first, count) in spans {
                let next = span(first, count);
                let overlaps = plain.iter().any(|old| old.overlaps(next));
                prop_assert_eq!(wire.enter(next).is_err(), overlaps);
                if !overlaps {
                    plain.push(next);
                }
            }
        }
    }
}
