//! A hundred thousand callers of whom most give up at a random point: nobody gets what was meant for another, and nothing is lost uncounted.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::task::JoinSet;

use crate::command::{Asked, Part};
use crate::field::Field;
use crate::judge::Judge;
use crate::support::Cluster;
use crate::support::caller::{Caller, Outcome, Transport};
use crate::traffic::DEADLINE;
use crate::trial;

const CALLERS: u64 = 100_000;

/// At a time, each of them one after the other on one connection.
const LINES: u64 = 32;

/// Steps that a caller goes along at most before it gives up; a request takes fewer.
const STEPS: u32 = 10;

pub async fn run(asked: &Asked) -> Part {
    let mut part = Part::new("cancels", Instant::now());
    part.cases = CALLERS / asked.share;
    let plan = Cluster::new().pods(3).postgres().sequence("tasks").sequence("comments");
    // Time enough that hardly a push or pop is in doubt: what is in doubt can hide what is lost.
    let plan = plan.set("redis.timeout = '1s'");
    let plan = plan.set("hydrator.min_ids = 3000000").set("hydrator.max_ids = 3000000");
    let field = Field::start_as(plan, 2, 1).await;
    let (judge, mut rng, mut lines) = (Judge::new(), Rng::with_seed(asked.seed), JoinSet::new());
    for line in 0..LINES {
        let allocator = (line % 2) as usize;
        let port = field.allocators[allocator].process.port();
        let transport = [Transport::Grpc, Transport::Http][usize::from(line % 4 > 1)];
        let requests = part.cases / LINES + u64::from(line < part.cases % LINES);
        let caller = Caller::new(transport, port);
        lines.spawn(call(caller, transport, allocator, requests, rng.fork(), judge.clone()));
    }
    let mut gave_up = 0;
    while let Some(ended) = lines.join_next().await {
        match ended {
            Ok(of_line) => gave_up += of_line,
            Err(why) => part.fail(format!("a caller: {why}")),
        }
    }
    part.figure(format!("{gave_up} gave up"));
    if gave_up * 4 < part.cases || judge.seen().counts.answered * 10 < part.cases {
        part.fail("invalid: too few gave up, or too few did not");
    }
    trial::end(field, &judge, part).await
}

/// Gives how many gave up.
async fn call(
    mut caller: Caller,
    transport: Transport,
    allocator: usize,
    requests: u64,
    mut rng: Rng,
    judge: Judge,
) -> u64 {
    let mut gave_up = 0;
    for _ in 0..requests {
        // So many different numbers that the answer to another shows by its length.
        let (count, sequence) = (rng.u32(1..=97), ["tasks", "comments"][rng.usize(..2)]);
        let question = judge.asked(allocator, sequence, count);
        let outcome = ask(&mut caller, sequence, count, &mut rng).await;
        let given_up = outcome.is_none();
        let outcome = outcome.unwrap_or_else(|| Outcome::Lost("gave up".to_owned()));
        judge.ended(question, &outcome);
        gave_up += u64::from(given_up);
        // HTTP/1.1 can't go on after an answer that nobody reads; HTTP/2 must.
        if matches!(outcome, Outcome::Lost(_)) && (transport == Transport::Http || !given_up) {
            caller.hang_up();
        }
    }
    gave_up
}

/// What came of it, if the caller lived to see it.
async fn ask(caller: &mut Caller, sequence: &str, count: u32, rng: &mut Rng) -> Option<Outcome> {
    let ask = pin!(caller.ask(sequence, count, DEADLINE));
    match rng.bool() {
        true => Patient { ask, steps: rng.u32(1..STEPS) }.await,
        false => {
            let patience = Duration::from_micros(rng.u64(0..4_000));
            tokio::time::timeout(patience, ask).await.ok()
        }
    }
}

/// Goes along for so many steps.
struct Patient<F> {
    ask: F,
    steps: u32,
}

impl<F: Future<Output = Outcome> + Unpin> Future for Patient<F> {
    type Output = Option<Outcome>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Outcome>> {
        if self.steps == 0 {
            return Poll::Ready(None);
        }
        self.steps -= 1;
        let polled = Pin::new(&mut self.ask).poll(context).map(Some);
        if polled.is_pending() && self.steps == 0 {
            return Poll::Ready(None);
        }
        polled
    }
}
