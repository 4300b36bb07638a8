//! What a pod says, as the process takes it in: catalogues, and entries out of lists.

use std::rc::Rc;
use std::sync::Arc;

use blockhouse::actor::pod_set::{Blocks, PodSet};
use blockhouse::actor::{self, known::Known};
use blockhouse::block::catalogue::is_valid_name;
use blockhouse::block::{Catalogue, Identity, Life, SequenceFacts, Span, Stamp};
use blockhouse::config::{Settings, settings};
use blockhouse::observe::Metrics;
use blockhouse::observe::metrics::About;
use blockhouse::pods::{
    Answer, End, Heartbeat, Inspection, List, Notice, Pod, PodError, Popped, Scope, Seen, Target,
};
use blockhouse::role::Roles;
use futures_util::FutureExt as _;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{fuzz, kind, must};

fn identity() -> Identity {
    let life = Life { epoch: 1, token: Uuid::from_u128(1) };
    Identity { ledger: Uuid::from_u128(7), environment: "development".to_owned(), life }
}

fn metrics() -> Metrics {
    let about = About { environment: "test".into(), stage: "test".into(), cluster: "default".into() };
    Metrics::new(&about, 1)
}

fn silent() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

/// A catalogue as JSON on a pod: what a process believes of it is a sequence that can be served.
#[test]
fn catalogue() {
    let words = &[
        "\"first\":",
        "\"last\":",
        "\"block_size\":",
        "\"generation\":",
        "\"failover_gap\":",
        "\"buffer_seconds\":",
        "\"halted\":\"x\"",
        "\"retired\":true",
        "null",
        "{}",
        "\"sequences\":",
        "tasks",
    ];
    fuzz("catalogue", words, 5_000, |input| {
        let Ok(catalogue) = serde_json::from_slice::<Catalogue>(input) else {
            return Ok("no JSON".to_owned());
        };
        let again = serde_json::to_string(&catalogue).unwrap();
        let again: Catalogue = serde_json::from_str(&again).map_err(|error| error.to_string())?;
        must(again == catalogue, || format!("reads back as {again:?}"))?;
        let sequences = catalogue.sequences.len();
        let known = Known::new(&Settings::default(), metrics(), silent());
        let mut beat = Heartbeat {
            identity: Some(identity()),
            stamp: catalogue.stamp,
            catalogue: Some(catalogue),
            ..Heartbeat::default()
        };
        if let Err(why) = known.hear_pod(&"pod:1".into(), &mut beat) {
            return Ok(kind(&why));
        }
        let snapshot = known.load();
        for (name, facts) in &snapshot.catalogue.sequences {
            servable(name, facts)?;
        }
        for sequence in snapshot.sequences() {
            let space = i128::from(sequence.facts.last) - i128::from(sequence.facts.first) + 1;
            let left = i128::from(sequence.left_at_most());
            must(left >= 0 && left <= space, || format!("{left} IDs left of {space}"))?;
        }
        Ok(format!("{sequences} sequences, {} believed", snapshot.sequences().count()))
    });
}

fn servable(name: &str, facts: &SequenceFacts) -> Result<(), String> {
    let SequenceFacts { first, last, block_size, generation, failover_gap, .. } = facts;
    must(is_valid_name(name) && *facts.name == *name, || format!("{name:?} names {facts:?}"))?;
    must(1 <= *first && first <= last, || format!("{name}: no IDs from {first} to {last}"))?;
    must(*block_size >= 1 && *generation >= 1 && *failover_gap >= 0, || format!("{facts:?}"))
}

