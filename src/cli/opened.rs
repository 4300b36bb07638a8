//! The ledger that a command acts on.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::configured::Configured;
use super::failure::{Exit, Failure, Outcome};
use super::format::one_line;
use super::global::{ConfigArgs, Global};
use super::ui::Ui;
use crate::config::{Settings, redact_url};
use crate::ledger::{Admin, Answer, Expected, LedgerError, SequenceRow};
use crate::observe::log::LogGuard;

/// A migration may have to wait for locks, and to rewrite a table.
const MIGRATION: Duration = Duration::from_secs(300);

/// An opened ledger; it connects when first used.
pub struct Opened {
    /// The ledger.
    pub ledger: Rc<dyn Admin>,
    /// How the command was configured.
    pub settings: Settings,
    /// Whether the ledger is that of a running `dev`.
    pub of_dev: bool,
    /// For what is reached on the way.
    pub log: slog::Logger,
    /// Without secrets.
    url: String,
    /// Writes what was logged before the command ends.
    _log_guard: Option<LogGuard>,
}

impl Opened {
    /// Opens the configured ledger, and says on stderr which one that is and where that came from.
    ///
    /// # Errors
    /// No ledger is configured, or wrongly.
    pub async fn new(config: &ConfigArgs, global: &Global, ui: &Ui) -> Outcome<Opened> {
        let Configured { settings, url, origin, of_dev } = Configured::new(config, global, ui).await?;
        let url = redact_url(&url);
        ui.note(format_args!("ledger {url} ({origin})"));
        let expected = Expected { environment: Arc::clone(&settings.environment), id: settings.ledger.id };
        let (log, log_guard) = global.logger(&settings);
        let ledger =
            crate::ledger::open(&settings.ledger, expected, &settings.instance, &log).map_err(|error| {
                let line = format!("ledger.url can't be used: {error} ({origin})");
                Failure::new(Exit::Config, line)
            })?;
        Ok(Opened { ledger, settings, of_dev, log, url, _log_guard: log_guard })
    }

    /// Waits for something that changes nothing.
    ///
    /// # Errors
    /// See [`failure`].
    pub async fn read<T>(&self, answer: Answer<'_, T>) -> Outcome<T> {
        let late = |bound| LedgerError::Unreachable(format!("no answer within {bound}"));
        self.bounded(self.timeout(), answer, late).await
    }

    /// Waits for a change. One without an answer may have happened.
    ///
    /// # Errors
    /// See [`failure`].
    pub async fn change<T>(&self, answer: Answer<'_, T>) -> Outcome<T> {
        let late = |bound| LedgerError::InDoubt(format!("none within {bound}"));
        self.bounded(self.timeout(), answer, late).await
    }

    /// Waits for a migration.
    ///
    /// # Errors
    /// See [`failure`].
    pub async fn migration<T>(&self, answer: Answer<'_, T>) -> Outcome<T> {
        let late = |bound| LedgerError::InDoubt(format!("none within {bound}"));
        self.bounded(MIGRATION, answer, late).await
    }

    async fn bounded<T>(
        &self,
        bound: Duration,
        answer: Answer<'_, T>,
        late: impl FnOnce(String) -> LedgerError,
    ) -> Outcome<T> {
        let answer = match tokio::time::timeout(bound, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(late(super::format::duration(bound))),
        };
        answer.map_err(|error| failure(&error, &self.url))
    }

    /// To connect, and to be answered.
    fn timeout(&self) -> Duration {
        self.settings.ledger.connect_timeout + self.settings.ledger.timeout
    }

    /// Every sequence, by name.
    ///
    /// # Errors
    /// See [`failure`].
    pub async fn rows(&self) -> Outcome<Vec<SequenceRow>> {
        let mut rows = self.read(self.ledger.history()).await?.sequences;
        rows.sort_by(|a, b| a.facts.name.cmp(&b.facts.name));
        Ok(rows)
    }

