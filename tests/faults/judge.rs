//! Judges a run as it goes, by the project's one checker. Memory grows with the gaps between IDs, not with IDs or requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use blockhouse::block::Span;
use blockhouse::block::checker::{Answer, Checker, Counts, Fruitless, Least, Rule, Verdict, Violation};

use crate::support::caller::Outcome;
use crate::windows::Windows;

/// Intervals that a run may need. Each takes some 50 bytes, so an exact check stays below 250 MB or says that it is none.
const INTERVALS: usize = 4_000_000;

/// What callers were told. Clones share it.
#[derive(Clone)]
pub struct Judge(Arc<Mutex<Inner>>);

struct Inner {
    began: Instant,
    checker: Checker,
    windows: Windows,
    able: BTreeSet<usize>,
    /// Answers and fruitless tries of each allocator.
    of: BTreeMap<usize, (u64, u64)>,
    /// Requests made and ended while their allocator could reach a tier, and those of them that were answered.
    while_able: (u64, u64),
    refused: BTreeMap<String, u64>,
    /// Since somebody was answered last.
    silent_since: Instant,
    longest_silence: Duration,
}

/// What a report says of a run.
pub struct Seen {
    pub counts: Counts,
    /// Requests made and ended while their allocator could reach a tier, and those of them that were answered.
    pub while_able: (u64, u64),
    pub refused: BTreeMap<String, u64>,
    pub longest_silence: Duration,
    pub intervals: usize,
    /// Fault windows that are over, and those of them that the rule of [`Windows`] speaks of.
    pub windows: (u64, u64),
    pub violations: Vec<Violation>,
}

/// A request under way.
pub struct Question<'a> {
    allocator: usize,
    sequence: &'a str,
    count: u32,
    able: bool,
    since: Instant,
}

impl Judge {
    pub fn new() -> Judge {
        let began = Instant::now();
        Judge(Arc::new(Mutex::new(Inner {
            began,
            checker: Checker::default(),
            windows: Windows::default(),
            able: BTreeSet::new(),
            of: BTreeMap::new(),
            while_able: (0, 0),
            refused: BTreeMap::new(),
            silent_since: began,
            longest_silence: Duration::ZERO,
        })))
    }

    /// A request for `count` IDs is about to be made.
    pub fn asked<'a>(&self, allocator: usize, sequence: &'a str, count: u32) -> Question<'a> {
        let mut inner = self.inner();
        inner.checker.asked();
        let able = inner.able.contains(&allocator);
        Question { allocator, sequence, count, able, since: Instant::now() }
    }

    /// What came of it.
    pub fn ended(&self, question: Question<'_>, outcome: &Outcome) {
        let Question { allocator, sequence, count, able, since } = question;
        let (now, mut inner) = (Instant::now(), self.inner());
        let inner = &mut *inner;
        if able && inner.able.contains(&allocator) {
            inner.while_able.0 += 1;
            inner.while_able.1 += u64::from(matches!(outcome, Outcome::Given { .. }));
        }
        let (answered, fruitless) = inner.of.entry(allocator).or_default();
        match outcome {
            Outcome::Given { spans, .. } => {
                *answered += 1;
                let (since, at) = (since - inner.began, now - inner.began);
                let asked = i64::from(count);
                inner.checker.answered(&Answer { sequence, asked, spans, by: None, since, at });
                inner.windows.served(allocator);
                inner.longest_silence = inner.longest_silence.max(now - inner.silent_since);
                inner.silent_since = now;
            }
            Outcome::Refused { reason, .. } => {
                *fruitless += 1;
                *inner.refused.entry(reason.clone()).or_default() += 1;
                inner.checker.fruitless(Fruitless::Failed);
            }
            Outcome::Lost(_) => {
                *fruitless += 1;
                inner.checker.fruitless(Fruitless::Unknown);
            }
        }
    }

    /// A fault begins.
    pub fn open(&self, number: u64) {
        let mut inner = self.inner();
        let (at, able) = (inner.began.elapsed(), inner.able.clone());
        inner.windows.open(number, at, &able);
    }

    /// A fault is over; `fired` if it had an effect.
    pub fn close(&self, number: u64, fired: bool) {
        let mut inner = self.inner();
        let at = inner.began.elapsed();
        if fired {
            inner.checker.fault();
        }
        if let Some(what) = inner.windows.close(number, at) {
            inner.checker.violated(Rule::Silent, at, what);
        }
    }

    /// Which allocators can reach a tier from now on.
    pub fn reach(&self, able: BTreeSet<usize>) {
        let mut inner = self.inner();
        inner.windows.reach(&able);
        inner.able = able;
    }

    /// A promise was broken that others look after.
    pub fn broken(&self, rule: Rule, what: String) {
        let mut inner = self.inner();
        let at = inner.began.elapsed();
        inner.checker.violated(rule, at, what);
    }

    /// Answers and fruitless tries of an allocator so far.
    pub fn of(&self, allocator: usize) -> (u64, u64) {
        self.inner().of.get(&allocator).copied().unwrap_or_default()
    }

    /// IDs that callers have of a sequence, and the greatest of them.
    pub fn issued(&self, sequence: &str) -> (i128, i64) {
        let inner = self.inner();
        (inner.checker.issued(sequence), inner.checker.greatest(sequence))
    }

    /// What the run shows so far.
    pub fn verdict(&self, least: &Least) -> Verdict {
        let inner = self.inner();
        let intervals = inner.checker.intervals();
        match inner.checker.verdict(least) {
            Verdict::Passed if intervals > INTERVALS => {
                Verdict::Invalid(format!("{intervals} intervals, more than {INTERVALS}"))
            }
            verdict => verdict,
        }
    }

    pub fn seen(&self) -> Seen {
        let inner = self.inner();
        Seen {
            counts: inner.checker.counts(),
            while_able: inner.while_able,
            refused: inner.refused.clone(),
            longest_silence: inner.longest_silence,
            intervals: inner.checker.intervals(),
            windows: (inner.windows.closed, inner.windows.judged),
            violations: inner.checker.violations().to_vec(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder panics")
    }
}

/// A range given twice, an allocator that is silent though it could serve, and a run in which nothing happened: a harness that lets
/// one of these pass is dead, and everything that it says of others is worth nothing.
pub fn canary_dies() -> bool {
    let range = Span::new(1_000, 10).expect("a range");
    let given = Outcome::Given { spans: vec![range], tier: String::new() };
    let twice = Judge::new();
    twice.ended(twice.asked(0, "canary", 10), &given);
    let once = twice.verdict(&Least::default());
    twice.ended(twice.asked(1, "canary", 10), &given);
    let broken = |rule| move |violation: &Violation| violation.rule == rule;
    let notices_twice = once == Verdict::Passed
        && twice.verdict(&Least::default()) == Verdict::Violated
        && twice.seen().violations.iter().any(broken(Rule::Twice));

    let mut windows = Windows::default();
    windows.open(1, Duration::ZERO, &BTreeSet::from([0]));
    let notices_silence = windows.close(1, crate::windows::GRACE).is_some();

    let least = Least { requests: 1, ..Least::default() };
    let notices_nothing = matches!(Judge::new().verdict(&least), Verdict::Invalid(_));
    notices_twice && notices_silence && notices_nothing
}
