//! The checker is checked against plain sets of IDs.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn span(first: i64, count: i64) -> Span {
    Span::new(first, count).unwrap()
}

fn give(checker: &mut Checker, spans: &[Span], by: Option<u32>) {
    let asked = spans.iter().map(|span| span.count()).sum();
    let answer = Answer { sequence: "tasks", asked, spans, by, since: SECOND, at: SECOND };
    checker.answered(&answer);
}

#[track_caller]
fn expect(checker: &Checker, rules: &[Rule]) {
    let found: Vec<Rule> = checker.violations().iter().map(|violation| violation.rule).collect();
    assert_eq!(found, rules, "{:#?}", checker.violations());
    assert_eq!(checker.counts().violations, rules.len() as u64);
}

fn spans() -> impl Strategy<Value = Vec<Span>> {
    let span = (1i64..300, 1i64..20).prop_map(|(first, count)| span(first, count));
    prop::collection::vec(span, 0..12)
}

proptest! {
    #[test]
    fn an_id_was_given_twice_if_and_only_if_it_says_so(spans in spans()) {
        let (mut checker, mut ids) = (Checker::default(), BTreeSet::new());
        let mut twice = 0;
        for span in spans {
            give(&mut checker, &[span], None);
            let again = (span.first()..=span.last()).filter(|id| ids.contains(id)).count() > 0;
            if again {
                twice += 1;
            } else {
                ids.extend(span.first()..=span.last());
            }
        }
        prop_assert_eq!(checker.counts().twice, twice);
        prop_assert_eq!(checker.issued("tasks"), ids.len() as i128);
        prop_assert_eq!(checker.verdict(&Least::default()) == Verdict::Passed, twice == 0);
    }

    #[test]
    fn what_was_never_committed_is_noticed(committed in spans(), given in spans()) {
        let (mut checker, mut plain) = (Checker::default(), BTreeSet::new());
        checker.committed("tasks", span(1_000, 1));
        for span in committed {
            checker.committed("tasks", span);
            plain.extend(span.first()..=span.last());
        }
        for span in given {
            let mut fresh = Checker::default();
            std::mem::swap(&mut fresh.sequences, &mut checker.sequences);
            give(&mut fresh, &[span], None);
            let all = (span.first()..=span.last()).all(|id| plain.contains(&id));
            let said = fresh.violations().iter().any(|violation| violation.rule == Rule::Uncommitted);
            prop_assert_eq!(said, !all);
            std::mem::swap(&mut fresh.sequences, &mut checker.sequences);
        }
    }

    /// Whatever moves, each process must hold what it gives, and what it still holds at its end is what it must have discarded.
    #[test]
    fn holders_are_followed_to_the_unit(
        steps in prop::collection::vec((any::<bool>(), 0u32..2, 1i64..80, 1i64..8), 1..60),
    ) {
        let mut checker = Checker::default();
        checker.bounds("tasks", 1, 1_000);
        let mut plain = [BTreeSet::new(), BTreeSet::new()];
        let mut wrong = 0;
        for (gets, holder, first, count) in steps {
            let (span, held) = (span(first, count), &mut plain[holder as usize]);
            let mut ids = first..first + count;
            if gets {
                checker.received(holder, "tasks", span, SECOND);
                if ids.clone().any(|id| held.contains(&id)) { wrong += 1 } else { held.extend(ids) }
            } else {
                checker.gave(holder, "tasks", span, "pushed", SECOND);
                if ids.all(|id| held.contains(&id)) {
                    held.retain(|id| !(first..first + count).contains(id));
                } else {
                    wrong += 1;
                }
            }
        }
        prop_assert_eq!(checker.counts().violations, wrong);
        let left = plain[0].len() as i128;
        prop_assert_eq!(checker.explained(0, "tasks", left, SECOND), left);
        let gone: i128 = checker.gone(1).into_iter().map(|(_, ids)| ids).sum();
        prop_assert_eq!(gone, plain[1].len() as i128);
        prop_assert_eq!(checker.counts().violations, wrong);
    }
}

