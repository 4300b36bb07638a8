//! Load: callers that ask like applications do, and remember everything they are given.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::caller::{Caller, Outcome, Transport};
use super::checker::Checker;
use super::wait;

/// How long a retrying caller tries one request.
const PATIENCE: Duration = Duration::from_secs(20);

/// A load to start: by default 8 callers, half of them over gRPC and half over HTTP, each asking for 1 to 5,000 IDs about every 10 ms.
#[derive(Clone)]
pub struct Load {
    ports: Vec<u16>,
    sequences: Vec<String>,
    transports: Vec<Transport>,
    callers: usize,
    counts: RangeInclusive<u32>,
    deadline: Duration,
    pace: Duration,
    retrying: bool,
    checker: Checker,
}

/// What became of the requests.
#[derive(Default, Debug)]
pub struct Report {
    /// Requests that got IDs.
    pub answered: u64,
    /// Answers by tier.
    pub tiers: BTreeMap<String, u64>,
    /// Refusals by reason, those that a retry mended included.
    pub refused: BTreeMap<String, u64>,
    /// Requests without an answer by what broke, those that a retry mended included.
    pub lost: BTreeMap<String, u64>,
    /// Requests that a retrying caller gave up.
    pub given_up: u64,
    /// How long each try took, whatever came of it.
    pub took: Vec<Duration>,
}

