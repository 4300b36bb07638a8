//! PostgreSQL does what every ledger does: the behaviours that SQLite and memory are held to in `tests/ledgers.rs`.

use std::rc::Rc;

use blockhouse::config::Settings;
use blockhouse::ledger::{self, Admin, Expected};
use secrecy::SecretString;

use crate::conformance::{self, Bed, ENVIRONMENT};
use crate::support::postgres::Postgres;

/// A server of its own, migrated.
struct Server(Postgres);

impl Bed for Server {
    fn handle(&self, expected: Expected) -> Rc<dyn Admin> {
        let mut settings = Settings::default().ledger;
        settings.url = Some(SecretString::from(self.0.url()));
        let log = slog::Logger::root(slog::Discard, slog::o!());
        ledger::open(&settings, expected, "conformance", &log).unwrap()
    }
}

fn run(behaviour: impl AsyncFnOnce(&dyn Bed)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let server = Server(Postgres::start());
        server.handle(Expected { environment: ENVIRONMENT.into(), id: None }).migrate().await.unwrap();
        behaviour(&server).await;
    });
}

conformance::behaviours!(run);