#[test]
fn every_rule_of_answers_can_be_broken() {
    let mut checker = Checker::default();
    checker.bounds("tasks", 1, 100);
    checker.committed("tasks", span(1, 200));
    checker.received(1, "tasks", span(1, 50), SECOND);
    give(&mut checker, &[span(1, 10)], Some(1));
    expect(&checker, &[]);
    give(&mut checker, &[span(1, 10)], None);
    give(&mut checker, &[span(1, 1), span(96, 10)], None);
    give(&mut checker, &[span(60, 1)], Some(1));
    let short =
        Answer { sequence: "tasks", asked: 3, spans: &[span(61, 2)], by: None, since: SECOND, at: SECOND };
    checker.answered(&short);
    checker.moved("tasks", 80, SECOND);
    give(&mut checker, &[span(63, 1)], None);
    give(&mut checker, &[span(81, 1)], None);
    checker.ended(SECOND, SECOND * 2);
    expect(
        &checker,
        &[Rule::Twice, Rule::Twice, Rule::Outside, Rule::NotHeld, Rule::Length, Rule::Stale, Rule::Late],
    );
    assert_eq!(checker.counts().twice, 2);
}

#[test]
fn ids_that_nobody_accounts_for_are_noticed() {
    let mut checker = Checker::default();
    checker.received(1, "tasks", span(1, 50), SECOND);
    give(&mut checker, &[span(1, 20)], Some(1));
    assert_eq!(checker.explained(1, "tasks", 29, SECOND), 30);
    let whole = Balance { granted: 100, in_pods: 50, discarded: 30, ..Balance::default() };
    checker.balance("tasks", &whole, SECOND);
    checker.balance("tasks", &Balance { granted: 101, ..whole }, SECOND);
    expect(&checker, &[Rule::Unexplained, Rule::Unexplained]);
}

#[test]
fn a_process_that_asks_the_ledger_too_much_is_noticed() {
    let limits = Limits { requests: 3, within: SECOND, ..Limits::default() };
    let mut checker = Checker::new(limits);
    for at in 0..30 {
        checker.to_ledger(1, "facts", 0, SECOND * at / 3);
    }
    expect(&checker, &[]);
    checker.to_ledger(1, "facts", 0, SECOND * 29 / 3);
    checker.to_ledger(2, "facts", 0, SECOND * 29 / 3);
    checker.to_ledger(2, "facts", 1, SECOND * 29 / 3);
    expect(&checker, &[Rule::Rate, Rule::Crowded]);
}

#[test]
fn a_tier_that_can_be_reached_and_serves_nobody_is_noticed() {
    let limits = Limits { grace: 10 * SECOND, callers: 3, ..Limits::default() };
    let mut checker = Checker::new(limits);
    let refuse = |checker: &mut Checker, seconds: u32| {
        checker.tried((1, 1), false, SECOND * seconds);
    };
    (0..20).for_each(|at| refuse(&mut checker, at));
    checker.reach((1, 1), true, SECOND * 20);
    (20..32).for_each(|at| refuse(&mut checker, at));
    checker.tried((1, 1), true, SECOND * 32);
    (33..35).for_each(|at| refuse(&mut checker, at));
    checker.reach((1, 1), false, SECOND * 35);
    (35..50).for_each(|at| refuse(&mut checker, at));
    expect(&checker, &[]);
    checker.reach((1, 1), true, SECOND * 50);
    (50..63).for_each(|at| refuse(&mut checker, at));
    expect(&checker, &[Rule::Silent]);
}

