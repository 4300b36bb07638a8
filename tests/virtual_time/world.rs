//! A ledger, pods, and processes that come and go.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::System;
use blockhouse::actor::Allocation;
use blockhouse::block::{Cause, Refusal, Span, Tier};
use blockhouse::config::Settings;
use blockhouse::ledger::memory::Memory;
use blockhouse::ledger::{Admin, Expected, GrantRecord, Ledger, NewSequence, SequenceRow};
use blockhouse::pods::{List, Notice, Scope, Target};
use blockhouse::role::Roles;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::faults::{Cache, Link};
use crate::running::Running;
pub use crate::running::{ALLOCATOR, HYDRATOR};

/// How long a condition may take to hold, unless a test says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A ledger and pods, and whatever was given to callers.
pub struct World {
    /// The ledger itself, whatever the processes' lines to it do.
    pub ledger: Memory,
    pub pods: Vec<Cache>,
    settings: Settings,
    given: Rc<RefCell<Vec<Span>>>,
    rng: RefCell<fastrand::Rng>,
}

/// One process of it.
pub struct Process {
    running: Running,
    pub link: Link,
    given: Rc<RefCell<Vec<Span>>>,
}

/// The settings that a file without a key gives, but small: blocks of 1,000 and 30 of them in the pods; no exercise.
pub fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.environment = "test".into();
    settings.ledger.connect_spread = Duration::ZERO;
    settings.grpc.workers = 2;
    settings.hydrator.min_ids = 30_000;
    settings.exercise.ratio = 0.0;
    settings
}

/// Runs `test` in a world with `pods` pods and the sequence `tasks` of the IDs 1 to 10^12.
pub fn with(settings: Settings, pods: usize, seed: u64, test: impl AsyncFnOnce(World)) {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    System::with_tokio_rt(runtime).block_on(async {
        let mut rng = fastrand::Rng::with_seed(seed);
        let expected = Expected { environment: Arc::clone(&settings.environment), id: None };
        let ledger = Memory::new(expected, rng.fork());
        ledger.create(&sequence("tasks")).await.unwrap();
        let pods = (1..=pods).map(|number| Cache::new(number, &mut rng)).collect();
        test(World { ledger, pods, settings, given: Rc::default(), rng: rng.into() }).await;
    });
}

pub fn sequence(name: &str) -> NewSequence {
    NewSequence {
        name: name.into(),
        first: 1,
        last: 1_000_000_000_000,
        block_size: 1_000,
        buffer: None,
        failover_gap: None,
        if_not_exists: false,
    }
}

impl World {
    /// Starts a process that reaches the ledger and all pods.
    pub fn start(&self, name: &str, roles: Roles) -> Process {
        self.start_with(name, roles, |_| {})
    }

    /// The same with other settings.
    pub fn start_with(&self, name: &str, roles: Roles, change: impl FnOnce(&mut Settings)) -> Process {
        let mut settings = self.settings.clone();
        settings.instance = name.into();
        change(&mut settings);
        let link = Link::new(self.ledger.clone());
        let targets: Vec<Arc<dyn Target>> = self.pods.iter().map(Cache::target).collect();
        let roster = watch::channel(targets.into()).1;
        let rng = self.rng.borrow_mut().fork();
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let running = Running::start(settings, roles, Rc::new(link.clone()), roster, rng, log);
        Process { running, link, given: Rc::clone(&self.given) }
    }

    /// Starts a hydrator and waits until its first supply lies in the pods.
    pub async fn start_hydrator(&self) -> Process {
        let hydrator = self.start("hydrator", HYDRATOR);
        let pods = i64::try_from(self.pods.len()).unwrap();
        let least = self.settings.hydrator.min_ids / pods / 1_000 * 1_000 * pods;
        until("the pods are filled", PATIENCE, async || self.in_pods().await >= least).await;
        hydrator
    }

    /// IDs of `tasks` in each pod, in the pods' order.
    pub async fn in_each_pod(&self) -> Vec<i64> {
        let list = self.list().await;
        let mut held = Vec::new();
        for pod in &self.pods {
            let lists = [(Arc::clone(&list.sequence), list.generation)];
            let inspection = pod.pod().inspect(&list.scope, &lists).await.unwrap();
            held.push(i64::try_from(inspection.blocks[0]).unwrap() * 1_000);
        }
        held
    }

    /// IDs of `tasks` in all pods, where all entries are whole blocks.
    pub async fn in_pods(&self) -> i64 {
        self.in_each_pod().await.iter().sum()
    }

