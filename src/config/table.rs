//! THE table of keys: a key that isn't here doesn't exist, and whatever is said of one elsewhere is made from here.

use slog::Level;

use super::form::{
    Choice, Discovery, FilePath, LedgerId, LedgerUrl, ListOf, Listening, Maybe, Name, PodUrl, Real, Secret,
    Text, Time, Whole,
};
use super::keys::Key;
use super::settings::{LogFormat, Tls};
use super::table_chaos::chaos;

/// A part of a Redis key, a metric's label and a log's field.
const NAME: Name = Name { most: 63, colon: false };

/// A holder; long enough for a host name of Kubernetes with more behind it.
pub(super) const INSTANCE: Name = Name { most: 200, colon: true };

/// What a later release will know: refused rather than silently without effect.
pub(super) const RESERVED: &[(&str, &str)] = &[
    ("grpc.tls", "certificates of the service and its clients"),
    ("admin.tls", "certificates of the admin pages"),
    ("redis.tls", "certificates towards the pods"),
    ("access", "who may take IDs of which sequence"),
    ("quota", "how many IDs a caller may take"),
];

const TLS: Choice<Tls> = Choice(&[
    ("disable", Tls::Disable),
    ("prefer", Tls::Prefer),
    ("require", Tls::Require),
    ("verify-full", Tls::VerifyFull),
]);

const LEVEL: Choice<Level> = Choice(&[
    ("error", Level::Error),
    ("warning", Level::Warning),
    ("warn", Level::Warning),
    ("info", Level::Info),
    ("debug", Level::Debug),
    ("trace", Level::Trace),
]);

const FORMAT: Choice<LogFormat> =
    Choice(&[("auto", LogFormat::Auto), ("terminal", LogFormat::Terminal), ("json", LogFormat::Json)]);

