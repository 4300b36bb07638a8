//! Callers that ask all the time, each at one allocator, and tell the judge whatever they are told.

use std::time::Duration;

use fastrand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::field::Field;
use crate::judge::Judge;
use crate::support::caller::{Caller, Outcome, Transport};
use crate::support::wait;

/// How long a caller waits; gRPC sends it along.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// How much longer a caller listens: the server ends what takes too long, and says so.
const MORE: Duration = Duration::from_secs(1);

/// Callers under way. Dropped, they end at once.
pub struct Traffic {
    stop: watch::Sender<bool>,
    callers: JoinSet<()>,
}

/// One caller's habits.
struct Habits {
    allocator: usize,
    port: u16,
    transport: Transport,
    sequences: Vec<String>,
    pace: Duration,
    rng: Rng,
}

impl Traffic {
    /// So many callers at each allocator, half of them over gRPC and half over HTTP, each asking for 1 to 5,000 IDs once in `pace` on
    /// average. They come through the allocators' own lines.
    pub fn on(field: &Field, callers: usize, pace: Duration, seed: u64, judge: &Judge) -> Traffic {
        let (stop, stopped) = watch::channel(false);
        let mut rng = Rng::with_seed(seed);
        let mut traffic = Traffic { stop, callers: JoinSet::new() };
        for (allocator, member) in field.allocators.iter().enumerate() {
            for number in 0..callers {
                let habits = Habits {
                    allocator,
                    port: member.front.port(),
                    transport: [Transport::Grpc, Transport::Http][number % 2],
                    sequences: field.cluster.sequences().to_vec(),
                    pace,
                    rng: rng.fork(),
                };
                traffic.callers.spawn(call(habits, judge.clone(), stopped.clone()));
            }
        }
        traffic
    }

    /// Lets every caller finish what it asked. Panics if one did.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.callers.join_next().await {
            ended.expect("callers don't panic");
        }
    }
}

async fn call(mut habits: Habits, judge: Judge, stopped: watch::Receiver<bool>) {
    let mut caller = Caller::new(habits.transport, habits.port);
    while !*stopped.borrow() {
        let sequence = habits.rng.usize(..habits.sequences.len());
        let (sequence, count) = (&habits.sequences[sequence], draw(&mut habits.rng));
        ask(&mut caller, habits.allocator, sequence, count, &judge).await;
        wait::pass(habits.pace.mul_f64(habits.rng.f64() * 2.0)).await;
    }
}

/// One request, with everything that the judge must know of it.
pub async fn ask(caller: &mut Caller, allocator: usize, sequence: &str, count: u32, judge: &Judge) {
    let question = judge.asked(allocator, sequence, count);
    let asked = tokio::time::timeout(DEADLINE + MORE, caller.ask(sequence, count, DEADLINE)).await;
    let outcome = asked.unwrap_or_else(|_| Outcome::Lost("no answer in time".to_owned()));
    judge.ended(question, &outcome);
    if matches!(outcome, Outcome::Lost(_)) {
        caller.hang_up();
    }
}

/// 1 to 5,000: each power of two is as likely as the next, so that blocks are mostly cut, sometimes combined.
fn draw(rng: &mut Rng) -> u32 {
    (rng.f64() * 5_000_f64.ln()).exp() as u32
}
