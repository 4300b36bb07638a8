//! URLs without their secrets, for logs, status and errors.

/// Parameters that say how to connect, not who may.
const HARMLESS: [&str; 9] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "connect_timeout",
    "target_session_attrs",
    "host",
    "port",
];

/// The URL of a ledger or a pod without password: `postgres://app:***@db:5432/ids?sslmode=require`.
///
/// Made for URLs that may be wrong: it hides rather too much than too little. What stands before the last `@` is taken for user and
/// password, even if a password holds an unescaped `/` or `?`; a lone user is kept for PostgreSQL only (with Redis it is
/// often a password in the wrong place); parameters that aren't known to be harmless lose their values.
pub fn redact_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // Neither `sqlite:PATH` nor `memory:` holds a secret; anything else may be one.
        let plain = ["sqlite:", "memory:"].iter().any(|prefix| url.starts_with(prefix));
        return if plain { url.to_owned() } else { "***".to_owned() };
    };
    if !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
        return "***".to_owned();
    }
    if scheme == "sqlite" {
        return url.to_owned();
    }
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    let user = user.map_or(String::new(), |user| shown_user(scheme, user));
    match shown_target(rest) {
        Some(target) => format!("{scheme}://{user}{target}"),
        None => format!("{scheme}://{user}***"),
    }
}

fn shown_user(scheme: &str, user: &str) -> String {
    match user.split_once(':') {
        Some((name, _)) => format!("{name}:***@"),
        None if scheme.starts_with("postgres") => format!("{user}@"),
        None => "***@".to_owned(),
    }
}

/// Hosts, path and parameters. `None` if a port isn't a number: then it may be a password whose `@` was forgotten.
fn shown_target(target: &str) -> Option<String> {
    let (place, parameters) = match target.split_once(['?', '#']) {
        Some((place, parameters)) => (place, Some(parameters)),
        None => (target, None),
    };
    let hosts = place.split('/').next().unwrap_or(place);
    hosts.split(',').all(has_plain_port).then_some(())?;
    let Some(parameters) = parameters else { return Some(place.to_owned()) };
    let parameters: Vec<_> = parameters.split('&').map(shown_parameter).collect();
    Some(format!("{place}?{}", parameters.join("&")))
}

fn has_plain_port(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, _)) if !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.') => {
            return false;
        }
        Some((_, port)) => port,
        None => host,
    };
    let port = name.split_once(':').map(|(_, port)| port);
    port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

fn shown_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, _)) if !HARMLESS.contains(&name) => format!("{name}=***"),
        Some(_) => parameter.to_owned(),
        None => "***".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("postgres://app:hunter2@db:5432/ids", "postgres://app:***@db:5432/ids"),
            ("postgres://app@db/ids?sslmode=require", "postgres://app@db/ids?sslmode=require"),
            (
                "postgres://db/ids?password=hunter2&sslmode=prefer",
                "postgres://db/ids?password=***&sslmode=prefer",
            ),
            ("postgres://app:p@a:5432,b:5433/ids", "postgres://app:***@a:5432,b:5433/ids"),
            ("postgres://app:hunt/er?2@db/ids", "postgres://app:***@db/ids"),
            ("postgres://app:hunter2", "postgres://***"),
            ("postgres://app:p@[::1]:5432/ids", "postgres://app:***@[::1]:5432/ids"),
            ("postgres://app:hunter2]", "postgres://***"),
            ("postgres://app:hunter2 [::1]:5432/ids", "postgres://***"),
            ("postgres://[app:hunter2]/ids", "postgres://***"),
            ("redis://:hunter2@pod:6379", "redis://:***@pod:6379"),
            ("redis://hunter2@pod:6379", "redis://***@pod:6379"),
            ("rediss://pod", "rediss://pod"),
            ("sqlite:/var/lib/ids.sqlite", "sqlite:/var/lib/ids.sqlite"),
            ("memory:3", "memory:3"),
            ("hunter2", "***"),
            ("host=db password=hunter2", "***"),
        ] {
            assert_eq!(redact_url(url), shown);
        }
    }

    proptest! {
        #[test]
        fn no_password_shows_whatever_it_is_made_of(
            scheme in "postgres|postgresql|redis|rediss",
            password in "[ -~]{0,12}",
        ) {
            // A mark within the password must vanish with it.
            let url = format!("{scheme}://user:{password}HUNTER2{password}@host:1/x");
            prop_assert!(!redact_url(&url).contains("HUNTER2"));
        }

        #[test]
        fn no_text_breaks_it(text in ".{0,40}") {
            let _ = redact_url(&text);
        }
    }
}
