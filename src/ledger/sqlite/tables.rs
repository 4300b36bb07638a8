//! The tables as one transaction sees them, and every statement on them.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params};
use uuid::Uuid;

use super::failure::Outcome;
use crate::block::hour;
use crate::block::{Hour, Identity, Life, OnFailover, SequenceFacts, Span, Witness, witness};
use crate::ledger::decide::{self, Capped, LedgerRow};
use crate::ledger::{
    ClusterSeen, Created, Facts, Grant, GrantRecord, GrantRequest, History, HourOfDemand, Lease, LeaseRecord,
    LedgerError, LifeRecord, NewSequence, SequenceChange, SequenceRow, State,
};

/// The schema that this release writes, and the oldest whose release can still use it.
pub const SCHEMA: i32 = 1;
const READABLE_FROM: i32 = 1;

const HOUR_US: i64 = 3_600_000_000;

/// One transaction, begun: whoever holds it may use this ledger.
pub struct Tables<'a> {
    /// In a transaction.
    pub sql: &'a Connection,
    /// As read in it.
    pub ledger: LedgerRow,
    /// When it began.
    pub now_us: i64,
}

/// The schema of the ledger, and the oldest whose release can still use it.
pub fn schema(sql: &Connection) -> rusqlite::Result<(i32, i32)> {
    sql.query_row("SELECT schema_version, readable_from FROM ledger", (), |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// What the ledger says of itself, if this release understands it.
pub fn ledger(sql: &Connection) -> Outcome<LedgerRow> {
    let (version, readable_from) = schema(sql)?;
    if version < SCHEMA {
        let why = format!(
            "the ledger has schema {version}, this release needs {SCHEMA}: run `blockhouse ledger migrate`"
        );
        return Err(LedgerError::Schema(why).into());
    }
    if readable_from > SCHEMA {
        return Err(LedgerError::Schema(format!(
            "the ledger has schema {version}, usable from schema {readable_from} on, this release has {SCHEMA}: \
             use a newer release"
        ))
        .into());
    }
    let row = sql.query_row("SELECT * FROM ledger", (), |row| {
        let life = Life { epoch: row.get("epoch")?, token: row.get::<_, Text>("token")?.0 };
        let closed: Option<Arc<str>> = row.get("closed_reason")?;
        let state = match row.get_ref("state")?.as_str()? {
            "open" => State::Open,
            _ => State::Closed(closed.unwrap_or_else(|| "no reason was given".into())),
        };
        Ok(LedgerRow {
            identity: Identity {
                ledger: row.get::<_, Text>("id")?.0,
                environment: row.get("environment")?,
                life,
            },
            state,
            catalogue_version: row.get("catalogue_version")?,
            on_failover: OnFailover::of_name(row.get_ref("on_failover")?.as_str()?).unwrap_or_default(),
        })
    })?;
    Ok(row)
}

/// Writes the first row of a new ledger, and its first life.
pub fn found(
    sql: &Connection,
    id: Uuid,
    environment: &str,
    token: Uuid,
    now_us: i64,
) -> rusqlite::Result<()> {
    sql.execute(
        "INSERT INTO ledger VALUES (1, ?1, ?2, ?3, ?4, 'open', NULL, 1, ?5, 1, 'wait')",
        (SCHEMA, READABLE_FROM, id.to_string(), environment, token.to_string()),
    )?;
    sql.execute("INSERT INTO lives VALUES (1, ?1, 'created', ?2)", (token.to_string(), now_us))?;
    Ok(())
}

impl Tables<'_> {
    /// See [`crate::ledger::Ledger::facts`].
    pub fn facts(&self, known: Option<Life>) -> Outcome<Facts> {
        let descends = match known {
            Some(known) => self.lives()?.iter().any(|record| record.life == known),
            None => true,
        };
        Ok(self.ledger.clone().facts(self.sequences()?, descends, self.now_us))
    }

    /// See [`crate::ledger::Ledger::grant`]. Counter and record move together, from what was just read under the
    /// file's one write lock.
    pub fn grant(&self, request: &GrantRequest) -> Outcome<Grant> {
        let row = self.find(&request.sequence)?;
        let newest = "SELECT first + (count - 1) FROM grants WHERE sequence = ? ORDER BY first DESC LIMIT 1";
        let recorded: Option<i64> =
            self.sql.query_row(newest, [&request.sequence], |row| row.get(0)).optional()?;
        let mut hour = self.hour(&request.sequence)?;
        // One life can't lose a change, so nothing is held.
        let capped = Capped { hour: &hour, held: None, now_us: self.now_us };
        let grant = decide::grant(&self.ledger, row.as_ref(), recorded.unwrap_or(0), request, &capped)?;
        hour.add(grant.span.count(), Hour::slot_of(self.now_us));
        self.sql.execute(
            "UPDATE sequences SET granted = ?2, grants = ?3, issued = ?4, slot = ?5, starts = ?6 WHERE name = ?1",
            (&request.sequence, grant.span.last(), grant.number, hour.issued, hour.slot, Starts(hour.starts)),
        )?;
        self.record(&request.sequence, &decide::record(&grant, request, self.now_us))?;
        Ok(grant)
    }

    fn hour(&self, sequence: &str) -> rusqlite::Result<Hour> {
        let query = "SELECT issued, slot, starts FROM sequences WHERE name = ?";
        let hour = self.sql.query_row(query, [sequence], |row| {
            Ok(Hour { issued: row.get(0)?, slot: row.get(1)?, starts: row.get::<_, Starts>(2)?.0 })
        });
        Ok(hour.optional()?.unwrap_or_default())
    }

    fn record(&self, sequence: &str, record: &GrantRecord) -> rusqlite::Result<usize> {
        self.sql.execute(
            "INSERT INTO grants (sequence, first, count, number, generation, epoch, at_us, purpose, holder, cluster, pod)
             VALUES (:sequence, :first, :count, :number, :generation, :epoch, :at_us, :purpose, :holder, :cluster, :pod)",
            named_params! {
                ":sequence": sequence,
                ":first": record.span.first(),
                ":count": record.span.count(),
                ":number": record.number,
                ":generation": record.generation,
                ":epoch": record.epoch,
                ":at_us": record.at_us,
                ":purpose": record.purpose,
                ":holder": record.holder,
                ":cluster": record.cluster,
                ":pod": record.pod,
            },
        )
    }

    /// See [`crate::ledger::Ledger::lead`].
    pub fn lead(&self, cluster: &str, holder: &str, ttl: Duration) -> Outcome<Lease> {
        let until_us = self.now_us.saturating_add(us(ttl));
        self.sql.execute(
            "INSERT INTO clusters (cluster, leader, until_us) VALUES (?1, ?2, ?3)
             ON CONFLICT (cluster) DO UPDATE SET leader = excluded.leader, until_us = excluded.until_us
             WHERE leader = excluded.leader OR until_us <= ?4",
            (cluster, holder, until_us, self.now_us),
        )?;
        let leader: Arc<str> =
            self.sql
                .query_row("SELECT leader FROM clusters WHERE cluster = ?", [cluster], |row| row.get(0))?;
        Ok(Lease { held: *leader == *holder, leader })
    }

    /// See [`crate::ledger::Ledger::resign`].
    pub fn resign(&self, cluster: &str, holder: &str) -> Outcome<()> {
        self.sql.execute(
            "UPDATE clusters SET until_us = min(until_us, ?3) WHERE cluster = ?1 AND leader = ?2",
            (cluster, holder, self.now_us),
        )?;
        Ok(())
    }

    /// See [`crate::ledger::Ledger::confirm`].
    pub fn confirm(&self, cluster: &str, holder: &str, seen: &[Witness]) -> Outcome<()> {
        self.sql.execute(
            "INSERT OR REPLACE INTO seen SELECT cluster, ?3 FROM clusters WHERE cluster = ?1 AND leader = ?2",
            (cluster, holder, witness::to_text(seen)),
        )?;
        Ok(())
    }

    /// See [`crate::ledger::Admin::seen`].
    pub fn seen(&self) -> Outcome<Vec<ClusterSeen>> {
        let recent = self.now_us.saturating_sub(HOUR_US);
        self.all(
            "SELECT cluster, EXISTS (SELECT 1 FROM clusters AS c WHERE c.cluster = all_of.cluster AND until_us > ?1) AS led,
                    (SELECT seen FROM seen AS s WHERE s.cluster = all_of.cluster) AS seen,
                    (SELECT json_group_array(holder) FROM (
                       SELECT DISTINCT holder FROM grants AS g WHERE g.cluster = all_of.cluster AND at_us > ?2
                       ORDER BY holder)) AS holders
               FROM (SELECT cluster FROM clusters WHERE until_us > ?1
                     UNION SELECT cluster FROM grants WHERE at_us > ?2) AS all_of
              ORDER BY cluster",
            (self.now_us, recent),
            |row| {
                let seen: Option<String> = row.get("seen")?;
                let holders: String = row.get("holders")?;
                Ok(ClusterSeen {
                    cluster: row.get("cluster")?,
                    led: row.get("led")?,
                    seen: seen.as_deref().map(witness::from_text).unwrap_or_default(),
                    holders: serde_json::from_str(&holders).unwrap_or_default(),
                })
            },
        )
    }

    /// See [`crate::ledger::Ledger::add_demand`].
    pub fn add_demand(&self, cluster: &str, used: &[(Arc<str>, i64)]) -> Outcome<()> {
        let hour = self.now_us / HOUR_US;
        self.sql.execute("DELETE FROM demand WHERE cluster = ?1 AND hour <= ?2", (cluster, hour - 24))?;
        for (sequence, ids) in used.iter().filter(|(_, ids)| *ids > 0) {
            self.sql.execute(
                "INSERT INTO demand (cluster, hour, sequence, ids) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (cluster, hour, sequence)
                 DO UPDATE SET ids = ids + min(excluded.ids, 9223372036854775807 - ids)",
                (cluster, hour, sequence, ids),
            )?;
        }
        Ok(())
    }

    /// See [`crate::ledger::Ledger::demand`].
    pub fn demand(&self, cluster: &str) -> Outcome<Vec<HourOfDemand>> {
        self.all(
            "SELECT sequence, ?2 - hour AS hours_ago, ids FROM demand
             WHERE cluster = ?1 AND hour > ?2 - 24 AND hour <= ?2 ORDER BY sequence, hour",
            (cluster, self.now_us / HOUR_US),
            |row| Ok(HourOfDemand { sequence: row.get(0)?, hours_ago: row.get(1)?, ids: row.get(2)? }),
        )
    }

    /// See [`crate::ledger::Ledger::prune`].
    pub fn prune(&self, keep: Duration, limit: u32) -> Outcome<u64> {
        let deleted = self.sql.execute(
            "DELETE FROM grants WHERE (sequence, first) IN (
               SELECT sequence, first FROM grants AS old
               WHERE at_us < ?1
                 AND first < (SELECT max(first) FROM grants AS newest WHERE newest.sequence = old.sequence)
               ORDER BY at_us LIMIT ?2)",
            (self.now_us.saturating_sub(us(keep)), limit),
        )?;
        Ok(deleted as u64)
    }

    /// See [`crate::ledger::Admin::create`].
    pub fn create(&self, new: &NewSequence) -> Outcome<Created> {
        let row = decide::first_row(new)?;
        if let Some(row) = self.find(&new.name)? {
            decide::taken(new)?;
            return Ok(Created { row, new: false });
        }
        self.insert(&row)?;
        Ok(Created { row, new: true })
    }

    /// See [`crate::ledger::Admin::set`].
    pub fn set(&self, sequence: &str, change: &SequenceChange) -> Outcome<SequenceRow> {
        let (row, ()) = self.alter(sequence, |row| decide::change(row, change))?;
        if self.ledger.on_failover == OnFailover::Jump && change.failover_gap.is_some() {
            decide::may_cap(self.over(&row.facts)?.as_slice())?;
        }
        Ok(row)
    }

    /// See [`crate::ledger::Admin::advance`].
    pub fn advance(&self, sequence: &str, above: i64) -> Outcome<SequenceRow> {
        let (row, ()) = self.alter(sequence, |row| decide::advance(row, above))?;
        Ok(row)
    }

    /// See [`crate::ledger::Admin::set_on_failover`].
    pub fn set_on_failover(&self, to: OnFailover) -> Outcome<()> {
        if to == self.ledger.on_failover {
            return Ok(());
        }
        if to == OnFailover::Jump {
            if let State::Closed(why) = &self.ledger.state {
                return Err(LedgerError::Closed(why.to_string()).into());
            }
            let over: Outcome<Vec<_>> = self.sequences()?.iter().map(|row| self.over(&row.facts)).collect();
            decide::may_cap(&over?.into_iter().flatten().collect::<Vec<_>>())?;
        }
        let set = "UPDATE ledger SET on_failover = ?, catalogue_version = catalogue_version + 1";
        self.sql.execute(set, [to.name()])?;
        Ok(())
    }

    fn over(&self, facts: &SequenceFacts) -> Outcome<Option<(Arc<str>, i64, i64)>> {
        Ok(decide::over(facts, facts.failover_gap, &self.hour(&facts.name)?, self.now_us))
    }

    /// See [`crate::ledger::Ledger::halt`].
    pub fn halt(&self, sequence: &str, reason: &str) -> Outcome<()> {
        self.alter(sequence, |row| {
            row.facts.halted.get_or_insert_with(|| reason.into());
            Ok(())
        })?;
        Ok(())
    }

    /// See [`crate::ledger::Admin::resume`].
    pub fn resume(&self, sequence: &str) -> Outcome<bool> {
        let (_, was_halted) = self.alter(sequence, |row| Ok(row.facts.halted.take().is_some()))?;
        Ok(was_halted)
    }

    /// See [`crate::ledger::Admin::retire`].
    pub fn retire(&self, sequence: &str) -> Outcome<bool> {
        let (_, was_active) =
            self.alter(sequence, |row| Ok(!std::mem::replace(&mut row.facts.retired, true)))?;
        Ok(was_active)
    }

    /// See [`crate::ledger::Admin::lookup`].
    pub fn lookup(&self, sequence: &str, id: i64) -> Outcome<Option<GrantRecord>> {
        self.find(sequence)?.ok_or_else(|| unknown(sequence))?;
        let below = "SELECT * FROM grants WHERE sequence = ? AND first <= ? ORDER BY first DESC LIMIT 1";
        let record = self.sql.query_row(below, (sequence, id), read_record).optional()?;
        Ok(record.filter(|record| record.span.last() >= id))
    }

    /// See [`crate::ledger::Admin::history`].
    pub fn history(&self) -> Outcome<History> {
        let LedgerRow { identity, state, on_failover, .. } = self.ledger.clone();
        let engine = [
            ("engine", format!("SQLite {}", rusqlite::version())),
            ("file", self.sql.path().filter(|path| !path.is_empty()).unwrap_or(":memory:").to_owned()),
        ];
        Ok(History {
            identity,
            state,
            schema: schema(self.sql)?,
            engine: engine.map(|(what, value)| (what.to_owned(), value)).into(),
            on_failover,
            lives: self.lives()?,
            leases: self.leases()?,
            reports: Vec::new(),
            sequences: self.sequences()?,
        })
    }

    /// Lets `edit` change a sequence's row. Where that changes its facts, a trigger raises the catalogue's version.
    fn alter<T>(
        &self,
        sequence: &str,
        edit: impl FnOnce(&mut SequenceRow) -> Result<T, LedgerError>,
    ) -> Outcome<(SequenceRow, T)> {
        let before = self.find(sequence)?.ok_or_else(|| unknown(sequence))?;
        let mut row = before.clone();
        let given = edit(&mut row)?;
        self.ledger.allows(&before, &row)?;
        self.update(&row)?;
        Ok((row, given))
    }

    fn insert(&self, row: &SequenceRow) -> rusqlite::Result<usize> {
        let facts = &row.facts;
        self.sql.execute(
            "INSERT INTO sequences (name, generation, first, last, block_size, buffer_seconds, failover_gap,
                                    halted, retired, granted, grants)
             VALUES (:name, :generation, :first, :last, :block_size, :buffer_seconds, :failover_gap,
                     :halted, :retired, :granted, :grants)",
            named_params! {
                ":name": facts.name,
                ":generation": facts.generation,
                ":first": facts.first,
                ":last": facts.last,
                ":block_size": facts.block_size,
                ":buffer_seconds": facts.buffer_seconds,
                ":failover_gap": facts.failover_gap,
                ":halted": facts.halted,
                ":retired": facts.retired,
                ":granted": row.granted,
                ":grants": row.grants,
            },
        )
    }

    /// Writes what of a sequence's row can change.
    fn update(&self, row: &SequenceRow) -> rusqlite::Result<usize> {
        let facts = &row.facts;
        self.sql.execute(
            "UPDATE sequences SET generation = :generation, granted = :granted, last = :last, block_size = :block_size, buffer_seconds = :buffer_seconds,
               failover_gap = :failover_gap, halted = :halted, retired = :retired WHERE name = :name",
            named_params! {
                ":name": facts.name,
                ":generation": facts.generation,
                ":granted": row.granted,
                ":last": facts.last,
                ":block_size": facts.block_size,
                ":buffer_seconds": facts.buffer_seconds,
                ":failover_gap": facts.failover_gap,
                ":halted": facts.halted,
                ":retired": facts.retired,
            },
        )
    }

    fn find(&self, sequence: &str) -> rusqlite::Result<Option<SequenceRow>> {
        self.sql.query_row("SELECT * FROM sequences WHERE name = ?", [sequence], read_sequence).optional()
    }

    fn sequences(&self) -> Outcome<Vec<SequenceRow>> {
        self.all("SELECT * FROM sequences ORDER BY name", (), read_sequence)
    }

    fn lives(&self) -> Outcome<Vec<LifeRecord>> {
        self.all("SELECT epoch, token, reason, at_us FROM lives ORDER BY epoch", (), |row| {
            let life = Life { epoch: row.get(0)?, token: row.get::<_, Text>(1)?.0 };
            Ok(LifeRecord { life, reason: row.get(2)?, at_us: row.get(3)? })
        })
    }

    fn leases(&self) -> Outcome<Vec<LeaseRecord>> {
        self.all("SELECT cluster, leader, until_us FROM clusters ORDER BY cluster", (), |row| {
            let left_us = row.get::<_, i64>(2)?.saturating_sub(self.now_us);
            Ok(LeaseRecord {
                cluster: row.get(0)?,
                leader: row.get(1)?,
                seconds_left: left_us.div_euclid(1_000_000),
            })
        })
    }

    fn all<T>(
        &self,
        query: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Outcome<Vec<T>> {
        Ok(self.sql.prepare(query)?.query_map(params, read)?.collect::<rusqlite::Result<_>>()?)
    }
}

