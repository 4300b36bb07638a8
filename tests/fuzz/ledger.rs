//! `ledger.url`.

use std::sync::Arc;

use blockhouse::config::{Settings, redact_url};
use blockhouse::ledger::{self, Expected, LedgerError};
use secrecy::SecretString;

use crate::{fuzz, kind, must};

const SECRET: &str = "HUNTER2";

const WORDS: &[&str] = &[
    "@",
    "/",
    "?",
    "&",
    ",",
    "%",
    ":5432",
    "[::1]",
    "sslmode=",
    "verify-full",
    "sslrootcert=/x",
    "options=-c%20a",
    "host=",
    "connect_timeout=",
    "target_session_attrs=any",
];

/// The input is what comes behind a password: neither the error nor the name shows the password, and what is wrong is said.
#[test]
fn ledger_url() {
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let expected = Expected { environment: Arc::from("development"), id: None };
    let mut settings = Settings::default().ledger;
    fuzz("ledger_url", WORDS, 5_000, |input| {
        let url = format!("postgres://app:{SECRET}{}", String::from_utf8_lossy(input));
        let redacted = redact_url(&url);
        must(!redacted.contains(SECRET), || format!("shown as {redacted}"))?;
        settings.url = Some(SecretString::from(url.as_str()));
        match ledger::open(&settings, expected.clone(), "fuzz", &log) {
            Ok(_) => Ok(format!("taken {}", redacted.len() / 8)),
            Err(error) => {
                let said = error.to_string();
                must(matches!(error, LedgerError::Invalid(_)), || format!("{error:?}"))?;
                must(said.len() > 10 && !said.contains(SECRET), || format!("{url:?}: {said}"))?;
                Ok(kind(&said))
            }
        }
    });
}
