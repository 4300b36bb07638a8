//! PostgreSQL does what every ledger does: the behaviours that SQLite and memory are held to in `tests/ledgers.rs`.

use std::cell::RefCell;
use std::rc::Rc;

use blockhouse::config::Settings;
use blockhouse::ledger::{self, Admin, Expected};
use secrecy::SecretString;

use crate::conformance::lives::Lived;
use crate::conformance::{self, Bed, ENVIRONMENT};
use crate::support::postgres::Postgres;

/// A server of its own, migrated.
struct Server(RefCell<Postgres>);

impl Bed for Server {
    fn handle(&self, expected: Expected) -> Rc<dyn Admin> {
        let mut settings = Settings::default().ledger;
        settings.url = Some(SecretString::from(self.0.borrow().url()));
        let log = slog::Logger::root(slog::Discard, slog::o!());
        ledger::open(&settings, expected, "conformance", &log).unwrap()
    }
}

impl Lived for Server {
    fn restart(&self) {
        self.0.borrow_mut().restart();
    }

    fn restore_dump(&self) {
        let server = self.0.borrow();
        server.restore(&server.dump());
    }

    fn age_by(&self, hours: u32) {
        self.0.borrow().age_by(hours);
    }
}

fn run(behaviour: impl AsyncFnOnce(&dyn Bed)) {
    with_server(async |server| behaviour(server).await);
}

fn run_lived(behaviour: impl AsyncFnOnce(&dyn Lived)) {
    with_server(async |server| behaviour(server).await);
}

fn with_server(test: impl AsyncFnOnce(&Server)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let server = Server(Postgres::start().into());
        server.handle(Expected { environment: ENVIRONMENT.into(), id: None }).migrate().await.unwrap();
        test(&server).await;
    });
}

conformance::behaviours!(run);
conformance::behaviours!(of lives: run_lived);
