//! Reading `redis://…`, with errors for people and without secrets.

use deadpool_redis::redis::io::tcp::TcpSettings;
use deadpool_redis::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use secrecy::ExposeSecret;
use url::Url;

use crate::config::settings;

const SHAPE: &str = "redis://[user[:password]@]host[:port]";

/// `host:port` and how to connect.
pub(super) fn parse(text: &str, settings: &settings::Redis) -> Result<(String, ConnectionInfo), String> {
    let url = checked(text)?;
    let info = url.as_str().into_connection_info().map_err(|_| format!("not of the form {SHAPE}"))?;
    let ConnectionAddr::Tcp(host, port) = info.addr() else {
        return Err(format!("not of the form {SHAPE}"));
    };
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let login = login(info.redis_settings().clone(), settings);
    let info = info.set_redis_settings(login).set_tcp_settings(TcpSettings::default().set_nodelay(true));
    Ok((address, info))
}

/// The URL's own user and password win.
fn login(url: RedisConnectionInfo, settings: &settings::Redis) -> RedisConnectionInfo {
    let url = match (url.username(), &settings.username) {
        (None, Some(username)) => url.set_username(username),
        _ => url,
    };
    match (url.password(), &settings.password) {
        (None, Some(password)) => url.set_password(password.expose_secret()),
        _ => url,
    }
}

fn checked(text: &str) -> Result<Url, String> {
    let Some((scheme, _)) = text.split_once("://") else {
        return Err(format!("not a URL: did you mean redis://…? Pods are {SHAPE}"));
    };
    if scheme == "rediss" {
        return Err("rediss:// (TLS to a pod) is not supported by this version: use redis://".to_owned());
    }
    if scheme != "redis" {
        // What looks like a password in a scheme's place is none of the log's business.
        let is_word =
            scheme.len() <= 16 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+');
        let what = if is_word {
            format!("'{scheme}://' is not a scheme of pods")
        } else {
            "not a URL of a pod".to_owned()
        };
        return Err(format!("{what}: did you mean redis://? Pods are {SHAPE}"));
    }
    // The parser's own words never repeat the text.
    let url = Url::parse(text).map_err(|error| format!("{error}: pods are {SHAPE}"))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("no host: pods are {SHAPE}"));
    }
    if !matches!(url.path(), "" | "/" | "/0") {
        return Err("a database number: a pod is a whole server, and only its database 0 is used".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("options after the address are not supported: pods are {SHAPE}"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings() -> settings::Redis {
        settings::Redis {
            pods: Vec::new(),
            discover: None,
            discover_interval: Duration::from_secs(5),
            username: None,
            password: None,
            timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_millis(250),
            retry_after: Duration::from_secs(1),
            prefix: "blockhouse".into(),
        }
    }

    fn address(text: &str) -> String {
        parse(text, &settings()).unwrap().0
    }

    #[test]
    fn the_address_is_host_and_port() {
        assert_eq!(address("redis://cache-1"), "cache-1:6379");
        assert_eq!(address("redis://cache-1:7000/"), "cache-1:7000");
        assert_eq!(address("redis://10.0.0.1:7000/0"), "10.0.0.1:7000");
        assert_eq!(address("redis://[::1]:7000"), "[::1]:7000");
    }

    #[test]
    fn the_urls_own_user_and_password_win() {
        let settings = settings::Redis {
            username: Some("shared".to_owned()),
            password: Some("shared-password".to_owned().into()),
            ..settings()
        };
        let login = |text| parse(text, &settings).unwrap().1.redis_settings().clone();
        let own = login("redis://me:p%40ss@cache");
        assert_eq!((own.username(), own.password()), (Some("me"), Some("p@ss")));
        let shared = login("redis://cache");
        assert_eq!((shared.username(), shared.password()), (Some("shared"), Some("shared-password")));
    }

    #[test]
    fn what_is_wrong_is_said_without_secrets() {
        for (text, part) in [
            ("cache-1:6379", "did you mean redis://"),
            ("", "did you mean redis://"),
            ("reddis://:hunter2@cache-1", "'reddis://' is not a scheme of pods: did you mean redis://"),
            ("http://:hunter2@cache-1", "did you mean redis://"),
            (":hunter2@x://y", "did you mean redis://"),
            ("rediss://:hunter2@cache-1", "TLS"),
            ("redis://", "host"),
            ("redis://:hunter2@", "host"),
            ("redis://:hunter2@cache:port", "port"),
            ("redis://:hunter2@cache/3", "database number"),
            ("redis://:hunter2@cache?timeout=1", "options"),
        ] {
            let error = parse(text, &settings()).map(|_| ()).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }
}
