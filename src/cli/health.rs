//! `health`: a probe for health checks that run a program.

use clap::Args;
use http::{Method, StatusCode};

use super::admin::{Admins, not_blockhouse};
use super::failure::{Exit, Failure, Outcome};
use super::format::one_line;
use super::global::AdminArgs;
use super::http::Endpoint;

const EXAMPLES: &str = "\
Examples:
  blockhouse health            is the local process ready?
  blockhouse health --live     is it alive, ready or not?";

/// Probe a process.
///
/// Without a word where all is well; exit 1 where it isn't, and 69 where the process can't be reached.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Health {
    /// Ask only whether the process's threads run.
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Health {
    /// Asks every process, and ends with the first that isn't well.
    ///
    /// # Errors
    /// The reason that the process gives.
    pub async fn run(&self) -> Outcome {
        let admins = Admins::new(&self.admin)?;
        for endpoint in admins.endpoints() {
            self.probe(&admins, endpoint).await?;
        }
        Ok(())
    }

    async fn probe(&self, admins: &Admins<'_>, endpoint: &Endpoint) -> Outcome {
        let (path, good) = if self.live { ("/livez", "alive") } else { ("/readyz", "ready") };
        let answer = admins.ask(endpoint, Method::GET, path).await?;
        match answer.status {
            StatusCode::OK => Ok(()),
            StatusCode::SERVICE_UNAVAILABLE => {
                let why = one_line(&String::from_utf8_lossy(&answer.body));
                Err(Failure::new(Exit::Failed, format!("{endpoint} is not {good}: {why}")))
            }
            status => Err(not_blockhouse(endpoint, status)),
        }
    }
}
