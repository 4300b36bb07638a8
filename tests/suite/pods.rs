//! Pods on a real Redis.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockhouse::block::{Catalogue, Identity, Life, SequenceFacts, Span, Stamp};
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
            sequences: [(tasks.name.clone(), tasks)].into(),
        }),
        high_waters: vec![("tasks".into(), high_water)],
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

#[tokio::test]
async fn blocks_come_out_as_they_went_in_and_rests_come_first() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    let blocks = blocks(6);
    push(&pod, &blocks[2..]).await;
    pod.push(&list(), &blocks[..2], End::Front, 60).await.unwrap();

    let popped = pod.pop(&list(), 4).await.unwrap();
    assert_eq!(popped, Popped { entries: entries(&blocks[..4]), high_water: 1000 });
    assert_eq!(pop(&pod, 100).await.unwrap(), entries(&blocks[4..]));
    assert_eq!(pop(&pod, 100).await.unwrap(), Vec::<String>::new());

    let state = pod.inspect(&scope(), &[("tasks".into(), 1), ("other".into(), 1)]).await.unwrap();
    assert_eq!((state.blocks, state.popped_blocks[&Arc::from("tasks")]), (vec![0, 0], 6));
    assert!(state.used_memory > 0 && state.max_memory == 256 << 20);
}

#[tokio::test]
async fn ids_at_the_end_of_i64_keep_every_digit() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    let last = [Span::new(i64::MAX, 1).unwrap()];
    pod.push(&list(), &last, End::Back, i64::MAX).await.unwrap();
    pod.raise(&scope(), "tasks", i64::MAX - 1).await.unwrap();
    let popped = pod.pop(&list(), 1).await.unwrap();
    assert_eq!(popped, Popped { entries: entries(&last), high_water: i64::MAX });
}

#[tokio::test]
async fn entries_written_by_hand_come_back_as_they_stand() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    push(&pod, &blocks(1)).await;
    let odd = ["", "text", "-1:1", "0:0", "9223372036854775807:9", "1:10", "\u{1F600}"];
    for entry in odd {
        let _: u64 = redis.run(&["RPUSH", &key(&redis), entry]);
    }
    let _: u64 = redis.run(&[b"RPUSH", key(&redis).as_bytes(), b"\xff\xfe"]);
    let popped = pop(&pod, 100).await.unwrap();
    assert_eq!(popped[0], "1:10");
    assert_eq!(popped[1..8], odd);
    assert_eq!(popped.len(), 9);
}

#[tokio::test]
async fn a_key_of_another_type_is_a_certain_failure() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    push(&pod, &blocks(1)).await;
    let _: () = redis.run(&["SET", &key(&redis), "text"]);
    for result in [pop(&pod, 1).await.map(drop), pod.push(&list(), &blocks(1), End::Back, 1).await] {
        assert!(matches!(&result, Err(PodError::Failed(text)) if text.contains("WRONGTYPE")), "{result:?}");
    }
}

