//! Callers that go on through every fault, and remember what they were given and when they were served.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use blockhouse::block::Span;
use blockhouse::block::checker::{Answer, Checker, Fruitless};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::support::caller::{Caller, Outcome, Transport};
use crate::support::wait;

/// How long a caller waits for an answer before it hangs up: whatever is held is held for less.
const PATIENCE: Duration = Duration::from_secs(10);

/// One caller: at one process, of one sequence.
#[derive(Clone, Copy)]
pub struct Habit {
    pub port: u16,
    pub transport: Transport,
    pub sequence: &'static str,
    /// As few as this, as many as that at once.
    pub counts: (u32, u32),
    /// Between two requests.
    pub pace: Duration,
}

/// An answer.
pub struct Given {
    pub sequence: &'static str,
    pub asked: u32,
    pub spans: Vec<Span>,
}

/// What callers saw so far.
#[derive(Default)]
pub struct Seen {
    pub given: Vec<Given>,
    pub asked: u64,
    pub refused: u64,
    pub lost: u64,
    pub under_way: usize,
    /// By caller: when the newest request was made that was answered.
    pub served: Vec<Option<Instant>>,
}

impl Seen {
    /// Tells the checker all of it.
    pub fn tell(&self, checker: &mut Checker) {
        (0..self.asked).for_each(|_| checker.asked());
        (0..self.refused).for_each(|_| checker.fruitless(Fruitless::Failed));
        (0..self.lost).for_each(|_| checker.fruitless(Fruitless::Unknown));
        let (since, at) = (Duration::ZERO, Duration::ZERO);
        for given in &self.given {
            let (sequence, asked, spans) = (given.sequence, i64::from(given.asked), &given.spans);
            checker.answered(&Answer { sequence, asked, spans, by: None, since, at });
        }
    }
}

/// Callers under way. Dropped, they end at once.
pub struct Callers {
    seen: Arc<Mutex<Seen>>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Callers {
    pub fn start(habits: &[Habit]) -> Callers {
        let seen = Seen { served: vec![None; habits.len()], ..Seen::default() };
        let (seen, mut tasks) = (Arc::new(Mutex::new(seen)), JoinSet::new());
        let (stop, stopped) = watch::channel(false);
        for (number, habit) in habits.iter().enumerate() {
            tasks.spawn(call(number, *habit, Arc::clone(&seen), stopped.clone()));
        }
        Callers { seen, tasks, stop }
    }

    /// Requests without an answer at this moment.
    pub fn under_way(&self) -> usize {
        lock(&self.seen).under_way
    }

    /// Waits until each of them was served with what it asked after this moment.
    pub async fn served_since(&self, since: Instant, deadline: Duration) -> Result<(), String> {
        let missing = || {
            let seen = lock(&self.seen);
            let late = |at: &Option<Instant>| at.is_none_or(|at| at < since);
            seen.served
                .iter()
                .enumerate()
                .filter(|(_, at)| late(at))
                .map(|(number, _)| number)
                .collect::<Vec<_>>()
        };
        let end = Instant::now() + deadline;
        wait::until(deadline + PATIENCE, "callers are served, or are not", async || {
            missing().is_empty() || Instant::now() > end
        })
        .await;
        match missing() {
            none if none.is_empty() => Ok(()),
            some => Err(format!("callers {some:?} were not served within {deadline:?}")),
        }
    }

    /// Lets each finish what it asked.
    pub async fn stop(mut self) -> Seen {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("callers don't panic");
        }
        std::mem::take(&mut lock(&self.seen))
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("nobody panics with it in hand")
}

async fn call(number: usize, habit: Habit, seen: Arc<Mutex<Seen>>, stopped: watch::Receiver<bool>) {
    let mut caller = Caller::new(habit.transport, habit.port);
    let mut turn = interval(habit.pace);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stopped.borrow() {
        turn.tick().await;
        let asked = fastrand::u32(habit.counts.0..=habit.counts.1);
        let began = Instant::now();
        {
            let mut seen = lock(&seen);
            seen.asked += 1;
            seen.under_way += 1;
        }
        let outcome = timeout(PATIENCE, caller.ask(habit.sequence, asked, PATIENCE)).await;
        let mut seen = lock(&seen);
        seen.under_way -= 1;
        match outcome {
            Ok(Outcome::Given { spans, .. }) => {
                seen.given.push(Given { sequence: habit.sequence, asked, spans });
                seen.served[number] = Some(began);
            }
            Ok(Outcome::Refused { .. }) => seen.refused += 1,
            Ok(Outcome::Lost(_)) | Err(_) => {
                seen.lost += 1;
                caller.hang_up();
            }
        }
    }
}
