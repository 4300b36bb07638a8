//! What a grant costs the ledger's server: every fence and the hourly cap, against a plain counter and its record.
//!
//! `cargo bench --bench grants` (needs the servers that `tests/run` brings, on PATH). The kinds take turns; each line is the median and the
//! range of [`ROUNDS`] rounds: the CPU time of the session's own server process, as the kernel counts it.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that fails fails")]
#![allow(dead_code, reason = "the suite's server can more than a grant needs")]

use std::process::{Command, Stdio};

use postgres::Postgres;
use tokio_postgres::{Client, NoTls};

#[path = "../tests/suite/support/postgres.rs"]
mod postgres;
#[path = "../tests/suite/support/wait.rs"]
mod wait;

const ROUNDS: usize = 11;
const GRANTS: u32 = 500;

/// A counter raised and the range recorded, in one statement: no fence, no trigger, nothing explained.
const PLAIN: &str = "
    WITH raised AS (UPDATE plain.counter SET granted = granted + 1000 WHERE name = 'tasks' RETURNING granted)
    INSERT INTO plain.grants (first, count, at) SELECT granted - 999, 1000, clock_timestamp() FROM raised RETURNING first, count";

/// The grant as the service sends it.
fn grant(fenced: bool) -> String {
    format!(
        "SELECT g.* FROM blockhouse.ledger AS l, LATERAL blockhouse.grant_ids(
             'tasks', 1, l.epoch, l.token, 1000, 1000, 1000, 0, 'fallback', 'bench', 'bench', NULL, {fenced}) AS g"
    )
}

/// One line of the table, with a session of its own.
struct Kind {
    name: &'static str,
    client: Client,
    sql: String,
    server: i32,
    micros: Vec<f64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let smoke = std::env::args().any(|argument| argument == "--test");
    let ledger = Postgres::start();
    for words in [
        &["ledger", "migrate"][..],
        &["sequence", "create", "tasks", "--max", "int64"],
        &["ledger", "set", "--on-failover", "jump"],
    ] {
        run(words, &ledger);
    }
    ledger.psql(
        "CREATE SCHEMA plain;
         CREATE TABLE plain.counter (name text PRIMARY KEY, granted bigint NOT NULL);
         CREATE TABLE plain.grants (first bigint PRIMARY KEY, count bigint NOT NULL, at timestamptz NOT NULL);
         INSERT INTO plain.counter VALUES ('tasks', 0)",
    );
    let mut kinds = [
        Kind::new("a plain counter and its record", PLAIN, &ledger).await,
        Kind::new("a grant, ledger.incarnation = none", &grant(false), &ledger).await,
        Kind::new("a grant", &grant(true), &ledger).await,
    ];
    for _ in 0..if smoke { 1 } else { ROUNDS } {
        for kind in &mut kinds {
            kind.round(if smoke { 10 } else { GRANTS }).await;
        }
    }
    println!("{:<36} {:>10} {:>16}", "server's CPU for one", "median us", "range us");
    for kind in &mut kinds {
        kind.micros.sort_by(f64::total_cmp);
        let (least, most) = (kind.micros[0], kind.micros[kind.micros.len() - 1]);
        let range = format!("{least:.0} to {most:.0}");
        println!("{:<36} {:>10.0} {range:>16}", kind.name, kind.micros[kind.micros.len() / 2]);
    }
}

fn run(words: &[&str], ledger: &Postgres) {
    let url = format!("ledger.url={}", ledger.url());
    let mut command = Command::new(env!("CARGO_BIN_EXE_blockhouse"));
    command.args(words).args(["--yes", "--set", "environment=bench", "--set", &url]).stdout(Stdio::null());
    assert!(command.status().unwrap().success(), "{words:?}");
}

impl Kind {
    async fn new(name: &'static str, sql: &str, ledger: &Postgres) -> Kind {
        let (client, connection) = tokio_postgres::connect(&ledger.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let server = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        Kind { name, client, sql: sql.to_owned(), server, micros: Vec::new() }
    }

    async fn round(&mut self, grants: u32) {
        let before = cpu_ns(self.server);
        for _ in 0..grants {
            // In one round trip, as the service does it.
            let rows = self.client.query_typed(&self.sql, &[]).await.unwrap();
            let outcome = rows[0].try_get::<_, &str>("outcome").ok();
            assert!(matches!(outcome, None | Some("granted")), "{outcome:?}");
        }
        self.micros.push((cpu_ns(self.server) - before) / 1e3 / f64::from(grants));
    }
}

/// How long a process has run, by the kernel's own account.
fn cpu_ns(process: i32) -> f64 {
    let account = std::fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap();
    account.split_whitespace().next().unwrap().parse().unwrap()
}
