//! New generations, and the table that an import looks at.

use tokio_postgres::types::Type;

use super::super::{LedgerError, SequenceRow, decide};
use super::Postgres;
use super::facts::{SEQUENCE_COLUMNS, get, sequence_row};
use super::failure::Effect;

/// The column of a table as the server quotes it, and its type; both null where they don't exist.
const COLUMN: &str = "
    SELECT t.oid::regclass::text AS in_table, quote_ident(a.attname) AS named, format_type(a.atttypid, a.atttypmod) AS of_type,
           a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype) AS counts
      FROM (SELECT to_regclass($1) AS oid) AS t
      LEFT JOIN pg_attribute AS a
        ON a.attrelid = t.oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped";

impl Postgres {
    pub(super) async fn advance_sequence(
        &self,
        sequence: &str,
        above: i64,
    ) -> Result<SequenceRow, LedgerError> {
        let sql = format!("SELECT {SEQUENCE_COLUMNS} FROM blockhouse.advance($1, $2) AS s");
        let params =
            &[(&sequence as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT), (&above, Type::INT8)];
        let reply = self.ask(Effect::Writes, &sql, params).await?;
        if let Some(row) = reply.rows.first() {
            return sequence_row(row);
        }
        let mut row = self.find(sequence).await?.ok_or_else(|| LedgerError::Unknown(sequence.to_owned()))?;
        decide::advance(&mut row, above)?;
        Err(self.why_closed().await?)
    }

    pub(super) async fn greatest_in_column(
        &self,
        table: &str,
        column: &str,
    ) -> Result<Option<i64>, LedgerError> {
        let asked = self.ask(Effect::Reads, COLUMN, &[(&table, Type::TEXT), (&column, Type::TEXT)]).await;
        let reply = asked.map_err(of_the_asker)?;
        let row = reply.rows.first().ok_or_else(|| LedgerError::Unreachable("no answer".to_owned()))?;
        let Some(in_table) = get::<Option<&str>>(row, "in_table")? else {
            return Err(LedgerError::Invalid(format!(
                "there is no table '{table}' in the ledger's database: name it as in SQL, with its schema"
            )));
        };
        let Some(named) = get::<Option<&str>>(row, "named")? else {
            return Err(LedgerError::Invalid(format!("the table {in_table} has no column '{column}'")));
        };
        if !get::<bool>(row, "counts")? {
            let of_type: &str = get(row, "of_type")?;
            return Err(LedgerError::Invalid(format!(
                "the column '{column}' of {in_table} holds no whole numbers: it is of type {of_type}"
            )));
        }
        // As text: the greatest number may be greater than any ID.
        let sql = format!("SELECT max({named})::text AS greatest FROM {in_table}");
        let reply = self.ask(Effect::Reads, &sql, &[]).await.map_err(of_the_asker)?;
        let greatest =
            reply.rows.first().map(|row| get::<Option<&str>>(row, "greatest")).transpose()?.flatten();
        greatest.map(|text| whole(text, column, in_table)).transpose()
    }
}

/// The server's answer that it can't read that name, or that this log-in may not, is no fault of the ledger's.
fn of_the_asker(error: LedgerError) -> LedgerError {
    match error {
        LedgerError::Unreachable(said) if said.contains("(SQLSTATE 42") => LedgerError::Invalid(said),
        other => other,
    }
}

fn whole(text: &str, column: &str, table: &str) -> Result<i64, LedgerError> {
    text.parse().map_err(|_| {
        LedgerError::Invalid(format!("the greatest '{column}' of {table} is {text}, which can't be an ID"))
    })
}