#[tokio::test]
async fn calls_at_the_same_time_share_one_connection_that_is_kept() {
    let redis = Redis::pod();
    let proxy = Proxy::to(redis.port());
    let pod = through(&proxy, PATIENCE);
    push(&pod, &blocks(64)).await;
    let pops = futures_util::future::join_all((0..32).map(|_| pop(&pod, 2))).await;
    let mut popped: Vec<String> = pops.into_iter().flat_map(Result::unwrap).collect();
    popped.sort();
    let mut all = entries(&blocks(64));
    all.sort();
    assert_eq!(popped, all);
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_pod_restarted_from_an_old_snapshot_gives_nothing_it_gave_before() {
    let mut redis = Redis::vanilla();
    let pod = pod(&redis);
    push(&pod, &blocks(10)).await;
    let _: () = redis.run(&["SAVE"]);
    assert_eq!(pop(&pod, 5).await.unwrap().len(), 5);
    redis.kill();
    assert!(pop(&pod, 5).await.is_err());
    redis.restart();

    assert_eq!(length(&redis), 10, "the snapshot is back");
    nothing_comes_back(&pod).await;
    nothing_comes_back(&self::pod(&redis)).await;
    assert_eq!(pod.sweep(&scope(), &[("tasks".into(), 1)]).await.unwrap(), 1);
    push(&pod, &blocks(10)[5..]).await;
    assert_eq!(pop(&pod, 1).await.unwrap(), ["51:10"]);
}

#[tokio::test]
async fn a_pod_that_is_paused_costs_one_time_out_and_loses_only_what_was_asked() {
    let redis = Redis::pod();
    let pod = open(&redis.url(), SHORT);
    push(&pod, &blocks(11)).await;
    assert_eq!(pop(&pod, 1).await.unwrap(), ["1:10"]);
    redis.pause();
    let started = Instant::now();
    let result = pop(&pod, 3).await;
    assert!(matches!(result, Err(PodError::InDoubt(_))), "{result:?}");
    assert!(started.elapsed() >= SHORT);
    // Nothing is sent without a connection, and there is none: certainly not carried out.
    let result = pod.push(&list(), &blocks(1), End::Back, 1).await;
    assert!(matches!(result, Err(PodError::Failed(_))), "{result:?}");
    redis.resume();

    eventually("the lost pop was carried out", || length(&redis) == 7);
    let pod = self::pod(&redis);
    assert_eq!(pop(&pod, 1).await.unwrap(), ["41:10"]);
}

#[tokio::test]
async fn a_pod_that_is_flushed_is_empty_and_goes_on() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    for _ in 0..3 {
        push(&pod, &blocks(10)).await;
        assert_eq!(pop(&pod, 2).await.unwrap().len(), 2);
        let _: () = redis.run(&["FLUSHALL"]);
        assert_eq!(pop(&pod, 2).await.unwrap(), Vec::<String>::new());
    }
    pod.heartbeat(&Seen::default()).await.unwrap();
}

#[tokio::test]
async fn a_pod_out_of_memory_serves_its_own_blocks_and_certainly_takes_no_others() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    push(&pod, &blocks(10)).await;
    let _: () = redis.run(&["CONFIG", "SET", "maxmemory", "1"]);

    let result = pod.push(&list(), &blocks(1), End::Back, 2000).await;
    assert!(matches!(&result, Err(PodError::Full(text)) if text.contains("OOM")), "{result:?}");
    assert_eq!(length(&redis), 10);
    assert_eq!(pop(&pod, 4).await.unwrap(), entries(&blocks(4)));
    pod.publish(&notice(1, 1, 3000)).await.unwrap();
    pod.raise(&scope(), "tasks", 4000).await.unwrap();
    pod.heartbeat(&Seen::default()).await.unwrap();
    assert_eq!(pod.sweep(&scope(), &[]).await.unwrap(), 0);
    let state = pod.inspect(&scope(), &[("tasks".into(), 1)]).await.unwrap();
    assert_eq!((state.blocks, state.popped_blocks[&Arc::from("tasks")], state.max_memory), (vec![6], 4, 1));

    // A process and a server that don't know the scripts yet.
    let _: () = redis.run(&["SCRIPT", "FLUSH"]);
    let popped = self::pod(&redis).pop(&list(), 1).await.unwrap();
    assert_eq!(popped, Popped { entries: vec!["41:10".to_owned()], high_water: 4000 });
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_told_again() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    push(&pod, &blocks(2)).await;
    let _: () = redis.run(&["SCRIPT", "FLUSH"]);
    assert_eq!(pop(&pod, 1).await.unwrap(), ["1:10"]);
    let _: () = redis.run(&["SCRIPT", "FLUSH"]);
    push(&pod, &blocks(1)).await;
    assert_eq!(length(&redis), 2);
}

