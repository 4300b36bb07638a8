//! Flags that several commands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::http::Endpoint;

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
    /// The log of a command that ends by itself: what it reaches on the way is of interest only to those who ask.
    pub fn logger(&self) -> slog::Logger {
        slog::Logger::root(slog::Discard, slog::o!())
    }
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
    #[arg(short, long = "config", value_name = "PATH")]
    pub config: Vec<PathBuf>,
    /// One key, as 'blockhouse config reference' lists them; repeatable, wins over files and environment.
    #[arg(long, value_name = "KEY=VALUE")]
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
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a duration is a number and ms, s, m, h or d, such as 250ms or 24h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "a duration begins with a whole number".to_owned())?;
    match number.checked_mul(unit_ms) {
        Some(0) => Err("the duration must be above 0".to_owned()),
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err("that is longer than can be counted".to_owned()),
    }
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
