//! The hint by which a worker sees that the reserve has nothing, without crossing threads.

use std::collections::VecDeque;
use std::sync::Arc;

use loom::sync::Mutex;
use loom::thread;

use crate::range::{Range, Tally};
use crate::sync::{AtomicI64, Ordering};
use crate::{Span, span};

/// The buffer (`actor/buffer.rs`), whose messages are handled one at a time: here, under a lock.
#[derive(Default)]
struct Buffer {
    reserve: Mutex<VecDeque<Range>>,
    /// `Counters::reserve_ids`
    hint: AtomicI64,
}

impl Buffer {
    fn put(&self, range: Range) {
        let mut reserve = self.reserve.lock().unwrap();
        reserve.push_back(range);
        self.show(&reserve);
    }

    /// What there is; nothing where the hint was wrong.
    fn draw(&self) -> Option<Span> {
        let mut reserve = self.reserve.lock().unwrap();
        let drawn = reserve.pop_front().map(Range::issue);
        self.show(&reserve);
        drawn
    }

    fn show(&self, reserve: &VecDeque<Range>) {
        let ids = reserve.iter().map(Range::count).sum();
        self.hint.store(ids, Ordering::Relaxed);
    }

    /// A worker (`actor/desk.rs`): from the reserve where the hint says so, else, and where it was wrong, from farther away. It waits
    /// for nobody who would have to wake it.
    fn serve(&self, farther: Span) -> Span {
        let hinted = self.hint.load(Ordering::Relaxed) > 0;
        hinted.then(|| self.draw()).flatten().unwrap_or(farther)
    }
}

#[test]
fn a_hint_that_is_out_of_date_serves_nobody_twice_and_lets_nobody_wait() {
    loom::model(|| {
        let tally: Arc<Tally> = Arc::default();
        let buffer = Arc::new(Buffer::default());
        let work = |farther: Span| {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || buffer.serve(farther))
        };
        let workers = [work(span(100, 10)), work(span(200, 10))];
        buffer.put(Range::hold(span(1, 10), 1, Arc::clone(&tally)));
        let served = workers.map(|worker| worker.join().unwrap());
        assert!(!served[0].overlaps(served[1]), "{served:?}");
        // Once all is quiet, the hint says what is there.
        let left = buffer.draw().is_some();
        assert_ne!(left, served.contains(&span(1, 10)), "{served:?}");
        assert_eq!(buffer.hint.load(Ordering::Relaxed), 0);
    });
}
