//! `dev`: everything in one process.

use std::path::PathBuf;

use clap::Args;

use super::failure::{Exit, Failure, Outcome};
use super::global::Global;

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
    /// It can't start.
    pub fn run(&self, _global: &Global) -> Outcome {
        Err(Failure::new(Exit::Internal, "'dev' is wired to app.rs where the parts meet"))
    }
}