/// Every key, in the order of the reference.
pub(super) fn keys() -> Vec<Key> {
    [
        process(),
        grpc(),
        admin(),
        ledger(),
        redis(),
        hydrator(),
        fallback(),
        exercise(),
        drain(),
        chaos(),
        log(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn process() -> Vec<Key> {
    vec![
        Key::new(
            "environment",
            r#""development""#,
            "Which data: must equal the ledger's. \"production\" refuses embedded ledgers and needs ledger.id.",
            NAME,
            |s| &mut s.environment,
        ),
        Key::new(
            "stage",
            r#""stable""#,
            "The step of a rollout. A label only: \"canary\" has production's environment, ledger and pods.",
            NAME,
            |s| &mut s.stage,
        ),
        Key::new(
            "cluster",
            r#""default""#,
            "The processes that share these pods. Lease, demand and lists belong to it; two clusters on one pod are refused.",
            NAME,
            |s| &mut s.cluster,
        ),
        Key::new(
            "instance",
            None,
            "The holder named in grants and logs. Host name and pid where it isn't set.",
            INSTANCE,
            |s| &mut s.instance,
        ),
    ]
}

fn grpc() -> Vec<Key> {
    vec![
        Key::new(
            "grpc.listen",
            r#"["127.0.0.1:7420"]"#,
            "Where gRPC and JSON over HTTP are served.",
            ListOf { of: Listening, least: 1 },
            |s| &mut s.grpc.listen,
        ),
        Key::new(
            "grpc.workers",
            "0",
            "Threads that serve. 0 = available parallelism (the cgroup's quota).",
            Whole::new(0, 1024),
            |s| &mut s.grpc.workers,
        ),
        Key::new(
            "grpc.max_in_flight",
            "16_384",
            "Requests under way in the process, split evenly over the workers; more are refused at the door.",
            Whole::new(1, 16_777_216),
            |s| &mut s.grpc.max_in_flight,
        ),
        Key::new("grpc.max_count", "1_000_000", "IDs a request.", Whole::new(1, u32::MAX.into()), |s| {
            &mut s.grpc.max_count
        }),
        Key::new(
            "grpc.request_timeout",
            r#""5s""#,
            "Cap where the caller's deadline is absent or longer.",
            Time::POSITIVE,
            |s| &mut s.grpc.request_timeout,
        ),
        Key::new(
            "grpc.max_connections",
            "20_000",
            "Connections of the process.",
            Whole::new(1, 1_000_000),
            |s| &mut s.grpc.max_connections,
        ),
        Key::new("grpc.max_streams", "1024", "HTTP/2 streams a connection.", Whole::new(1, 1_000_000), |s| {
            &mut s.grpc.max_streams
        }),
        Key::new(
            "grpc.max_stream_in_flight",
            "1024",
            "Requests under way on one AllocateStream; beyond it the server stops reading.",
            Whole::new(1, 1_000_000),
            |s| &mut s.grpc.max_stream_in_flight,
        ),
        Key::new(
            "grpc.max_connection_age",
            r#""30m""#,
            "Connections are ended at this age (± 20 %), so that callers spread anew.",
            Time::POSITIVE,
            |s| &mut s.grpc.max_connection_age,
        ),
        Key::new("grpc.keepalive", r#""30s""#, "Between two HTTP/2 pings.", Time::POSITIVE, |s| {
            &mut s.grpc.keepalive
        }),
    ]
}

fn admin() -> Vec<Key> {
    vec![
        Key::new(
            "admin.listen",
            r#""127.0.0.1:7421""#,
            "Where status page, metrics, probes and drain are served.",
            Listening,
            |s| &mut s.admin.listen,
        ),
        Key::new(
            "admin.token",
            None,
            "Asked for by POSTs from elsewhere than loopback, and by GETs but metrics and probes once it is set.",
            Maybe(Secret),
            |s| &mut s.admin.token,
        )
        .secret(),
    ]
}

fn ledger() -> Vec<Key> {
    let mut keys = ledger_place();
    keys.extend(ledger_use());
    keys
}

/// Which ledger, and how it is reached.
fn ledger_place() -> Vec<Key> {
    vec![
        Key::new(
            "ledger.url",
            None,
            "The central database; 'serve' needs it. sqlite: is for one host, memory: for tests, neither for production. \
             A reload changes its password only.",
            Maybe(LedgerUrl),
            |s| &mut s.ledger.url,
        )
        .secret(),
        Key::new("ledger.id", None, "Pins the ledger. Required in production.", Maybe(LedgerId), |s| {
            &mut s.ledger.id
        }),
        Key::new("ledger.password", None, "Wins over the URL's.", Maybe(Secret), |s| &mut s.ledger.password)
            .secret(),
        Key::new(
            "ledger.tls",
            r#""prefer""#,
            "How the connection is protected; the URL's sslmode wins.",
            TLS,
            |s| &mut s.ledger.tls,
        ),
        Key::new(
            "ledger.ca",
            None,
            "The authorities that \"verify-full\" trusts (PEM); the machine's own where it isn't set.",
            Maybe(FilePath),
            |s| &mut s.ledger.ca,
        )
        .reloads(),
        Key::new("ledger.cert", None, "Our certificate (PEM), where the server asks for one.", Maybe(FilePath), |s| {
            &mut s.ledger.cert
        })
        .reloads(),
        Key::new("ledger.key", None, "The key of ledger.cert (PEM).", Maybe(FilePath), |s| &mut s.ledger.key).reloads(),
    ]
}

/// How the ledger is used.
fn ledger_use() -> Vec<Key> {
    vec![
        Key::new("ledger.timeout", r#""5s""#, "Bound of every statement.", Time::POSITIVE, |s| {
            &mut s.ledger.timeout
        }),
        Key::new(
            "ledger.connect_timeout",
            r#""3s""#,
            "Bound of opening the connection.",
            Time::POSITIVE,
            |s| &mut s.ledger.connect_timeout,
        ),
        Key::new(
            "ledger.connect_spread",
            r#""10s""#,
            "Over which the first connections of many processes spread. At once where no pod can serve yet or the role is hydrator.",
            Time::ANY,
            |s| &mut s.ledger.connect_spread,
        ),
        Key::new(
            "ledger.incarnation",
            r#""postgres""#,
            "How a failover is noticed. \"none\" is for engines without PostgreSQL's identity functions.",
            Choice(&[("postgres", true), ("none", false)]),
            |s| &mut s.ledger.incarnation,
        ),
        Key::new("ledger.keep_grants", r#""400d""#, "History for 'lookup'.", Time::POSITIVE, |s| {
            &mut s.ledger.keep_grants
        }),
    ]
}

fn redis() -> Vec<Key> {
    let mut keys = redis_place();
    keys.extend(redis_use());
    keys
}

/// Which pods, and how one logs in.
fn redis_place() -> Vec<Key> {
    vec![
        Key::new(
            "redis.pods",
            "[]",
            "The pods. A URL's own user and password win over those below.",
            ListOf { of: PodUrl, least: 0 },
            |s| &mut s.redis.pods,
        ),
        Key::new(
            "redis.discover",
            None,
            "Looks the pods up, instead of redis.pods.",
            Maybe(Discovery),
            |s| &mut s.redis.discover,
        ),
        Key::new("redis.discover_interval", r#""5s""#, "Between two look-ups.", Time::POSITIVE, |s| {
            &mut s.redis.discover_interval
        }),
        Key::new("redis.username", None, "For pods whose URL names none.", Maybe(Text), |s| {
            &mut s.redis.username
        })
        .reloads(),
        Key::new("redis.password", None, "For pods whose URL names none.", Maybe(Secret), |s| {
            &mut s.redis.password
        })
        .secret(),
    ]
}

