//! Each toxic in each direction on each kind of line: no duplicate, hardly an error where others can serve, and all is well afterwards.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::command::{Asked, Part};
use crate::field::Field;
use crate::support::proxy::Proxy;
use crate::support::toxics::{Toxic, Way};
use crate::support::wait;
use crate::trial::{Trial, failures};

/// How long a toxic lies on a line: longer than every time-out but a caller's.
const LASTS: Duration = Duration::from_millis(1_500);

const TOXICS: [Toxic; 8] = [
    Toxic::Latency(Duration::from_millis(150)),
    Toxic::Jitter(Duration::from_millis(300)),
    Toxic::Bandwidth(2_000),
    Toxic::Blackhole,
    Toxic::Reset,
    Toxic::Drop,
    Toxic::Slice(3),
    Toxic::HalfClose,
];

/// The kinds of lines; always those of the first process of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    CallersToAllocator,
    AllocatorToPod,
    AllocatorToLedger,
    HydratorToPod,
    HydratorToLedger,
}

const LINES: [Line; 5] = [
    Line::CallersToAllocator,
    Line::AllocatorToPod,
    Line::AllocatorToLedger,
    Line::HydratorToPod,
    Line::HydratorToLedger,
];

pub async fn run(asked: &Asked) -> Part {
    let mut part = Part::new("proxies", Instant::now());
    let mut rng = Rng::with_seed(asked.seed);
    let cases = LINES.into_iter().flat_map(|line| {
        [Way::Up, Way::Down].into_iter().flat_map(move |way| TOXICS.map(|toxic| (line, way, toxic)))
    });
    let cases = asked.some(cases.collect());
    let trial = Trial::on(Field::start(3, 2, 1).await, asked.seed);
    let (mut fired, mut failed) = (0, 0);
    for (line, way, toxic) in cases.iter().copied() {
        part.cases += 1;
        let name = format!("{} on {way:?} of {line:?}", toxic.name());
        let proxy = line.of(&trial.field, rng.usize(..3));
        let (before, touched) = (trial.counts(), proxy.touched());
        proxy.poison(way, toxic);
        wait::pass(LASTS).await;
        proxy.heal(way, toxic);
        let after = trial.counts();
        if proxy.touched() > touched {
            fired += 1;
        } else {
            part.say(format!("{name} touched nothing"));
        }
        for (allocator, (before, after)) in before.into_iter().zip(after).enumerate() {
            let (failures, too_many) = failures(before, after);
            failed += failures;
            // Whoever talks through a broken line can't be answered; all others must be.
            let touched = line == Line::CallersToAllocator && allocator == 0;
            if too_many && !touched {
                part.fail(format!("{name}: {failures} failures at allocator {allocator}"));
            }
        }
        if !trial.recovers().await {
            part.fail(format!("{name}: not all serve afterwards"));
        }
    }
    part.figure(format!("{fired} toxics had an effect, {failed} requests failed meanwhile"));
    if fired * 10 < part.cases * 9 {
        part.fail("invalid: more than a tenth of the toxics touched nothing");
    }
    trial.end(part).await
}

impl Line {
    fn of(self, field: &Field, pod: usize) -> &Proxy {
        let (allocator, hydrator) = (&field.allocators[0], &field.hydrators[0]);
        match self {
            Line::CallersToAllocator => &allocator.front,
            Line::AllocatorToPod => &allocator.pods[pod],
            Line::AllocatorToLedger => &allocator.ledger,
            Line::HydratorToPod => &hydrator.pods[pod],
            Line::HydratorToLedger => &hydrator.ledger,
        }
    }
}
