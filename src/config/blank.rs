//! Settings before any key was read. Every field is overwritten by its key's default; a test sees to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::settings::{
    Admin, Drain, Exercise, Fallback, Grpc, Hydrator, Ledger, Listen, Log, LogFormat, Redis, Settings, Tls,
};
use crate::block::chaos::Limits;

impl Settings {
    pub(super) fn blank() -> Settings {
        Settings {
            environment: "".into(),
            stage: "".into(),
            cluster: "".into(),
            instance: "".into(),
            grpc: grpc(),
            admin: Admin { listen: Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))), token: None },
            ledger: ledger(),
            redis: redis(),
            hydrator: Hydrator { buffer: Duration::ZERO, interval: Duration::ZERO, min_ids: 0, max_ids: 0 },
            fallback: Fallback {
                cover: Duration::ZERO,
                min_ids: 0,
                max_ids: 0,
                max_waiters: 0,
                max_wait: Duration::ZERO,
            },
            exercise: Exercise { ratio: 0.0, max_per_minute: 0.0 },
            chaos: chaos(),
            drain: Drain { delay: Duration::ZERO, timeout: Duration::ZERO },
            log: Log { level: slog::Level::Critical, format: LogFormat::Auto, slow: Duration::ZERO },
        }
    }
}

fn chaos() -> Limits {
    Limits {
        enabled: false,
        dry_run: false,
        faults: Vec::new(),
        every: Duration::ZERO,
        terminate_every: Duration::ZERO,
        quiet: Vec::new(),
        duration: Duration::ZERO,
        max_duration: Duration::ZERO,
        pause: Duration::ZERO,
        per_day: 0,
        min_pods: 0,
        min_peers: 0,
        max_errors: 0.0,
        pod_latency: Duration::ZERO,
        ledger_latency: Duration::ZERO,
    }
}

fn grpc() -> Grpc {
    Grpc {
        listen: Vec::new(),
        workers: 0,
        max_in_flight: 0,
        max_count: 0,
        request_timeout: Duration::ZERO,
        max_connections: 0,
        max_streams: 0,
        max_stream_in_flight: 0,
        max_connection_age: Duration::ZERO,
        keepalive: Duration::ZERO,
    }
}

fn ledger() -> Ledger {
    Ledger {
        url: None,
        id: None,
        password: None,
        tls: Tls::Disable,
        ca: None,
        cert: None,
        key: None,
        timeout: Duration::ZERO,
        connect_timeout: Duration::ZERO,
        connect_spread: Duration::ZERO,
        incarnation: false,
        keep_grants: Duration::ZERO,
    }
}

fn redis() -> Redis {
    Redis {
        pods: Vec::new(),
        discover: None,
        discover_interval: Duration::ZERO,
        username: None,
        password: None,
        timeout: Duration::ZERO,
        connect_timeout: Duration::ZERO,
        retry_after: Duration::ZERO,
        prefix: "".into(),
    }
}
