//! What the ledger says of itself, and whether it is the right one (S3, S5).

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use super::super::{Facts, LedgerError, SequenceRow, State};
use super::Postgres;
use super::connection::Connection;
use super::failure::Effect;
use super::migrate::VERSION;
use crate::block::{Catalogue, Identity, Life, OnFailover, SequenceFacts, Stamp};

/// Columns of the ledger's row `l`; `$1` says whether to compare the engine's identity. On a standby, where that can't
/// be asked, nothing is compared: it can't write either.
pub(super) const LEDGER_COLUMNS: &str = "
    l.id, l.environment, l.epoch, l.token, l.state, l.reason, l.schema_version, l.readable_from, l.catalogue_version,
    l.on_failover, current_setting('transaction_read_only') = 'on' AS read_only,
    CASE WHEN $1 AND current_setting('transaction_read_only') = 'off' THEN blockhouse.changed() END AS changed";

/// Columns of a sequence's row `s`.
pub(super) const SEQUENCE_COLUMNS: &str = "
    s.name, s.generation, s.first, s.last, s.block_size, s.buffer_seconds, s.failover_gap, s.halted, s.retired,
    s.granted, s.grants";

/// The ledger's row.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) identity: Identity,
    pub(super) state: State,
    pub(super) schema: (i32, i32),
    pub(super) on_failover: OnFailover,
    version: i64,
    read_only: bool,
    /// Why it must close.
    changed: Option<String>,
}

impl Head {
    pub(super) fn read(row: &Row) -> Result<Head, LedgerError> {
        let open = get::<&str>(row, "state")? == "open";
        let reason = get::<Option<&str>>(row, "reason")?.unwrap_or("no reason is recorded");
        Ok(Head {
            identity: Identity {
                ledger: get(row, "id")?,
                environment: get(row, "environment")?,
                life: Life { epoch: get(row, "epoch")?, token: get(row, "token")? },
            },
            state: if open { State::Open } else { State::Closed(Arc::from(reason)) },
            schema: (get(row, "schema_version")?, get(row, "readable_from")?),
            on_failover: OnFailover::of_name(get(row, "on_failover")?).unwrap_or_default(),
            version: get(row, "catalogue_version")?,
            read_only: get(row, "read_only")?,
            changed: get(row, "changed")?,
        })
    }
}

impl Postgres {
    /// Looks at a new connection's ledger before anything is asked of it, and closes the ledger if it runs elsewhere than before.
    pub(super) async fn check(&self, connection: &mut Connection) -> Result<(), LedgerError> {
        let sql = format!("SELECT {LEDGER_COLUMNS} FROM blockhouse.ledger AS l");
        let reply = connection
            .ask(&sql, &[(&self.fenced, Type::BOOL)])
            .await
            .map_err(|failure| failure.into_error(Effect::Reads))?;
        let head = self.verified(&reply.rows)?;
        if head.changed.is_some() {
            connection
                .ask("SELECT blockhouse.fence($1)", &[(&0_i64, Type::INT8)])
                .await
                .map_err(|failure| failure.into_error(Effect::Writes))?;
        }
        Ok(())
    }

    /// The first row's ledger, if it is the one that is expected here.
    pub(super) fn verified(&self, rows: &[Row]) -> Result<Head, LedgerError> {
        let row = rows.first().ok_or_else(|| {
            LedgerError::Schema(format!(
                "the ledger at {} is empty: run `blockhouse ledger migrate`",
                self.target().name
            ))
        })?;
        let head = Head::read(row)?;
        self.expect(&head.identity)?;
        match head.schema {
            (stored, _) if stored < VERSION => Err(LedgerError::Schema(format!(
                "the ledger has schema {stored} and this release needs {VERSION}: run `blockhouse ledger migrate`"
            ))),
            (stored, from) if from > VERSION => Err(LedgerError::Schema(format!(
                "the ledger has schema {stored}, which this release (schema {VERSION}) can't use: \
                 run a release of schema {from} or newer"
            ))),
            _ if head.read_only => Err(LedgerError::Unreachable(format!(
                "the server at {} is read-only, probably a standby: point ledger.url at the primary",
                self.target().name
            ))),
            _ => Ok(head),
        }
    }

