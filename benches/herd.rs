//! What a thousand allocators ask of one ledger: on a day like any other, when everything starts at once, without any cache, and
//! with a fifth of the pods away. Real actors on virtual time, one thread.
//!
//! `cargo bench --bench herd [-- --clusters N]`; 200 clusters take some minutes. Prints a table, then the comparison of routing: how many
//! requests to the ledger are saved by asking every pod instead of one at random.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails fails")]
#![allow(dead_code, reason = "of the lines that tests can break, only two kinds are needed here")]

#[path = "../tests/virtual_time/faults.rs"]
mod faults;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::System;
use blockhouse::actor;
use blockhouse::actor::wiring::{Actors, WorkerActors};
use blockhouse::config::Settings;
use blockhouse::ledger::memory::Memory;
use blockhouse::ledger::{Admin, Expected, NewSequence};
use blockhouse::observe::Metrics;
use blockhouse::observe::metrics::About;
use blockhouse::pods::Target;
use blockhouse::role::Roles;
use blockhouse::shutdown::Phase;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use faults::{Cache, Line, Link};

const PODS: usize = 5;
const ALLOCATORS: usize = 5;
/// Of one allocator, each second: in all 10 million with 200 clusters.
const IDS_PER_SECOND: u32 = 10_000;
const BLOCK: i64 = 100_000;
const MINUTE: Duration = Duration::from_secs(60);

const ALLOCATOR: Roles = Roles { allocator: true, hydrator: false };
const HYDRATOR: Roles = Roles { allocator: false, hydrator: true };

/// Everything that uses the ledger.
struct Herd {
    ledger: Memory,
    clusters: Vec<Vec<Cache>>,
    processes: Vec<Process>,
    rng: fastrand::Rng,
    answered: Rc<Cell<u64>>,
    refused: Rc<Cell<u64>>,
}

struct Process {
    link: Link,
    _actors: Actors,
    _workers: Vec<WorkerActors>,
    _phase: watch::Sender<Phase>,
}

