//! What an operator's command asks.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::super::decide;
use super::super::{
    Accept, Accepted, Admin, Answer, ClusterSeen, Created, GrantRecord, History, LeaseRecord, LedgerError,
    LifeRecord, Migrated, MoveRecord, NewSequence, ReportRecord, SequenceChange, SequenceRow, State,
};
use super::Postgres;
use super::connection::Params;
use super::facts::{LEDGER_COLUMNS, SEQUENCE_COLUMNS, get, sequence_row};
use super::failure::Effect;
use crate::block::{Life, OnFailover, Span, witness};

/// Whoever changes a sequence locks the ledger's row first, as the grant does: two orders would be a deadlock.
const LOCKED: &str = "(SELECT state, on_failover FROM blockhouse.ledger FOR NO KEY UPDATE) AS l";

/// What a sequence was granted in the last hour.
const SPENT: &str = "blockhouse.spent(s.issued, s.slot, s.starts, blockhouse.present_slot())";

/// Not in a closed ledger: a sequence that it lost would begin again from its first ID.
const CREATE: &str = "
    INSERT INTO blockhouse.sequences AS s (name, first, last, block_size, buffer_seconds, failover_gap, granted)
    SELECT $1, $2, $3, $4, $5, $6, $2 - 1
      FROM (SELECT FROM blockhouse.ledger WHERE state = 'open' FOR NO KEY UPDATE) AS l
    ON CONFLICT (name) DO NOTHING RETURNING";

const SEEN: &str = "
    WITH recent AS (
        SELECT cluster, array_agg(DISTINCT holder ORDER BY holder) AS holders FROM blockhouse.grants
         WHERE at > now() - interval '1 hour' GROUP BY cluster
    ), led AS (SELECT name AS cluster FROM blockhouse.clusters WHERE lease_ends > clock_timestamp())
    SELECT cluster, led.cluster IS NOT NULL AS led, coalesce(s.seen, '[]') AS seen, coalesce(holders, '{}') AS holders
      FROM recent FULL JOIN led USING (cluster) LEFT JOIN blockhouse.seen AS s USING (cluster) ORDER BY cluster";

const LOOKUP: &str = "
    SELECT s.name, g.number, g.first, g.count, g.generation, g.epoch, g.purpose, g.holder, g.cluster, g.pod,
           (extract(epoch FROM g.at) * 1000000)::bigint AS at_us
      FROM blockhouse.sequences AS s LEFT JOIN LATERAL (
               SELECT * FROM blockhouse.grants AS g WHERE g.sequence = s.name AND g.first <= $2
                ORDER BY g.first DESC LIMIT 1) AS g ON g.first + (g.count - 1) >= $2
     WHERE s.name = $1";

/// What the engine is, beside what the ledger last ran under.
const ENGINE: &str = "
    SELECT e.name, e.value FROM blockhouse.ledger AS l, blockhouse.incarnation() AS i, LATERAL (VALUES
        ('server', current_setting('server_version')),
        ('system identifier', i.system_identifier::text),
        ('timeline', i.timeline),
        ('started', i.started_at::text),
        ('table of sequences', i.table_oid::text),
        ('last ran on', concat_ws(' ', l.system_identifier, l.timeline, l.table_oid)),
        ('synchronous standbys', current_setting('synchronous_standby_names'))) AS e (name, value)";

/// Of a closed ledger: every cluster that has reported or is waited for.
const REPORTS: &str = "
    SELECT c.name, CASE WHEN c.answers = l.token THEN c.reporter END AS reporter,
           CASE WHEN c.answers = l.token THEN c.known_epoch END AS follows,
           CASE WHEN c.answers = l.token THEN (extract(epoch FROM c.read_at) * 1000000)::bigint END AS read_at_us
      FROM blockhouse.clusters AS c, blockhouse.ledger AS l
     WHERE l.state = 'closed' AND (c.awaited OR c.answers = l.token) ORDER BY c.name";

