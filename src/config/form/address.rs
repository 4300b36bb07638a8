//! Forms of what is listened on and looked up.

use config::Value;

use super::{Form, Wrong, describe, text};
use crate::config::settings::{Discover, Listen};

/// Where to listen.
pub struct Listening;

impl Form for Listening {
    type Value = Listen;

    fn allowed(&self) -> String {
        r#""IP:PORT" such as "127.0.0.1:7420" or "[::]:7420", "unix:PATH" or "systemd:NAME""#.to_owned()
    }

    fn read(&self, value: &Value) -> Result<Listen, Wrong> {
        text(value).and_then(listen).ok_or_else(|| {
            let meant = text(value).and_then(with_ip).map(|meant| format!("{meant:?}"));
            Wrong::must(&self.allowed(), describe(value)).meant(meant)
        })
    }

    fn show(&self, value: &Listen) -> Option<toml::Value> {
        Some(toml::Value::from(match value {
            Listen::Tcp(address) => address.to_string(),
            Listen::Unix(path) => format!("unix:{}", path.display()),
            Listen::Systemd(name) => format!("systemd:{name}"),
        }))
    }
}

fn listen(text: &str) -> Option<Listen> {
    if let Some(path) = text.strip_prefix("unix:") {
        return (!path.is_empty() && !path.contains('\0')).then(|| Listen::Unix(path.into()));
    }
    if let Some(name) = text.strip_prefix("systemd:") {
        return is_host(name).then(|| Listen::Systemd(name.to_owned()));
    }
    text.parse().ok().map(Listen::Tcp)
}

/// A name can't be listened on: `localhost:7420` and `:7420` in figures.
fn with_ip(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let ip = match host {
        "localhost" => "127.0.0.1",
        "" | "*" => "0.0.0.0",
        _ => return None,
    };
    port.parse::<u16>().ok().map(|port| format!("{ip}:{port}"))
}

/// Where pods are looked up.
pub struct Discovery;

impl Form for Discovery {
    type Value = Discover;

    fn allowed(&self) -> String {
        r#""dns:HOST:PORT" or "srv:NAME""#.to_owned()
    }

    fn read(&self, value: &Value) -> Result<Discover, Wrong> {
        text(value).and_then(discover).ok_or_else(|| Wrong::must(&self.allowed(), describe(value)))
    }

    fn show(&self, value: &Discover) -> Option<toml::Value> {
        Some(toml::Value::from(match value {
            Discover::Dns { host, port } => format!("dns:{host}:{port}"),
            Discover::Srv { name } => format!("srv:{name}"),
        }))
    }
}

fn discover(text: &str) -> Option<Discover> {
    if let Some(name) = text.strip_prefix("srv:") {
        return is_host(name).then(|| Discover::Srv { name: name.to_owned() });
    }
    let (host, port) = text.strip_prefix("dns:")?.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    is_host(host).then(|| Discover::Dns { host: host.to_owned(), port })
}

fn is_host(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}
