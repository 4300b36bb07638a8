//! Servers in another life, or in other hands: what came back is never served, and what isn't a pod is refused.

use super::*;

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
