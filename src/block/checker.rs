//! Judges a run: what was asked, answered, granted, moved and lost, against what is promised.
//!
//! The same checker serves the simulation, the suite and whatever makes load. Each tells it what it can see: who sees only answers
//! learns whether an ID came twice; who sees everything learns where each ID is. Memory is bounded by the number of gaps,
//! not of IDs ([`SpanSet`]).

mod account;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::account::Account;
pub use self::account::Balance;
use self::watch::Watch;
pub use self::watch::{Limits, Reach};
use super::{Span, SpanSet};

macro_rules! rules {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What is promised.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule { $($(#[$doc])* $variant,)* }

        impl Rule {
            /// The name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Rule::$variant => $name,)* }
            }
        }
    };
}

rules! {
    /// No ID is given to two callers.
    Twice = "an ID twice",
    /// An answer has exactly as many IDs as were asked for.
    Length = "length of an answer",
    /// No ID lies outside its sequence.
    Outside = "outside the sequence",
    /// Every ID given out was committed by the ledger.
    Uncommitted = "not committed by the ledger",
    /// Who gives an ID out, or passes it on, holds it.
    NotHeld = "not held",
    /// What was granted is issued, held, in a pod, or discarded with a cause, to the unit.
    Unexplained = "unexplained IDs",
    /// Once everybody has heard of a new generation, nothing older is given out.
    Stale = "an earlier generation",
    /// A process has one request at a time with the ledger.
    Crowded = "requests to the ledger at once",
    /// A process asks the ledger no oftener than it may.
    Rate = "rate of requests to the ledger",
    /// A request ends by its deadline.
    Late = "after its deadline",
    /// While a tier can be reached, somebody is served.
    Silent = "nobody served though a tier could be reached",
    /// Once faults are over all serve, and the pods are filled.
    Stuck = "no recovery after the faults",
    /// Nothing panics unless it was asked to.
    Panicked = "a panic that nobody asked for",
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// Since the run began.
    pub at: Duration,
    /// What was seen, for people.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (at {:.3} s)", self.rule.name(), self.what, self.at.as_secs_f64())
    }
}

/// The fewest that make a run worth judging.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Least {
    /// Requests made.
    pub requests: u64,
    /// Requests answered with IDs.
    pub successes: u64,
    /// Faults that took place.
    pub faults: u64,
}

/// What the run shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every promise was kept, and enough happened.
    Passed,
    /// Too little happened to say anything, and what.
    Invalid(String),
    /// A promise was broken.
    Violated,
}

/// What became of a request that brought no IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fruitless {
    /// Refused: nothing was issued.
    Failed,
    /// Nobody knows: the caller went away, or the answer was lost.
    Unknown,
}

/// One answer that brought IDs.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Of which sequence.
    pub sequence: &'a str,
    /// How many IDs were asked for.
    pub asked: i64,
    /// The IDs.
    pub spans: &'a [Span],
    /// Who gave them, where that is known.
    pub by: Option<u32>,
    /// When the request was made.
    pub since: Duration,
    /// When it was answered.
    pub at: Duration,
}

/// How much happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests made.
    pub requests: u64,
    /// Answered with IDs.
    pub answered: u64,
    /// Refused.
    pub failed: u64,
    /// Given up, or lost.
    pub unknown: u64,
    /// Faults that took place.
    pub faults: u64,
    /// Answers with an ID that was given before.
    pub twice: u64,
    /// Broken promises in all.
    pub violations: u64,
}

/// Everything that is known of a run.
#[derive(Debug, Default)]
pub struct Checker {
    sequences: BTreeMap<Arc<str>, Account>,
    /// What each process holds, by number and sequence.
    held: BTreeMap<u32, BTreeMap<Arc<str>, SpanSet>>,
    watch: Watch,
    counts: Counts,
    violations: Vec<Violation>,
}

/// Violations that are kept in words; all are counted.
const KEPT: usize = 50;

impl Checker {
    /// One that also judges how processes treat the ledger, and whether they serve.
    pub fn new(limits: Limits) -> Checker {
        Checker { watch: Watch::new(limits), ..Checker::default() }
    }

    /// A sequence has these bounds from now on.
    pub fn bounds(&mut self, sequence: &str, first: i64, last: i64) {
        self.account(sequence).bounds = Some((first, last));
    }

    /// The ledger committed a grant. From the first call on, whatever is issued of the sequence must have been committed.
    pub fn committed(&mut self, sequence: &str, span: Span) {
        self.account(sequence).committed.get_or_insert_default().push(span);
    }

    /// Everybody has heard, by `at`, that nothing up to `up_to` may be given out any more.
    pub fn moved(&mut self, sequence: &str, up_to: i64, at: Duration) {
        self.account(sequence).moved.push((at, up_to));
    }

    /// A request is made.
    pub fn asked(&mut self) {
        self.counts.requests += 1;
    }

    /// A fault takes place.
    pub fn fault(&mut self) {
        self.counts.faults += 1;
    }

    /// A request brought nothing.
    pub fn fruitless(&mut self, how: Fruitless) {
        match how {
            Fruitless::Failed => self.counts.failed += 1,
            Fruitless::Unknown => self.counts.unknown += 1,
        }
    }

    /// A request that began to wait at some time and had to end by `deadline` ended at `at`.
    pub fn ended(&mut self, deadline: Duration, at: Duration) {
        if at > deadline {
            let by = at - deadline;
            self.violated(Rule::Late, at, format!("a request ended {by:?} after its deadline"));
        }
    }

