//! Ages and ranges in one thread. These stand apart from what they test: `tests/concurrency` compiles those files against
//! loom's atomics, which work in its models only.

use std::sync::Arc;

use super::*;

fn range(first: i64, count: i64, tally: &Arc<Tally>) -> Range {
    Range::hold(Span::new(first, count).unwrap(), 3, Arc::clone(tally))
}

#[test]
fn an_age_is_there_once_something_was_read_and_never_goes_back() {
    let age = Age::default();
    assert_eq!(age.of(|| 'a'), (None, 'a'));
    age.vouch(7);
    age.vouch(5);
    assert_eq!(age.of(|| 'b'), (Some(7), 'b'));
}

#[test]
fn tiers_have_names() {
    assert_eq!(Tier::ALL.map(Tier::name), ["memory", "pods", "ledger"]);
}

#[test]
fn whatever_becomes_of_a_range_its_ids_are_counted_once() {
    let tally = Arc::default();
    let mut held = range(1, 10, &tally);
    let front = held.split_off_front(4).unwrap();
    assert_eq!((front.span(), held.span()), (Span::new(1, 4).unwrap(), Span::new(5, 6).unwrap()));
    assert_eq!((front.generation(), held.generation(), held.count()), (3, 3, 6));
    assert_eq!(format!("{front:?}"), "Range(1:4)");
    assert_eq!(front.issue(), Span::new(1, 4).unwrap());
    assert_eq!(tally.discarded_in_all(), 0);
    held.discard(Cause::Outside);
    drop(range(11, 5, &tally));
    let panicked = std::panic::catch_unwind(|| {
        let _held = range(21, 7, &tally);
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(panicked.is_err());
    let counts = [Cause::Outside, Cause::Dropped, Cause::Panic].map(|cause| tally.discarded(cause));
    assert_eq!((counts, tally.discarded_in_all()), ([6, 5, 7], 18));
}

#[test]
fn only_neighbours_of_one_sequence_join() {
    let (tally, other) = (Arc::default(), Arc::default());
    let mut held = range(1, 10, &tally);
    for apart in [range(12, 1, &tally), range(11, 1, &other)] {
        assert!(held.join(apart).is_err());
    }
    held.join(range(11, 5, &tally)).unwrap();
    assert_eq!(held.issue(), Span::new(1, 15).unwrap());
    assert_eq!(
        (tally.discarded_in_all(), other.discarded_in_all()),
        (1, 1),
        "what was given back was dropped"
    );
}

#[test]
fn what_an_answer_may_have_carried_counts_until_it_is_known() {
    let tally = Arc::default();
    Doubt::new(&tally, 100).settle();
    drop(Doubt::new(&tally, -1));
    assert_eq!(tally.discarded_in_all(), 0);
    drop(Doubt::new(&tally, 100));
    assert_eq!(tally.discarded(Cause::InDoubt), 100);
}

#[test]
fn causes_have_names_of_their_own() {
    let names: std::collections::BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.name()).collect();
    assert_eq!((names.len(), Cause::InDoubt.name()), (Cause::ALL.len(), "in_doubt"));
}
