//! The ledger on PostgreSQL.
//!
//! One connection, opened when first used and after each failure; every call but `migrate` is one unnamed statement, so
//! it also works behind PgBouncer in transaction mode. The rules of S1, S3 and S4 stand in the database itself: see
//! `schema/`.

mod admin;
mod connection;
mod facts;
mod failure;
mod generations;
mod grant;
mod lives;
mod migrate;
mod serving;
mod tls;
mod url;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Mutex;

use self::connection::{Connection, Params, Reply};
use self::failure::Effect;
use self::url::Target;
use super::{Expected, LedgerError};
use crate::config::settings;

/// A ledger on PostgreSQL, for one thread. It never has more than one connection; calls made at the same time take turns.
pub struct Postgres {
    /// Of the next connection.
    target: RefCell<Rc<Target>>,
    instance: Box<str>,
    expected: Expected,
    /// Whether the engine's identity is compared (`ledger.incarnation`).
    fenced: bool,
    /// Set once a pooler has refused the connection's own settings.
    pooled: Cell<bool>,
    slot: Mutex<Option<Connection>>,
    log: slog::Logger,
}

impl Postgres {
    /// Nothing is connected yet. `instance` is the holder's name, shown by the server as the connection's application.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] where URL or certificates can't be used, without their secrets.
    pub fn new(
        settings: &settings::Ledger,
        expected: Expected,
        instance: &str,
        log: &slog::Logger,
    ) -> Result<Postgres, LedgerError> {
        Ok(Postgres {
            target: RefCell::new(Rc::new(Target::new(settings, instance)?)),
            instance: instance.into(),
            expected,
            fenced: settings.incarnation,
            pooled: Cell::new(false),
            slot: Mutex::new(None),
            log: log.clone(),
        })
    }

    /// One statement, one round trip, on the kept connection or a new one.
    ///
    /// # Cancel safety
    /// Dropped in flight, it drops the connection with it: the server finishes or not, and nobody sees the answer. A
    /// cancel request would be worse: while a commit waits for a standby it is answered with success.
    async fn ask(&self, effect: Effect, sql: &str, params: Params<'_>) -> Result<Reply, LedgerError> {
        let mut slot = self.slot.lock().await;
        let mut connection = self.checked(slot.take()).await?;
        match connection.ask(sql, params).await {
            Ok(reply) => {
                *slot = connection.if_usable();
                Ok(reply)
            }
            Err(failure) => {
                if failure.leaves_connection() {
                    *slot = connection.if_usable();
                } else {
                    slog::info!(self.log, "ledger connection lost"; "why" => %failure);
                }
                Err(failure.into_error(effect))
            }
        }
    }

    /// A connection to a ledger that was found to be the right one when it was opened.
    async fn checked(&self, kept: Option<Connection>) -> Result<Connection, LedgerError> {
        if let Some(mut connection) = kept {
            if connection.is_alive().await {
                return Ok(connection);
            }
            slog::info!(self.log, "ledger connection closed by the server");
        }
        let open = async {
            let mut connection = self.open().await?;
            self.check(&mut connection).await?;
            Ok(connection)
        };
        self.bounded(open).await
    }

    fn target(&self) -> Rc<Target> {
        Rc::clone(&self.target.borrow())
    }

    /// A connection to whatever answers.
    async fn open(&self) -> Result<Connection, LedgerError> {
        let target = self.target();
        if !self.pooled.get() {
            match Connection::open(&target, true).await {
                Err(error) if failure::is_refused_by_pooler(&error) => {
                    slog::warn!(self.log, "pooler refuses startup options: set statement_timeout for the ledger's role";
                        "answer" => failure::chain(&error));
                    self.pooled.set(true);
                }
                opened => return self.opened(&target, opened),
            }
        }
        let opened = Connection::open(&target, false).await;
        self.opened(&target, opened)
    }

    fn opened(
        &self,
        target: &Target,
        opened: Result<Connection, tokio_postgres::Error>,
    ) -> Result<Connection, LedgerError> {
        match opened {
            Ok(connection) => {
                slog::info!(self.log, "ledger connected"; "ledger" => %target.name);
                Ok(connection)
            }
            Err(error) => Err(LedgerError::Unreachable(format!(
                "can't connect to the ledger at {}: {}",
                target.name,
                failure::chain(&error)
            ))),
        }
    }

    async fn bounded<T>(
        &self,
        opening: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let target = self.target();
        let limit = target.connect_timeout;
        tokio::time::timeout(limit, opening).await.unwrap_or_else(|_| {
            Err(LedgerError::Unreachable(format!(
                "can't connect to the ledger at {}: no answer within {limit:?}",
                target.name
            )))
        })
    }
}
