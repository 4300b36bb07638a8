//! `dev`: everything in one process.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Args;

use super::failure::{Exit, Failure, Outcome};
use super::global::Global;
use super::run::{self, Command};
use super::ui::Ui;
use crate::actor::Process;
use crate::app::Running;
use crate::block::Counters;
use crate::config::{Assigned, Sources};
use crate::ledger::{Admin, LedgerError, NewSequence};
use crate::role::Roles;

const EXAMPLES: &str = "\
Examples:
  blockhouse dev                                            everything embedded, sequence 'default'
  blockhouse dev --sequence tasks --sequence comments
  blockhouse dev --data :memory:                            forget everything at the end
  blockhouse dev --postgres postgres://me@localhost/ids --redis redis://localhost:6379
  blockhouse dev --set grpc.listen=127.0.0.1:9000 --set admin.listen=127.0.0.1:9001";

/// Run everything in one process, to try it out.
///
/// An SQLite ledger and three in-process pods, through the same code as the service. Not for production.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Dev {
    /// The ledger's SQLite file; ':memory:' keeps it in memory.
    #[arg(long, value_name = "PATH", default_value = "./blockhouse-dev.sqlite", conflicts_with = "postgres")]
    pub data: PathBuf,
    /// A sequence to create where it doesn't exist; repeatable.
    #[arg(long = "sequence", value_name = "NAME", default_value = "default", value_parser = super::sequence::name)]
    pub sequences: Vec<String>,
    /// A PostgreSQL ledger instead of SQLite; its schema is made where there is none.
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,
    /// A Redis pod instead of the in-process ones; repeatable.
    #[arg(long = "redis", value_name = "URL")]
    pub redis: Vec<String>,
    /// One key, as 'blockhouse config reference' lists them; repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl Dev {
    /// Runs until a signal.
    ///
    /// # Errors
    /// It can't start or can't go on.
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let mut sources =
            Sources { set: self.set.clone(), flags: global.assigned(), ..Sources::of_process() };
        let by = "blockhouse dev";
        let defaults = [("ledger.url", self.ledger()), ("redis.pods", "memory:3".to_owned())];
        let small = SMALL.iter().map(|(key, value)| (*key, (*value).to_owned()));
        sources.defaults =
            defaults.into_iter().chain(small).map(|(key, value)| Assigned { by, key, value }).collect();
        if let Some(url) = &self.postgres {
            sources.flags.push(Assigned { by: "--postgres", key: "ledger.url", value: url.clone() });
        }
        if !self.redis.is_empty() {
            sources.flags.push(Assigned { by: "--redis", key: "redis.pods", value: self.redis.join(",") });
        }
        run::run(sources, Roles::ALL, ui, self)
    }

    fn ledger(&self) -> String {
        let path = if self.data.as_os_str() == ":memory:" {
            self.data.clone()
        } else {
            std::path::absolute(&self.data).unwrap_or_else(|_| self.data.clone())
        };
        format!("sqlite:{}", path.display())
    }
}

/// What makes a `dev` small and quick: a restart skips few IDs, and Ctrl-C ends it at once.
const SMALL: &[(&str, &str)] = &[
    ("hydrator.buffer", "1m"),
    ("hydrator.interval", "1s"),
    ("hydrator.min_ids", "3000"),
    ("fallback.min_ids", "1000"),
    ("fallback.cover", "10s"),
    ("drain.delay", "0s"),
    ("log.level", "warning"),
];

/// IDs a block of a sequence that `dev` makes.
const BLOCK_SIZE: i64 = 100;
/// The greatest integer that JavaScript holds exactly.
const JS_SAFE: i64 = (1 << 53) - 1;

impl Command for Dev {
    async fn prepare(&self, ledger: &dyn Admin) -> Outcome {
        let unusable =
            |error: LedgerError| Failure::new(Exit::Config, format!("dev's ledger can't be used: {error}"));
        ledger.migrate().await.map_err(unusable)?;
        for name in &self.sequences {
            let new = NewSequence {
                name: name.as_str().into(),
                first: 1,
                last: JS_SAFE,
                block_size: BLOCK_SIZE,
                buffer: None,
                failover_gap: None,
                if_not_exists: true,
            };
            ledger.create(&new).await.map_err(unusable)?;
        }
        Ok(())
    }

    fn greet(&self, running: &Running, ui: &Ui) -> Outcome {
        let sequence = self.sequences.first().map_or("default", String::as_str);
        let server = running.grpc.first().map_or("", String::as_str);
        let admin = &running.admin;
        let flag = if server == DEFAULT_SERVER { String::new() } else { format!(" -s {server}") };
        ui.lines([
            format!("blockhouse dev serves on {server}; status page: http://{admin}/"),
            "Try it:".to_owned(),
            format!("  blockhouse take {sequence} -n 3{flag}"),
            format!("  curl -d '{{\"count\":3}}' http://{server}/v1/sequences/{sequence}/ids"),
            format!("  curl http://{admin}/api/v1/status"),
            "Ctrl-C ends it.".to_owned(),
        ])
    }

    fn part(&self, process: &Process, ui: &Ui) -> Outcome {
        let known = process.known.load();
        let sum =
            |of: fn(&Counters) -> u64| known.sequences().map(|sequence| of(&sequence.counters)).sum::<u64>();
        ui.lines([format!(
            "handed out: {}, twice: {}, discarded: {}",
            sum(Counters::allocated_ids_in_all),
            sum(|counters| counters.duplicate_ranges.load(Ordering::Relaxed)),
            sum(|counters| counters.tally.discarded_in_all()),
        )])
    }
}

/// Where client commands look by themselves.
const DEFAULT_SERVER: &str = "127.0.0.1:7420";
