//! How a command that needs the configuration gets it.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::admin::Admins;
use super::failure::{Exit, Failure, Outcome};
use super::format::plural;
use super::global::{AdminArgs, ConfigArgs, Global};
use super::http::Endpoint;
use super::status::ask;
use super::ui::say;
use crate::config::Settings;
use crate::observe::Status;

/// Where a `dev` that was started without a word listens.
const DEV: &str = "127.0.0.1:7421";

/// How long a running `dev` may take to say where its ledger is.
const DEV_ANSWERS: Duration = Duration::from_secs(2);

/// The configuration, and where the ledger in it came from.
pub struct Configured {
    /// Resolved.
    pub settings: Settings,
    /// The ledger's URL, with its secrets.
    pub url: String,
    /// For people: `ledger.url in /etc/blockhouse/ledger.toml`.
    pub origin: String,
}

/// The configuration of a command that acts on the ledger; where it names none, that of a running `dev`.
///
/// # Errors
/// The configuration is wrong, or names no ledger and no `dev` runs.
pub async fn settings(config: &ConfigArgs, global: &Global) -> Outcome<Configured> {
    let (settings, origin) = load(config, global)?;
    match &settings.ledger.url {
        Some(url) => Ok(Configured { url: url.expose_secret().to_owned(), origin, settings }),
        None => running_dev(settings).await,
    }
}

/// The files, the environment and the flags; and where `ledger.url` came from.
///
/// # Errors
/// Everything that is wrong with them; all but the last line is said here.
pub fn load(config: &ConfigArgs, global: &Global) -> Outcome<(Settings, String)> {
    let _ = (config, global);
    Err(wrong(&["config::load is wired in where the parts meet"]))
}

/// Says every problem, and sums them up.
fn wrong<P: Display>(problems: &[P]) -> Failure {
    if let [problem] = problems {
        return Failure::new(Exit::Config, problem.to_string());
    }
    problems.iter().for_each(|problem| say(&problem.to_string()));
    let count = plural(problems.len(), "problem", "problems");
    Failure::new(Exit::Config, format!("the configuration has {count}, listed above"))
}

/// Asks the process at the default admin address where its ledger is.
async fn running_dev(defaults: Settings) -> Outcome<Configured> {
    let endpoint = Endpoint::Tcp(DEV.to_owned());
    let args = AdminArgs { admins: Vec::new(), admin_token_file: None, timeout: DEV_ANSWERS };
    let status = match ask(&Admins::new(&args)?, &endpoint).await {
        Ok((status, _)) => status,
        Err(failure) if failure.exit == Exit::Unreachable => {
            let line = format!(
                "no ledger is configured, and no 'blockhouse dev' runs at {DEV}: set ledger.url in a file (-c), with \
                 --set ledger.url=URL, or in BLOCKHOUSE__LEDGER__URL"
            );
            return Err(Failure::new(Exit::Config, line));
        }
        Err(failure) => return Err(failure),
    };
    adopt(defaults, &status)
}

/// The settings of a process, as far as its status shows them.
fn adopt(mut settings: Settings, status: &Status) -> Outcome<Configured> {
    let url = status.ledger.url.clone();
    if url.is_empty() || url.contains(":memory:") || url == "memory:" {
        let line = format!(
            "the ledger of the process at {DEV} is in its memory: start 'blockhouse dev' with --data PATH"
        );
        return Err(Failure::new(Exit::Unreachable, line));
    }
    settings.environment = Arc::from(status.environment.as_str());
    settings.cluster = Arc::from(status.cluster.as_str());
    settings.ledger.url = Some(SecretString::from(url.clone()));
    settings.ledger.id = status.ledger.id.as_deref().and_then(|id| id.parse().ok());
    let pods = status.pods.iter().filter(|pod| !pod.address.starts_with("memory:"));
    settings.redis.pods = pods.map(|pod| SecretString::from(format!("redis://{}", pod.address))).collect();
    Ok(Configured { settings, url, origin: format!("of the process at {DEV}; nothing is configured") })
}
