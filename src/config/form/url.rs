//! Forms of URLs. They may hold passwords: errors show them redacted or not at all.

use config::Value;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{Change, Form, Wrong, describe_type, text};
use crate::config::{nearest, redact_url};

/// The ledger. What stands behind the scheme is the engine's to judge.
pub struct LedgerUrl;

impl Form for LedgerUrl {
    type Value = SecretString;

    fn allowed(&self) -> String {
        r#""postgres://…", "sqlite:PATH" or "memory:""#.to_owned()
    }

    fn read(&self, value: &Value) -> Result<SecretString, Wrong> {
        let Some(url) = text(value) else {
            return Err(Wrong::must(&self.allowed(), describe_type(&value.kind)));
        };
        let known = ["postgres://", "postgresql://"].iter().any(|scheme| is_behind(url, scheme))
            || (is_behind(url, "sqlite:") && !url.starts_with("sqlite://"))
            || url == "memory:";
        if known {
            return Ok(url.into());
        }
        Err(Wrong::must(&self.allowed(), redact_url(url)).meant(ledger_scheme(url)))
    }

    fn show(&self, value: &SecretString) -> Option<toml::Value> {
        Some(toml::Value::from(redact_url(value.expose_secret())))
    }

    fn change(&self, from: &SecretString, to: &SecretString) -> Change {
        let (from, to) = (from.expose_secret(), to.expose_secret());
        if place(from) == place(to) { Change::of(from == to) } else { Change::Place }
    }
}

/// A ledger's URL but for its password, in pieces: scheme and user, hosts and database, parameters.
fn place(url: &str) -> Vec<&str> {
    let Some((scheme, rest)) = url.split_once("://") else { return vec![url] };
    // As PostgreSQL's client reads it: what stands before the first '@' is user and password.
    let (user, rest) = match rest.split_once('@') {
        Some((login, rest)) => (login.split(':').next(), rest),
        None => (None, rest),
    };
    let (base, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let parameters = parameters.split('&').filter(|parameter| !parameter.starts_with("password="));
    [scheme].into_iter().chain(user).chain([base]).chain(parameters).collect()
}

fn is_behind(url: &str, scheme: &str) -> bool {
    url.len() > scheme.len() && url.starts_with(scheme)
}

fn ledger_scheme(url: &str) -> Option<String> {
    let meant = nearest(url.split_once(':')?.0, ["postgres", "postgresql", "sqlite", "memory"])?;
    Some(match meant {
        "sqlite" => "sqlite:PATH".to_owned(),
        "memory" => "memory:".to_owned(),
        scheme => format!("{scheme}://…"),
    })
}

/// One pod, or `memory:N` for N in-process ones.
pub struct PodUrl;

impl PodUrl {
    /// The most in-process pods.
    const MOST: u32 = 64;
}

impl Form for PodUrl {
    type Value = SecretString;

    fn allowed(&self) -> String {
        format!(
            r#""redis://[USER:PASSWORD@]HOST[:PORT]", or "memory:N" alone with N from 1 to {}"#,
            Self::MOST
        )
    }

    fn read(&self, value: &Value) -> Result<SecretString, Wrong> {
        let Some(url) = text(value) else {
            return Err(Wrong::must(&self.allowed(), describe_type(&value.kind)));
        };
        let count = url.strip_prefix("memory:").and_then(|count| count.parse().ok());
        if count.is_some_and(|count| (1..=Self::MOST).contains(&count)) || is_pod(url) {
            return Ok(url.into());
        }
        if url.starts_with("rediss:") {
            let what = format!("{}: TLS to the pods is reserved: comes in a later release", redact_url(url));
            return Err(Wrong::because(what).meant(Some("redis://…")));
        }
        let scheme = url.split_once(':').and_then(|(scheme, _)| nearest(scheme, ["redis", "memory"]));
        let meant = scheme.filter(|scheme| !url.starts_with(&format!("{scheme}:")));
        Err(Wrong::must(&self.allowed(), redact_url(url)).meant(meant.map(|scheme| match scheme {
            "memory" => "memory:N".to_owned(),
            scheme => format!("{scheme}://…"),
        })))
    }

    fn show(&self, value: &SecretString) -> Option<toml::Value> {
        Some(toml::Value::from(redact_url(value.expose_secret())))
    }

    fn change(&self, from: &SecretString, to: &SecretString) -> Change {
        Change::of(from.expose_secret() == to.expose_secret())
    }
}

/// A server and who logs in, nothing else: a database number or a parameter would be silently without effect.
fn is_pod(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    url.scheme() == "redis"
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.port() != Some(0)
        && matches!(url.path(), "" | "/" | "/0")
        && url.query().is_none()
        && url.fragment().is_none()
}
