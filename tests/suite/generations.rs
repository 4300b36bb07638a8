//! New generations of a sequence: what was granted before is not handed out once the command has returned.

use std::process::Output;
use std::time::{Duration, Instant};

use blockhouse::block::Span;
use futures_util::future::join;
use rustix::process::Signal;

use crate::support::caller::{Caller, Outcome, Transport};
use crate::support::cluster::Plan;
use crate::support::process::Process;
use crate::support::proxy::Mode;
use crate::support::{Cluster, wait};

/// That a command changed nothing, and its last line says this.
#[track_caller]
fn assert_failed(output: &Output, says: &str) {
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_incomplete(output, says);
}

/// That a command did its work but can't say that everybody has heard, and its last line names who has not.
#[track_caller]
fn assert_incomplete(output: &Output, says: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: ") && last.contains(says), "{stderr}");
}

#[tokio::test]
async fn an_import_takes_over_what_a_table_holds_or_says_why_it_can_not() {
    let cluster = Cluster::new().postgres().start().await;
    cluster.succeed(&["sequence", "create", "tasks", "--max", "1000000", "--yes"]);
    cluster.ledger().psql(
        "CREATE SCHEMA app; CREATE TABLE app.\"Old Tasks\" (id bigint, \"Key\" numeric, note text, small integer);
         CREATE TABLE app.empty (id bigint); CREATE VIEW app.seen AS SELECT id FROM app.\"Old Tasks\";
         INSERT INTO app.\"Old Tasks\" VALUES (4711, 99999999999999999999, 'x', 3), (12, 0.5, 'y', -7);
         CREATE TABLE app.minus (id bigint); INSERT INTO app.minus VALUES (-3);
         CREATE TABLE app.beyond (id bigint); INSERT INTO app.beyond VALUES (1000001)",
    );
    let before = cluster.ledger().psql("SELECT * FROM blockhouse.sequences");
    let import = |table: &str, column: &str, more: &str| {
        cluster.command(&["sequence", "import", "tasks", "--table", table, "--column", column, more])
    };
    for (table, column, says) in [
        ("app.nothing", "id", "there is no table 'app.nothing'"),
        ("nowhere.tasks", "id", "there is no table 'nowhere.tasks'"),
        ("app.\"Old Tasks\"; DROP TABLE app.empty", "id", "nothing was changed"),
        ("app.\"Old Tasks\"", "nothing", "app.\"Old Tasks\" has no column 'nothing'"),
        ("app.\"Old Tasks\"", "ctid", "has no column 'ctid'"),
        ("app.\"Old Tasks\"", "note", "holds no whole numbers: it is of type text"),
        ("app.\"Old Tasks\"", "Key", "99999999999999999999, which can't be an ID"),
        ("pg_catalog.pg_authid", "oid", "holds no whole numbers"),
        ("app.beyond", "id", "'tasks' ends at 1000000"),
    ] {
        assert_failed(&import(table, column, "--yes"), says);
    }
    for (table, says) in [("app.empty", "there are no IDs in 'id' of app.empty"), ("app.minus", "is -3")] {
        let nothing = import(table, "id", "--yes");
        let stderr = String::from_utf8_lossy(&nothing.stderr);
        assert!(nothing.status.success() && stderr.contains(says), "{stderr}");
        assert!(stderr.contains("nothing to import"), "{stderr}");
    }
    let dry = import("app.\"Old Tasks\"", "id", "--dry-run");
    let stderr = String::from_utf8_lossy(&dry.stderr);
    assert!(dry.status.success() && stderr.contains("4711") && stderr.contains("--dry-run"), "{stderr}");
    assert_eq!(cluster.ledger().psql("SELECT * FROM blockhouse.sequences"), before, "nothing was changed");

    for (generation, table) in (2..).zip(["app.\"Old Tasks\"", "app.seen"]) {
        let imported = import(table, "id", "--yes");
        let stdout = String::from_utf8_lossy(&imported.stdout);
        let line = format!("tasks is in generation {generation}: the next ID is 4712 or above\n");
        assert_eq!(stdout, line, "{}", String::from_utf8_lossy(&imported.stderr));
    }
}

#[tokio::test]
async fn no_generation_begins_in_a_closed_ledger() {
    let cluster = Cluster::new().postgres().start().await;
    cluster.succeed(&["sequence", "create", "tasks", "--max", "1000000", "--yes"]);
    cluster.ledger().psql("UPDATE blockhouse.ledger SET state = 'closed', reason = 'a drill'");
    let before = cluster.ledger().psql("SELECT * FROM blockhouse.sequences");
    for change in [&["advance", "tasks", "--to", "500"][..], &["set", "tasks", "--max", "900"]] {
        let refused = cluster.command(&[&["sequence"], change, &["--yes"]].concat());
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(75), "{stderr}");
        assert!(stderr.contains("the ledger is closed: a drill"), "{stderr}");
    }
    assert_eq!(cluster.ledger().psql("SELECT * FROM blockhouse.sequences"), before);
    cluster.succeed(&["sequence", "set", "tasks", "--max", "2000000", "--yes"]);
}