fn attach(replica: &Redis, master: &Redis) {
    let _: () = replica.run(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    eventually("the replica is in step", || {
        replica.info("role") == "slave"
            && replica.info("master_link_status") == "up"
            && replica.info("master_sync_in_progress") == "0"
    });
}

fn promote(replica: &Redis) {
    let _: () = replica.run(&["REPLICAOF", "NO", "ONE"]);
}

/// Sends the initial synchronisation at once.
fn replicable() -> Redis {
    Redis::with(&["--save", "", "--repl-diskless-sync-delay", "0", "--repl-timeout", "10"])
}

#[tokio::test]
async fn neither_a_master_with_a_replica_nor_a_replica_is_a_pod() {
    let (master, replica) = (replicable(), replicable());
    let (pod, other) = (pod(&master), pod(&replica));
    push(&pod, &blocks(10)).await;
    attach(&replica, &master);

    refused(pop(&pod, 1).await, "a replica attached");
    refused(pod.push(&list(), &blocks(1), End::Back, 1).await, "a replica attached");
    refused(pod.heartbeat(&Seen::default()).await, "a replica attached");
    assert_eq!(length(&master), 10);
    refused(pop(&other, 1).await, "replica of another server");
    refused(other.heartbeat(&Seen::default()).await, "replica of another server");

    // Writable replicas let scripts in.
    let _: () = replica.run(&["CONFIG", "SET", "replica-read-only", "no"]);
    refused(pop(&other, 1).await, "slave of another server");

    promote(&replica);
    assert_eq!(length(&replica), 10, "it has the master's blocks");
    nothing_comes_back(&other).await;
}

#[tokio::test]
async fn a_pod_demoted_and_promoted_again_never_serves_what_came_back() {
    let (redis, copy) = (replicable(), replicable());
    // The first replica ever changes the master's replication ID.
    attach(&copy, &redis);
    promote(&copy);
    eventually("the copy is gone", || redis.info("connected_slaves") == "0");
    let pod = pod(&redis);
    push(&pod, &blocks(10)).await;
    attach(&copy, &redis);
    promote(&copy);
    eventually("the copy is gone", || redis.info("connected_slaves") == "0");
    assert_eq!(pop(&pod, 5).await.unwrap().len(), 5);

    attach(&redis, &copy);
    promote(&redis);
    assert_eq!(length(&redis), 10, "popped entries are back");
    refused(pop(&pod, 5).await, "promoted");
    nothing_comes_back(&pod).await;
    nothing_comes_back(&self::pod(&redis)).await;
}

/// DUMP of every key, and RESTORE of what was dumped.
fn dump(redis: &Redis) -> Vec<(String, Vec<u8>)> {
    redis.keys("*").into_iter().map(|key| (key.clone(), redis.run(&["DUMP", &key]))).collect()
}

fn restore(redis: &Redis, dumped: &[(String, Vec<u8>)]) {
    for (key, value) in dumped {
        let _: () = redis.run(&[b"RESTORE", key.as_bytes(), b"0", value, b"REPLACE"]);
    }
}

#[tokio::test]
async fn a_memory_that_was_restored_is_refused_until_it_is_emptied() {
    let redis = Redis::vanilla();
    let pod = pod(&redis);
    push(&pod, &blocks(10)).await;
    let old = dump(&redis);
    assert_eq!(pop(&pod, 5).await.unwrap().len(), 5);
    restore(&redis, &old);

    refused(pop(&pod, 5).await, "older copy");
    refused(pod.push(&list(), &blocks(1), End::Back, 1).await, "older copy");
    refused(pod.heartbeat(&Seen::default()).await, "older copy");
    refused(pop(&self::pod(&redis), 5).await, "older copy");
    assert_eq!(length(&redis), 10);

    let _: () = redis.run(&["FLUSHALL"]);
    nothing_comes_back(&pod).await;
    push(&pod, &blocks(10)[5..]).await;
    assert_eq!(pop(&pod, 1).await.unwrap(), ["51:10"]);

    // What was before the flush is recognised, although its count is not lower.
    restore(&redis, &old);
    assert!(pop(&pod, 5).await.is_err());
    refused(pop(&pod, 5).await, "older copy");
}

#[tokio::test]
async fn what_one_thread_learnt_protects_the_others() {
    let redis = Redis::vanilla();
    let settings = settings(PATIENCE);
    let server = Server::parse(&redis.url(), &settings).unwrap();
    let (one, other) = (server.open(&settings, &log()), server.clone().open(&settings, &log()));
    push(&one, &blocks(10)).await;
    pop(&other, 1).await.unwrap();
    let old = dump(&redis);
    pop(&one, 5).await.unwrap();
    restore(&redis, &old);
    refused(pop(&other, 5).await, "older copy");
}

#[tokio::test]
async fn our_configuration_forbids_what_brings_entries_back() {
    let redis = Redis::pod();
    for command in
        ["PSYNC", "SYNC", "REPLICAOF", "SLAVEOF", "RESTORE", "RESTORE-ASKING", "COPY", "SWAPDB", "DEBUG"]
    {
        let error = redis.try_run::<()>(&[command, "a", "b"]).unwrap_err();
        assert!(error.to_string().contains("unknown command"), "{command}: {error}");
    }
    for (name, value) in [
        ("save", ""),
        ("appendonly", "no"),
        ("maxmemory-policy", "noeviction"),
        ("repl-backlog-ttl", "0"),
        ("maxmemory", "268435456"),
    ] {
        let [_, set]: [String; 2] = redis.run(&["CONFIG", "GET", name]);
        assert_eq!(set, value, "{name}");
    }

    let pod = pod(&redis);
    push(&pod, &blocks(2)).await;
    let replica = replicable();
    let _: () = replica.run(&["REPLICAOF", "127.0.0.1", &redis.port().to_string()]);
    eventually("it tried", || {
        redis.info("unexpected_error_replies") != "0" || redis.info("total_error_replies") != "0"
    });
    assert_eq!(redis.info("connected_slaves"), "0");
    assert_eq!(pop(&pod, 1).await.unwrap(), ["1:10"]);
}

#[tokio::test]
async fn a_cluster_node_is_refused() {
    let redis = Redis::with(&["--save", "", "--cluster-enabled", "yes"]);
    let pod = pod(&redis);
    refused(pod.heartbeat(&Seen::default()).await, "Redis Cluster");
    refused(pop(&pod, 1).await, "Redis Cluster");
    refused(pod.push(&list(), &blocks(1), End::Back, 1).await, "Redis Cluster");
}

#[tokio::test]
async fn a_pod_belongs_to_one_ledger_environment_and_cluster() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    pod.publish(&notice(1, 1, 100)).await.unwrap();
    push(&pod, &blocks(2)).await;

    let mut other = notice(2, 1, 100);
    other.cluster = "us".into();
    refused(pod.publish(&other).await, "two clusters on one pod: it belongs to cluster 'eu', not to 'us'");
    let mut other = notice(2, 1, 100);
    other.identity.ledger = Uuid::max();
    refused(pod.publish(&other).await, &LEDGER.to_string());
    refused(pod.publish(&other).await, &Uuid::max().to_string());
    let mut other = notice(2, 1, 100);
    other.identity.environment = "beta".to_owned();
    refused(pod.publish(&other).await, "environment 'test', not to 'beta'");
    let mut other = notice(1, 2, 100);
    other.identity.life.token = Uuid::max();
    refused(pod.publish(&other).await, "two lines of history");

    let theirs = Scope { cluster: "us".into(), ..scope() };
    let list = List { scope: theirs.clone(), ..list() };
    refused(pod.pop(&list, 1).await, "two clusters");
    refused(pod.push(&list, &blocks(1), End::Back, 1).await, "two clusters");
    refused(pod.raise(&theirs, "tasks", 1).await, "two clusters");
    refused(pod.inspect(&theirs, &[]).await, "two clusters");
    refused(pod.sweep(&theirs, &[]).await, "two clusters");

    let heartbeat = pod.heartbeat(&Seen::default()).await.unwrap();
    assert_eq!(heartbeat.identity, Some(notice(1, 1, 0).identity));
    assert_eq!(heartbeat.stamp, Stamp { epoch: 1, version: 1 });
    assert_eq!(pop(&pod, 1).await.unwrap(), ["1:10"]);
}