/// What was asked of the ledger in a while.
struct Load {
    seconds: f64,
    by_kind: BTreeMap<&'static str, usize>,
    busiest_second: usize,
    /// Processes that asked for anything: each has one connection.
    connections: usize,
    answered: u64,
    refused: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` only wants to know that it runs.
    let smoke = arguments.iter().any(|argument| argument == "--test");
    let named = arguments.iter().skip_while(|argument| *argument != "--clusters").nth(1);
    let clusters = named.map_or(if smoke { 1 } else { 200 }, |number| number.parse().unwrap());
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    System::with_tokio_rt(runtime).block_on(tokio::task::LocalSet::new().run_until(run(clusters)));
    routing();
}

async fn run(clusters: usize) {
    let mut herd = Herd::new(clusters).await;
    println!(
        "{clusters} clusters of {ALLOCATORS} allocators and {PODS} pods, {} IDs/s in all",
        clusters * ALLOCATORS * IDS_PER_SECOND as usize
    );
    println!(
        "{:<34} {:>10} {:>10} {:>11} {:>9} {:>9}  by kind, each second",
        "", "requests/s", "busiest", "connections", "answered", "refused"
    );
    let began = Instant::now();
    for cluster in 0..clusters {
        herd.start_cluster(cluster);
    }
    sleep(MINUTE).await;
    herd.show("everything starts at once (1 min)", began);
    // The pods come to hold what a day needs.
    sleep(5 * MINUTE).await;
    herd.during("a day like any other (10 min)", 10 * MINUTE).await;
    let fifth: Vec<Cache> =
        herd.clusters.iter().map(|pods| herd.rng.clone().choice(pods.iter()).unwrap().clone()).collect();
    fifth.iter().for_each(|pod| pod.set(Line::Refuses));
    herd.during("a pod of each cluster away (10 min)", 10 * MINUTE).await;
    fifth.iter().for_each(|pod| pod.set(Line::Well));
    sleep(MINUTE).await;
    for line in [Line::Refuses, Line::Swallows] {
        let how = if line == Line::Refuses { "dead" } else { "silent" };
        herd.clusters.iter().flatten().for_each(|pod| pod.set(line));
        herd.during(&format!("all pods {how} (10 min)"), 10 * MINUTE).await;
        herd.clusters.iter().flatten().for_each(|pod| pod.set(Line::Well));
        herd.during("all pods back (1 min)", MINUTE).await;
    }
}

impl Herd {
    async fn new(clusters: usize) -> Herd {
        let mut rng = fastrand::Rng::with_seed(1);
        let ledger = Memory::new(Expected { environment: "herd".into(), id: None }, rng.fork());
        let tasks = NewSequence {
            name: "tasks".into(),
            first: 1,
            last: i64::MAX,
            block_size: BLOCK,
            buffer: None,
            failover_gap: None,
            if_not_exists: false,
        };
        ledger.create(&tasks).await.unwrap();
        let pods = |_| (1..=PODS).map(|number| Cache::new(number, &mut rng)).collect();
        let clusters = (0..clusters).map(pods).collect();
        Herd { ledger, clusters, processes: Vec::new(), rng, answered: Rc::default(), refused: Rc::default() }
    }

    fn start_cluster(&mut self, cluster: usize) {
        self.start(cluster, &format!("hydrator-{cluster}"), HYDRATOR);
        for allocator in 0..ALLOCATORS {
            self.start(cluster, &format!("allocator-{cluster}-{allocator}"), ALLOCATOR);
        }
    }

    fn start(&mut self, cluster: usize, name: &str, roles: Roles) {
        let mut settings = Settings { environment: "herd".into(), ..Settings::default() };
        settings.cluster = format!("cluster-{cluster}").into();
        settings.instance = name.into();
        settings.grpc.workers = 1;
        // What a fallback covers is a minute of 10,000 a second.
        settings.hydrator.max_ids = i64::MAX;
        settings.fallback.max_ids = i64::MAX;
        let workers = usize::from(roles.allocator);
        let about = About {
            environment: "herd".into(),
            stage: "herd".into(),
            cluster: Arc::clone(&settings.cluster),
        };
        let metrics = Metrics::new(&about, workers);
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let shared = Arc::new(actor::Process::new(Arc::new(settings), roles, workers, metrics, log));
        let targets: Vec<Arc<dyn Target>> = self.clusters[cluster].iter().map(Cache::target).collect();
        let roster = watch::channel(targets.into()).1;
        let (phase, phases) = watch::channel(Phase::Serving);
        let (drain, _) = watch::channel(false);
        let link = Link::new(self.ledger.clone());
        let actors = Actors::start(&shared, Rc::new(link.clone()), roster, phases, drain, &mut self.rng);
        let workers: Vec<WorkerActors> =
            (0..workers).map(|worker| actors.seat(worker, self.rng.fork()).start()).collect();
        if let Some(worker) = workers.first() {
            let allocator = worker.allocator.clone();
            let (answered, refused) = (Rc::clone(&self.answered), Rc::clone(&self.refused));
            let mut rng = self.rng.fork();
            tokio::task::spawn_local(async move {
                let mut next = Instant::now() + Duration::from_millis(rng.u64(..1000));
                loop {
                    sleep_until(next).await;
                    next += Duration::from_secs(1);
                    let deadline = Instant::now() + Duration::from_secs(2);
                    let count = match allocator.allocate("tasks", IDS_PER_SECOND, deadline).await {
                        Ok(allocation) => {
                            _ = allocation.issue();
                            &answered
                        }
                        Err(_) => &refused,
                    };
                    count.set(count.get() + 1);
                }
            });
        }
        self.processes.push(Process { link, _actors: actors, _workers: workers, _phase: phase });
    }

    async fn during(&self, what: &str, time: Duration) {
        self.answered.set(0);
        self.refused.set(0);
        let began = Instant::now();
        sleep(time).await;
        self.show(what, began);
    }

    fn show(&self, what: &str, since: Instant) {
        let load = self.load(since);
        let each_second: Vec<String> = load
            .by_kind
            .iter()
            .map(|(kind, count)| format!("{kind} {:.2}", *count as f64 / load.seconds))
            .collect();
        let in_all: usize = load.by_kind.values().sum();
        println!(
            "{what:<34} {:>10.1} {:>10} {:>11} {:>9} {:>9}  {}",
            in_all as f64 / load.seconds,
            load.busiest_second,
            load.connections,
            load.answered,
            load.refused,
            each_second.join(", ")
        );
    }

    fn load(&self, since: Instant) -> Load {
        let (mut by_kind, mut by_second, mut connections) = (BTreeMap::new(), BTreeMap::new(), 0);
        for process in &self.processes {
            let asked = process.link.asked(since);
            connections += usize::from(!asked.is_empty());
            for (at, kind) in asked {
                *by_kind.entry(kind).or_default() += 1;
                *by_second.entry((at - since).as_secs()).or_insert(0) += 1;
            }
        }
        Load {
            seconds: since.elapsed().as_secs_f64(),
            by_kind,
            busiest_second: by_second.into_values().max().unwrap_or(0),
            connections,
            answered: self.answered.get(),
            refused: self.refused.get(),
        }
    }
}

/// How many of `requests` reach the ledger where each pod holds blocks with chance `filled`: asking one at random, and asking all.
fn misses(filled: f64, requests: u32, rng: &mut fastrand::Rng) -> (u32, u32) {
    let (mut one, mut all) = (0, 0);
    for _ in 0..requests {
        let holds: Vec<bool> = (0..PODS).map(|_| rng.f64() < filled).collect();
        one += u32::from(!rng.choice(&holds).unwrap());
        all += u32::from(!holds.contains(&true));
    }
    (one, all)
}

/// The same number of blocks, in pods that were filled unevenly: how much fewer requests reach the ledger when every pod is asked.
///
/// `supply` is what the pods hold of what is needed until the next filling. It is spread by chance, as by a hydrator whose pushes to
/// some pods failed. One request takes one block.
fn uneven(supply: f64, rng: &mut fastrand::Rng) -> (u32, u32) {
    const NEEDED: u32 = 1_000;
    let mut pods = [0_u32; PODS];
    let weights: Vec<f64> = (0..PODS).map(|_| -rng.f64().max(1e-9).ln()).collect();
    let sum: f64 = weights.iter().sum();
    for (pod, weight) in pods.iter_mut().zip(&weights) {
        *pod = (weight / sum * supply * f64::from(NEEDED)) as u32;
    }
    let held: u32 = pods.iter().sum();
    let mut one = 0;
    for _ in 0..NEEDED {
        match &mut pods[rng.usize(..PODS)] {
            0 => one += 1,
            blocks => *blocks -= 1,
        }
    }
    (one, NEEDED.saturating_sub(held))
}

fn routing() {
    let mut rng = fastrand::Rng::with_seed(2);
    println!(
        "\nrequests to the ledger that are saved by asking every pod instead of one at random ({PODS} pods)"
    );
    println!("{:>22}  {:>16} {:>8}", "", "one at random", "every");
    for away in [0, 10, 20, 30, 40, 50, 60, 70, 80, 90] {
        let (one, all) = misses(1.0 - f64::from(away) / 100.0, 200_000, &mut rng);
        println!("{:>18} % dry  {one:>16} {all:>8}  {}", away, saved(one, all));
    }
    println!("\nthe same for pods filled unevenly, by how much they hold of what is needed");
    for supply in [25, 50, 75, 90, 100, 125, 150, 200, 300] {
        let runs = (0..2_000).map(|_| uneven(f64::from(supply) / 100.0, &mut rng));
        let (one, all) = runs.fold((0, 0), |sum, run| (sum.0 + run.0, sum.1 + run.1));
        println!("{:>17} % held  {one:>16} {all:>8}  {}", supply, saved(one, all));
    }
}

fn saved(one: u32, all: u32) -> String {
    match one {
        0 => "nothing to save".to_owned(),
        _ => format!("{:.0} % fewer", 100.0 * (1.0 - f64::from(all) / f64::from(one))),
    }
}
