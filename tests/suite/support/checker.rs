//! Whether any ID was handed out twice: exact, over everything that any caller was ever given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use blockhouse::block::Span;

/// Collects what callers get. Clones share one collection.
#[derive(Clone, Default)]
pub struct Checker(Arc<Mutex<BTreeMap<String, Vec<Span>>>>);

impl Checker {
    /// `span` of `sequence` was handed out.
    pub fn record(&self, sequence: &str, span: Span) {
        let mut given = self.0.lock().expect("no holder panics");
        match given.get_mut(sequence) {
            Some(spans) => spans.push(span),
            None => drop(given.insert(sequence.to_owned(), vec![span])),
        }
    }

    /// IDs handed out, of one sequence.
    pub fn ids(&self, sequence: &str) -> i64 {
        let given = self.0.lock().expect("no holder panics");
        given.get(sequence).into_iter().flatten().map(|span| span.count()).sum()
    }

    /// The greatest ID handed out of one sequence, 0 if none was.
    pub fn greatest(&self, sequence: &str) -> i64 {
        let given = self.0.lock().expect("no holder panics");
        given.get(sequence).into_iter().flatten().map(|span| span.last()).max().unwrap_or(0)
    }

    /// Every pair of neighbours, by first ID, that share an ID. Empty if and only if no ID was handed out twice.
    pub fn duplicates(&self) -> Vec<String> {
        let given = self.0.lock().expect("no holder panics");
        let find = |(sequence, spans): (&String, &Vec<Span>)| {
            let pairs = overlapping(spans.clone());
            pairs.into_iter().map(|(one, other)| format!("{sequence}: {one} and {other}")).collect::<Vec<_>>()
        };
        given.iter().flat_map(find).collect()
    }

    /// Panics if an ID was handed out twice.
    #[track_caller]
    pub fn assert_unique(&self) {
        let duplicates = self.duplicates();
        let first = &duplicates[..duplicates.len().min(10)];
        assert!(duplicates.is_empty(), "handed out twice, {} times: {first:#?}", duplicates.len());
    }
}

/// Sorted by first ID, each span is compared with the one that reaches farthest among those before it.
fn overlapping(mut spans: Vec<Span>) -> Vec<(Span, Span)> {
    spans.sort_unstable();
    let mut farthest: Option<Span> = None;
    let mut pairs = Vec::new();
    for span in spans {
        match farthest {
            Some(before) if before.overlaps(span) => pairs.push((before, span)),
            _ => {}
        }
        if farthest.is_none_or(|before| span.last() > before.last()) {
            farthest = Some(span);
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn spans() -> impl Strategy<Value = Vec<Span>> {
        let span = (1i64..300, 1i64..20).prop_map(|(first, count)| Span::new(first, count).unwrap());
        prop::collection::vec(span, 0..12)
    }

    proptest! {
        #[test]
        fn finds_a_duplicate_if_and_only_if_an_id_was_given_twice(spans in spans()) {
            let checker = Checker::default();
            let mut ids = BTreeSet::new();
            let mut twice = false;
            for span in spans {
                checker.record("tasks", span);
                twice |= (span.first()..=span.last()).filter(|id| !ids.insert(*id)).count() > 0;
            }
            prop_assert_eq!(!checker.duplicates().is_empty(), twice);
            prop_assert!(twice || checker.ids("tasks") == ids.len() as i64);
        }

        #[test]
        fn one_span_cut_into_pieces_in_any_order_is_unique(cuts in prop::collection::btree_set(2i64..1000, 0..20)) {
            let starts: Vec<i64> = [1].into_iter().chain(cuts).collect();
            let ends: Vec<i64> = starts.iter().skip(1).copied().chain([1000]).collect();
            let checker = Checker::default();
            for (first, end) in starts.iter().zip(ends).rev() {
                checker.record("tasks", Span::new(*first, end - first).unwrap());
            }
            prop_assert_eq!(checker.duplicates(), Vec::<String>::new());
            prop_assert_eq!(checker.ids("tasks"), 999);
        }
    }

    #[test]
    fn the_same_ids_of_two_sequences_are_no_duplicates() {
        let (checker, span) = (Checker::default(), Span::new(1, 10).unwrap());
        checker.record("tasks", span);
        checker.record("users", span);
        checker.assert_unique();
        checker.record("users", Span::new(10, 1).unwrap());
        assert_eq!(checker.duplicates(), ["users: 1:10 and 10:1"]);
    }
}
