//! What threads share, under loom: every interleaving, and every order in which a weakly ordered machine may show one thread's
//! writes to another.
//!
//! Covered, by the product's own files compiled against loom's atomics (`sync` below stands in for `src/block/sync.rs`):
//! - `block/age.rs`: a report never calls itself newer than what it says (S3);
//! - `block/range.rs`: whatever becomes of a range and on which thread, its IDs are counted once (S2);
//! - `block/tripwire.rs` behind a lock, as every worker enters what it pops: of two that overlap one is let in (S6).
//!
//! Covered by a model, since what it models is spread over actors: that 'the reserve is empty' may be out of date (`model.rs`).
//!
//! Not covered: `ArcSwap`, tokio's semaphores (`grpc.max_in_flight`, `grpc.max_connections`) and channels, and actix's mailboxes,
//! which their own projects test, ArcSwap stood in for by a single atomic here; locks that guard plain data (`Known`, `Process`, the
//! metrics), which never nest; counters of metrics, which nothing is decided by. Between tasks of one thread nothing runs at the same
//! time: that is the simulation's business.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "../../src/block/age.rs"]
mod age;
#[path = "../../src/block/range.rs"]
#[allow(dead_code)]
mod range;
#[path = "../../src/block/span.rs"]
#[allow(dead_code)]
mod span;
#[path = "../../src/block/tripwire.rs"]
mod tripwire;

mod model;

mod sync {
    pub use loom::sync::atomic::{AtomicI64, AtomicU64, Ordering};
}

use std::sync::Arc;

use loom::sync::Mutex;
use loom::thread;

use age::Age;
use range::{Cause, Doubt, Range, Tally};
use span::Span;
use sync::{AtomicI64, Ordering};
use tripwire::Tripwire;

fn span(first: i64, count: i64) -> Span {
    Span::new(first, count).unwrap()
}

/// What `Known` shares: the snapshot (by its version) and a sequence's high water.
#[derive(Default)]
struct Shared {
    snapshot: AtomicI64,
    high_water: AtomicI64,
    age: Age,
}

impl Shared {
    /// As `Known::hear_pod` and `Known::hear_ledger` do, read at `at`, when the high water was ten times that.
    fn hear(&self, at: i64) {
        self.snapshot.fetch_max(at, Ordering::AcqRel);
        self.high_water.fetch_max(10 * at, Ordering::AcqRel);
        self.age.vouch(at);
    }
}

#[test]
fn a_report_is_never_older_than_it_says() {
    let mut model = loom::model::Builder::new();
    // More switches than these between three threads take minutes; each kind of mistake shows with two.
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new(Shared::default());
        let hear = |at| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.hear(at))
        };
        let hearing = [hear(1), hear(2)];
        // As `Known::report` does.
        let (at, snapshot) = shared.age.of(|| shared.snapshot.load(Ordering::Acquire));
        let high_water = shared.high_water.load(Ordering::Acquire);
        let at = at.unwrap_or(0);
        assert!(snapshot >= at, "facts of {snapshot} as of {at}");
        assert!(high_water >= 10 * at, "high water {high_water} as of {at}");
        hearing.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(shared.age.of(|| ()).0, Some(2));
    });
}

#[test]
fn every_id_is_counted_once_whichever_thread_lets_go_of_it() {
    loom::model(|| {
        let tally: Arc<Tally> = Arc::default();
        let mut range = Range::hold(span(1, 10), 1, Arc::clone(&tally));
        let head = range.split_off_front(4).unwrap();
        let doubt = Doubt::new(&tally, 5);
        let dropped = thread::spawn(move || drop((head, doubt)));
        let mut rest = range;
        let middle = rest.split_off_front(1).unwrap();
        middle.discard(Cause::Dropped);
        let issued = rest.issue().count();
        dropped.join().unwrap();
        let lost = [Cause::Dropped, Cause::InDoubt, Cause::Advanced].map(|cause| tally.discarded(cause));
        assert_eq!((issued, lost), (5, [5, 5, 0]));
        assert_eq!(tally.discarded_in_all(), 10);
    });
}

/// As `Sequence::admit` does.
fn admit(tripwire: &Mutex<Tripwire>, tally: &Arc<Tally>, span: Span) -> Option<Range> {
    let entered = tripwire.lock().unwrap().enter(span);
    match entered {
        Ok(()) => Some(Range::hold(span, 1, Arc::clone(tally))),
        Err(_) => {
            tally.count(Cause::Duplicate, span.count().unsigned_abs());
            None
        }
    }
}

#[test]
fn of_two_workers_with_the_same_ids_one_serves_them() {
    loom::model(|| {
        let tally: Arc<Tally> = Arc::default();
        let tripwire = Arc::new(Mutex::new(Tripwire::default()));
        let enter = |entered: Span| {
            let (tally, tripwire) = (Arc::clone(&tally), Arc::clone(&tripwire));
            thread::spawn(move || admit(&tripwire, &tally, entered).map(Range::issue))
        };
        let workers = [enter(span(1, 10)), enter(span(5, 10))];
        let served = workers.map(|worker| worker.join().unwrap());
        assert_eq!(served.iter().flatten().count(), 1, "{served:?}");
        assert_eq!(tally.discarded(Cause::Duplicate), 10);
    });
}
