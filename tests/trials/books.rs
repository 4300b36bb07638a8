//! The books of one world: where each ID is that its ledger ever granted, to the unit, told to the one checker of the project.

use std::collections::BTreeMap;
use std::time::Duration;

use blockhouse::block::checker::{Balance, Checker, Least, Rule, Verdict};
use blockhouse::block::{Span, SpanSet};

use super::callers::{Given, Seen};
use super::lists::Entries;
use crate::support::metrics::Metrics;
use crate::support::postgres::Postgres;

/// What happened since the books were closed the last time. By now all processes have ended in order: nobody holds anything.
#[derive(Default)]
pub struct Period {
    /// What the ledger granted.
    pub grants: Vec<(String, Span)>,
    pub seen: Seen,
    /// What lies in the pods.
    pub in_pods: Entries,
    /// What lay in pods when they were killed or emptied.
    pub buried: Vec<(String, Span)>,
    /// What processes counted, by sequence.
    pub counted: BTreeMap<String, Counted>,
    /// How many IDs of a sequence may have gone with what was killed.
    pub may_be_lost: i128,
}

/// IDs that processes gave up.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counted {
    /// Held, and discarded.
    pub discarded: i128,
    /// At most: what a lost answer may have carried.
    pub in_doubt: i128,
}

/// Where lost IDs went.
#[derive(Debug, Default, Clone, Copy)]
pub struct Lost {
    pub granted: i128,
    pub discarded: i128,
    pub in_doubt: i128,
    pub crashed: i128,
    pub with_pods: i128,
}

#[derive(Default)]
pub struct Books {
    checker: Checker,
    pages: BTreeMap<String, Page>,
}

/// One sequence.
#[derive(Default)]
struct Page {
    /// Granted, and neither issued nor given up.
    open: SpanSet,
    balance: Balance,
}

impl Books {
    /// Closes the period. Gives where IDs went, and what is wrong.
    pub fn close(&mut self, period: Period) -> (Lost, Vec<String>) {
        let before = self.checker.counts().violations;
        let mut wrong = Vec::new();
        for (sequence, span) in &period.grants {
            self.checker.committed(sequence, *span);
            let page = self.pages.entry(sequence.clone()).or_default();
            if let Err(other) = page.open.insert(*span) {
                wrong.push(format!("{span} of '{sequence}' was granted although {other} was"));
            }
            page.balance.granted += i128::from(span.count());
        }
        self.hear(&period.seen, &mut wrong);
        let mut lost = Lost::default();
        for sequence in self.pages.keys().cloned().collect::<Vec<_>>() {
            self.settle(&sequence, &period, &mut lost, &mut wrong);
        }
        let violations = self.checker.violations();
        let new = usize::try_from(self.checker.counts().violations - before).expect("few");
        wrong.extend(violations.iter().rev().take(new).map(ToString::to_string));
        (lost, wrong)
    }

    fn hear(&mut self, seen: &Seen, wrong: &mut Vec<String>) {
        seen.tell(&mut self.checker);
        for Given { sequence, spans, .. } in &seen.given {
            let page = self.pages.entry((*sequence).to_owned()).or_default();
            for span in spans {
                if !page.open.remove(*span) {
                    wrong.push(format!("{span} of '{sequence}' was issued, and was not there to be issued"));
                }
            }
        }
    }

    /// Whatever is neither issued nor in a pod is gone: with pods, discarded, in doubt, or with what was killed.
    fn settle(&mut self, sequence: &str, period: &Period, lost: &mut Lost, wrong: &mut Vec<String>) {
        let page = self.pages.get_mut(sequence).expect("it has a page");
        let mut in_pods = SpanSet::default();
        for entry in period.in_pods.get(sequence).into_iter().flatten() {
            if !page.open.remove(*entry) {
                wrong.push(format!(
                    "{entry} of '{sequence}' lies in a pod, and was issued, or lies there twice"
                ));
            }
            if in_pods.insert(*entry).is_err() {
                wrong.push(format!("{entry} of '{sequence}' lies in the pods twice"));
            }
        }
        let gone = std::mem::replace(&mut page.open, in_pods);
        let of_it = |(of, span): &&(String, Span)| of == sequence && gone.contains(*span);
        let mut with_pods = SpanSet::default();
        for (_, span) in period.buried.iter().filter(of_it) {
            // A pod that died twice may have had it both times.
            let _ = with_pods.insert(*span);
        }
        let counted = period.counted.get(sequence).copied().unwrap_or_default();
        let mut rest = gone.ids() - with_pods.ids();
        let mut part = |most: i128| {
            let part = rest.clamp(0, most);
            rest -= part;
            part
        };
        // What was counted exactly goes first: more of it than is gone is a mistake too.
        let discarded = counted.discarded;
        part(discarded);
        let (in_doubt, crashed) = (part(counted.in_doubt), part(period.may_be_lost));
        let balance = &mut page.balance;
        balance.in_pods = page.open.ids();
        balance.discarded += discarded;
        balance.in_doubt += in_doubt;
        balance.crashed += crashed;
        balance.with_pods += with_pods.ids();
        lost.granted += period
            .grants
            .iter()
            .filter(|(of, _)| of == sequence)
            .map(|(_, span)| i128::from(span.count()))
            .sum::<i128>();
        lost.discarded += discarded;
        lost.in_doubt += in_doubt;
        lost.crashed += crashed;
        lost.with_pods += with_pods.ids();
        self.checker.balance(sequence, &page.balance, Duration::ZERO);
        if rest != 0 {
            let first: Vec<String> = gone.spans().take(20).map(|span| span.to_string()).collect();
            wrong.push(format!("{rest} IDs of '{sequence}' among these: {}", first.join(" ")));
        }
        // Said once: the next period begins anew.
        page.balance.crashed += rest;
    }