    /// Takes everything out of the pods: exactly how many IDs of `tasks` lay there.
    pub async fn empty_pods(&self) -> i64 {
        let list = self.list().await;
        let mut ids = 0;
        for pod in &self.pods {
            let popped = pod.pod().pop(&list, u32::MAX).await.unwrap();
            ids += popped.entries.iter().map(|entry| entry.parse::<Span>().unwrap().count()).sum::<i64>();
        }
        ids
    }

    async fn list(&self) -> List {
        let facts = self.ledger.facts(None).await.unwrap();
        let scope = Scope { ledger: facts.identity.ledger, cluster: Arc::clone(&self.settings.cluster) };
        List { scope, sequence: "tasks".into(), generation: facts.catalogue.sequences["tasks"].generation }
    }

    /// Moves `tasks` to a new generation whose IDs lie above `above`, and tells those pods that can be told, as the command does.
    pub async fn advance(&self, above: i64) -> SequenceRow {
        let row = self.ledger.advance("tasks", above).await.unwrap();
        let facts = self.ledger.facts(None).await.unwrap();
        let notice = Notice {
            identity: facts.identity,
            cluster: Arc::clone(&self.settings.cluster),
            catalogue: Arc::new(facts.catalogue),
            high_waters: facts.granted,
            read_at_us: 1,
        };
        for pod in &self.pods {
            pod.pod().publish(&notice).await.unwrap();
        }
        row
    }

    /// IDs of `tasks` that the ledger has granted.
    pub async fn granted(&self) -> i64 {
        self.ledger.facts(None).await.unwrap().granted[0].1
    }

    /// Every grant of `tasks` for this purpose, oldest first.
    pub async fn grants(&self, purpose: &str) -> Vec<GrantRecord> {
        let (mut records, mut id, granted) = (Vec::new(), 1, self.granted().await);
        while id <= granted {
            let record =
                self.ledger.lookup("tasks", id).await.unwrap().expect("every granted ID has a record");
            id = record.span.last() + 1;
            records.push(record);
        }
        records.retain(|record| record.purpose == purpose);
        records
    }

    /// IDs given to callers so far.
    pub fn given(&self) -> i64 {
        self.given.borrow().iter().map(|span| span.count()).sum()
    }

    /// Panics if an ID was given twice.
    pub fn assert_unique(&self) {
        let mut given = self.given.borrow().clone();
        given.sort_unstable();
        let twice = given.windows(2).find(|two| two[0].overlaps(two[1]));
        assert!(twice.is_none(), "{twice:?}");
    }
}

impl Process {
    /// Takes IDs of `tasks` at one worker, within `patience`.
    pub async fn take_within(
        &self,
        worker: usize,
        count: u32,
        patience: Duration,
    ) -> Result<(Vec<Span>, Tier), Refusal> {
        let deadline = Instant::now() + patience;
        let allocation = self.workers[worker].allocator.allocate("tasks", count, deadline).await;
        assert!(Instant::now() <= deadline, "an answer after its deadline");
        let issued = allocation?.issue();
        assert_eq!(issued.spans.iter().map(|span| span.count()).sum::<i64>(), i64::from(count));
        self.given.borrow_mut().extend(&issued.spans);
        Ok((issued.spans, issued.tier))
    }

    /// Takes IDs of any sequence at the first worker, not yet issued.
    pub async fn allocate(
        &self,
        sequence: &str,
        count: u32,
        deadline: Instant,
    ) -> Result<Allocation, Refusal> {
        self.workers[0].allocator.allocate(sequence, count, deadline).await
    }

    /// Takes IDs of `tasks` at one worker, within two seconds.
    pub async fn take(&self, worker: usize, count: u32) -> Result<(Vec<Span>, Tier), Refusal> {
        self.take_within(worker, count, Duration::from_secs(2)).await
    }

    /// Waits until it can answer.
    pub async fn ready(&self) {
        until("it is ready", PATIENCE, async || self.shared.ready().is_ok()).await;
    }

    /// IDs of `tasks` that it discarded.
    pub fn discarded(&self) -> i64 {
        i64::try_from(self.shared.metrics.sequence("tasks").tally.discarded_in_all()).unwrap()
    }

    /// IDs of `tasks` that it discarded for this cause.
    pub fn discarded_for(&self, cause: Cause) -> i64 {
        i64::try_from(self.shared.metrics.sequence("tasks").tally.discarded(cause)).unwrap()
    }

    /// The generation of `tasks` that it knows.
    pub fn generation(&self) -> i64 {
        self.shared.known.sequence("tasks").map_or(0, |sequence| sequence.facts.generation)
    }

    /// Ends it at once.
    pub async fn crash(self) {
        self.running.crash().await;
    }
}

impl Deref for Process {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

/// Waits until `condition` holds.
pub async fn until(what: &str, patience: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
