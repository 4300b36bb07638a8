//! What a serving process asks beside facts and grants: leases, demand, halts, pruning.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::types::Type;

use super::super::{
    Answer, Change, Condemned, Facts, Grant, GrantRequest, HourOfDemand, Lease, Ledger, LedgerError, Report,
    Reported,
};
use super::Postgres;
use super::connection::Params;
use super::facts::get;
use super::failure::Effect;
use super::url::Target;
use crate::block::{Life, Witness, witness};
use crate::config::settings;

/// Compare-and-set under the row's lock, by the ledger's clock when it was asked. Who doesn't get the lead writes the row
/// as it was, so that there is always an answer.
const LEAD: &str = "
    INSERT INTO blockhouse.clusters AS c (name, leader, renewed_at, lease_ends)
    SELECT $1, $2, now, now + make_interval(secs => $3) FROM clock_timestamp() AS now
    ON CONFLICT (name) DO UPDATE SET
        leader = CASE WHEN c.leader = $2 OR c.lease_ends <= excluded.renewed_at
                      THEN excluded.leader ELSE c.leader END,
        renewed_at = CASE WHEN c.leader = $2 OR c.lease_ends <= excluded.renewed_at
                          THEN excluded.renewed_at ELSE c.renewed_at END,
        lease_ends = CASE WHEN c.leader = $2 OR c.lease_ends <= excluded.renewed_at
                          THEN excluded.lease_ends ELSE c.lease_ends END
    RETURNING leader";

const RESIGN: &str = "
    UPDATE blockhouse.clusters SET lease_ends = clock_timestamp()
     WHERE name = $1 AND leader = $2 AND lease_ends > clock_timestamp()";

/// Hours are counted since 1970. What is older than a day is of no use to anyone.
const ADD_DEMAND: &str = "
    WITH present AS (SELECT floor(extract(epoch FROM now()) / 3600)::bigint AS hour),
    old AS (DELETE FROM blockhouse.demand AS d USING present AS p WHERE d.cluster = $1 AND d.hour < p.hour - 24)
    INSERT INTO blockhouse.demand AS d (cluster, sequence, hour, ids)
    SELECT $1, used.sequence, p.hour, used.ids
      FROM unnest($2, $3) AS used (sequence, ids), present AS p
     ORDER BY used.sequence
    ON CONFLICT (cluster, sequence, hour) DO UPDATE
       SET ids = least(d.ids::numeric + excluded.ids, 9223372036854775807)::bigint";

const DEMAND: &str = "
    SELECT d.sequence, d.ids, (p.hour - d.hour)::int AS hours_ago
      FROM blockhouse.demand AS d, (SELECT floor(extract(epoch FROM now()) / 3600)::bigint) AS p (hour)
     WHERE d.cluster = $1 AND d.hour BETWEEN p.hour - 23 AND p.hour
     ORDER BY d.sequence, hours_ago";

const PRUNE: &str = "
    WITH old AS (
        SELECT g.sequence, g.number
          FROM blockhouse.grants AS g JOIN blockhouse.sequences AS s ON s.name = g.sequence
         WHERE g.at < now() - make_interval(secs => $1) AND g.number < s.grants
         ORDER BY g.at LIMIT $2
    ), gone AS (
        DELETE FROM blockhouse.grants AS g USING old
         WHERE g.sequence = old.sequence AND g.number = old.number
        RETURNING 1
    )
    SELECT count(*) AS gone FROM gone";