impl Admin for Postgres {
    fn migrate(&self) -> Answer<'_, Migrated> {
        Box::pin(self.migrate_schema())
    }

    fn create<'a>(&'a self, new: &'a NewSequence) -> Answer<'a, Created> {
        Box::pin(self.create_sequence(new))
    }

    fn set<'a>(&'a self, sequence: &'a str, change: &'a SequenceChange) -> Answer<'a, SequenceRow> {
        Box::pin(self.set_sequence(sequence, change))
    }

    fn set_on_failover(&self, to: OnFailover) -> Answer<'_, ()> {
        Box::pin(self.decide_on_failover(to))
    }

    fn advance<'a>(&'a self, sequence: &'a str, above: i64) -> Answer<'a, SequenceRow> {
        Box::pin(self.advance_sequence(sequence, above))
    }

    fn greatest_in<'a>(&'a self, table: &'a str, column: &'a str) -> Answer<'a, Option<i64>> {
        Box::pin(self.greatest_in_column(table, column))
    }

    fn seen(&self) -> Answer<'_, Vec<ClusterSeen>> {
        Box::pin(self.list(SEEN, cluster_seen))
    }

    fn resume<'a>(&'a self, sequence: &'a str) -> Answer<'a, bool> {
        Box::pin(self.turn(sequence, "halted = NULL", "s.halted IS NOT NULL"))
    }

    fn retire<'a>(&'a self, sequence: &'a str) -> Answer<'a, bool> {
        Box::pin(self.turn(sequence, "retired = true", "NOT s.retired"))
    }

    fn lookup<'a>(&'a self, sequence: &'a str, id: i64) -> Answer<'a, Option<GrantRecord>> {
        Box::pin(async move {
            let reply =
                self.ask(Effect::Reads, LOOKUP, &[(&sequence, Type::TEXT), (&id, Type::INT8)]).await?;
            match reply.rows.first() {
                None => Err(LedgerError::Unknown(sequence.to_owned())),
                Some(row) if get::<Option<i64>>(row, "number")?.is_none() => Ok(None),
                Some(row) => grant_record(row).map(Some),
            }
        })
    }

    fn moved<'a>(&'a self, sequence: &'a str, id: i64) -> Answer<'a, Option<MoveRecord>> {
        Box::pin(self.find_move(sequence, id))
    }

    fn accept<'a>(&'a self, accept: &'a Accept, really: bool) -> Answer<'a, Accepted> {
        Box::pin(self.accept_failover(accept, really))
    }

    fn history(&self) -> Answer<'_, History> {
        Box::pin(self.read_history())
    }
}

