//! What callers of a suite's servers got, judged by the one checker of the project.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use blockhouse::block::Span;
use blockhouse::block::checker::{self, Answer, Rule};

/// Collects what callers get. Clones share one collection.
#[derive(Clone, Default)]
pub struct Checker(Arc<Mutex<checker::Checker>>);

impl Checker {
    /// `span` of `sequence` was handed out.
    pub fn record(&self, sequence: &str, span: Span) {
        let (since, at) = (Duration::ZERO, Duration::ZERO);
        let answer = Answer { sequence, asked: span.count(), spans: &[span], by: None, since, at };
        self.inner().answered(&answer);
    }

    /// IDs handed out, of one sequence.
    pub fn ids(&self, sequence: &str) -> i64 {
        i64::try_from(self.inner().issued(sequence)).expect("a suite hands out fewer")
    }

    /// The greatest ID handed out of one sequence, 0 if none was.
    pub fn greatest(&self, sequence: &str) -> i64 {
        self.inner().greatest(sequence)
    }

    /// What was handed out twice. Empty if and only if nothing was.
    pub fn duplicates(&self) -> Vec<String> {
        let checker = self.inner();
        let twice = checker.violations().iter().filter(|violation| violation.rule == Rule::Twice);
        twice.map(|violation| violation.what.clone()).collect()
    }

    /// Panics if an ID was handed out twice.
    #[track_caller]
    pub fn assert_unique(&self) {
        let duplicates = self.duplicates();
        let first = &duplicates[..duplicates.len().min(10)];
        assert!(duplicates.is_empty(), "handed out twice, {} times: {first:#?}", duplicates.len());
    }

    fn inner(&self) -> MutexGuard<'_, checker::Checker> {
        self.0.lock().expect("no holder panics")
    }
}

#[test]
fn an_id_of_one_sequence_that_comes_twice_is_found_and_one_of_another_sequence_is_none() {
    let (checker, span) = (Checker::default(), Span::new(1, 10).unwrap());
    checker.record("tasks", span);
    checker.record("users", span);
    checker.assert_unique();
    checker.record("users", Span::new(10, 1).unwrap());
    assert_eq!(checker.duplicates(), ["10:1, of which 1:10 was given out before, of 'users'"]);
    assert_eq!((checker.ids("tasks"), checker.ids("users")), (10, 10));
}
