//! Flags that several commands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::http::Endpoint;
use crate::config::{self, Assigned, Settings};
use crate::observe;
use crate::observe::log::{LogGuard, Origin};
use crate::observe::metrics::Counter;

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Log records of at least this level, on stderr.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// How log records look.
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Nothing on stderr but warnings and the reason of a failure.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// No colours; NO_COLOR does the same.
    #[arg(long, global = true)]
    pub no_color: bool,
}

impl Global {
    /// The flags that stand for keys of the configuration.
    pub fn assigned(&self) -> Vec<Assigned> {
        let level = self.log_level.map(|level| ("--log-level", "log.level", name(level)));
        let format = self.log_format.map(|format| ("--log-format", "log.format", name(format)));
        let flags = level.into_iter().chain(format);
        flags.map(|(by, key, value)| Assigned { by, key, value }).collect()
    }

    /// The log of a command that ends by itself: only for those who ask. Dropping the guard writes what still waits.
    pub fn logger(&self, settings: &Settings) -> (slog::Logger, Option<LogGuard>) {
        if self.log_level.is_none() {
            return (slog::Logger::root(slog::Discard, slog::o!()), None);
        }
        let origin = Origin { instance: &settings.instance, cluster: &settings.cluster };
        let (log, guard) = observe::log::build(&settings.log, origin, !self.no_color, Counter::default());
        (log, Some(guard))
    }
}

/// As it is written on the command line, and in files.
fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// `log.level` as a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// A person must look.
    Error,
    /// And what may become a problem.
    Warning,
    /// And what happens seldom.
    Info,
    /// And what happens often.
    Debug,
    /// And everything else (debug builds only).
    Trace,
}

/// `log.format` as a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people where stderr is a terminal, else JSON.
    Auto,
    /// For people.
    Terminal,
    /// One object a line.
    Json,
}

/// Where the configuration comes from, beside the environment.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigArgs {
    /// A file, or a folder whose *.toml are read by name; repeatable, later wins. Else $BLOCKHOUSE_CONFIG, else
    /// /etc/blockhouse.
    #[arg(short, long = "config", value_name = "PATH", global = true)]
    pub config: Vec<PathBuf>,
    /// One key, as 'blockhouse config reference' lists them; repeatable, wins over files and environment.
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
}

/// How a command that changes something is allowed to.
#[derive(Debug, Clone, Default, Args)]
pub struct Change {
    /// Say what would be done, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Don't ask; needed where there is no terminal.
    #[arg(short, long)]
    pub yes: bool,
}

/// Which services a client command talks to.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Where blockhouse serves (HOST:PORT or unix:PATH); repeatable: the next is tried where one is away or refuses for
    /// now.
    #[arg(
        short,
        long = "server",
        value_name = "ADDR",
        env = "BLOCKHOUSE_SERVER",
        value_delimiter = ',',
        default_value = "127.0.0.1:7420",
        value_parser = Endpoint::service
    )]
    pub servers: Vec<Endpoint>,
    /// How long to wait for IDs, over all servers.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub timeout: Duration,
}

/// Which processes a command looks at.
#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// Admin address of a process (http://HOST:PORT or unix:PATH); repeatable.
    #[arg(
        long = "admin",
        value_name = "URL",
        env = "BLOCKHOUSE_ADMIN",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7421",
        value_parser = Endpoint::admin
    )]
    pub admins: Vec<Endpoint>,
    /// A file that holds the admin token.
    #[arg(long, value_name = "PATH", env = "BLOCKHOUSE_ADMIN_TOKEN_FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// How long to wait for each process.
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration)]
    pub timeout: Duration,
}

/// `250ms`, `5s`, `5m`, `24h`, `400d`; above 0.
///
/// # Errors
/// One line for people.
pub fn duration(text: &str) -> Result<Duration, String> {
    config::duration::parse(text).filter(|span| !span.is_zero()).ok_or_else(|| {
        let meant = config::duration::meant(text).map(|meant| format!("; did you mean {meant}?"));
        let rule = "a duration is a whole number above 0 and ms, s, m, h or d, such as 250ms or 24h";
        format!("{rule}{}", meant.unwrap_or_default())
    })
}

/// A duration in whole seconds, 1 or more.
///
/// # Errors
/// One line for people.
pub fn whole_seconds(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(span) if span.subsec_nanos() > 0 => Err("say it in whole seconds".to_owned()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_whole_number_and_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("400d"), Ok(Duration::from_secs(400 * 86_400)));
        for wrong in ["", "5", "s", "5 s", "-5s", "1.5h", "5S", "0s", "18446744073709551615d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
