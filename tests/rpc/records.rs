//! What a worker writes about single requests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blockhouse::observe::metrics::Method;
use blockhouse::rpc::desk::{Asked, Desk};
use http::HeaderMap;
use slog::{Drain, Key, Logger, Never, OwnedKVList, Record, Serializer, o};
use tokio::time::advance;

use crate::wire::{self, Counter};

type Fields = BTreeMap<String, String>;

/// Keeps the fields of every record, and its message as `msg`.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Fields>>>);

impl Drain for Kept {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        let mut fields = Collect(Fields::from([("msg".to_owned(), record.msg().to_string())]));
        slog::KV::serialize(&record.kv(), record, &mut fields).expect("collecting cannot fail");
        self.0.lock().unwrap().push(fields.0);
        Ok(())
    }
}

struct Collect(Fields);

impl Serializer for Collect {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.0.insert(key.to_string(), value.to_string());
        Ok(())
    }

    fn emit_none(&mut self, _: Key) -> slog::Result {
        Ok(())
    }
}

/// A desk at which `held` waits, and what it writes.
fn desk() -> (Desk<Counter>, Counter, Kept) {
    let (counter, kept) = (Counter::new(), Kept::default());
    let log = Logger::root(kept.clone(), o!());
    let rng = fastrand::Rng::with_seed(1);
    let slow = Duration::from_millis(50);
    (Desk::new(counter.clone(), &wire::grpc(), slow, wire::metrics(1), log, rng), counter, kept)
}

/// One request for `count` of `sequence`, answered however it is.
async fn visit(desk: &Desk<Counter>, sequence: &str, count: u32, headers: &HeaderMap) {
    let visit = desk.open(Method::Allocate, desk.deadline(None));
    let asked = Asked { sequence, count, headers };
    match visit.take(sequence, count).await {
        Ok(allocation) => {
            let _ = allocation.issue();
            visit.allocated(asked);
        }
        Err(refusal) => drop(visit.refused(asked, &refusal)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_written_with_its_trace() {
    let (desk, _, kept) = desk();
    let id = "0af7651916cd43dd8448eb211c80319c";
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", format!("00-{id}-b7ad6b7169203331-01").parse().unwrap());
    visit(&desk, "tasks", 0, &headers).await;
    let records = kept.0.lock().unwrap();
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(record["msg"], "request refused");
    assert_eq!((record["reason"].as_str(), record["code"].as_str()), ("COUNT_INVALID", "INVALID_ARGUMENT"));
    assert_eq!((record["sequence"].as_str(), record["count"].as_str()), ("tasks", "0"));
    assert_eq!(record["trace_id"], id);
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_is_written_and_a_quick_one_is_not() {
    let (desk, counter, kept) = desk();
    let none = HeaderMap::new();
    visit(&desk, "tasks", 1, &none).await;
    assert_eq!(kept.0.lock().unwrap().len(), 0);
    tokio::join!(visit(&desk, "held", 1, &none), async {
        advance(Duration::from_millis(60)).await;
        counter.release();
    });
    let records = kept.0.lock().unwrap();
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((record["msg"].as_str(), record["code"].as_str()), ("request was slow", "OK"));
    assert!(record["took_us"].parse::<u64>().unwrap() >= 60_000);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_refusals_is_sampled_and_the_rest_is_counted() {
    let (desk, _, kept) = desk();
    let none = HeaderMap::new();
    for _ in 0..1000 {
        visit(&desk, "tasks", 0, &none).await;
    }
    assert_eq!(kept.0.lock().unwrap().len(), 10);
    advance(Duration::from_secs(1)).await;
    visit(&desk, "tasks", 0, &none).await;
    assert_eq!(kept.0.lock().unwrap().last().unwrap()["suppressed"], "990");
}
