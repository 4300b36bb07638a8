//! The pure core: what one request costs before anything is sent or awaited.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails fails")]

use std::hint::black_box;
use std::sync::Arc;

use blockhouse::block::line::Line;
use blockhouse::block::tripwire::Tripwire;
use blockhouse::block::{Counters, Range, Span, Stash, Tally, Tier};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

fn span(first: i64, count: i64) -> Span {
    Span::new(first, count).unwrap()
}

fn stash(c: &mut Criterion) {
    let tally: Arc<Tally> = Arc::default();
    let full = || {
        let mut stash = Stash::default();
        stash.put(Range::hold(span(1, 1 << 40), 1, Arc::clone(&tally)), Tier::Memory);
        stash
    };
    let mut stash = full();
    c.bench_function("take one ID of a stash and issue it", |b| {
        b.iter(|| {
            let taken = stash.take(1).unwrap();
            taken.ranges.into_iter().for_each(|range| _ = black_box(range.issue()));
        });
    });
    let mut line = Line::default();
    c.bench_function("join a line and be served from a stash", |b| {
        b.iter(|| {
            line.join(3, ());
            let ((), taken) = line.serve(&mut stash).unwrap();
            taken.ranges.into_iter().for_each(|range| _ = black_box(range.issue()));
        });
    });
    drop(stash.drain().map(Range::issue).collect::<Vec<_>>());
}

fn entries(c: &mut Criterion) {
    c.bench_function("write and read a pod's entry", |b| {
        let mut first = 1;
        b.iter(|| {
            first += 1000;
            black_box(span(first, 1000).to_string().parse::<Span>().unwrap())
        });
    });
    c.bench_function("cut a grant of 1,000 blocks", |b| {
        b.iter(|| {
            blockhouse::block::chunk::blocks(black_box(span(1, 1_000_000)), 1000)
                .for_each(|block| _ = black_box(block))
        });
    });
}

fn tripwire(c: &mut Criterion) {
    c.bench_function("enter a full tripwire", |b| {
        let mut wire = Tripwire::default();
        let mut first = 1;
        for _ in 0..70_000 {
            first += 2000;
            wire.enter(span(first, 1000)).unwrap();
        }
        b.iter(|| {
            first += 2000;
            wire.enter(black_box(span(first, 1000))).unwrap();
        });
    });
}

fn counters(c: &mut Criterion) {
    c.bench_function("count one answer", |b| {
        let counters = Counters::new(64);
        b.iter(|| counters.allocated(black_box(3), Tier::Memory, 1));
    });
    c.bench_function("hold and drop a range", |b| {
        let tally: Arc<Tally> = Arc::default();
        b.iter_batched(
            || Arc::clone(&tally),
            |tally| drop(Range::hold(span(1, 10), 1, tally)),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, stash, entries, tripwire, counters);
criterion_main!(benches);