/// How the pods are used.
fn redis_use() -> Vec<Key> {
    vec![
        Key::new("redis.timeout", r#""50ms""#, "Bound of every answer.", Time::POSITIVE, |s| {
            &mut s.redis.timeout
        }),
        Key::new(
            "redis.connect_timeout",
            r#""250ms""#,
            "Bound of opening a connection.",
            Time::POSITIVE,
            |s| &mut s.redis.connect_timeout,
        ),
        Key::new(
            "redis.retry_after",
            r#""1s""#,
            "How long a failed pod counts as tried: a dead pod costs one time-out in this period, not one a request.",
            Time::POSITIVE,
            |s| &mut s.redis.retry_after,
        ),
        Key::new("redis.prefix", r#""blockhouse""#, "First part of every key on the pods.", NAME, |s| {
            &mut s.redis.prefix
        }),
    ]
}

fn hydrator() -> Vec<Key> {
    vec![
        Key::new("hydrator.buffer", r#""24h""#, "Supply to keep in the pods.", Time::POSITIVE, |s| {
            &mut s.hydrator.buffer
        }),
        Key::new("hydrator.interval", r#""5s""#, "Between two passes.", Time::POSITIVE, |s| {
            &mut s.hydrator.interval
        }),
        Key::new(
            "hydrator.min_ids",
            "1_000_000",
            "Least target a sequence and cluster; never more than 1/64 of what the sequence has left, but at least a block.",
            Whole::new(1, i64::MAX),
            |s| &mut s.hydrator.min_ids,
        ),
        Key::new(
            "hydrator.max_ids",
            "10_000_000_000",
            "Greatest target a sequence and cluster.",
            Whole::new(1, i64::MAX),
            |s| &mut s.hydrator.max_ids,
        ),
    ]
}

fn fallback() -> Vec<Key> {
    vec![
        Key::new(
            "fallback.cover",
            r#""5m""#,
            "Recent demand that a grant covers when no pod can answer.",
            Time::POSITIVE,
            |s| &mut s.fallback.cover,
        ),
        Key::new(
            "fallback.min_ids",
            "10_000",
            "Least such grant; never more than 1/64 of what the sequence has left, but at least what is asked.",
            Whole::new(1, i64::MAX),
            |s| &mut s.fallback.min_ids,
        ),
        Key::new("fallback.max_ids", "1_000_000_000", "Greatest such grant.", Whole::new(1, i64::MAX), |s| {
            &mut s.fallback.max_ids
        }),
        Key::new(
            "fallback.max_waiters",
            "1024",
            "Callers in the line before the ledger's one slot. 0 = refuse at once.",
            Whole::new(0, 1_000_000),
            |s| &mut s.fallback.max_waiters,
        ),
        Key::new(
            "fallback.max_wait",
            r#""250ms""#,
            "How long they stand there. 0 = refuse at once.",
            Time::ANY,
            |s| &mut s.fallback.max_wait,
        ),
    ]
}

fn exercise() -> Vec<Key> {
    vec![
        Key::new(
            "exercise.ratio",
            "0.0001",
            "Share of requests that are sent straight to the ledger, so that this path is known to work. 0 turns it off.",
            Real { least: 0.0, most: 1.0 },
            |s| &mut s.exercise.ratio,
        ),
        Key::new(
            "exercise.max_per_minute",
            "0.5",
            "Their cap: per process, all sequences together. 0 turns it off.",
            Real { least: 0.0, most: 60_000.0 },
            |s| &mut s.exercise.max_per_minute,
        ),
    ]
}

fn drain() -> Vec<Key> {
    vec![
        Key::new("drain.delay", r#""5s""#, "For load balancers to look away.", Time::ANY, |s| {
            &mut s.drain.delay
        }),
        Key::new(
            "drain.timeout",
            r#""25s""#,
            "Bound of the whole stop, delay included (Kubernetes gives 30 s).",
            Time::POSITIVE,
            |s| &mut s.drain.timeout,
        ),
    ]
}

fn log() -> Vec<Key> {
    vec![
        Key::new("log.level", r#""info""#, "Least level that is written.", LEVEL, |s| &mut s.log.level)
            .reloads(),
        Key::new(
            "log.format",
            r#""auto""#,
            "Lines on stderr. \"auto\" = \"terminal\" where stderr is one, else \"json\".",
            FORMAT,
            |s| &mut s.log.format,
        ),
        Key::new("log.slow", r#""50ms""#, "Requests slower than this are logged.", Time::ANY, |s| {
            &mut s.log.slow
        }),
    ]
}