#[tokio::test]
async fn the_first_push_or_raise_claims_an_empty_pod() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    let empty = pod.heartbeat(&Seen::default()).await.unwrap();
    assert_eq!((empty.identity, empty.cluster, empty.catalogue), (None, None, None));
    assert_eq!(empty.stamp, Stamp::default());
    pod.raise(&scope(), "tasks", 1).await.unwrap();
    assert_eq!(pod.heartbeat(&Seen::default()).await.unwrap().cluster, Some("eu".into()));
}

#[tokio::test]
async fn what_is_older_never_overwrites_what_is_newer() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    let state = async |pod: &Rc<dyn Pod>| {
        let heartbeat = pod.heartbeat(&Seen::default()).await.unwrap();
        let high_water = heartbeat.high_waters.unwrap()[&Arc::from("tasks")];
        assert_eq!(heartbeat.catalogue.unwrap().stamp, heartbeat.stamp);
        (heartbeat.identity.unwrap().life.epoch, heartbeat.stamp.version, high_water)
    };
    pod.publish(&notice(9, 9, 100)).await.unwrap();
    assert_eq!(state(&pod).await, (9, 9, 100));
    pod.publish(&notice(9, 8, 99)).await.unwrap();
    pod.publish(&notice(8, 10, 98)).await.unwrap();
    pod.raise(&scope(), "tasks", 99).await.unwrap();
    assert_eq!(state(&pod).await, (9, 9, 100));
    // More digits are more, not less.
    pod.publish(&notice(9, 10, 1000)).await.unwrap();
    assert_eq!(state(&pod).await, (9, 10, 1000));
    pod.publish(&notice(10, 1, 1000)).await.unwrap();
    assert_eq!(state(&pod).await, (10, 1, 1000));
}