    /// One sequence.
    ///
    /// # Errors
    /// There is none of that name, and see [`failure`].
    pub async fn row(&self, name: &str) -> Outcome<SequenceRow> {
        let row = self.rows().await?.into_iter().find(|row| &*row.facts.name == name);
        row.ok_or_else(|| failure(&LedgerError::Unknown(name.to_owned()), &self.url))
    }
}

/// The exit code and the last line of each error of a ledger: what, where, what to do.
pub fn failure(error: &LedgerError, url: &str) -> Failure {
    let (exit, what_to_do) = verdict(error);
    let mut line = one_line(&error.to_string());
    // Without scheme and user: many errors name the place themselves.
    let place = url.split_once(':').map_or(url, |(_, rest)| rest.trim_start_matches("//"));
    let place = place.rsplit_once('@').map_or(place, |(_, rest)| rest);
    if !line.contains(place) {
        line = format!("{line} [{url}]");
    }
    if !what_to_do.is_empty() {
        line = format!("{line}; {what_to_do}");
    }
    Failure::new(exit, line)
}

fn verdict(error: &LedgerError) -> (Exit, &'static str) {
    match error {
        LedgerError::Unreachable(_) => {
            (Exit::Unreachable, "check that it runs, and ledger.url ('blockhouse config print')")
        }
        LedgerError::Conflict(_) | LedgerError::RateCapped { .. } | LedgerError::Stale(_) => {
            (Exit::Refused, "try again")
        }
        LedgerError::InDoubt(_) => {
            (Exit::Refused, "it may have been done: see 'blockhouse sequence list', then repeat the command")
        }
        LedgerError::Closed(_) => (Exit::Refused, "see 'blockhouse ledger show'"),
        LedgerError::Unknown(_) => {
            (Exit::Failed, "see 'blockhouse sequence list', or create it with 'blockhouse sequence create'")
        }
        LedgerError::Halted(_) => (Exit::Failed, "resolve the cause, then 'blockhouse sequence resume'"),
        LedgerError::Exhausted { .. } => (Exit::Failed, "raise the maximum with 'blockhouse sequence set'"),
        LedgerError::Retired => (Exit::Failed, "use another sequence: a name is never reused"),
        LedgerError::WentBack { .. } | LedgerError::Forgot(_) => {
            (Exit::Failed, "don't use it before that is explained")
        }
        LedgerError::Invalid(_) => (Exit::Failed, "nothing was changed"),
        LedgerError::Wrong(_) => {
            (Exit::Config, "check ledger.url, ledger.id and environment ('blockhouse config print')")
        }
        // It says itself which release must do what.
        LedgerError::Schema(_) => (Exit::Config, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_named_once() {
        let url = "postgres://me:***@db:5432/ids";
        let unreachable = |why: &str| failure(&LedgerError::Unreachable(why.into()), url).line;
        assert!(
            unreachable("can't connect").starts_with("can't connect [postgres://me:***@db:5432/ids]; check")
        );
        assert!(
            unreachable("can't connect to db:5432/ids").starts_with("can't connect to db:5432/ids; check")
        );
    }

    #[test]
    fn the_exit_code_says_whether_to_try_again() {
        let why = || "why".to_owned();
        for (error, exit) in [
            (LedgerError::Unreachable(why()), Exit::Unreachable),
            (LedgerError::Conflict(why()), Exit::Refused),
            (LedgerError::InDoubt(why()), Exit::Refused),
            (LedgerError::Closed(why()), Exit::Refused),
            (LedgerError::Unknown(why()), Exit::Failed),
            (LedgerError::Retired, Exit::Failed),
            (LedgerError::Invalid(why()), Exit::Failed),
            (LedgerError::Wrong(why()), Exit::Config),
            (LedgerError::Schema(why()), Exit::Config),
        ] {
            assert_eq!(failure(&error, "memory:").exit, exit, "{error}");
        }
    }
}
