//! How a command that needs the configuration gets it.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::admin::Admins;
use super::failure::{Exit, Failure, Outcome};
use super::global::{AdminArgs, ConfigArgs, Global};
use super::http::Endpoint;
use super::status::ask;
use super::ui::{Ui, say};
use crate::config::{self, Errors, Loaded, Settings, Sources};
use crate::observe::Status;

/// Where a `dev` that was started without a word listens.
const DEV: &str = "127.0.0.1:7421";

/// How long a running `dev` may take to say where its ledger is.
const DEV_ANSWERS: Duration = Duration::from_secs(2);

/// How long it may take to hear of a change: two passes of its hydrator, and more.
const DEV_LEARNS: Duration = Duration::from_secs(15);

/// What this process was told.
pub fn sources(config: &ConfigArgs, global: &Global) -> Sources {
    Sources {
        files: config.config.clone(),
        set: config.set.clone(),
        flags: global.assigned(),
        ..Sources::of_process()
    }
}

/// Loads the configuration; what was ignored is a warning.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(sources: Sources, ui: &Ui) -> Outcome<Loaded> {
    let loaded = config::load(sources).map_err(|errors| wrong(&errors))?;
    loaded.warnings.iter().for_each(|ignored| ui.warn(format_args!("{ignored}; ignored")));
    Ok(loaded)
}

/// Ends with everything that is wrong with the configuration: all but the last line is said here.
pub fn wrong(Errors(problems): &Errors) -> Failure {
    if let [problem] = &problems[..] {
        return Failure::new(Exit::Config, problem.to_string());
    }
    problems.iter().for_each(|problem| say(&problem.to_string()));
    let line = format!(
        "the configuration has {} errors, listed above; 'blockhouse config reference' lists every key",
        problems.len()
    );
    Failure::new(Exit::Config, line)
}

/// The configuration of a command that acts on the ledger, and where the ledger in it came from.
pub struct Configured {
    /// Resolved.
    pub settings: Settings,
    /// The ledger's URL, with its secrets.
    pub url: String,
    /// For people: `ledger.url of /etc/blockhouse/ledger.toml:3:7`.
    pub origin: String,
    /// Whether it is that of a running `dev`.
    pub of_dev: bool,
}

impl Configured {
    /// From the sources; where they hold nothing at all, from a running `dev`.
    ///
    /// # Errors
    /// The configuration is wrong or names no ledger, or there is none and no `dev` runs.
    pub async fn new(config: &ConfigArgs, global: &Global, ui: &Ui) -> Outcome<Configured> {
        let Loaded { settings, origins, .. } = load(sources(config, global), ui)?;
        if let Some(url) = &settings.ledger.url {
            let place = origins.get("ledger.url").map_or("", String::as_str);
            let url = url.expose_secret().to_owned();
            return Ok(Configured {
                settings,
                url,
                origin: format!("ledger.url from {place}"),
                of_dev: false,
            });
        }
        // The log of this command is no configuration of a ledger.
        let nothing =
            origins.iter().all(|(key, origin)| *origin == config::DEFAULT || key.starts_with("log."));
        if !nothing {
            settings.require_ledger().map_err(|errors| wrong(&errors))?;
        }
        running_dev(settings).await
    }
}

/// Asks the process at the default admin address where its ledger is.
async fn running_dev(defaults: Settings) -> Outcome<Configured> {
    match ask_dev().await {
        Ok(status) => adopt(defaults, &status),
        Err(failure) if failure.exit == Exit::Unreachable => {
            let line = format!(
                "no ledger is configured, and no 'blockhouse dev' runs at {DEV}: set ledger.url in a file (-c), with \
                 --set ledger.url=URL, or in BLOCKHOUSE__LEDGER__URL"
            );
            Err(Failure::new(Exit::Config, line))
        }
        Err(failure) => Err(failure),
    }
}

/// Waits until the running `dev` knows a new sequence: its in-process pods can't be told from here, its hydrator tells
/// them.
pub async fn dev_knows(sequence: &str, ui: &Ui) {
    let known = async {
        loop {
            let status = ask_dev().await?;
            if status.sequences.iter().any(|known| known.name == sequence) {
                return Ok::<(), Failure>(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if !matches!(tokio::time::timeout(DEV_LEARNS, known).await, Ok(Ok(()))) {
        ui.warn(format_args!("the process at {DEV} doesn't know '{sequence}' yet"));
    }
}

async fn ask_dev() -> Outcome<Status> {
    let endpoint = Endpoint::Tcp(DEV.to_owned());
    let args = AdminArgs { admins: Vec::new(), admin_token_file: None, timeout: DEV_ANSWERS };
    Ok(ask(&Admins::new(&args)?, &endpoint).await?.0)
}

/// The settings of a process, as far as its status shows them.
fn adopt(mut settings: Settings, status: &Status) -> Outcome<Configured> {
    let url = status.ledger.url.replacen(":***@", "@", 1);
    if url.is_empty() || url.starts_with("memory:") || url.ends_with(":memory:") {
        let line = format!(
            "the ledger of the process at {DEV} is in its memory, where no other process can reach it: start 'blockhouse \
             dev' with --data PATH"
        );
        return Err(Failure::new(Exit::Unreachable, line));
    }
    settings.environment = Arc::from(status.environment.as_str());
    settings.cluster = Arc::from(status.cluster.as_str());
    settings.ledger.url = Some(SecretString::from(url.as_str()));
    settings.ledger.id = status.ledger.id.as_deref().and_then(|id| id.parse().ok());
    let pods = status.pods.iter().filter(|pod| !pod.address.starts_with("memory:"));
    settings.redis.pods = pods.map(|pod| SecretString::from(format!("redis://{}", pod.address))).collect();
    let origin = format!("of the process at {DEV}, as nothing is configured");
    Ok(Configured { settings, url, origin, of_dev: true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::status::{Ledger, Pod};

    fn status(url: &str) -> Status {
        let pod = |address: &str| Pod { address: address.into(), ..Pod::default() };
        Status {
            environment: "beta".into(),
            cluster: "east".into(),
            ledger: Ledger { url: url.into(), ..Ledger::default() },
            pods: vec![pod("memory:0"), pod("127.0.0.1:6379")],
            ..Status::default()
        }
    }

    #[test]
    fn a_running_process_lends_its_ledger_and_its_redis_pods() {
        let configured = adopt(Settings::default(), &status("postgres://me:***@db/ids")).ok().unwrap();
        assert_eq!(configured.url, "postgres://me@db/ids");
        assert_eq!((&*configured.settings.environment, &*configured.settings.cluster), ("beta", "east"));
        let pods: Vec<_> = configured.settings.redis.pods.iter().map(|pod| pod.expose_secret()).collect();
        assert_eq!(pods, ["redis://127.0.0.1:6379"]);
    }

    #[test]
    fn a_ledger_in_memory_can_not_be_reached_from_outside() {
        for url in ["", "memory:", "sqlite::memory:"] {
            let failure = adopt(Settings::default(), &status(url)).err().unwrap();
            assert_eq!(failure.exit, Exit::Unreachable, "{url}");
        }
    }
}
