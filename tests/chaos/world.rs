//! One process with every role, its ledger and three pods, and others of its cluster that are only heard.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_rt::System;
use blockhouse::actor::Process;
use blockhouse::actor::chaos::Outlook;
use blockhouse::actor::wiring::{Actors, WorkerActors};
use blockhouse::block::chaos::{By, Fault, Refused, Wish};
use blockhouse::block::{Refusal, Span, Stamp, Tier};
use blockhouse::chaos::Lines;
use blockhouse::config::Settings;
use blockhouse::ledger::memory::Memory;
use blockhouse::ledger::{Admin, Expected, NewSequence};
use blockhouse::observe::Metrics;
use blockhouse::observe::metrics::About;
use blockhouse::observe::status::{Chaos, Drill};
use blockhouse::pods::memory::Server;
use blockhouse::pods::{Pod, Seen, Target};
use blockhouse::role::Roles;
use blockhouse::shutdown::Phase;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a condition may take to hold, of virtual time.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Tuesday, 24 November 2026, 10:00 UTC: when every test begins.
const TUESDAY: i64 = 1_795_514_400;

pub struct World {
    pub shared: Arc<Process>,
    pub actors: Actors,
    /// Set once the process is asked to drain.
    pub drain: watch::Receiver<bool>,
    pub phase: watch::Sender<Phase>,
    /// How many other processes are heard.
    pub peers: Rc<Cell<usize>>,
    pub pods: Vec<Rc<dyn Pod>>,
    /// The ledger itself, whatever lies on the line to it.
    pub ledger: Memory,
    workers: Vec<WorkerActors>,
    given: RefCell<Vec<Span>>,
}

/// Drills in earnest, by hand only, with short pauses; blocks of 10 and 30 of them in the pods.
pub fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.environment = "test".into();
    settings.instance = "ids-1".into();
    settings.ledger.connect_spread = Duration::ZERO;
    settings.grpc.workers = 2;
    settings.hydrator.min_ids = 300;
    settings.hydrator.max_ids = 300;
    settings.fallback.min_ids = 1;
    settings.exercise.ratio = 0.0;
    settings.chaos.enabled = true;
    settings.chaos.dry_run = false;
    settings.chaos.every = Duration::ZERO;
    settings.chaos.terminate_every = Duration::ZERO;
    settings.chaos.quiet = Vec::new();
    settings.chaos.pause = Duration::from_secs(1);
    settings
}

/// Runs `test` in a process that is ready, whose pods are filled, and that hears two others. Afterwards no ID was given twice.
pub fn with(settings: Settings, test: impl AsyncFnOnce(&World)) {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    System::with_tokio_rt(runtime).block_on(async {
        let world = World::start(settings).await;
        until("it is ready and hears others", async || {
            let supply = world.shared.supply(|supply| supply.sequences.get("tasks").map(|(ids, _)| *ids));
            world.shared.ready().is_ok() && supply == Some(300)
        })
        .await;
        test(&world).await;
        world.assert_unique();
    });
}

impl World {
    async fn start(settings: Settings) -> World {
        let mut rng = fastrand::Rng::with_seed(7);
        let expected = Expected { environment: Arc::clone(&settings.environment), id: None };
        let ledger = Memory::new(expected, rng.fork());
        ledger.create(&tasks()).await.unwrap();
        let servers: Vec<Server> = (1..=3).map(|number| Server::new(number, &mut rng)).collect();
        let targets: Vec<Arc<dyn Target>> =
            servers.iter().map(|server| Arc::new(server.clone()) as _).collect();
        let roster = watch::channel(targets.into()).1;

        let about = About { environment: "test".into(), stage: "test".into(), cluster: "default".into() };
        let (settings, workers) = (Arc::new(settings), 2);
        let metrics = Metrics::new(&about, workers);
        let shared = Arc::new(Process::new(Arc::clone(&settings), Roles::ALL, workers, metrics, log()));
        let (phase, phases) = watch::channel(Phase::Serving);
        let (asked, drain) = watch::channel(false);
        let lines = Lines::default();
        let behind = lines.to_ledger(Rc::new(ledger.clone()), settings.ledger.connect_timeout);
        let lined = lines.to_pods(roster.clone());
        let mut actors = Actors::start(&shared, behind, lined, phases.clone(), asked, &mut rng);
        let workers: Vec<_> = (0..workers).map(|worker| actors.seat(worker, rng.fork()).start()).collect();
        let began = Instant::now();
        let clock = move || {
            OffsetDateTime::from_unix_timestamp(TUESDAY).unwrap()
                + time::Duration::try_from(began.elapsed()).unwrap()
        };
        actors.start_chaos(&workers, lines, Outlook { roster, phases, clock: Rc::new(clock) }, rng.fork());

        let pods: Vec<Rc<dyn Pod>> =
            servers.iter().map(|server| server.open(&settings.redis, &log())).collect();
        let peers = Rc::new(Cell::new(2));
        tokio::task::spawn_local(be_heard(pods.clone(), Rc::clone(&peers)));
        World { shared, actors, drain, phase, peers, pods, ledger, workers, given: RefCell::default() }
    }

