//! A ledger that fails: pods and reserve serve on, nothing is given twice, and it is spared when it comes back.

use std::time::Duration;

use futures_util::future::join_all;

use crate::support::caller::{Caller, Outcome, Transport};
use crate::support::process::Process;
use crate::support::proxy::{Mode, Proxy};
use crate::support::redis::Redis;
use crate::support::{Cluster, wait};

/// How long processes may take to notice that the ledger is back, or is another.
const NOTICE: Duration = Duration::from_secs(20);

/// How long it may take until attempts have become rare, or a lease that a killed process left has ended.
const PATIENCE: Duration = Duration::from_secs(40);

/// Waits for a pass of the hydrator that needed the ledger and got what it asked.
async fn until_hydrated_again(cluster: &Cluster) {
    let last_success = async || cluster.hydrators[0].status().await["hydrator"]["last_success"].clone();
    let before = last_success().await;
    wait::until(NOTICE, "the hydrator makes another pass", async || last_success().await != before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_ledger_away_pods_serve_on_and_the_hydrator_recovers_by_itself() {
    let mut cluster = Cluster::usual().start().await;
    let load = cluster.load().counts(1..=500).start();
    load.until_answered(300).await;
    cluster.postgres.as_mut().expect("the plan has a ledger").stop();
    load.go_on(Duration::from_secs(4)).await;
    load.until_answered(300).await;
    cluster.postgres.as_mut().expect("the plan has a ledger").launch();
    until_hydrated_again(&cluster).await;
    load.stop().await.assert_flawless();
    cluster.assert_unique();
}

/// A process that reaches the ledger through a proxy of its own, which sees when it tries to.
fn through_a_proxy(cluster: &Cluster, name: &str, role: &str, settings: &[&str]) -> (Process, Proxy) {
    let proxy = Proxy::to(cluster.ledger().port());
    let url = format!("ledger.url='postgres://postgres@127.0.0.1:{}/postgres'", proxy.port());
    (cluster.process_with(name, role, &[settings, &[url.as_str()]].concat()), proxy)
}

/// Waits for enough attempts at a ledger that is away, and sees that they have become rare: between the last of them lies
/// `pause` and more on average.
async fn until_backed_off(proxy: &Proxy, attempts: usize, pause: Duration) -> Vec<Duration> {
    wait::until(PATIENCE, "attempts at the ledger", async || proxy.gaps().len() >= attempts).await;
    let gaps = proxy.gaps();
    let last = gaps[gaps.len() - 4..].to_vec();
    let mean = last.iter().sum::<Duration>() / 4;
    assert!(mean >= pause, "{pause:?} and more between attempts, in the end: {gaps:?}");
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_started_while_the_ledger_is_away_live_on_the_pods_and_find_it_by_themselves() {
    let mut cluster = Cluster::usual().start().await;
    cluster.postgres.as_mut().expect("the plan has a ledger").stop();
    cluster.hydrators.clear();
    let mut proxies = Vec::new();
    for number in 1..=2 {
        let (mut hydrator, proxy) = through_a_proxy(&cluster, &format!("late-{number}"), "hydrator", &[]);
        hydrator.ready().await;
        cluster.hydrators.push(hydrator);
        proxies.push(proxy);
    }
    let (mut late, _proxy) = through_a_proxy(&cluster, "late", "allocator", &[]);
    late.ready().await;
    cluster.allocators.push(late);
    let load = cluster.load().counts(1..=500).start();
    load.until_answered(500).await;

    // Whoever keeps the pods supplied looks about each second; the two don't keep step.
    let mut gaps = Vec::new();
    for proxy in &proxies {
        gaps.extend(until_backed_off(proxy, 8, Duration::from_millis(300)).await);
    }
    let (shortest, longest) = (gaps.iter().min(), gaps.iter().max());
    let jitter = longest.zip(shortest).map(|(longest, shortest)| *longest - *shortest);
    assert!(jitter > Some(Duration::from_millis(10)), "no jitter: {gaps:?}");

    cluster.postgres.as_mut().expect("the plan has a ledger").launch();
    wait::until(PATIENCE, "one of them lays in blocks", async || {
        let granted = "SELECT count(*) > 0 FROM blockhouse.grants WHERE holder LIKE 'late-%'";
        cluster.ledger().psql(granted) == "t"
    })
    .await;
    load.stop().await.assert_flawless();
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_started_with_neither_ledger_nor_blocks_refuse_until_the_ledger_is_there() {
    let mut cluster = Cluster::new().pods(1).postgres().sequence("tasks").start().await;
    cluster.postgres.as_mut().expect("the plan has a ledger").stop();
    let (alone, proxy) = through_a_proxy(&cluster, "alone", "allocator", &["redis.pods=[]"]);
    let (poor, _proxy) = through_a_proxy(&cluster, "poor", "all", &[]);
    // The pod knows the sequence since it was created, but has no blocks of it.
    for (process, reason) in [(&alone, "STARTING"), (&poor, "LEDGER_UNREACHABLE")] {
        let mut caller = Caller::new(Transport::Grpc, process.port());
        wait::until(NOTICE, &format!("{} refuses: {reason}", process.name()), async || {
            let outcome = caller.ask("tasks", 1, Duration::from_secs(1)).await;
            assert!(!matches!(outcome, Outcome::Given { .. }), "{outcome:?} from nowhere");
            matches!(outcome, Outcome::Refused { reason: said, retry_after: Some(_) } if said == reason)
        })
        .await;
    }
    assert!(!alone.is_ready().await, "nothing can answer");
    until_backed_off(&proxy, 6, Duration::from_millis(1900)).await;

    cluster.postgres.as_mut().expect("the plan has a ledger").launch();
    cluster.allocators.extend([alone, poor]);
    cluster.ready().await;
    cluster.hydrated().await;
    let load = cluster.load().counts(1..=500).start();
    load.until_answered(300).await;
    load.stop().await.assert_flawless();
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_neither_pods_nor_ledger_callers_are_refused_and_served_again_by_themselves() {
    let mut cluster = Cluster::new().pods(3).postgres().hydrator().sequence("tasks").start().await;
    let (mut allocator, proxy) = through_a_proxy(&cluster, "allocator", "allocator", &[]);
    allocator.ready().await;
    cluster.allocators.push(allocator);
    let load = cluster.load().counts(1..=500).retrying().start();
    load.until_answered(300).await;
    cluster.postgres.as_mut().expect("the plan has a ledger").stop();
    load.until_answered(300).await;
    cluster.pods.iter_mut().for_each(Redis::kill);

    wait::until(NOTICE, "memory is used up", async || load.refused("LEDGER_UNREACHABLE") > 0).await;
    until_backed_off(&proxy, 6, Duration::from_millis(900)).await;
    assert!(!cluster.allocators[0].is_ready().await, "nothing can answer");

    cluster.postgres.as_mut().expect("the plan has a ledger").launch();
    load.until_answered(100).await;
    assert!(cluster.grants("fallback") > 0, "the ledger answers for the pods");
    cluster.pods.iter_mut().for_each(Redis::restart);
    cluster.hydrated().await;
    load.until_answered(300).await;
    let report = load.stop().await;
    let refusals: Vec<_> = report.refused.keys().collect();
    assert_eq!(refusals, ["LEDGER_UNREACHABLE"], "nothing else is said, and nothing is lost: {report:?}");
    assert!(report.lost.is_empty(), "{:?}", report.lost);
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_ledger_goes_on_without_anybody() {
    let mut cluster = Cluster::usual().start().await;
    let load = cluster.load().counts(1..=500).start();
    for _ in 0..3 {
        load.until_answered(200).await;
        cluster.postgres.as_mut().expect("the plan has a ledger").restart();
        until_hydrated_again(&cluster).await;
    }
    load.stop().await.assert_flawless();
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_replies_of_grants_repeat_nothing() {
    let cluster =
        Cluster::usual().proxies().set("hydrator.interval = '100ms'").set("ledger.timeout = '500ms'");
    let cluster = cluster.start().await;
    let load = cluster.load().retrying().start();
    let proxy = cluster.ledger_proxy.as_ref().expect("the plan has proxies");
    for round in 0..6 {
        // Every other time the pods are gone as well, so that callers' own grants are lost too.
        let pods = if round % 2 == 0 { Mode::Pass } else { Mode::Reset };
        cluster.pod_proxies.iter().for_each(|pod| pod.set(pods));
        let before = proxy.dropped_bytes();
        proxy.set(Mode::DropReplies);
        wait::until(NOTICE, "a reply is lost", async || proxy.dropped_bytes() > before).await;
        load.go_on(Duration::from_millis(700)).await;
        proxy.set(Mode::Pass);
        cluster.pod_proxies.iter().for_each(|pod| pod.set(Mode::Pass));
        load.until_answered(200).await;
    }
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "refused {:?}, lost {:?}", report.refused, report.lost);
    cluster.assert_unique();
}

/// Sizes of the sequence's grants as the ledger recorded them, oldest first.
fn grant_sizes(cluster: &Cluster) -> Vec<i64> {
    let sizes = cluster.ledger().psql("SELECT count FROM blockhouse.grants ORDER BY number");
    sizes.lines().map(|size| size.parse().expect("a number")).collect()
}

/// Makes the ledger commit each grant, but later than anybody waits: the server's own time-outs don't bound a commit.
const COMMIT_LATE: &str = "
    CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON blockhouse.grants DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.dawdle();";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_answers_too_late_burns_no_more_than_what_is_waited_for() {
    const NORMAL: i64 = 10_000;
    const WAITING: [u32; 3] = [10, 20, 30];
    let cluster = Cluster::new().postgres().sequence("tasks").start().await;
    // A hydrator's lease is answered in time, so that no back-off spares the ledger any grant.
    let settings = ["ledger.timeout='200ms'", "fallback.max_wait='1s'", "hydrator.interval='100ms'"];
    let mut process = cluster.process_with("alone", "all", &settings);
    process.ready().await;
    cluster.ledger().psql(COMMIT_LATE);

    let mut callers = WAITING.map(|_| Caller::new(Transport::Grpc, process.port()));
    for late in 1..=10 {
        wait::until(NOTICE, &format!("late grant {late}"), async || {
            let asked = callers.iter_mut().zip(WAITING);
            let asked = asked.map(|(caller, count)| caller.ask("tasks", count, Duration::from_secs(1)));
            for outcome in join_all(asked).await {
                assert!(!matches!(outcome, Outcome::Given { .. }), "{outcome:?} from a ledger that is late");
            }
            grant_sizes(&cluster).len() >= late
        })
        .await;
    }
    let waiting = i64::from(WAITING.iter().sum::<u32>());
    let sizes = grant_sizes(&cluster);
    assert_eq!(sizes[0], NORMAL, "nobody could know that it would be late");
    assert!(sizes[1..].iter().all(|size| *size <= waiting), "{sizes:?}, and {waiting} IDs are waited for");

    cluster.ledger().psql("DROP TRIGGER late ON blockhouse.grants");
    let late = grant_sizes(&cluster).len();
    // A grant for each doubling, by a ledger that a busy machine may keep later than its time-out once more.
    wait::until(3 * NOTICE, "grants are as large as before", async || {
        callers[0].ask("tasks", 50, Duration::from_secs(1)).await;
        grant_sizes(&cluster).last().is_some_and(|size| *size >= NORMAL)
    })
    .await;
    let sizes = &grant_sizes(&cluster)[late..];
    assert!(sizes[0] <= 50, "{sizes:?}");
    assert!(sizes.windows(2).all(|pair| pair[1] == 2 * pair[0]), "each twice the one before: {sizes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exercise_never_costs_a_caller_its_request_or_its_deadline() {
    let plan = Cluster::usual().set("exercise.ratio = 1.0").set("exercise.max_per_minute = 60000.0");
    let mut cluster = plan.start().await;
    let load = cluster.load().grpc().callers(4).counts(1..=100).deadline(Duration::from_millis(100));
    let load = load.pace(Duration::from_millis(20)).start();
    load.until_answered(200).await;
    assert!(cluster.grants("exercise") > 0, "requests are exercised at all");

    cluster.postgres.as_mut().expect("the plan has a ledger").stop();
    load.go_on(Duration::from_secs(3)).await;
    cluster.postgres.as_mut().expect("the plan has a ledger").launch();
    load.until_answered(100).await;
    cluster.ledger().pause();
    load.go_on(Duration::from_secs(3)).await;
    cluster.ledger().resume();
    load.until_answered(100).await;
    let report = load.stop().await;
    report.assert_flawless();
    cluster.assert_unique();
}