#[tokio::test]
async fn a_heartbeat_repeats_nothing_that_was_seen() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    pod.publish(&notice(1, 1, 100)).await.unwrap();
    let all = pod.heartbeat(&Seen::default()).await.unwrap();
    assert_eq!(all.catalogue.as_ref(), Some(&*notice(1, 1, 0).catalogue));
    let seen = Seen { stamp: all.stamp, high_waters: all.high_waters_seen };
    let news = pod.heartbeat(&seen).await.unwrap();
    assert_eq!((news.catalogue, news.high_waters, &news.run_id), (None, None, &all.run_id));

    pod.publish(&notice(1, 1, 100)).await.unwrap();
    assert_eq!(pod.heartbeat(&seen).await.unwrap().high_waters, None);
    pod.raise(&scope(), "tasks", 101).await.unwrap();
    let news = pod.heartbeat(&seen).await.unwrap();
    assert_eq!(news.high_waters.unwrap()[&Arc::from("tasks")], 101);
    assert_eq!(news.catalogue, None);
    pod.publish(&notice(1, 2, 100)).await.unwrap();
    assert_eq!(pod.heartbeat(&seen).await.unwrap().catalogue.unwrap().stamp.version, 2);
    assert_eq!(all.run_id.to_string(), redis.info("run_id"));
}