    /// Injects it for so many seconds.
    pub async fn inject(&self, fault: Fault, target: Option<&str>, seconds: u64) -> Result<Drill, Refused> {
        let lasts = Some(Duration::from_secs(seconds));
        let wish = Wish { fault, target: target.map(Arc::from), lasts, dry_run: false, by: By::Hand };
        self.actors.control.inject(wish).await
    }

    /// What the role shows.
    pub fn chaos(&self) -> Chaos {
        self.shared.chaos().unwrap()
    }

    /// Waits until nothing runs, and gives what ran last.
    pub async fn over(&self) -> Drill {
        until("the drill is over", async || self.chaos().running.is_none()).await;
        self.chaos().history.last().cloned().unwrap()
    }

    /// `blockhouse_chaos_faults_total`
    pub fn counted(&self, fault: Fault) -> u64 {
        let text = self.shared.metrics.encode(false);
        let series = format!("blockhouse_chaos_faults_total{{fault=\"{fault}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
    }

    /// Takes IDs of `tasks` at the first worker.
    pub async fn take(&self, count: u32) -> Result<Tier, Refusal> {
        let deadline = Instant::now() + Duration::from_secs(8);
        let issued = self.workers[0].allocator.allocate("tasks", count, deadline).await?.issue();
        assert_eq!(issued.spans.iter().map(|span| span.count()).sum::<i64>(), i64::from(count));
        self.given.borrow_mut().extend(issued.spans);
        Ok(issued.tier)
    }

    /// Addresses of pods that the process can't use.
    pub async fn pods_down(&self) -> Vec<String> {
        let status = self.actors.control.status().await;
        status.pods.into_iter().filter(|pod| pod.state != "up").map(|pod| pod.address).collect()
    }

    pub async fn until_pods_down(&self, addresses: &[&str]) {
        until(&format!("pods {addresses:?} are down"), async || self.pods_down().await == addresses).await;
    }

    pub fn ledger_state(&self) -> &'static str {
        self.shared.ledger().state
    }

    pub async fn until_ledger_is(&self, state: &str) {
        until(&format!("the ledger is {state}"), async || self.ledger_state() == state).await;
    }

    /// How often the actor of this name was restarted.
    pub fn restarts(&self, name: &str) -> u64 {
        let parts = self.shared.parts();
        parts.iter().find(|part| part.name == name).unwrap().restarts.load(Ordering::Relaxed)
    }

    fn assert_unique(&self) {
        let mut given = self.given.borrow().clone();
        given.sort_unstable();
        let twice = given.windows(2).find(|two| two[0].overlaps(two[1]));
        assert!(twice.is_none(), "{twice:?}");
    }
}

/// Other processes say each second that they are there.
async fn be_heard(pods: Vec<Rc<dyn Pod>>, peers: Rc<Cell<usize>>) {
    loop {
        for number in 0..peers.get() {
            for pod in &pods {
                let by = Some((format!("peer-{number}").into(), Stamp { epoch: 1, version: 1 }));
                pod.heartbeat(&Seen { by, ..Seen::default() }).await.unwrap();
            }
        }
        pass(Duration::from_secs(1)).await;
    }
}

/// Lets virtual time pass.
pub async fn pass(time: Duration) {
    let deadline = Instant::now() + time;
    tokio::time::sleep(deadline - Instant::now()).await;
}

/// Waits until `condition` holds.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn tasks() -> NewSequence {
    NewSequence {
        name: "tasks".into(),
        first: 1,
        last: 1_000_000_000,
        block_size: 10,
        buffer: None,
        failover_gap: None,
        if_not_exists: false,
    }
}

fn log() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}