/// Two allocators whose reserves and leftovers are full, and pods that are full.
async fn full(plan: Plan) -> Cluster {
    let cluster = plan.allocators(2).sequence("tasks").start().await;
    let load = cluster.load().counts(1..=5_000).start();
    load.until_answered(200).await;
    load.stop().await;
    cluster
}

fn usual() -> Plan {
    // Exercises that come too late fill the reserves. Who is slow here is slow for the test's sake, not for the machine's.
    let plan = Cluster::new().pods(3).postgres().hydrator().set("redis.timeout = \"500ms\"");
    plan.set("exercise.ratio = 0.2").set("exercise.max_per_minute = 600.0")
}

/// Where the next generation begins: far above everything granted by then.
const START: i64 = 1_000_000_000;

fn advance(cluster: &Cluster, more: &[&str]) -> Output {
    let to = START.to_string();
    cluster.command(&[&["sequence", "advance", "tasks", "--to", &to, "--yes"], more].concat())
}

/// Takes IDs, and asks again while the new generation's first grants are under way.
async fn take(cluster: &Cluster, caller: &mut Caller, count: u32) -> Vec<Span> {
    let mut taken = Vec::new();
    wait::until(Duration::from_secs(20), "IDs are given", async || {
        match caller.ask("tasks", count, Duration::from_secs(10)).await {
            Outcome::Given { spans, .. } => taken = spans,
            Outcome::Refused { .. } => {}
            Outcome::Lost(what) => panic!("{what}"),
        }
        !taken.is_empty()
    })
    .await;
    taken.iter().for_each(|span| cluster.checker.record("tasks", *span));
    taken
}

/// Takes IDs at these processes for a while: none lies below the start.
async fn assert_new(cluster: &Cluster, processes: &[&Process]) {
    for transport in [Transport::Grpc, Transport::Http] {
        for process in processes {
            let mut caller = Caller::new(transport, process.port());
            for count in [1, 10, 700, 2_000].repeat(10) {
                let spans = take(cluster, &mut caller, count).await;
                let old = spans.iter().find(|span| span.first() < START);
                assert_eq!(old, None, "{} gives what was granted before", process.name());
            }
        }
    }
}

/// Stops a process that a caller is connected to.
async fn pause(cluster: &Cluster, process: &Process) -> (Caller, Instant) {
    let mut caller = Caller::new(Transport::Grpc, process.port());
    take(cluster, &mut caller, 1).await;
    process.signal(Signal::STOP);
    (caller, Instant::now())
}

