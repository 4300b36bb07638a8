//! Everything that happens in a run: told to the checker, summed up, and written down where a log is wanted.

use std::collections::BTreeMap;
use std::fmt::{Arguments, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use blockhouse::block::Span;
use blockhouse::block::checker::{Balance, Checker, Limits};
use tokio::time::Instant;

/// What happens in a run, as whoever sees everything knows it. A clone is the same one.
#[derive(Clone)]
pub struct Journal(Arc<Mutex<Inner>>);

pub struct Inner {
    pub checker: Checker,
    began: Instant,
    log: Option<String>,
    /// Where IDs went, by sequence.
    flows: BTreeMap<Arc<str>, Flow>,
    /// By process and sequence: what it sent, left to its fate, and counts as discarded.
    dropped: BTreeMap<(u32, Arc<str>), i128>,
}

/// What moved of one sequence, in IDs.
#[derive(Default)]
struct Flow {
    granted: i128,
    /// Of grants, by processes that were still there.
    received: i128,
    popped: i128,
    popped_received: i128,
    /// Left a process for a pod.
    sent: i128,
    pushed: i128,
    discarded: i128,
    crashed: i128,
}

impl Journal {
    pub fn new(limits: Limits, logs: bool) -> Journal {
        let log = logs.then(String::new);
        let inner = Inner {
            checker: Checker::new(limits),
            began: Instant::now(),
            log,
            flows: BTreeMap::new(),
            dropped: BTreeMap::new(),
        };
        Journal(Arc::new(Mutex::new(inner)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nobody panics with it in hand")
    }

    /// Since the run began.
    pub fn now(&self) -> Duration {
        self.lock().now()
    }

    /// Writes a line, where a log is wanted.
    pub fn note(&self, line: Arguments<'_>) {
        self.lock().note(line);
    }

    pub fn take_log(&self) -> Option<String> {
        self.lock().log.take()
    }
}

impl Inner {
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn note(&mut self, line: Arguments<'_>) {
        let now = self.began.elapsed();
        if let Some(log) = &mut self.log {
            let _ = writeln!(log, "{:>5}.{:06} {line}", now.as_secs(), now.subsec_micros());
        }
    }

    fn flow(&mut self, sequence: &str) -> &mut Flow {
        if !self.flows.contains_key(sequence) {
            self.flows.insert(sequence.into(), Flow::default());
        }
        self.flows.get_mut(sequence).expect("it was just inserted")
    }

    /// The ledger committed a grant, whoever may hear of it.
    pub fn granted(&mut self, sequence: &str, span: Span) {
        self.checker.committed(sequence, span);
        self.flow(sequence).granted += i128::from(span.count());
    }

    /// Its answer reached the process.
    pub fn grant_received(&mut self, process: u32, sequence: &str, span: Span) {
        let now = self.now();
        self.checker.received(process, sequence, span, now);
        self.flow(sequence).received += i128::from(span.count());
    }

    /// A pod let go of entries, whoever may hear of it.
    pub fn popped(&mut self, sequence: &str, spans: &[Span]) {
        self.flow(sequence).popped += ids(spans);
    }

    pub fn pop_received(&mut self, process: u32, sequence: &str, spans: &[Span]) {
        let now = self.now();
        for span in spans {
            self.checker.received(process, sequence, *span, now);
        }
        self.flow(sequence).popped_received += ids(spans);
    }

    /// A process sends entries to a pod.
    pub fn push_sent(&mut self, process: u32, sequence: &str, spans: &[Span]) {
        let now = self.now();
        for span in spans {
            self.checker.gave(process, sequence, *span, "pushed", now);
        }
        self.flow(sequence).sent += ids(spans);
    }

    /// They certainly did not arrive: the process still holds them.
    pub fn push_came_back(&mut self, process: u32, sequence: &str, spans: &[Span]) {
        let now = self.now();
        for span in spans {
            self.checker.received(process, sequence, *span, now);
        }
        self.flow(sequence).sent -= ids(spans);
    }

    /// It doesn't wait for the answer any more, and counts them as discarded.
    pub fn push_dropped(&mut self, process: u32, sequence: &str, spans: &[Span]) {
        *self.dropped.entry((process, sequence.into())).or_default() += ids(spans);
    }

    /// The pod has them.
    pub fn pushed(&mut self, sequence: &str, spans: &[Span]) {
        self.flow(sequence).pushed += ids(spans);
    }

    /// A process crashed with what it held.
    pub fn crashed(&mut self, process: u32) {
        for (sequence, held) in self.checker.gone(process) {
            self.flow(&sequence).crashed += held;
        }
    }

    /// A process ended in order, and counts so many IDs as discarded that it held.
    pub fn ended(&mut self, process: u32, sequence: &str, discarded: i128) {
        let now = self.now();
        let dropped = self.dropped.remove(&(process, sequence.into())).unwrap_or_default();
        let held = self.checker.explained(process, sequence, discarded - dropped, now);
        self.flow(sequence).discarded += held;
    }

    /// Everything has ended, and `in_pods` IDs lie in the pods: does it all add up?
    pub fn balance(&mut self, sequence: &str, in_pods: i128) {
        let now = self.now();
        let Flow { granted, received, popped, popped_received, sent, pushed, discarded, crashed } =
            *self.flow(sequence);
        let balance = Balance {
            granted,
            in_pods,
            held: 0,
            discarded,
            in_doubt: (granted - received) + (popped - popped_received) + (sent - pushed),
            crashed,
            with_pods: pushed - popped - in_pods,
        };
        self.note(format_args!("balance of {sequence}: {balance:?}"));
        self.checker.balance(sequence, &balance, now);
    }
}

fn ids(spans: &[Span]) -> i128 {
    spans.iter().map(|span| i128::from(span.count())).sum()
}