fn read_sequence(row: &Row<'_>) -> rusqlite::Result<SequenceRow> {
    let facts = SequenceFacts {
        name: row.get("name")?,
        generation: row.get("generation")?,
        first: row.get("first")?,
        last: row.get("last")?,
        block_size: row.get("block_size")?,
        buffer_seconds: row.get("buffer_seconds")?,
        failover_gap: row.get("failover_gap")?,
        halted: row.get("halted")?,
        retired: row.get("retired")?,
    };
    Ok(SequenceRow { facts, granted: row.get("granted")?, grants: row.get("grants")? })
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<GrantRecord> {
    let (first, count) = (row.get("first")?, row.get("count")?);
    Ok(GrantRecord {
        number: row.get("number")?,
        span: Span::new(first, count).ok_or(FromSqlError::OutOfRange(first))?,
        generation: row.get("generation")?,
        epoch: row.get("epoch")?,
        at_us: row.get("at_us")?,
        purpose: row.get("purpose")?,
        holder: row.get("holder")?,
        cluster: row.get("cluster")?,
        pod: row.get("pod")?,
    })
}

/// A UUID as it is written: text, for those who look with other tools.
struct Text(Uuid);

impl FromSql for Text {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Text> {
        Uuid::parse_str(value.as_str()?).map(Text).map_err(FromSqlError::other)
    }
}

/// Thirteen numbers, as an array in JSON.
struct Starts([i64; hour::SLOTS]);

impl FromSql for Starts {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Starts> {
        serde_json::from_str(value.as_str()?).map(Starts).map_err(FromSqlError::other)
    }
}

impl ToSql for Starts {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(&self.0)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(text.into())
    }
}

fn us(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn unknown(sequence: &str) -> LedgerError {
    LedgerError::Unknown(sequence.to_owned())
}