/// Lets it go on, with a request that waits for it already. Who was stopped for less than three seconds may not notice.
async fn assert_new_after_waking(
    cluster: &Cluster,
    process: &Process,
    (mut caller, since): (Caller, Instant),
) {
    let long = Duration::from_secs(4);
    wait::until(long * 2, "it has been stopped for long enough", async || since.elapsed() > long).await;
    let (spans, ()) = join(take(cluster, &mut caller, 1), async { process.signal(Signal::CONT) }).await;
    assert!(spans[0].first() >= START, "the first thing that it gives is {spans:?}");
    assert_new(cluster, &[process]).await;
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_an_advance_has_returned_nothing_below_is_given_out_by_anyone() {
    let mut cluster = full(usual()).await;
    let load = cluster.load().retrying().start();
    load.until_answered(100).await;
    let advanced = advance(&cluster, &[]);
    let stderr = String::from_utf8_lossy(&advanced.stderr);
    assert!(advanced.status.success(), "{stderr}");
    assert!(stderr.contains("3 processes and 3 pods of cluster 'default' have heard of it"), "{stderr}");
    let [one, other] = &cluster.allocators[..] else { panic!("two allocators") };
    assert_new(&cluster, &[one, other]).await;
    assert_eq!(load.stop().await.given_up, 0, "everybody got IDs");

    // Nobody waits for a process that has ended in order. A lowered maximum discards too.
    let mut ended = cluster.allocators.remove(1);
    assert!(ended.terminate(Duration::from_secs(20)).await.success());
    let before = cluster.granted("tasks");
    let lowered = cluster.command(&["sequence", "set", "tasks", "--max", "2000000000", "--yes"]);
    let stderr = String::from_utf8_lossy(&lowered.stderr);
    assert!(lowered.status.success(), "{stderr}");
    assert!(stderr.contains("2 processes and 3 pods of cluster 'default' have heard of it"), "{stderr}");
    let mut caller = Caller::new(Transport::Grpc, cluster.allocators[0].port());
    let spans = take(&cluster, &mut caller, 5_000).await;
    assert!(spans[0].first() > before, "{spans:?} lies above the {before} granted before");
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_process_is_named_and_gives_nothing_below_after_waking() {
    let cluster = full(usual()).await;
    let [awake, paused] = &cluster.allocators[..] else { panic!("two allocators") };
    let paused_caller = pause(&cluster, paused).await;
    let advanced = advance(&cluster, &["--wait", "6s"]);
    assert_incomplete(&advanced, "process allocator-2 of cluster 'default', which has been silent");
    assert_new(&cluster, &[awake]).await;
    assert_new_after_waking(&cluster, paused, paused_caller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_cut_off_is_named_and_nothing_below_is_given_out() {
    let cluster = full(usual().proxies()).await;
    cluster.pod_proxies[1].set(Mode::Blackhole);
    let advanced = advance(&cluster, &["--wait", "6s"]);
    assert_incomplete(&advanced, &format!("only pod 127.0.0.1:{}", cluster.pod_proxies[1].port()));
    let stderr = String::from_utf8_lossy(&advanced.stderr);
    assert!(!stderr.contains("process allocator"), "those who reach another pod have heard: {stderr}");
    let [one, other] = &cluster.allocators[..] else { panic!("two allocators") };
    assert_new(&cluster, &[one, other]).await;
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_pods_the_processes_are_named_and_one_that_was_paused_asks_the_ledger() {
    let cluster = full(Cluster::new().postgres()).await;
    let [awake, paused] = &cluster.allocators[..] else { panic!("two allocators") };
    let paused_caller = pause(&cluster, paused).await;
    let advanced = advance(&cluster, &[]);
    assert_incomplete(&advanced, "any process (allocator-1, allocator-2) of cluster 'default'");
    let mut greedy = Caller::new(Transport::Http, awake.port());
    wait::until(Duration::from_secs(20), "the other has used up what it held", async || {
        take(&cluster, &mut greedy, 5_000).await.iter().all(|span| span.first() >= START)
    })
    .await;
    assert_new(&cluster, &[awake]).await;
    assert_new_after_waking(&cluster, paused, paused_caller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_advance_that_a_failover_lost_is_not_forgotten_by_those_who_heard() {
    let mut cluster = full(usual()).await;
    let load = cluster.load().retrying().start();
    let mut primary = cluster.postgres.take().expect("the plan has a ledger");
    let mut standby = primary.standby();
    standby.fall_behind();
    assert!(advance(&cluster, &[]).status.success());
    wait::until(Duration::from_secs(20), "every pod holds blocks of the new generation", async || {
        cluster.pods.iter().all(|pod| !pod.keys("*:tasks:2").is_empty())
    })
    .await;
    primary.crash();
    standby.promote();
    assert_eq!(standby.psql("SELECT generation FROM blockhouse.sequences"), "1", "the advance is lost");
    standby.replace(&mut primary);
    cluster.postgres = Some(standby);

    // Nobody learns from a ledger that is closed: what the pods know goes on.
    wait::until(Duration::from_secs(20), "the hydrator sees the ledger closed", async || {
        cluster.hydrators[0].status().await["ledger"]["state"] == "closed"
    })
    .await;
    let mut late = cluster.process("late", "allocator");
    late.ready().await;
    cluster.allocators.push(late);
    for process in cluster.allocators.iter().chain(&cluster.hydrators) {
        assert_eq!(process.status().await["sequences"][0]["generation"], 2, "{}", process.name());
    }
    let processes: Vec<_> = cluster.allocators.iter().collect();
    assert_new(&cluster, &processes).await;

    let accept = ["ledger", "accept-failover", "--yes"];
    wait::until(Duration::from_secs(60), "it is accepted", async || {
        cluster.command(&accept).status.success()
    })
    .await;
    assert_eq!(cluster.ledger().psql("SELECT generation FROM blockhouse.sequences"), "2");
    let granted = "SELECT coalesce(min(first), 0) FROM blockhouse.grants WHERE epoch > 1";
    wait::until(Duration::from_secs(60), "it grants above the start", async || {
        cluster.ledger().psql(granted).parse::<i64>().expect("a number") >= START
    })
    .await;
    load.until_answered(300).await;
    assert_new(&cluster, &processes).await;
    assert_eq!(load.stop().await.given_up, 0, "everybody got IDs");
    cluster.assert_unique();
}