impl Report {
    /// The time within which `share` of the tries were over.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let at = (took.len() as f64 * share) as usize;
        took.get(at.min(took.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// Panics unless every single request got IDs at its first try.
    #[track_caller]
    pub fn assert_flawless(&self) {
        assert!(self.answered > 0, "nobody asked");
        assert!(
            self.refused.is_empty() && self.lost.is_empty(),
            "refused {:?}, lost {:?}",
            self.refused,
            self.lost
        );
    }

    /// Panics if a try took longer than `limit`.
    #[track_caller]
    pub fn assert_within(&self, limit: Duration) {
        let slowest = self.quantile(1.0);
        assert!(
            slowest <= limit,
            "one of {} tries took {slowest:?}, which is over {limit:?}",
            self.took.len()
        );
    }
}

impl Load {
    /// Load on these ports of this host, spread evenly.
    pub fn on(ports: Vec<u16>, sequences: &[&str], checker: &Checker) -> Load {
        Load {
            ports,
            sequences: sequences.iter().map(|name| (*name).to_owned()).collect(),
            transports: vec![Transport::Grpc, Transport::Http],
            callers: 8,
            counts: 1..=5_000,
            deadline: Duration::from_secs(2),
            pace: Duration::from_millis(10),
            retrying: false,
            checker: checker.clone(),
        }
    }

    /// How many ask at a time.
    pub fn callers(mut self, callers: usize) -> Load {
        self.callers = callers;
        self
    }

    /// How many IDs they ask for; small numbers more often than great ones.
    pub fn counts(mut self, counts: RangeInclusive<u32>) -> Load {
        self.counts = counts;
        self
    }

    /// How long a caller waits; gRPC sends it along.
    pub fn deadline(mut self, deadline: Duration) -> Load {
        self.deadline = deadline;
        self
    }

    /// How long a caller rests between two requests, on average.
    pub fn pace(mut self, pace: Duration) -> Load {
        self.pace = pace;
        self
    }

    /// All callers over gRPC, which tells the server how long they wait.
    pub fn grpc(mut self) -> Load {
        self.transports = vec![Transport::Grpc];
        self
    }

    /// Callers follow UNAVAILABLE: they wait as told, and try the next server.
    pub fn retrying(mut self) -> Load {
        self.retrying = true;
        self
    }

    /// Starts it.
    pub fn start(self) -> Running {
        let (report, mut tasks) = (Arc::new(Mutex::new(Report::default())), JoinSet::new());
        let (stop, stopped) = tokio::sync::watch::channel(false);
        for number in 0..self.callers {
            tasks.spawn(call(self.clone(), number, Arc::clone(&report), stopped.clone()));
        }
        Running { report, tasks, stop }
    }
}

/// A load under way. Dropped, it ends at once.
pub struct Running {
    report: Arc<Mutex<Report>>,
    tasks: JoinSet<()>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Running {
    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.report.lock().expect("no holder panics").answered
    }

    /// Requests without an answer so far.
    pub fn lost(&self) -> u64 {
        self.report.lock().expect("no holder panics").lost.values().sum()
    }

    /// Requests refused with this reason so far.
    pub fn refused(&self, reason: &str) -> u64 {
        let report = self.report.lock().expect("no holder panics");
        report.refused.get(reason).copied().unwrap_or_default()
    }

    /// Goes on until `more` further requests are answered.
    pub async fn until_answered(&self, more: u64) {
        let enough = self.answered() + more;
        wait::until(Duration::from_secs(30), &format!("{more} more answers"), async || {
            self.answered() >= enough
        })
        .await;
    }

    /// Goes on for so long.
    pub async fn go_on(&self, duration: Duration) {
        sleep(duration).await;
    }

    /// Takes what is in the report so far out of it: what follows is measured alone.
    pub fn forget(&self) -> Report {
        std::mem::take(&mut self.report.lock().expect("no holder panics"))
    }

    /// Lets every caller finish what it asked, and reports.
    pub async fn stop(mut self) -> Report {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("callers don't panic");
        }
        std::mem::take(&mut self.report.lock().expect("no holder panics"))
    }
}

async fn call(
    load: Load,
    number: usize,
    report: Arc<Mutex<Report>>,
    stopped: tokio::sync::watch::Receiver<bool>,
) {
    let transport = load.transports[number % load.transports.len()];
    let mut callers: Vec<_> = load.ports.iter().map(|port| Caller::new(transport, *port)).collect();
    let mut turn = number;
    while !*stopped.borrow() {
        let sequence = &load.sequences[fastrand::usize(..load.sequences.len())];
        let (count, began) = (draw(&load.counts), Instant::now());
        loop {
            turn += 1;
            let at = turn % callers.len();
            let pause = ask(&load, &mut callers[at], sequence, count, &report).await;
            let Some(pause) = pause.filter(|_| load.retrying) else { break };
            if began.elapsed() > PATIENCE {
                report.lock().expect("no holder panics").given_up += 1;
                break;
            }
            sleep(pause).await;
        }
        sleep(load.pace.mul_f64(fastrand::f64() * 2.0)).await;
    }
}

/// One try; gives how long to wait before the next, if there has to be one.
async fn ask(
    load: &Load,
    caller: &mut Caller,
    sequence: &str,
    count: u32,
    report: &Mutex<Report>,
) -> Option<Duration> {
    let began = Instant::now();
    // The server ends what takes too long; whoever doesn't hear of it goes on a little later.
    let patience = load.deadline + Duration::from_secs(1);
    let outcome = timeout(patience, caller.ask(sequence, count, load.deadline)).await;
    let took = began.elapsed();
    let mut report = report.lock().expect("no holder panics");
    report.took.push(took);
    match outcome {
        Ok(Outcome::Given { spans, tier }) => {
            assert_eq!(spans.iter().map(|span| span.count()).sum::<i64>(), i64::from(count), "{spans:?}");
            spans.into_iter().for_each(|span| load.checker.record(sequence, span));
            report.answered += 1;
            *report.tiers.entry(tier).or_default() += 1;
            None
        }
        Ok(Outcome::Refused { reason, retry_after }) => {
            *report.refused.entry(reason).or_default() += 1;
            retry_after
        }
        Ok(Outcome::Lost(what)) => {
            caller.hang_up();
            *report.lost.entry(what).or_default() += 1;
            Some(Duration::from_millis(20))
        }
        Err(_) => {
            caller.hang_up();
            *report.lost.entry("no answer in time".to_owned()).or_default() += 1;
            Some(Duration::ZERO)
        }
    }
}

/// Each power of two is as likely as the next, so that blocks are mostly cut, sometimes combined.
fn draw(counts: &RangeInclusive<u32>) -> u32 {
    let (least, most) = (f64::from(*counts.start()).ln(), f64::from(*counts.end()).ln());
    (fastrand::f64().mul_add(most - least, least).exp().round() as u32).clamp(*counts.start(), *counts.end())
}