#[test]
fn a_run_in_which_too_little_happened_is_invalid_and_a_broken_promise_is_broken_all_the_same() {
    let least = Least { requests: 2, successes: 1, faults: 1 };
    let mut checker = Checker::default();
    let invalid = |what: &str| Verdict::Invalid(what.to_owned());
    assert_eq!(checker.verdict(&least), invalid("0 requests, fewer than 2"));
    (0..2).for_each(|_| checker.asked());
    assert_eq!(checker.verdict(&least), invalid("0 answers, fewer than 1"));
    give(&mut checker, &[span(1, 1)], None);
    checker.fruitless(Fruitless::Failed);
    checker.fruitless(Fruitless::Unknown);
    assert_eq!(checker.verdict(&least), invalid("0 faults, fewer than 1"));
    checker.fault();
    assert_eq!(checker.verdict(&least), Verdict::Passed);
    let counts = checker.counts();
    assert_eq!((counts.requests, counts.answered, counts.failed, counts.unknown), (2, 1, 1, 1));

    let mut broken = Checker::default();
    give(&mut broken, &[span(1, 1)], None);
    give(&mut broken, &[span(1, 1)], None);
    assert_eq!(broken.verdict(&least), Verdict::Violated);
}

#[test]
fn the_same_ids_of_two_sequences_are_no_duplicates() {
    let mut checker = Checker::default();
    give(&mut checker, &[span(1, 10)], None);
    let spans = [span(1, 10)];
    let other = Answer { sequence: "users", asked: 10, spans: &spans, by: None, since: SECOND, at: SECOND };
    checker.answered(&other);
    expect(&checker, &[]);
    assert_eq!(checker.issued("users"), 10);
}

#[test]
fn what_was_asked_for_before_a_move_is_not_stale() {
    let mut checker = Checker::default();
    checker.moved("tasks", 50, SECOND * 2);
    checker.moved("tasks", 20, SECOND * 3);
    let ask = |checker: &mut Checker, id: i64, since: u32| {
        let spans = [span(id, 1)];
        let (since, at) = (SECOND * since, SECOND * 9);
        checker.answered(&Answer { sequence: "tasks", asked: 1, spans: &spans, by: None, since, at });
    };
    ask(&mut checker, 1, 1);
    ask(&mut checker, 51, 3);
    expect(&checker, &[]);
    ask(&mut checker, 50, 2);
    ask(&mut checker, 49, 3);
    expect(&checker, &[Rule::Stale, Rule::Stale]);
    assert_eq!((checker.greatest("tasks"), checker.greatest("users")), (51, 0));
}

#[test]
fn a_request_may_end_at_its_deadline() {
    let mut checker = Checker::default();
    checker.ended(SECOND, SECOND);
    expect(&checker, &[]);
    checker.ended(SECOND, SECOND * 5 / 2);
    expect(&checker, &[Rule::Late]);
    let said = checker.violations()[0].to_string();
    assert_eq!(said, "after its deadline: a request ended 1.5s after its deadline (at 2.500 s)");
}

#[test]
fn of_many_violations_the_first_are_kept_and_all_are_counted() {
    let mut checker = Checker::default();
    (0..60).for_each(|number| checker.violated(Rule::Stuck, SECOND, number.to_string()));
    let kept: Vec<String> = checker.violations().iter().map(|violation| violation.what.clone()).collect();
    assert_eq!(kept, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!((checker.counts().violations, checker.verdict(&Least::default())), (60, Verdict::Violated));
}

#[test]
fn every_part_of_a_balance_counts() {
    let part = |of: &mut Balance, number: usize| match number {
        0 => of.in_pods += 1,
        1 => of.held += 1,
        2 => of.discarded += 1,
        3 => of.in_doubt += 1,
        4 => of.crashed += 1,
        _ => of.with_pods += 1,
    };
    let mut whole = Balance::default();
    for number in 0..6 {
        (0..1 << number).for_each(|_| part(&mut whole, number));
    }
    whole.granted = 63 + 10;
    assert_eq!(whole.check(10), Ok(()));
    let said = whole.check(9).unwrap_err();
    assert!(said.starts_with("73 granted, but 72 = 9 issued + 1 in pods + 2 held + 4 discarded"), "{said}");
}