/// Entries out of a list, a line each, behind a line with the pod's high water: what is served lies inside the sequence and below the
/// high water, comes once, and everything else is counted.
#[test]
fn popped() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    fuzz("popped", &["\n", ":", "1:10", "100", "101", "1000"], 1_000, |input| {
        let text = String::from_utf8_lossy(input);
        let (high_water, entries) = text.split_once('\n').unwrap_or((&text, ""));
        let high_water: i64 = high_water.parse().unwrap_or(0);
        let entries: Vec<String> = entries.lines().map(str::to_owned).collect();
        let outcome = runtime.block_on(taken(high_water, &entries));
        let (blocks, discarded) = (outcome.0, outcome.1);
        let mut spans: Vec<Span> = blocks.ranges.into_iter().map(|range| range.issue()).collect();
        for span in &spans {
            must(span.within(FIRST, LAST.min(high_water)), || format!("{span} is served"))?;
        }
        must(spans.iter().all(|span| entries.iter().any(|entry| entry.parse() == Ok(*span))), || {
            format!("{spans:?} were not in the list")
        })?;
        spans.sort_unstable();
        must(spans.windows(2).all(|two| !two[0].overlaps(two[1])), || format!("an ID twice: {spans:?}"))?;
        let refused = entries.len() - spans.len();
        must(discarded >= refused as u64, || format!("{refused} refused, {discarded} IDs counted"))?;
        Ok(format!("{} served, {refused} refused", spans.len()))
    });
}

const FIRST: i64 = 100;
const LAST: i64 = 1000;

/// What a fresh process takes from a pod with these entries, and how many IDs it discarded.
async fn taken(high_water: i64, entries: &[String]) -> (Blocks, u64) {
    let roles = Roles { allocator: true, hydrator: false };
    let settings = Arc::new(Settings::default());
    let process = Arc::new(actor::Process::new(settings, roles, 1, metrics(), silent()));
    let popped = Popped { entries: entries.to_vec(), high_water };
    let target: Arc<dyn Target> = Arc::new(Told { address: "pod:1".into(), popped });
    let roster = watch::channel(Arc::from([target])).1;
    let set = PodSet::new(Arc::clone(&process), roster, fastrand::Rng::with_seed(1), true);
    set.heartbeat().await;
    let sequence = process.known.sequence("tasks").expect("the pod told of it");
    let blocks = set.pop(&sequence, 1).await;
    (blocks, sequence.counters.tally.discarded_in_all())
}

/// A pod that gives what it is told to.
#[derive(Clone)]
struct Told {
    address: Arc<str>,
    popped: Popped,
}

impl Target for Told {
    fn address(&self) -> &Arc<str> {
        &self.address
    }

    fn shared(&self) -> bool {
        true
    }

    fn open(&self, _: &settings::Redis, _: &slog::Logger) -> Rc<dyn Pod> {
        Rc::new(self.clone())
    }
}

fn done<'a, T: 'a>(answer: T) -> Answer<'a, T> {
    std::future::ready(Ok(answer)).boxed_local()
}

impl Pod for Told {
    fn address(&self) -> &Arc<str> {
        &self.address
    }

    fn heartbeat<'a>(&'a self, _: &'a Seen) -> Answer<'a, Heartbeat> {
        let facts = SequenceFacts {
            name: "tasks".into(),
            generation: 1,
            first: FIRST,
            last: LAST,
            block_size: 10,
            buffer_seconds: None,
            failover_gap: 0,
            halted: None,
            retired: false,
        };
        let stamp = Stamp { epoch: 1, version: 1 };
        let catalogue =
            Catalogue { stamp, sequences: [("tasks".into(), facts)].into(), ..Catalogue::default() };
        done(Heartbeat {
            run_id: "life".into(),
            identity: Some(identity()),
            stamp,
            catalogue: Some(catalogue),
            ..Heartbeat::default()
        })
    }

    fn pop<'a>(&'a self, _: &'a List, _: u32) -> Answer<'a, Popped> {
        done(self.popped.clone())
    }

    fn push<'a>(&'a self, _: &'a List, _: &'a [Span], _: End, _: i64) -> Answer<'a, ()> {
        done(())
    }

    fn inspect<'a>(&'a self, _: &'a Scope, _: &'a [(Arc<str>, i64)]) -> Answer<'a, Inspection> {
        done(Inspection::default())
    }

    fn publish<'a>(&'a self, _: &'a Notice) -> Answer<'a, ()> {
        done(())
    }

    fn raise<'a>(&'a self, _: &'a Scope, _: &'a str, _: i64) -> Answer<'a, ()> {
        done(())
    }

    fn sweep<'a>(&'a self, _: &'a Scope, _: &'a [(Arc<str>, i64)]) -> Answer<'a, u64> {
        std::future::ready(Err(PodError::Failed("a pod of this kind isn't swept".to_owned()))).boxed_local()
    }
}