impl Ledger for Postgres {
    fn facts(&self, known: Option<Life>) -> Answer<'_, Facts> {
        Box::pin(self.read_facts(known))
    }

    fn grant<'a>(&'a self, request: &'a GrantRequest) -> Answer<'a, Grant> {
        Box::pin(self.ask_grant(request))
    }

    fn lead<'a>(&'a self, cluster: &'a str, holder: &'a str, ttl: Duration) -> Answer<'a, Lease> {
        Box::pin(async move {
            let reply = self
                .ask(
                    Effect::Writes,
                    LEAD,
                    &[(&cluster, Type::TEXT), (&holder, Type::TEXT), (&seconds(ttl), Type::FLOAT8)],
                )
                .await?;
            let row =
                reply.rows.first().ok_or_else(|| LedgerError::InDoubt("no lease came back".to_owned()))?;
            let leader: &str = get(row, "leader")?;
            Ok(Lease { held: leader == holder, leader: Arc::from(leader) })
        })
    }

    fn resign<'a>(&'a self, cluster: &'a str, holder: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.ask(Effect::Writes, RESIGN, &[(&cluster, Type::TEXT), (&holder, Type::TEXT)]).await?;
            Ok(())
        })
    }

    fn add_demand<'a>(&'a self, cluster: &'a str, used: &'a [(Arc<str>, i64)]) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut sums = BTreeMap::<&str, i64>::new();
            for (sequence, ids) in used {
                let sum = sums.entry(sequence).or_default();
                *sum = sum.saturating_add((*ids).max(0));
            }
            let (sequences, ids): (Vec<&str>, Vec<i64>) =
                sums.into_iter().filter(|(_, ids)| *ids > 0).unzip();
            if sequences.is_empty() {
                return Ok(());
            }
            self.ask(
                Effect::Writes,
                ADD_DEMAND,
                &[(&cluster, Type::TEXT), (&sequences, Type::TEXT_ARRAY), (&ids, Type::INT8_ARRAY)],
            )
            .await?;
            Ok(())
        })
    }

    fn demand<'a>(&'a self, cluster: &'a str) -> Answer<'a, Vec<HourOfDemand>> {
        Box::pin(async move {
            let reply = self.ask(Effect::Reads, DEMAND, &[(&cluster, Type::TEXT)]).await?;
            let hour = |row| {
                Ok(HourOfDemand {
                    sequence: Arc::from(get::<&str>(row, "sequence")?),
                    hours_ago: u8::try_from(get::<i32>(row, "hours_ago")?).unwrap_or(23),
                    ids: get(row, "ids")?,
                })
            };
            reply.rows.iter().map(hour).collect()
        })
    }

    fn confirm<'a>(&'a self, cluster: &'a str, holder: &'a str, seen: &'a [Witness]) -> Answer<'a, ()> {
        Box::pin(async move {
            let seen = witness::to_text(seen);
            let params: Params<'_> = &[(&cluster, Type::TEXT), (&holder, Type::TEXT), (&seen, Type::TEXT)];
            self.ask(Effect::Writes, "SELECT blockhouse.confirm($1, $2, $3)", params).await.map(drop)
        })
    }

    fn halt<'a>(&'a self, sequence: &'a str, reason: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let sql = "SELECT blockhouse.halt($1, $2) AS known";
            let reply =
                self.ask(Effect::Writes, sql, &[(&sequence, Type::TEXT), (&reason, Type::TEXT)]).await?;
            match reply.rows.first().map(|row| get::<bool>(row, "known")).transpose()? {
                Some(true) => Ok(()),
                _ => Err(LedgerError::Unknown(sequence.to_owned())),
            }
        })
    }

    fn report<'a>(&'a self, report: &'a Report) -> Answer<'a, Reported> {
        Box::pin(self.send_report(report))
    }

    fn condemn<'a>(&'a self, life: Life, known_epoch: i64, why: &'a str) -> Answer<'a, Condemned> {
        Box::pin(self.close(life, known_epoch, why))
    }

    fn prune(&self, keep: Duration, limit: u32) -> Answer<'_, u64> {
        Box::pin(async move {
            let reply = self
                .ask(
                    Effect::Writes,
                    PRUNE,
                    &[(&seconds(keep), Type::FLOAT8), (&i64::from(limit), Type::INT8)],
                )
                .await?;
            let gone: i64 = reply.rows.first().map_or(Ok(0), |row| get(row, "gone"))?;
            Ok(gone.unsigned_abs())
        })
    }

    fn log_in_with<'a>(&'a self, settings: &settings::Ledger) -> Result<Change<'a>, LedgerError> {
        let target = Rc::new(Target::new(settings, &self.instance)?);
        Ok(Box::new(move || *self.target.borrow_mut() = target))
    }
}

/// At most a thousand years: the server's intervals end somewhere beyond.
fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64().min(1000.0 * 365.0 * 86_400.0)
}
