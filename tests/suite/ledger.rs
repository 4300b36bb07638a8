//! The ledger on a real PostgreSQL.

mod cap;
mod fences;
mod grants;
mod lives;
mod operators;
mod pooler;
mod replies;
pub mod tls;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use blockhouse::block::Life;
use blockhouse::config::settings;
use blockhouse::ledger::{
    Admin, Expected, GrantRequest, LedgerError, NewSequence, Purpose, Report, Reported,
};
use secrecy::SecretString;
use uuid::Uuid;

use crate::support::postgres::Postgres;

/// How a test connects; every field can be set.
struct Client {
    settings: settings::Ledger,
    environment: &'static str,
}

impl Client {
    fn to(url: &str) -> Client {
        let settings = settings::Ledger {
            url: Some(SecretString::from(url)),
            id: None,
            password: None,
            tls: settings::Tls::Prefer,
            ca: None,
            cert: None,
            key: None,
            timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(10),
            connect_spread: Duration::ZERO,
            incarnation: true,
            keep_grants: Duration::from_secs(400 * 86_400),
        };
        Client { settings, environment: "test" }
    }

    fn pinned(mut self, id: Uuid) -> Client {
        self.settings.id = Some(id);
        self
    }

    fn unfenced(mut self) -> Client {
        self.settings.incarnation = false;
        self
    }

    fn environment(mut self, environment: &'static str) -> Client {
        self.environment = environment;
        self
    }

    fn open(&self) -> Rc<dyn Admin> {
        self.try_open().unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_open(&self) -> Result<Rc<dyn Admin>, LedgerError> {
        let expected = Expected { environment: Arc::from(self.environment), id: self.settings.id };
        let log = slog::Logger::root(slog::Discard, slog::o!());
        blockhouse::ledger::open(&self.settings, expected, "test-1", &log)
    }
}

/// A server with a migrated ledger that holds the sequence `tasks` with IDs from 1 to 2^53 - 1.
async fn server_with_tasks() -> (Postgres, Rc<dyn Admin>) {
    let server = Postgres::start();
    let ledger = Client::to(&server.url()).open();
    ledger.migrate().await.unwrap();
    ledger.create(&sequence("tasks", 1, (1 << 53) - 1)).await.unwrap();
    (server, ledger)
}

fn sequence(name: &str, first: i64, last: i64) -> NewSequence {
    NewSequence {
        name: Arc::from(name),
        first,
        last,
        block_size: 1000,
        buffer: None,
        failover_gap: None,
        if_not_exists: false,
    }
}

async fn life(ledger: &dyn Admin) -> Life {
    ledger.facts(None).await.unwrap().identity.life
}

/// Says to a restarted ledger that nothing is known, which opens it again: its life from then on.
async fn again(ledger: &dyn Admin) -> Life {
    let closed = life(ledger).await;
    assert_eq!(ledger.report(&knowing_nothing(closed)).await.unwrap(), Reported::Open);
    closed
}

fn knowing_nothing(closed: Life) -> Report {
    Report {
        cluster: Arc::from("alpha"),
        holder: Arc::from("test-1"),
        closed,
        follows: None,
        read_at_us: None,
        on_failover: None,
        sequences: Vec::new(),
    }
}

/// Exactly `count` IDs of `tasks`, for a caller who knows nothing of its past.
fn ask(life: Life, count: i64) -> GrantRequest {
    GrantRequest {
        sequence: Arc::from("tasks"),
        generation: 1,
        life,
        least: count,
        need: count,
        want: count,
        known_high_water: 0,
        purpose: Purpose::Fallback,
        holder: Arc::from("test-1"),
        cluster: Arc::from("alpha"),
        pod: None,
    }
}

/// Whether `count` ledger connections wait for `what` (`Lock`, `IPC`).
fn waiting(count: usize, what: &str) -> String {
    format!(
        "SELECT count(*) = {count} FROM pg_stat_activity
          WHERE application_name = 'blockhouse/test-1' AND wait_event_type = '{what}'"
    )
}