    /// Answers with an ID that was given before.
    pub fn twice(&self) -> u64 {
        self.checker.counts().twice
    }

    /// Requests made, and answered with IDs.
    pub fn answered(&self) -> (u64, u64) {
        let counts = self.checker.counts();
        (counts.requests, counts.answered)
    }
}

/// What a process has counted, in its whole life.
pub fn counted(metrics: &Metrics, sequences: &[String], into: &mut BTreeMap<String, Counted>) {
    for sequence in sequences {
        let of = |more: &[(&str, &str)]| {
            let labels = [&[("sequence", sequence.as_str())], more].concat();
            metrics.sum("blockhouse_discarded_ids_total", &labels) as i128
        };
        let in_doubt = of(&[("cause", "in_doubt")]);
        let counted = into.entry(sequence.clone()).or_default();
        counted.discarded += of(&[]) - in_doubt;
        counted.in_doubt += in_doubt;
    }
}

/// What the ledger has granted of each sequence since the grants with these numbers; which are moved on.
pub fn grants(ledger: &Postgres, since: &mut BTreeMap<String, i64>) -> Vec<(String, Span)> {
    let rows =
        ledger.psql("SELECT sequence, number, first, count FROM blockhouse.grants ORDER BY sequence, number");
    let mut new = Vec::new();
    for row in rows.lines() {
        let cells: Vec<&str> = row.split('|').collect();
        let [sequence, number, first, count] = cells[..] else { panic!("four columns: {row}") };
        let number_in = |text: &str| text.parse::<i64>().expect("a number");
        let last = since.entry(sequence.to_owned()).or_default();
        if number_in(number) > *last {
            *last = number_in(number);
            let span = Span::new(number_in(first), number_in(count)).expect("a grant is a range");
            new.push((sequence.to_owned(), span));
        }
    }
    new
}

/// Books that are cooked must be noticed: an ID given twice, one that is in a pod too, one that nobody explains. What of it was not.
pub fn canaries() -> Vec<String> {
    let grant = || vec![("tasks".to_owned(), Span::new(1, 100).expect("a range"))];
    let answer = |first, count: u32| Given {
        sequence: "tasks",
        asked: count,
        spans: vec![Span::new(first, i64::from(count)).expect("a range")],
    };
    let entries =
        |first, count| Entries::from([("tasks".to_owned(), vec![Span::new(first, count).expect("a range")])]);
    let close = |given: Vec<Given>, in_pods| {
        let seen = Seen { asked: given.len() as u64, given, ..Seen::default() };
        let mut books = Books::default();
        let (_, wrong) = books.close(Period { grants: grant(), seen, in_pods, ..Period::default() });
        (wrong, books)
    };
    let mut lived = Vec::new();
    let (wrong, _) = close(vec![answer(1, 60)], entries(61, 40));
    if !wrong.is_empty() {
        lived.push(format!("books that are right are called wrong: {wrong:?}"));
    }
    let (_, books) = close(vec![answer(1, 60), answer(60, 10)], entries(70, 31));
    let twice = books.checker.violations().iter().any(|violation| violation.rule == Rule::Twice);
    if !twice || books.twice() != 1 || books.checker.verdict(&Least::default()) != Verdict::Violated {
        lived.push("an ID that is given twice is not noticed".to_owned());
    }
    if close(vec![answer(1, 60)], entries(60, 41)).0.is_empty() {
        lived.push("an ID that is issued and lies in a pod is not noticed".to_owned());
    }
    if close(vec![answer(1, 60)], entries(61, 39)).0.is_empty() {
        lived.push("an ID that nobody explains is not noticed".to_owned());
    }
    lived
}
