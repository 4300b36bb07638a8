//! `ledger migrate`: the schema, in one transaction.

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::super::{LedgerError, Migrated};
use super::Postgres;
use super::connection::{Connection, Params};
use super::facts::{Head, LEDGER_COLUMNS, get};
use super::failure::Effect;

/// The schema of this release.
pub(super) const VERSION: i32 = 1;
/// The oldest release's schema that can still use it.
const READABLE_FROM: i32 = 1;

const TABLES: &str = include_str!("../schema/tables.sql");
/// Everything that can be put again over what is there.
const CODE: [&str; 7] = [
    include_str!("../schema/added.sql"),
    include_str!("../schema/lives.sql"),
    include_str!("../schema/cap.sql"),
    include_str!("../schema/grant.sql"),
    include_str!("../schema/generations.sql"),
    include_str!("../schema/forward_only.sql"),
    include_str!("../schema/privileges.sql"),
];

/// Under READ COMMITTED, so that who waited for the lock sees what the other one did.
const BEGIN: &str = "
    BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL statement_timeout = 0;
    SET LOCAL lock_timeout = '30s';
    SET LOCAL idle_in_transaction_session_timeout = '60s';
    SET LOCAL synchronous_commit = 'on';
    SELECT pg_advisory_xact_lock(7420, 1)";

/// Where the engine has no such functions, the columns stay null and `ledger.incarnation` must be `none`.
const RECORD_INCARNATION: &str = "
    DO $$
    BEGIN
        UPDATE blockhouse.ledger AS l
           SET system_identifier = i.system_identifier, timeline = i.timeline,
               started_at = i.started_at, table_oid = i.table_oid
          FROM blockhouse.incarnation() AS i;
    EXCEPTION WHEN undefined_function OR undefined_table OR feature_not_supported THEN
        NULL;
    END $$";

impl Postgres {
    pub(super) async fn migrate_schema(&self) -> Result<Migrated, LedgerError> {
        let mut slot = self.slot.lock().await;
        *slot = None;
        let mut connection = self.bounded(self.open()).await?;
        // Dropped before its COMMIT, the connection takes all of it back.
        run(&mut connection, BEGIN).await?;
        let from = match self.present(&mut connection).await? {
            None => {
                self.lay_out(&mut connection).await?;
                0
            }
            Some(head) => {
                self.expect(&head.identity)?;
                head.schema.0
            }
        };
        if from <= VERSION {
            for sql in CODE {
                run(&mut connection, sql).await?;
            }
            if from == 0 {
                run(&mut connection, RECORD_INCARNATION).await?;
            }
            let sql = "UPDATE blockhouse.ledger SET schema_version = $1, readable_from = $2";
            ask(&mut connection, sql, &[(&VERSION, Type::INT4), (&READABLE_FROM, Type::INT4)]).await?;
        }
        let sql = format!("SELECT {LEDGER_COLUMNS} FROM blockhouse.ledger AS l");
        let rows = ask(&mut connection, &sql, &[(&false, Type::BOOL)]).await?;
        let head = self.verified(&rows)?;
        run(&mut connection, "COMMIT").await?;
        self.check(&mut connection).await?;
        *slot = connection.if_usable();
        Ok(Migrated { identity: head.identity, from, to: head.schema.0 })
    }

    /// The ledger that is already here.
    async fn present(&self, connection: &mut Connection) -> Result<Option<Head>, LedgerError> {
        let rows =
            ask(connection, "SELECT to_regclass('blockhouse.ledger') IS NOT NULL AS here", &[]).await?;
        let here = rows.first().map_or(Ok(false), |row| get(row, "here"))?;
        if !here {
            return Ok(None);
        }
        // Not by `changed()`, which an older schema may not have.
        let sql = "SELECT l.id, l.environment, l.epoch, l.token, l.state, l.reason, l.schema_version, l.readable_from,
                          l.catalogue_version, 'wait' AS on_failover, false AS read_only, NULL::text AS changed
                     FROM blockhouse.ledger AS l";
        let rows = ask(connection, sql, &[]).await?;
        match rows.first() {
            Some(row) => Head::read(row).map(Some),
            None => Err(LedgerError::Schema(format!(
                "the schema 'blockhouse' at {} has lost its ledger's row: restore it",
                self.target().name
            ))),
        }
    }

    /// A new ledger: its tables, its row and its first life.
    async fn lay_out(&self, connection: &mut Connection) -> Result<(), LedgerError> {
        if let Some(id) = self.expected.id {
            return Err(LedgerError::Wrong(format!(
                "there is no ledger at {}, but ledger.id pins {id}: correct ledger.url, or create a new ledger without \
                 ledger.id and then pin the id that it got",
                self.target().name
            )));
        }
        run(connection, TABLES).await?;
        let (id, token) = (Uuid::new_v4(), Uuid::new_v4());
        let sql = "
            WITH life AS (INSERT INTO blockhouse.lives (epoch, token, reason) VALUES (1, $2, 'created'))
            INSERT INTO blockhouse.ledger
                (id, environment, schema_version, readable_from, catalogue_version, epoch, token, state)
            VALUES ($1, $3, $4, $5, 1, 1, $2, 'open')";
        let params: Params<'_> = &[
            (&id, Type::UUID),
            (&token, Type::UUID),
            (&&*self.expected.environment, Type::TEXT),
            (&VERSION, Type::INT4),
            (&READABLE_FROM, Type::INT4),
        ];
        ask(connection, sql, params).await.map(drop)
    }
}

async fn run(connection: &mut Connection, sql: &str) -> Result<(), LedgerError> {
    connection.run(sql).await.map_err(|failure| failure.into_error(Effect::Writes))
}

async fn ask(
    connection: &mut Connection,
    sql: &str,
    params: Params<'_>,
) -> Result<Vec<tokio_postgres::Row>, LedgerError> {
    match connection.ask(sql, params).await {
        Ok(reply) => Ok(reply.rows),
        Err(failure) => Err(failure.into_error(Effect::Writes)),
    }
}