impl Postgres {
    async fn create_sequence(&self, new: &NewSequence) -> Result<Created, LedgerError> {
        new.check().map_err(LedgerError::Invalid)?;
        let gap = new.failover_gap.unwrap_or_else(|| NewSequence::default_gap(new.first, new.last));
        let params: Params<'_> = &[
            (&&*new.name, Type::TEXT),
            (&new.first, Type::INT8),
            (&new.last, Type::INT8),
            (&new.block_size, Type::INT8),
            (&new.buffer.map(whole_seconds), Type::INT8),
            (&gap, Type::INT8),
        ];
        let reply = self.ask(Effect::Writes, &format!("{CREATE} {SEQUENCE_COLUMNS}"), params).await?;
        if let Some(row) = reply.rows.first() {
            return Ok(Created { row: sequence_row(row)?, new: true });
        }
        match self.find(&new.name).await? {
            Some(row) if new.if_not_exists => Ok(Created { row, new: false }),
            Some(row) if row.facts.retired => Err(LedgerError::Invalid(format!(
                "sequence '{}' was retired, and names are never used again",
                new.name
            ))),
            Some(_) => Err(LedgerError::Invalid(format!("sequence '{}' exists already", new.name))),
            None => Err(self.why_closed().await?),
        }
    }

    async fn set_sequence(
        &self,
        sequence: &str,
        change: &SequenceChange,
    ) -> Result<SequenceRow, LedgerError> {
        let sql = format!(
            "UPDATE blockhouse.sequences AS s
                SET last = coalesce($2, s.last), block_size = coalesce($3, s.block_size),
                    buffer_seconds = CASE WHEN $4 THEN $5 ELSE s.buffer_seconds END,
                    failover_gap = coalesce($6, s.failover_gap),
                    held = CASE WHEN $6 IS NULL THEN s.held ELSE blockhouse.cap(l.on_failover, s.failover_gap, s.held) END,
                    generation = s.generation + coalesce($2 < s.last, false)::int
               FROM {LOCKED} WHERE s.name = $1 AND NOT s.retired
                AND (coalesce($2, s.last) >= s.last OR l.state = 'open' AND $2 >= greatest(s.granted, s.first))
                AND ($6 IS NULL OR $6 = 0 OR l.on_failover = 'wait' OR $6 >= {SPENT})
             RETURNING {SEQUENCE_COLUMNS}"
        );
        if change.block_size.is_some_and(|size| size < 1) || change.failover_gap.is_some_and(|gap| gap < 0) {
            return Err(LedgerError::Invalid(
                "the block size must be 1 or more, the failover gap 0 or more".to_owned(),
            ));
        }
        let params: Params<'_> = &[
            (&sequence, Type::TEXT),
            (&change.last, Type::INT8),
            (&change.block_size, Type::INT8),
            (&change.buffer.is_some(), Type::BOOL),
            (&change.buffer.flatten().map(whole_seconds), Type::INT8),
            (&change.failover_gap, Type::INT8),
        ];
        let reply = self.ask(Effect::Writes, &sql, params).await?;
        if let Some(row) = reply.rows.first() {
            if change.failover_gap.is_some() {
                self.ask(Effect::Writes, "SELECT blockhouse.loosen()", &[]).await?;
            }
            return sequence_row(row);
        }
        self.check_gap(sequence, change.failover_gap).await?;
        match self.find(sequence).await? {
            None => Err(LedgerError::Unknown(sequence.to_owned())),
            Some(row) if row.facts.retired => Err(LedgerError::Retired),
            Some(mut row) => {
                decide::change(&mut row, change)?;
                Err(self.why_closed().await?)
            }
        }
    }

    /// Why a gap was refused, if it was: it would cap the sequence at less than it was granted in the last hour.
    async fn check_gap(&self, sequence: &str, gap: Option<i64>) -> Result<(), LedgerError> {
        let sql = format!(
            "SELECT s.name AS sequence, {SPENT} AS spent, $2 AS gap
               FROM blockhouse.sequences AS s, blockhouse.ledger AS l
              WHERE s.name = $1 AND NOT s.retired AND l.on_failover = 'jump' AND $2 > 0 AND $2 < {SPENT}"
        );
        let reply = self.ask(Effect::Reads, &sql, &[(&sequence, Type::TEXT), (&gap, Type::INT8)]).await?;
        decide::may_cap(&reply.rows.iter().map(over).collect::<Result<Vec<_>, _>>()?)
    }

    async fn decide_on_failover(&self, to: OnFailover) -> Result<(), LedgerError> {
        let sql = "SELECT sequence, spent, gap FROM blockhouse.set_on_failover($1)";
        let reply = self.ask(Effect::Writes, sql, &[(&to.name(), Type::TEXT)]).await?;
        decide::may_cap(&reply.rows.iter().map(over).collect::<Result<Vec<_>, _>>()?)?;
        let facts = self.read_facts(None).await?;
        match facts.state {
            State::Closed(why) if facts.catalogue.on_failover != to => {
                Err(LedgerError::Closed(why.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Sets one column where it isn't set yet; `false` if it was.
    async fn turn(&self, sequence: &str, set: &str, unless: &str) -> Result<bool, LedgerError> {
        let sql = format!(
            "UPDATE blockhouse.sequences AS s SET {set} FROM {LOCKED} WHERE s.name = $1 AND {unless} RETURNING s.name"
        );
        let reply = self.ask(Effect::Writes, &sql, &[(&sequence, Type::TEXT)]).await?;
        if !reply.rows.is_empty() {
            return Ok(true);
        }
        match self.find(sequence).await? {
            Some(_) => Ok(false),
            None => Err(LedgerError::Unknown(sequence.to_owned())),
        }
    }

    pub(super) async fn find(&self, sequence: &str) -> Result<Option<SequenceRow>, LedgerError> {
        let sql = format!("SELECT {SEQUENCE_COLUMNS} FROM blockhouse.sequences AS s WHERE s.name = $1");
        let reply = self.ask(Effect::Reads, &sql, &[(&sequence, Type::TEXT)]).await?;
        reply.rows.first().map(sequence_row).transpose()
    }

    pub(super) async fn why_closed(&self) -> Result<LedgerError, LedgerError> {
        match self.read_facts(None).await?.state {
            State::Closed(reason) => Ok(LedgerError::Closed(reason.to_string())),
            State::Open => Ok(LedgerError::Conflict("the ledger changed while it was asked".to_owned())),
        }
    }

    async fn read_history(&self) -> Result<History, LedgerError> {
        let sql = format!("SELECT {LEDGER_COLUMNS} FROM blockhouse.ledger AS l");
        let reply = self.ask(Effect::Reads, &sql, &[(&self.fenced, Type::BOOL)]).await?;
        let head = self.verified(&reply.rows)?;
        let lives = "SELECT epoch, token, reason, (extract(epoch FROM at) * 1000000)::bigint AS at_us
                       FROM blockhouse.lives ORDER BY epoch";
        let leases =
            "SELECT name, leader, floor(extract(epoch FROM lease_ends - clock_timestamp()))::bigint AS left
                        FROM blockhouse.clusters ORDER BY name";
        let sequences = format!("SELECT {SEQUENCE_COLUMNS} FROM blockhouse.sequences AS s ORDER BY s.name");
        Ok(History {
            identity: head.identity,
            state: head.state,
            schema: head.schema,
            engine: if self.fenced { self.list(ENGINE, engine_fact).await? } else { Vec::new() },
            on_failover: head.on_failover,
            lives: self.list(lives, life_record).await?,
            leases: self.list(leases, lease_record).await?,
            reports: self.list(REPORTS, report_record).await?,
            sequences: self.list(&sequences, sequence_row).await?,
        })
    }

    async fn list<T>(
        &self,
        sql: &str,
        read: fn(&Row) -> Result<T, LedgerError>,
    ) -> Result<Vec<T>, LedgerError> {
        self.ask(Effect::Reads, sql, &[]).await?.rows.iter().map(read).collect()
    }
}

/// A sequence that was granted more in the last hour than its gap.
fn over(row: &Row) -> Result<(Arc<str>, i64, i64), LedgerError> {
    Ok((Arc::from(get::<&str>(row, "sequence")?), get(row, "spent")?, get(row, "gap")?))
}

fn engine_fact(row: &Row) -> Result<(String, String), LedgerError> {
    Ok((get(row, "name")?, get::<Option<String>>(row, "value")?.unwrap_or_default()))
}

fn life_record(row: &Row) -> Result<LifeRecord, LedgerError> {
    Ok(LifeRecord {
        life: Life { epoch: get(row, "epoch")?, token: get(row, "token")? },
        reason: get(row, "reason")?,
        at_us: get(row, "at_us")?,
    })
}

fn report_record(row: &Row) -> Result<ReportRecord, LedgerError> {
    Ok(ReportRecord {
        cluster: get(row, "name")?,
        reporter: get(row, "reporter")?,
        follows: get(row, "follows")?,
        read_at_us: get(row, "read_at_us")?,
    })
}

fn lease_record(row: &Row) -> Result<LeaseRecord, LedgerError> {
    Ok(LeaseRecord {
        cluster: get(row, "name")?,
        leader: get(row, "leader")?,
        seconds_left: get(row, "left")?,
    })
}

fn cluster_seen(row: &Row) -> Result<ClusterSeen, LedgerError> {
    Ok(ClusterSeen {
        cluster: get(row, "cluster")?,
        led: get(row, "led")?,
        seen: witness::from_text(get(row, "seen")?),
        holders: get(row, "holders")?,
    })
}

fn grant_record(row: &Row) -> Result<GrantRecord, LedgerError> {
    let (first, count) = (get(row, "first")?, get(row, "count")?);
    let span = Span::new(first, count)
        .ok_or_else(|| LedgerError::Schema(format!("the record of a grant is no range: {first}:{count}")))?;
    Ok(GrantRecord {
        number: get(row, "number")?,
        span,
        generation: get(row, "generation")?,
        epoch: get(row, "epoch")?,
        at_us: get(row, "at_us")?,
        purpose: get(row, "purpose")?,
        holder: get(row, "holder")?,
        cluster: get(row, "cluster")?,
        pod: get(row, "pod")?,
    })
}

fn whole_seconds(buffer: Duration) -> i64 {
    i64::try_from(buffer.as_secs()).unwrap_or(i64::MAX)
}
