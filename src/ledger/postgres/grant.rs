//! One grant: one call of the function in `schema/grant.sql`.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::super::{Grant, GrantRequest, LedgerError};
use super::Postgres;
use super::facts::get;
use super::failure::Effect;
use crate::block::Span;

const GRANT: &str = "
    SELECT outcome, detail, standing, granted_first, granted_count, granted_number
      FROM blockhouse.grant_ids($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

impl Postgres {
    pub(super) async fn ask_grant(&self, request: &GrantRequest) -> Result<Grant, LedgerError> {
        if request.least < 1 || request.need < request.least {
            return Err(LedgerError::Invalid(format!(
                "a grant of {} to {} IDs makes no sense",
                request.least, request.need
            )));
        }
        let reply = self
            .ask(
                Effect::Writes,
                GRANT,
                &[
                    (&&*request.sequence, Type::TEXT),
                    (&request.generation, Type::INT8),
                    (&request.life.epoch, Type::INT8),
                    (&request.life.token, Type::UUID),
                    (&request.least, Type::INT8),
                    (&request.need, Type::INT8),
                    (&request.want, Type::INT8),
                    (&request.known_high_water, Type::INT8),
                    (&request.purpose.name(), Type::TEXT),
                    (&&*request.holder, Type::TEXT),
                    (&&*request.cluster, Type::TEXT),
                    (&request.pod.as_deref(), Type::TEXT),
                    (&self.fenced, Type::BOOL),
                ],
            )
            .await?;
        // The server says 'committed' and then takes it back in a warning, as when the wait for a standby is cancelled.
        if let Some(notice) = reply.notice {
            return Err(LedgerError::InDoubt(notice));
        }
        match reply.rows.as_slice() {
            [row] => outcome(row, request),
            _ => Err(LedgerError::InDoubt("the ledger did not answer with one row".to_owned())),
        }
    }
}

fn outcome(row: &Row, request: &GrantRequest) -> Result<Grant, LedgerError> {
    let detail = || get::<Option<String>>(row, "detail").map(Option::unwrap_or_default);
    let standing = || get::<Option<i64>>(row, "standing").map(Option::unwrap_or_default);
    let refusal = match get::<&str>(row, "outcome")? {
        "granted" => return granted(row, request, standing()?),
        "closed" => LedgerError::Closed(detail()?),
        "stale" => LedgerError::Stale(detail()?),
        "unknown" => LedgerError::Unknown(request.sequence.to_string()),
        "retired" => LedgerError::Retired,
        "halted" => LedgerError::Halted(detail()?),
        "exhausted" => LedgerError::Exhausted { left: standing()? },
        "rate_capped" => {
            let seconds = detail()?.parse().unwrap_or(0.0_f64);
            let wait = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            LedgerError::RateCapped { allowed: standing()?, wait }
        }
        "went_back" => LedgerError::WentBack {
            granted: standing()?,
            known: detail()?.parse().unwrap_or(request.known_high_water),
        },
        "conflict" => LedgerError::Conflict(detail()?),
        other => LedgerError::Schema(format!("the ledger refuses for a reason of a newer release: {other}")),
    };
    Err(refusal)
}

/// Checks on this side again what the statement checked on its own (S1, S3): an answer that doesn't pass is not used.
fn granted(row: &Row, request: &GrantRequest, left: i64) -> Result<Grant, LedgerError> {
    let (first, count) = (get(row, "granted_first")?, get(row, "granted_count")?);
    match Span::new(first, count) {
        Some(span) if count >= request.least && first > request.known_high_water => Ok(Grant {
            span,
            number: get(row, "granted_number")?,
            generation: request.generation,
            life: request.life,
            left,
        }),
        _ => Err(LedgerError::InDoubt(format!("the ledger answered with {count} IDs from {first}"))),
    }
}