#[tokio::test]
async fn a_lost_reply_is_in_doubt_and_its_connection_is_dropped() {
    let redis = Redis::pod();
    let proxy = Proxy::to(redis.port());
    let pod = through(&proxy, SHORT);
    push(&pod, &blocks(11)).await;
    assert_eq!(pop(&pod, 1).await.unwrap(), ["1:10"]);

    proxy.set(Mode::DropReplies);
    let result = pop(&pod, 2).await;
    assert!(matches!(result, Err(PodError::InDoubt(_))), "{result:?}");
    assert_eq!(length(&redis), 8, "it was carried out");
    assert!(proxy.dropped_bytes() > 0);
    proxy.set(Mode::Pass);
    let connections = proxy.connections();
    assert_eq!(pop(&pod, 2).await.unwrap(), ["31:10", "41:10"]);
    assert_eq!(proxy.connections(), connections + 1);

    proxy.set(Mode::DropReplies);
    let result = pod.push(&list(), &[Span::new(1001, 10).unwrap()], End::Back, 2000).await;
    assert!(matches!(result, Err(PodError::InDoubt(_))), "{result:?}");
    assert_eq!(length(&redis), 7, "it was carried out, and nothing repeats it");
    proxy.set(Mode::Pass);
    assert_eq!(pop(&pod, 100).await.unwrap().last().unwrap(), "1001:10");
}