    /// A request brought IDs.
    pub fn answered(&mut self, answer: &Answer<'_>) {
        self.counts.answered += 1;
        let Answer { sequence, asked, spans, by, since, at } = *answer;
        let ids: i128 = spans.iter().map(|span| i128::from(span.count())).sum();
        if ids != i128::from(asked) {
            self.violated(
                Rule::Length,
                at,
                format!("{ids} IDs of '{sequence}' where {asked} were asked for"),
            );
        }
        let mut twice = false;
        for span in spans {
            for (rule, what) in self.account(sequence).issue(*span, since) {
                twice |= rule == Rule::Twice;
                self.violated(rule, at, format!("{what} of '{sequence}'"));
            }
            if let Some(holder) = by {
                self.gave(holder, sequence, *span, "issued", at);
            }
        }
        self.counts.twice += u64::from(twice);
    }

    /// A process came to hold IDs: by a grant, a pop, or a push that certainly did not happen.
    pub fn received(&mut self, holder: u32, sequence: &str, span: Span, at: Duration) {
        let of_holder = self.held.entry(holder).or_default();
        if !of_holder.contains_key(sequence) {
            of_holder.insert(sequence.into(), SpanSet::default());
        }
        let held = of_holder.get_mut(sequence).expect("it was just inserted");
        if let Err(other) = held.insert(span) {
            let what = format!("process {holder} got {span} of '{sequence}', and holds {other}");
            self.violated(Rule::NotHeld, at, what);
        }
    }

    /// A process gave IDs away: it must have held them.
    pub fn gave(&mut self, holder: u32, sequence: &str, span: Span, how: &str, at: Duration) {
        let held = self.held.get_mut(&holder).and_then(|held| held.get_mut(sequence));
        if !held.is_some_and(|held| held.remove(span)) {
            let what = format!("process {holder} {how} {span} of '{sequence}', which it did not hold");
            self.violated(Rule::NotHeld, at, what);
        }
    }

    /// A process has ended. Gives what it still held, by sequence.
    pub fn gone(&mut self, holder: u32) -> Vec<(Arc<str>, i128)> {
        let held = self.held.remove(&holder).unwrap_or_default().into_iter();
        held.map(|(sequence, held)| (sequence, held.ids())).collect()
    }

    /// A process that has ended in order discarded this many IDs that it held: whatever it still held, exactly.
    pub fn explained(&mut self, holder: u32, sequence: &str, discarded: i128, at: Duration) -> i128 {
        let of_holder = self.held.get_mut(&holder);
        let held = of_holder.and_then(|held| held.remove(sequence)).unwrap_or_default().ids();
        if held != discarded {
            let what = format!(
                "process {holder} still had {held} IDs of '{sequence}' when it ended, and counts {discarded} as discarded"
            );
            self.violated(Rule::Unexplained, at, what);
        }
        held
    }

    /// The whole of a sequence, once everything has ended.
    pub fn balance(&mut self, sequence: &str, balance: &Balance, at: Duration) {
        if let Err(what) = balance.check(self.issued(sequence)) {
            self.violated(Rule::Unexplained, at, format!("'{sequence}': {what}"));
        }
    }

    /// IDs issued of a sequence; one that came twice counts once.
    pub fn issued(&self, sequence: &str) -> i128 {
        self.sequences.get(sequence).map_or(0, |account| account.issued.ids())
    }

    /// The greatest ID issued of a sequence, 0 if none was.
    pub fn greatest(&self, sequence: &str) -> i64 {
        self.sequences.get(sequence).and_then(|account| account.issued.greatest()).unwrap_or(0)
    }

    /// Intervals in which issued IDs are remembered: what memory grows with.
    pub fn intervals(&self) -> usize {
        self.sequences.values().map(|account| account.issued.spans().count()).sum()
    }

    /// A process sends a request to the ledger, while `under_way` others of its own have not ended.
    pub fn to_ledger(&mut self, process: u32, what: &str, under_way: usize, at: Duration) {
        if under_way > 0 {
            let what = format!("process {process} asked for {what} while it waited for another answer");
            self.violated(Rule::Crowded, at, what);
        }
        if let Some(what) = self.watch.request(process, at) {
            self.violated(Rule::Rate, at, what);
        }
    }

    /// Whether a process can reach some tier that has IDs of a sequence, from now on.
    pub fn reach(&mut self, reach: Reach, possible: bool, at: Duration) {
        self.watch.reach(reach, possible, at);
    }

    /// A request of a patient caller ended.
    pub fn tried(&mut self, reach: Reach, served: bool, at: Duration) {
        if let Some(what) = self.watch.tried(reach, served, at) {
            self.violated(Rule::Silent, at, what);
        }
    }

    /// A promise was broken that somebody else looks after.
    pub fn violated(&mut self, rule: Rule, at: Duration, what: String) {
        self.counts.violations += 1;
        if self.violations.len() < KEPT {
            self.violations.push(Violation { rule, at, what });
        }
    }

    /// The first violations, in the order in which they were seen.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// How much happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// A broken promise is one, however little happened.
    pub fn verdict(&self, least: &Least) -> Verdict {
        let Counts { requests, answered, faults, violations, .. } = self.counts;
        if violations > 0 {
            return Verdict::Violated;
        }
        let short = [
            ("requests", requests, least.requests),
            ("answers", answered, least.successes),
            ("faults", faults, least.faults),
        ]
        .into_iter()
        .find(|(_, were, least)| were < least);
        match short {
            Some((what, were, least)) => Verdict::Invalid(format!("{were} {what}, fewer than {least}")),
            None => Verdict::Passed,
        }
    }

    fn account(&mut self, sequence: &str) -> &mut Account {
        if !self.sequences.contains_key(sequence) {
            self.sequences.insert(sequence.into(), Account::default());
        }
        self.sequences.get_mut(sequence).expect("it was just inserted")
    }
}

#[cfg(test)]
mod tests;
