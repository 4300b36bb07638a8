//! `ledger.url`, as libpq would read it, and the limits every connection gets.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::LedgerError;
use super::tls::{self, Protection};
use crate::config::settings::{self, Tls};

/// Parameters of the URL that the client library knows.
const KNOWN: &[&str] = &[
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Parameters of the URL that [`tls`] reads.
const OF_TLS: &[&str] = &["sslcert", "sslkey", "sslmode", "sslrootcert"];

/// Where and how to connect.
pub(super) struct Target {
    /// Host, port and database, for people.
    pub(super) name: String,
    pub(super) config: Config,
    /// The same without session limits, for poolers that refuse them.
    pub(super) without_options: Config,
    pub(super) tls: MakeRustlsConnect,
    /// Bound of opening a connection, all hosts together.
    pub(super) connect_timeout: Duration,
}

impl Target {
    pub(super) fn new(settings: &settings::Ledger, instance: &str) -> Result<Target, LedgerError> {
        let url = settings.url.as_ref().ok_or_else(|| invalid("ledger.url is not set".to_owned()))?;
        let (plain, protection) = split(url.expose_secret(), settings)?;
        let mut config: Config = plain
            .parse()
            .map_err(|error| invalid(format!("ledger.url: {}", super::failure::chain(&error))))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(invalid("ledger.url names no host: postgres://USER@HOST:5432/DATABASE".to_owned()));
        }
        if let Some(password) = &settings.password {
            config.password(password.expose_secret());
        }
        config
            .application_name(format!("blockhouse/{instance}"))
            .ssl_mode(match protection.mode {
                Tls::Disable => SslMode::Disable,
                Tls::Prefer => SslMode::Prefer,
                Tls::Require | Tls::VerifyFull => SslMode::Require,
            })
            .connect_timeout(settings.connect_timeout)
            .tcp_user_timeout(settings.timeout)
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3);
        let without_options = config.clone();
        config.options(session(settings.timeout, without_options.get_options()));
        Ok(Target {
            name: name(&config),
            tls: tls::connector(&protection)?,
            config,
            without_options,
            connect_timeout: settings.connect_timeout,
        })
    }
}

/// The session's limits, then the URL's own options, which win.
fn session(timeout: Duration, own: Option<&str>) -> String {
    let statement_ms = timeout.as_millis().max(1);
    let lock_ms = (statement_ms * 4 / 5).max(1);
    format!(
        "-c statement_timeout={statement_ms} -c lock_timeout={lock_ms} \
         -c idle_in_transaction_session_timeout={statement_ms} \
         -c default_transaction_isolation=read\\ committed {}",
        own.unwrap_or_default()
    )
}

/// The URL without what only we understand, and that. The URL's own `sslmode` wins over `ledger.tls`: it names one server.
fn split(url: &str, settings: &settings::Ledger) -> Result<(String, Protection), LedgerError> {
    let mut protection = Protection {
        mode: settings.tls,
        ca: settings.ca.clone(),
        cert: settings.cert.clone(),
        key: settings.key.clone(),
    };
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), protection)) };
    let mut kept = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let key = part.split('=').next().unwrap_or_default();
        // A '+' is a plus here, as in libpq.
        let value = ::url::form_urlencoded::parse(part.replace('+', "%2B").as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default();
        match key {
            "sslmode" => protection.mode = mode(&value)?,
            "sslrootcert" => protection.ca = Some(PathBuf::from(value)),
            "sslcert" => protection.cert = Some(PathBuf::from(value)),
            "sslkey" => protection.key = Some(PathBuf::from(value)),
            _ if KNOWN.contains(&key) => kept.push(part),
            _ => return Err(unknown(key)),
        }
    }
    let plain = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    Ok((plain, protection))
}

fn mode(value: &str) -> Result<Tls, LedgerError> {
    match value {
        "disable" => Ok(Tls::Disable),
        "allow" | "prefer" => Ok(Tls::Prefer),
        "require" => Ok(Tls::Require),
        "verify-full" => Ok(Tls::VerifyFull),
        _ => Err(invalid("ledger.url: sslmode must be disable, prefer, require or verify-full".to_owned())),
    }
}

/// Names the key only where it is near a known one: else it may be part of a password.
fn unknown(key: &str) -> LedgerError {
    let near = KNOWN
        .iter()
        .chain(OF_TLS)
        .map(|known| (strsim::jaro_winkler(key, known), known))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    invalid(match near {
        Some((_, known)) => format!("ledger.url: unknown parameter '{key}': did you mean '{known}'?"),
        None => {
            "ledger.url: unknown parameter after '?' (a '?' in a password must be written %3F)".to_owned()
        }
    })
}

fn name(config: &Config) -> String {
    let hosts = config.get_hosts().iter().enumerate().map(|(nth, host)| {
        let port = config.get_ports().get(nth).or(config.get_ports().first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(host) => format!("{host}:{port}"),
            Host::Unix(path) => format!("{}:{port}", path.display()),
        }
    });
    let hosts: Vec<String> = hosts.collect();
    format!("{}/{}", hosts.join(","), config.get_dbname().or(config.get_user()).unwrap_or_default())
}

fn invalid(why: String) -> LedgerError {
    LedgerError::Invalid(why)
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn settings(url: &str) -> settings::Ledger {
        settings::Ledger {
            url: Some(SecretString::from(url)),
            id: None,
            password: None,
            tls: Tls::Prefer,
            ca: None,
            cert: None,
            key: None,
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            connect_spread: Duration::ZERO,
            incarnation: true,
            keep_grants: Duration::from_secs(86_400),
        }
    }

    #[test]
    fn a_target_has_the_limits_and_the_name_of_the_process() {
        let url = "postgresql://app:hunter2@db1:6432,db2/ids?target_session_attrs=read-write&sslmode=disable";
        let target = Target::new(&settings(url), "host-1").unwrap();
        assert_eq!(target.name, "db1:6432,db2:5432/ids");
        assert_eq!(target.config.get_application_name(), Some("blockhouse/host-1"));
        assert_eq!(target.config.get_ssl_mode(), SslMode::Disable, "the URL's own wins");
        assert_eq!(target.config.get_tcp_user_timeout(), Some(&Duration::from_secs(5)));
        let options = target.config.get_options().unwrap();
        for limit in
            ["statement_timeout=5000", "lock_timeout=4000", "idle_in_transaction_session_timeout=5000"]
        {
            assert!(options.contains(limit), "{options}");
        }
        assert_eq!(target.without_options.get_options(), None);
    }

    #[test]
    fn the_setting_for_the_password_wins() {
        let mut settings = settings("postgres://app:old@db/ids");
        settings.password = Some(SecretString::from("new"));
        let target = Target::new(&settings, "host-1").unwrap();
        assert_eq!(target.config.get_password(), Some("new".as_bytes()));
    }
}