    /// S5, Own ledger.
    pub(super) fn expect(&self, found: &Identity) -> Result<(), LedgerError> {
        let wanted = &self.expected;
        let target = self.target();
        let name = &target.name;
        if *found.environment != *wanted.environment {
            return Err(LedgerError::Wrong(format!(
                "the ledger at {name} is of environment '{}', this process of '{}': correct ledger.url or environment",
                found.environment, wanted.environment
            )));
        }
        match wanted.id {
            Some(id) if id != found.ledger => Err(LedgerError::Wrong(format!(
                "the ledger at {name} is {}, ledger.id pins {id}: correct ledger.url or ledger.id",
                found.ledger
            ))),
            _ => Ok(()),
        }
    }

    pub(super) async fn read_facts(&self, known: Option<Life>) -> Result<Facts, LedgerError> {
        let (head, facts) = self.facts_as_they_stand(known).await?;
        if head.changed.is_none() {
            return Ok(facts);
        }
        let above = known.map_or(0, |life| life.epoch);
        self.ask(Effect::Writes, "SELECT blockhouse.fence($1)", &[(&above, Type::INT8)]).await?;
        Ok(self.facts_as_they_stand(known).await?.1)
    }

    async fn facts_as_they_stand(&self, known: Option<Life>) -> Result<(Head, Facts), LedgerError> {
        let sql = format!(
            "SELECT {LEDGER_COLUMNS}, {SEQUENCE_COLUMNS},
                    $2 IS NULL OR EXISTS (SELECT FROM blockhouse.lives WHERE epoch = $2 AND token = $3) AS descends,
                    (extract(epoch FROM now()) * 1000000)::bigint AS read_at_us
               FROM blockhouse.ledger AS l LEFT JOIN blockhouse.sequences AS s ON true"
        );
        let (epoch, token) = (known.map(|life| life.epoch), known.map(|life| life.token));
        let reply = self
            .ask(
                Effect::Reads,
                &sql,
                &[(&self.fenced, Type::BOOL), (&epoch, Type::INT8), (&token, Type::UUID)],
            )
            .await?;
        let head = self.verified(&reply.rows)?;
        let mut facts = Facts {
            identity: head.identity.clone(),
            state: head.state.clone(),
            descends: get(&reply.rows[0], "descends")?,
            catalogue: Catalogue {
                stamp: Stamp { epoch: head.identity.life.epoch, version: head.version },
                on_failover: head.on_failover,
                ..Catalogue::default()
            },
            granted: Vec::new(),
            read_at_us: get(&reply.rows[0], "read_at_us")?,
        };
        for row in &reply.rows {
            // A ledger without sequences is one row of nulls.
            if get::<Option<&str>>(row, "name")?.is_some() {
                let SequenceRow { facts: sequence, granted, .. } = sequence_row(row)?;
                facts.granted.push((Arc::clone(&sequence.name), granted));
                facts.catalogue.sequences.insert(Arc::clone(&sequence.name), sequence);
            }
        }
        Ok((head, facts))
    }
}

/// Reads [`SEQUENCE_COLUMNS`].
pub(super) fn sequence_row(row: &Row) -> Result<SequenceRow, LedgerError> {
    Ok(SequenceRow {
        facts: SequenceFacts {
            name: Arc::from(get::<&str>(row, "name")?),
            generation: get(row, "generation")?,
            first: get(row, "first")?,
            last: get(row, "last")?,
            block_size: get(row, "block_size")?,
            buffer_seconds: get(row, "buffer_seconds")?,
            failover_gap: get(row, "failover_gap")?,
            halted: get::<Option<&str>>(row, "halted")?.map(Arc::from),
            retired: get(row, "retired")?,
        },
        granted: get(row, "granted")?,
        grants: get(row, "grants")?,
    })
}

/// One column. A wrong type or name means another schema than this code was written for.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<T, LedgerError> {
    row.try_get(column).map_err(|error| {
        LedgerError::Schema(format!("the ledger's answer can't be read: {}", super::failure::chain(&error)))
    })
}
