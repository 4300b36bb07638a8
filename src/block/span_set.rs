//! Many IDs as few intervals: what touches is joined, so a set that grows upward stays small.

use std::collections::BTreeMap;

use super::Span;

/// A set of IDs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpanSet {
    /// First ID → last ID; neither overlapping nor touching.
    intervals: BTreeMap<i64, i64>,
    ids: i128,
}

impl SpanSet {
    /// Adds the IDs of `span`.
    ///
    /// # Errors
    /// The first interval that shares an ID with it; then nothing changes.
    pub fn insert(&mut self, span: Span) -> Result<(), Span> {
        if let Some(shared) = self.overlapping(span) {
            return Err(shared);
        }
        let (mut first, mut last) = (span.first(), span.last());
        if let Some((&before, &end)) = self.intervals.range(..first).next_back()
            && end + 1 == first
        {
            first = before;
        }
        if let Some(after) = last.checked_add(1)
            && let Some(end) = self.intervals.remove(&after)
        {
            last = end;
        }
        self.intervals.insert(first, last);
        self.ids += i128::from(span.count());
        Ok(())
    }

    /// Takes the IDs of `span` out; `false`, and nothing changes, unless all of them are in it.
    pub fn remove(&mut self, span: Span) -> bool {
        let Some((first, last)) = self.around(span) else { return false };
        self.intervals.remove(&first);
        if first < span.first() {
            self.intervals.insert(first, span.first() - 1);
        }
        if last > span.last() {
            self.intervals.insert(span.last() + 1, last);
        }
        self.ids -= i128::from(span.count());
        true
    }

    /// Whether all IDs of `span` are in it.
    pub fn contains(&self, span: Span) -> bool {
        self.around(span).is_some()
    }

    /// How many IDs.
    pub fn ids(&self) -> i128 {
        self.ids
    }

    /// The greatest of them.
    pub fn greatest(&self) -> Option<i64> {
        self.intervals.last_key_value().map(|(_, last)| *last)
    }

    /// As few intervals as there can be, ascending. One of 2^63 - 1 IDs is the longest.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        self.intervals.iter().filter_map(|(first, last)| Span::new(*first, last - first + 1))
    }

    /// The first interval that shares an ID with `span`.
    fn overlapping(&self, span: Span) -> Option<Span> {
        let before =
            self.intervals.range(..span.first()).next_back().filter(|(_, last)| **last >= span.first());
        let (first, last) = before.or_else(|| self.intervals.range(span.first()..=span.last()).next())?;
        Span::new(*first, last - first + 1)
    }

    /// The interval that holds all of `span`.
    fn around(&self, span: Span) -> Option<(i64, i64)> {
        let (first, last) = self.intervals.range(..=span.first()).next_back()?;
        (*last >= span.last()).then_some((*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn span(first: i64, count: i64) -> Span {
        Span::new(first, count).unwrap()
    }

    #[test]
    fn both_ends_of_what_there_is_fit() {
        let mut set = SpanSet::default();
        set.insert(span(i64::MAX, 1)).unwrap();
        set.insert(span(i64::MAX - 2, 2)).unwrap();
        set.insert(span(1, 1)).unwrap();
        assert_eq!(set.spans().collect::<Vec<_>>(), [span(1, 1), span(i64::MAX - 2, 3)]);
        set.insert(span(2, i64::MAX - 4)).unwrap();
        assert_eq!(set.spans().collect::<Vec<_>>(), [span(1, i64::MAX)]);
        assert!(set.remove(span(i64::MAX, 1)));
        assert_eq!(set.insert(span(5, 1)), Err(span(1, i64::MAX - 1)));
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 1i64..60, 1i64..12), 0..60)) {
            let (mut set, mut plain) = (SpanSet::default(), BTreeSet::new());
            for (add, first, count) in steps {
                let span = span(first, count);
                let ids = first..first + count;
                let (any, all) =
                    (ids.clone().any(|id| plain.contains(&id)), ids.clone().all(|id| plain.contains(&id)));
                prop_assert_eq!(set.contains(span), all);
                if add {
                    let inserted = set.insert(span);
                    prop_assert_eq!(inserted.is_err(), any);
                    match inserted {
                        Ok(()) => plain.extend(ids),
                        Err(shared) => prop_assert!(shared.overlaps(span)),
                    }
                } else {
                    prop_assert_eq!(set.remove(span), all);
                    if all {
                        plain.retain(|id| !(first..first + count).contains(id));
                    }
                }
                let listed: Vec<i64> = set.spans().flat_map(|span| span.first()..=span.last()).collect();
                prop_assert_eq!(&listed, &plain.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!((set.ids(), set.greatest()), (plain.len() as i128, plain.last().copied()));
                let spans: Vec<Span> = set.spans().collect();
                prop_assert!(spans.windows(2).all(|two| two[0].last() + 1 < two[1].first()));
            }
        }
    }
}