#[tokio::test]
async fn a_call_dropped_in_flight_drops_the_connection_but_not_the_calls_beside_it() {
    let redis = Redis::pod();
    let proxy = Proxy::to(redis.port());
    let pod = through(&proxy, PATIENCE);
    push(&pod, &blocks(11)).await;
    assert_eq!(pop(&pod, 1).await.unwrap(), ["1:10"]);
    proxy.set(Mode::Latency(Duration::from_millis(500)));
    let beside = pop(&pod, 1);
    let dropped = async {
        let call = pop(&pod, 1);
        let carried_out = async {
            while length(&redis) != 8 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            answer = call => panic!("answered before it could be dropped: {answer:?}"),
            () = carried_out => {}
        }
    };
    let (beside, ()) = futures_util::future::join(beside, dropped).await;
    assert_eq!(beside.unwrap(), ["11:10"]);
    assert_eq!(proxy.connections(), 1);
    assert_eq!(
        pop(&pod, 1).await.unwrap(),
        ["31:10"],
        "what was dropped is lost, and taken for nothing else"
    );
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn a_reset_connection_is_replaced() {
    let redis = Redis::pod();
    let proxy = Proxy::to(redis.port());
    let pod = through(&proxy, PATIENCE);
    push(&pod, &blocks(10)).await;
    proxy.set(Mode::Reset);
    assert!(pop(&pod, 1).await.is_err());
    assert!(pod.heartbeat(&Seen::default()).await.is_err());
    proxy.set(Mode::Pass);
    assert_eq!(pop(&pod, 1).await.unwrap(), ["1:10"]);
}

#[tokio::test]
async fn a_black_hole_costs_a_caller_one_time_out_and_a_heartbeat_the_time_to_connect() {
    let redis = Redis::pod();
    let proxy = Proxy::to(redis.port());
    proxy.set(Mode::Blackhole);
    let pod = through(&proxy, SHORT);
    let started = Instant::now();
    let result = pop(&pod, 1).await;
    assert!(matches!(result, Err(PodError::Failed(_))), "{result:?}");
    assert!(started.elapsed() < SHORT * 3, "{:?}", started.elapsed());
    let started = Instant::now();
    let result = pod.heartbeat(&Seen::default()).await.map(drop);
    assert!(matches!(result, Err(PodError::Failed(_))), "{result:?}");
    assert!(started.elapsed() >= SHORT * 4, "{:?}", started.elapsed());
    assert_eq!(proxy.sent_bytes(), 0);
    proxy.set(Mode::Pass);
    pod.heartbeat(&Seen::default()).await.unwrap();
}

#[tokio::test]
async fn a_pod_that_is_not_there_fails_at_once_and_certainly() {
    let mut redis = Redis::pod();
    let pod = pod(&redis);
    redis.kill();
    let result = pod.push(&list(), &blocks(1), End::Back, 1).await;
    assert!(matches!(result, Err(PodError::Failed(_))), "{result:?}");
}

#[tokio::test]
async fn a_sweep_deletes_old_lists_of_its_own_only() {
    let redis = Redis::pod();
    let pod = pod(&redis);
    for generation in 1..=3 {
        let list = List { generation, ..list() };
        pod.push(&list, &blocks(1), End::Back, 1).await.unwrap();
    }
    let life = format!("{}:{}", redis.info("run_id"), redis.info("master_replid"));
    let theirs = [
        format!("blockhouse:{}:eu:{life}:tasks:1", Uuid::max()),
        format!("blockhouse:{LEDGER}:us:{life}:tasks:1"),
        format!("blockhouse:{LEDGER}:eu:{life}:unknown:1"),
        format!("other:{LEDGER}:eu:earlier:life:tasks:1"),
    ];
    let earlier = format!("blockhouse:{LEDGER}:eu:earlier:life:tasks:9");
    for key in theirs.iter().chain([&earlier]) {
        let _: u64 = redis.run(&["RPUSH", key, "1:1"]);
    }
    let _: u64 = redis.run(&["HSET", "blockhouse:pod:earlier:life", "token", "1"]);
    // More keys than one step looks at.
    let crowd: Vec<String> = (0..3000).flat_map(|key| [format!("crowd:{key}"), String::new()]).collect();
    let _: () = redis.run(&[vec!["MSET".to_owned()], crowd].concat());

    let keep = [("tasks".into(), 3)];
    let mut deleted = 0;
    let mut steps = 0;
    while deleted < 3 && steps < 100 {
        deleted += pod.sweep(&scope(), &keep).await.unwrap();
        steps += 1;
    }
    for _ in 0..20 {
        deleted += pod.sweep(&scope(), &keep).await.unwrap();
    }
    assert_eq!(deleted, 3);
    let mut left = redis.keys("*:tasks:*");
    left.extend(redis.keys("*:unknown:*"));
    left.sort();
    let mut expected = theirs.to_vec();
    expected.push(format!("blockhouse:{LEDGER}:eu:{life}:tasks:3"));
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(redis.keys("blockhouse:pod:earlier*"), Vec::<String>::new());
    assert_eq!(redis.keys("crowd:*").len(), 3000);
}

#[tokio::test]
async fn a_wrong_password_is_a_certain_failure_and_never_shown() {
    let redis = Redis::with(&["--save", "", "--user", "me", "on", ">hunter2", "~blockhouse:*", "+@all"]);
    let address = format!("127.0.0.1:{}", redis.port());
    let _: () = redis.run(&["ACL", "SETUSER", "default", "off"]);
    let result = open(&format!("redis://me:hunter3@{address}"), PATIENCE).pop(&list(), 1).await;
    assert!(matches!(&result, Err(PodError::Failed(text)) if !text.contains("hunter")), "{result:?}");
    let pod = open(&format!("redis://me:hunter2@{address}"), PATIENCE);
    push(&pod, &blocks(1)).await;
    assert_eq!(pop(&pod, 1).await.unwrap(), ["1:10"]);
}

#[tokio::test]
async fn a_days_supply_at_10_000_ids_a_second_fits_in_21_megabytes() {
    for redis in [Redis::pod(), Redis::vanilla()] {
        let pod = pod(&redis);
        let first = 1_000_000_000_000;
        let started = Instant::now();
        for chunk in 0..864 {
            let chunk: Vec<Span> = (0..1000)
                .map(|block| Span::new(first + (chunk * 1000 + block) * 1000, 1000).unwrap())
                .collect();
            pod.push(&list(), &chunk, End::Back, first).await.unwrap();
        }
        let took = started.elapsed();
        let state = pod.inspect(&scope(), &[("tasks".into(), 1)]).await.unwrap();
        println!("864 chunks of 1,000 in {took:?}, {} bytes", state.used_memory);
        assert_eq!(state.blocks, [864_000]);
        assert!(state.used_memory <= 21_000_000, "{}", state.used_memory);
    }
}
