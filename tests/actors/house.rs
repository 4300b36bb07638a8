//! A whole process inside a test.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use blockhouse::app::{self, App, Plan, Running};
use blockhouse::block::{Reason, Refusal, Span, Tier};
use blockhouse::config::Settings;
use blockhouse::config::settings::Listen;
use blockhouse::ledger::{Admin, NewSequence};
use blockhouse::observe::Metrics;
use blockhouse::observe::metrics::About;
use blockhouse::role::Roles;
use secrecy::SecretString;
use tokio::time::Instant;

/// How long a condition may take to hold.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A running process, and every range that its callers got.
pub struct House {
    pub running: Running,
    pub ledger: std::rc::Rc<dyn Admin>,
    given: RefCell<Vec<Span>>,
}

/// Small numbers, so that tests reach every edge: blocks of 10, 30 of them in the pods.
pub fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.environment = "test".into();
    settings.ledger.url = Some(SecretString::from("memory:"));
    settings.ledger.connect_spread = Duration::ZERO;
    settings.redis.pods = vec![SecretString::from("memory:3")];
    settings.grpc.listen = vec![Listen::Tcp("127.0.0.1:0".parse().unwrap())];
    settings.grpc.workers = 2;
    settings.admin.listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
    settings.hydrator.interval = Duration::from_millis(20);
    settings.hydrator.min_ids = 300;
    settings.hydrator.max_ids = 300;
    settings.fallback.min_ids = 100;
    settings.exercise.ratio = 0.0;
    settings.drain.delay = Duration::ZERO;
    settings
}

/// Runs `test` in a process with the sequence `tasks` of the IDs 1 to `last`.
pub fn with(settings: Settings, roles: Roles, last: i64, test: impl AsyncFnOnce(House)) {
    app::block_on(async {
        let settings = Arc::new(settings);
        let about = About { environment: "test".into(), stage: "test".into(), cluster: "default".into() };
        let metrics = Metrics::new(&about, app::worker_count(&settings));
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let app = App::build(Plan { settings, roles, metrics, log, seed: 7 }).unwrap();
        let ledger = std::rc::Rc::clone(&app.ledger);
        ledger.create(&tasks(last)).await.unwrap();
        let running = app.bind().unwrap().start();
        running.ready().await.unwrap();
        test(House { running, ledger, given: RefCell::default() }).await;
    });
}

pub fn tasks(last: i64) -> NewSequence {
    NewSequence {
        name: "tasks".into(),
        first: 1,
        last,
        block_size: 10,
        buffer: None,
        failover_gap: None,
        if_not_exists: false,
    }
}

impl House {
    /// Takes IDs of `tasks` at one worker and issues them.
    pub async fn take(&self, worker: usize, count: u32) -> Result<(Vec<Span>, Tier), Refusal> {
        let deadline = Instant::now() + Duration::from_secs(2);
        let allocation =
            self.running.workers[worker].actors.allocator.allocate("tasks", count, deadline).await?;
        let issued = allocation.issue();
        assert_eq!(issued.spans.iter().map(|span| span.count()).sum::<i64>(), i64::from(count));
        assert!(issued.spans.windows(2).all(|two| two[0].last() + 1 < two[1].first()), "{:?}", issued.spans);
        self.given.borrow_mut().extend(&issued.spans);
        Ok((issued.spans, issued.tier))
    }

    /// The same for a caller that tries again while a part of the process is being restarted.
    pub async fn take_at_last(&self, worker: usize, count: u32) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(refusal) = self.take(worker, count).await {
            assert_eq!(refusal.reason, Reason::Starting, "{refusal}");
            assert!(Instant::now() < deadline, "never served again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Panics if an ID was given twice.
    pub fn assert_unique(&self) {
        let mut given = self.given.borrow().clone();
        given.sort_unstable();
        let twice = given.windows(2).find(|two| two[0].overlaps(two[1]));
        assert!(twice.is_none(), "{twice:?}");
    }

    /// IDs given to callers.
    pub fn given(&self) -> i64 {
        self.given.borrow().iter().map(|span| span.count()).sum()
    }

    /// IDs that the ledger has granted.
    pub async fn granted(&self) -> i64 {
        self.ledger.facts(None).await.unwrap().granted[0].1
    }

    /// IDs discarded, whatever the cause.
    pub fn discarded(&self) -> i64 {
        let counters = self.running.process.metrics.sequence("tasks");
        i64::try_from(counters.tally.discarded_in_all()).unwrap()
    }

    /// IDs in the pods, as the hydrator last saw them.
    pub async fn until_pods_hold(&self, ids: i64) {
        until(&format!("the pods hold {ids} IDs"), || {
            let supply =
                self.running.process.supply(|supply| supply.sequences.get("tasks").map(|(ids, _)| *ids));
            supply.is_some_and(|held| held >= ids)
        })
        .await;
    }
}

/// Waits until `condition` holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
