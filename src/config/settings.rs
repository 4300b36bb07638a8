//! The resolved settings: what every part of the program reads. Made by [`super::load`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use uuid::Uuid;

use crate::block::chaos::Limits;

/// Everything a process is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `environment`
    pub environment: Arc<str>,
    /// `stage`
    pub stage: Arc<str>,
    /// `cluster`
    pub cluster: Arc<str>,
    /// `instance`
    pub instance: Arc<str>,
    /// `grpc.*`
    pub grpc: Grpc,
    /// `admin.*`
    pub admin: Admin,
    /// `ledger.*`
    pub ledger: Ledger,
    /// `redis.*`
    pub redis: Redis,
    /// `hydrator.*`
    pub hydrator: Hydrator,
    /// `fallback.*`
    pub fallback: Fallback,
    /// `exercise.*`
    pub exercise: Exercise,
    /// `drain.*`
    pub drain: Drain,
    /// `chaos.*`
    pub chaos: Limits,
    /// `log.*`
    pub log: Log,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `127.0.0.1:7420`
    Tcp(SocketAddr),
    /// `unix:PATH`
    Unix(PathBuf),
    /// `systemd:NAME`
    Systemd(String),
}

/// `grpc.*`
#[derive(Debug, Clone)]
pub struct Grpc {
    /// One or more.
    pub listen: Vec<Listen>,
    /// 0 = available parallelism.
    pub workers: usize,
    /// Requests under way in the process, split evenly over the workers.
    pub max_in_flight: usize,
    /// IDs a request.
    pub max_count: u32,
    /// Cap of every caller's deadline.
    pub request_timeout: Duration,
    /// Connections.
    pub max_connections: usize,
    /// HTTP/2 streams a connection.
    pub max_streams: u32,
    /// Requests under way on one AllocateStream.
    pub max_stream_in_flight: usize,
    /// Spread by ± 20 %.
    pub max_connection_age: Duration,
    /// HTTP/2 pings.
    pub keepalive: Duration,
}

/// `admin.*`
#[derive(Debug, Clone)]
pub struct Admin {
    /// Where.
    pub listen: Listen,
    /// Asked for by GETs from elsewhere, and by POSTs.
    pub token: Option<SecretString>,
}

/// `ledger.tls`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Disable,
    /// If the server offers it.
    Prefer,
    /// Always, whoever the server is.
    Require,
    /// Always, and the server's name and certificate are checked.
    VerifyFull,
}

/// `ledger.*`
#[derive(Debug, Clone)]
pub struct Ledger {
    /// `postgres://…`, `sqlite:PATH` or `memory:`.
    pub url: Option<SecretString>,
    /// Pins the ledger.
    pub id: Option<Uuid>,
    /// Wins over the URL's.
    pub password: Option<SecretString>,
    /// How the connection is protected.
    pub tls: Tls,
    /// The authorities that `VerifyFull` trusts; the machine's own where it isn't set.
    pub ca: Option<PathBuf>,
    /// Who we are, where the server asks for it; never without `key`.
    pub cert: Option<PathBuf>,
    /// Of `cert`.
    pub key: Option<PathBuf>,
    /// Bound of every statement.
    pub timeout: Duration,
    /// Bound of opening the connection.
    pub connect_timeout: Duration,
    /// Over which the first connections of many processes spread.
    pub connect_spread: Duration,
    /// Whether the engine has an identity that a failover changes (`postgres`; `none` = it has not).
    pub incarnation: bool,
    /// History for `lookup`.
    pub keep_grants: Duration,
}

/// `redis.*`
#[derive(Debug, Clone)]
pub struct Redis {
    /// `redis://…`, or one `memory:N`.
    pub pods: Vec<SecretString>,
    /// `dns:host:port` or `srv:NAME`.
    pub discover: Option<Discover>,
    /// Between two look-ups.
    pub discover_interval: Duration,
    /// For pods whose URL names none.
    pub username: Option<String>,
    /// For pods whose URL names none.
    pub password: Option<SecretString>,
    /// Bound of every answer.
    pub timeout: Duration,
    /// Bound of opening a connection.
    pub connect_timeout: Duration,
    /// How long a failed pod counts as tried.
    pub retry_after: Duration,
    /// First part of every key.
    pub prefix: Arc<str>,
}

/// `redis.discover`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discover {
    /// Every address of a name, on one port.
    Dns {
        /// Name.
        host: String,
        /// Port of every pod.
        port: u16,
    },
    /// Every target of an SRV record.
    Srv {
        /// The record's name.
        name: String,
    },
}

/// `hydrator.*`
#[derive(Debug, Clone)]
pub struct Hydrator {
    /// Supply to keep.
    pub buffer: Duration,
    /// Between two passes.
    pub interval: Duration,
    /// Least target a sequence and cluster.
    pub min_ids: i64,
    /// Greatest target a sequence and cluster.
    pub max_ids: i64,
}

/// `fallback.*`
#[derive(Debug, Clone)]
pub struct Fallback {
    /// Demand that one grant is to cover.
    pub cover: Duration,
    /// Least size of a grant.
    pub min_ids: i64,
    /// Greatest size of a grant.
    pub max_ids: i64,
    /// Callers in the line before the slot.
    pub max_waiters: usize,
    /// How long they stand there.
    pub max_wait: Duration,
}

/// `exercise.*`
#[derive(Debug, Clone)]
pub struct Exercise {
    /// Share of requests, 0 to 1.
    pub ratio: f64,
    /// Cap of the process.
    pub max_per_minute: f64,
}

/// `drain.*`
#[derive(Debug, Clone)]
pub struct Drain {
    /// For load balancers to look away.
    pub delay: Duration,
    /// Bound of the whole stop, delay included.
    pub timeout: Duration,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Terminal where stderr is one, else JSON.
    Auto,
    /// For people.
    Terminal,
    /// One object a line.
    Json,
}

/// `log.*`
#[derive(Debug, Clone)]
pub struct Log {
    /// Least level that is written.
    pub level: slog::Level,
    /// How.
    pub format: LogFormat,
    /// Requests slower than this are logged.
    pub slow: Duration,
}
