//! A ledger between two lives: reports, and the operator's word. The rules stand in `schema/lives.sql`.

use std::sync::Arc;

use tokio_postgres::types::Type;

use super::super::{Accept, Accepted, Condemned, LedgerError, Move, MoveRecord, Report, Reported};
use super::Postgres;
use super::connection::Params;
use super::facts::get;
use super::failure::Effect;
use crate::block::{Life, OnFailover};

const REPORT: &str = "
    SELECT outcome, detail FROM blockhouse.report($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";

const MOVED: &str = "
    SELECT epoch, moved_from, moved_to, reason, (extract(epoch FROM at) * 1000000)::bigint AS at_us
      FROM blockhouse.moves WHERE sequence = $1 AND moved_from < $2 AND moved_to >= $2";

const ACCEPT: &str = "
    SELECT problem, sequence, stands, reported, moves_to FROM blockhouse.accept($1, $2, $3, $4)";

impl Postgres {
    pub(super) async fn send_report(&self, report: &Report) -> Result<Reported, LedgerError> {
        let of = |fact: fn(&crate::block::SequenceFacts) -> i64| -> Vec<i64> {
            report.sequences.iter().map(|(facts, _)| fact(facts)).collect()
        };
        let names: Vec<&str> = report.sequences.iter().map(|(facts, _)| &*facts.name).collect();
        let high_waters: Vec<i64> = report.sequences.iter().map(|(_, high_water)| *high_water).collect();
        let buffers: Vec<Option<i64>> =
            report.sequences.iter().map(|(facts, _)| facts.buffer_seconds).collect();
        let reply = self
            .ask(
                Effect::Writes,
                REPORT,
                &[
                    (&&*report.cluster, Type::TEXT),
                    (&&*report.holder, Type::TEXT),
                    (&report.closed.token, Type::UUID),
                    (&report.follows.map(|life| life.epoch), Type::INT8),
                    (&report.follows.map(|life| life.token), Type::UUID),
                    (&report.read_at_us, Type::INT8),
                    (&report.on_failover.map(OnFailover::name), Type::TEXT),
                    (&names, Type::TEXT_ARRAY),
                    (&high_waters, Type::INT8_ARRAY),
                    (&of(|facts| facts.generation), Type::INT8_ARRAY),
                    (&of(|facts| facts.first), Type::INT8_ARRAY),
                    (&of(|facts| facts.last), Type::INT8_ARRAY),
                    (&of(|facts| facts.block_size), Type::INT8_ARRAY),
                    (&buffers, Type::INT8_ARRAY),
                    (&of(|facts| facts.failover_gap), Type::INT8_ARRAY),
                ],
            )
            .await?;
        let row =
            reply.rows.first().ok_or_else(|| LedgerError::InDoubt("a report got no answer".to_owned()))?;
        match get::<&str>(row, "outcome")? {
            "open" => Ok(Reported::Open),
            _ => Ok(Reported::Waits(get::<Option<String>>(row, "detail")?.unwrap_or_default())),
        }
    }

    pub(super) async fn find_move(&self, sequence: &str, id: i64) -> Result<Option<MoveRecord>, LedgerError> {
        let reply = self.ask(Effect::Reads, MOVED, &[(&sequence, Type::TEXT), (&id, Type::INT8)]).await?;
        let Some(row) = reply.rows.first() else { return Ok(None) };
        Ok(Some(MoveRecord {
            epoch: get(row, "epoch")?,
            from: get(row, "moved_from")?,
            to: get(row, "moved_to")?,
            reason: get(row, "reason")?,
            at_us: get(row, "at_us")?,
        }))
    }

    pub(super) async fn close(
        &self,
        life: Life,
        known_epoch: i64,
        why: &str,
    ) -> Result<Condemned, LedgerError> {
        let sql = "SELECT blockhouse.close($1, $2, $3, $4) AS closed";
        let params: Params<'_> = &[
            (&life.epoch, Type::INT8),
            (&life.token, Type::UUID),
            (&known_epoch, Type::INT8),
            (&why, Type::TEXT),
        ];
        let reply = self.ask(Effect::Writes, sql, params).await?;
        let closed = reply.rows.first().map(|row| get::<bool>(row, "closed")).transpose()?;
        Ok(if closed == Some(true) { Condemned::Closed } else { Condemned::Elsewhere })
    }

    pub(super) async fn accept_failover(
        &self,
        accept: &Accept,
        really: bool,
    ) -> Result<Accepted, LedgerError> {
        let (names, floors): (Vec<&str>, Vec<i64>) =
            accept.at_least.iter().map(|(name, floor)| (name.as_str(), *floor)).unzip();
        let params: Params<'_> = &[
            (&accept.without, Type::TEXT_ARRAY),
            (&names, Type::TEXT_ARRAY),
            (&floors, Type::INT8_ARRAY),
            (&!really, Type::BOOL),
        ];
        let reply = self.ask(Effect::Writes, ACCEPT, params).await?;
        let mut accepted = Accepted { problem: None, moves: Vec::new() };
        for row in &reply.rows {
            accepted.problem = get(row, "problem")?;
            if let Some(sequence) = get::<Option<&str>>(row, "sequence")? {
                accepted.moves.push(Move {
                    sequence: Arc::from(sequence),
                    stands: get(row, "stands")?,
                    reported: get(row, "reported")?,
                    to: get(row, "moves_to")?,
                });
            }
        }
        Ok(accepted)
    }
}
