//! Pods on a real Redis.

mod faults;
mod lists;
mod lives;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockhouse::block::{Catalogue, Identity, Life, OnFailover, SequenceFacts, Span, Stamp};
use blockhouse::config::settings;
use blockhouse::pods::redis::Server;
use blockhouse::pods::{End, List, Notice, Pod, PodError, Popped, Scope, Seen, Target};
use uuid::Uuid;

use crate::support::proxy::{Mode, Proxy};
use crate::support::redis::{Redis, eventually};

/// Long enough for a busy machine; tests that wait for it in full use a shorter one.
const PATIENCE: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(150);

fn settings(timeout: Duration) -> settings::Redis {
    settings::Redis {
        pods: Vec::new(),
        discover: None,
        discover_interval: Duration::from_secs(5),
        username: None,
        password: None,
        timeout,
        connect_timeout: timeout * 4,
        retry_after: Duration::from_secs(1),
        prefix: "blockhouse".into(),
    }
}

fn log() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

/// A process: what it knows of the server is its own.
fn open(url: &str, timeout: Duration) -> Rc<dyn Pod> {
    let settings = settings(timeout);
    Server::parse(url, &settings).unwrap().open(&settings, &log())
}

fn pod(redis: &Redis) -> Rc<dyn Pod> {
    open(&redis.url(), PATIENCE)
}

fn through(proxy: &Proxy, timeout: Duration) -> Rc<dyn Pod> {
    open(&format!("redis://127.0.0.1:{}", proxy.port()), timeout)
}

const LEDGER: Uuid = Uuid::from_u128(0x10);

fn scope() -> Scope {
    Scope { ledger: LEDGER, cluster: "eu".into() }
}

fn list() -> List {
    List { scope: scope(), sequence: "tasks".into(), generation: 1 }
}

/// `count` blocks of 10 IDs.
fn blocks(count: i64) -> Vec<Span> {
    (0..count).map(|block| Span::new(1 + block * 10, 10).unwrap()).collect()
}

fn entries(blocks: &[Span]) -> Vec<String> {
    blocks.iter().map(Span::to_string).collect()
}

fn notice(epoch: i64, version: i64, high_water: i64) -> Notice {
    let life = Life { epoch, token: Uuid::from_u128(epoch as u128) };
    let tasks = SequenceFacts {
        name: "tasks".into(),
        generation: 1,
        first: 1,
        last: i64::MAX,
        block_size: 10,
        buffer_seconds: None,
        failover_gap: 0,
        halted: None,
        retired: false,
    };
    Notice {
        identity: Identity { ledger: LEDGER, environment: "test".to_owned(), life },
        cluster: "eu".into(),
        catalogue: Arc::new(Catalogue {
            stamp: Stamp { epoch, version },
            on_failover: OnFailover::Wait,
            sequences: [(tasks.name.clone(), tasks)].into(),
        }),
        high_waters: vec![("tasks".into(), high_water)],
        read_at_us: high_water,
    }
}

async fn push(pod: &Rc<dyn Pod>, blocks: &[Span]) {
    pod.push(&list(), blocks, End::Back, 1000).await.unwrap();
}

async fn pop(pod: &Rc<dyn Pod>, count: u32) -> Result<Vec<String>, PodError> {
    pod.pop(&list(), count).await.map(|popped| popped.entries)
}

/// Pops as a router would, which tries again later: nothing that comes may be an entry.
async fn nothing_comes_back(pod: &Rc<dyn Pod>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match pop(pod, 100).await {
            Ok(entries) => return assert_eq!(entries, Vec::<String>::new()),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

/// The one list's key on the server.
fn key(redis: &Redis) -> String {
    let keys = redis.keys("blockhouse:????????-*:eu:*:tasks:1");
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys.into_iter().next().unwrap()
}

fn length(redis: &Redis) -> u64 {
    redis.run(&["LLEN", &key(redis)])
}

fn refused<T: std::fmt::Debug>(result: Result<T, PodError>, why: &str) {
    match result {
        Err(PodError::Refused(text)) if text.contains(why) => {}
        other => panic!("not refused because of '{why}': {other:?}"),
    }
}
