//! A ledger that was restarted (S3): it opens by itself, at once, and skips no more than `docs/ledger.md` says. No caller notices.

use std::time::Duration;

use crate::support::cluster::Plan;
use crate::support::load::{Report, Running};
use crate::support::postgres::Postgres;
use crate::support::{Cluster, wait};

/// From the moment that the ledger answers a plain client to the first grant of its new life: the issue's own bound.
const AT_ONCE: f64 = 2.0;
/// How long a busy machine may take for anything else.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two requests of a caller: what lies in the pods is to outlast each restart.
const PACE: Duration = Duration::from_millis(10);

/// So small that every pass of the hydrator finds something to grant.
fn small_supply() -> Plan {
    Cluster::usual().set("hydrator.min_ids = 600000").set("hydrator.max_ids = 600000")
}

fn callers(cluster: &Cluster) -> Running {
    cluster.load().counts(1..=500).pace(PACE).start()
}

#[derive(Clone, Copy, Debug)]
enum Shutdown {
    Smart,
    Fast,
    Immediate,
}

async fn shut_down(ledger: &mut Postgres, how: Shutdown) {
    match how {
        Shutdown::Fast => ledger.stop(),
        Shutdown::Immediate => ledger.crash(),
        Shutdown::Smart => {
            let operator = ledger.session().await;
            let grants: i64 =
                ledger.psql("SELECT count(*) FROM blockhouse.grants").parse().expect("a number");
            ledger.close_the_door();
            operator.until(&format!("SELECT count(*) > {grants} FROM blockhouse.grants")).await;
            // Whoever is connected stays so until somebody says otherwise.
            let others = "pid <> pg_backend_pid() AND backend_type = 'client backend'";
            operator
                .run(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))
                .await;
            drop(operator);
            ledger.stop_when_left();
        }
    }
}

/// Seconds from the moment that a plain client is answered to the first grant of this life, by the ledger's own clock.
async fn until_granted_in(cluster: &Cluster, life: i64) -> f64 {
    let answered = cluster.ledger().psql("SELECT clock_timestamp()");
    granted_after(cluster, life, &format!("timestamptz '{answered}'")).await
}

/// The same from the moment that it was opened.
async fn until_granted_since_opened(cluster: &Cluster, life: i64) -> f64 {
    granted_after(cluster, life, &format!("(SELECT min(at) FROM blockhouse.moves WHERE epoch = {life})"))
        .await
}

async fn granted_after(cluster: &Cluster, life: i64, moment: &str) -> f64 {
    let grants = format!("FROM blockhouse.grants WHERE epoch = {life}");
    cluster.ledger().session().await.until(&format!("SELECT count(*) > 0 {grants}")).await;
    let took = cluster.ledger().psql(&format!("SELECT extract(epoch FROM min(at) - {moment}) {grants}"));
    took.parse::<f64>().expect("a number").max(0.0)
}

fn assert_at_once(took: f64) {
    assert!(took < AT_ONCE, "granted {took} s after the ledger answered");
}

/// Every sequence moved in this life by what was granted of it in those before that `lost` names, and was never granted what it skipped.
fn assert_skipped(cluster: &Cluster, life: i64, lost: &str) {
    let differs = format!(
        "SELECT string_agg(format('%s skipped %s instead of %s', sequence, m.ids, g.ids), '; ')
           FROM (SELECT sequence, sum(count) AS ids FROM blockhouse.grants
                  WHERE epoch < {life} AND {lost} GROUP BY sequence) AS g
           FULL JOIN (SELECT sequence, moved_to - moved_from AS ids FROM blockhouse.moves
                       WHERE epoch = {life} AND reason = 'restarted') AS m USING (sequence)
          WHERE m.ids IS DISTINCT FROM g.ids"
    );
    assert_eq!(cluster.ledger().psql(&differs), "", "life {life}");
    let granted = "SELECT count(*) FROM blockhouse.grants AS g JOIN blockhouse.moves AS m USING (sequence)
                    WHERE g.first <= m.moved_to AND g.first + g.count - 1 > m.moved_from";
    assert_eq!(cluster.ledger().psql(granted), "0", "what is skipped is nobody's");
    let now = "SELECT epoch, state FROM blockhouse.ledger";
    assert_eq!(cluster.ledger().psql(now), format!("{life}|open"), "one life for each restart");
}

const EVERYTHING: &str = "true";

async fn ends_flawless(cluster: &Cluster, load: Running) {
    load.until_answered(300).await;
    load.stop().await.assert_flawless();
    cluster.assert_unique();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_shut_down_in_any_way_opens_by_itself_at_once() {
    let mut cluster = small_supply().start().await;
    let load = callers(&cluster);
    load.until_answered(300).await;
    for (life, how) in [(2, Shutdown::Smart), (3, Shutdown::Fast), (4, Shutdown::Immediate)] {
        let ledger = cluster.postgres.as_mut().expect("the plan has a ledger");
        shut_down(ledger, how).await;
        ledger.launch();
        let took = until_granted_in(&cluster, life).await;
        eprintln!("{how:?}: granted {:.0} ms after the ledger answered", took * 1e3);
        assert_at_once(took);
        assert_skipped(&cluster, life, EVERYTHING);
    }
    ends_flawless(&cluster, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_restarts_in_a_row_skip_each_what_was_granted_before_and_no_caller_notices() {
    let mut cluster = small_supply().start().await;
    let load = callers(&cluster);
    load.until_answered(300).await;
    load.forget();
    restart_a_stranger(10);
    let (before, mut took) = (load.forget(), Vec::new());
    for life in 2..=11 {
        cluster.postgres.as_mut().expect("the plan has a ledger").restart();
        took.push(until_granted_in(&cluster, life).await);
        assert_skipped(&cluster, life, EVERYTHING);
    }
    show("a restart", took, &before, &load.forget());
    ends_flawless(&cluster, load).await;
}

/// What restarts cost whoever shares the machine with them, whatever the server is used for: what a caller feels of the ledger's comes
/// on top.
fn restart_a_stranger(times: u32) {
    let mut stranger = Postgres::start();
    for _ in 0..times {
        stranger.restart();
        stranger.wait_for("SELECT count(*) = 0 FROM pg_stat_wal_receiver");
    }
}

/// The figures of `docs/performance.md`; the usual one keeps the bound, and every caller got IDs at its first try.
fn show(what: &str, mut took: Vec<f64>, before: &Report, during: &Report) {
    took.sort_by(f64::total_cmp);
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    eprintln!("{what} to the first grant: median {:.0} ms, worst {:.0} ms", median * 1e3, worst * 1e3);
    for share in [0.5, 0.99] {
        let (was, is) = (before.quantile(share), during.quantile(share));
        let ratio = is.as_secs_f64() / was.as_secs_f64();
        eprintln!("callers' p{:.0}: {was:.1?} before, {is:.1?} during, ratio {ratio:.2}", share * 100.0);
    }
    assert_at_once(median);
    before.assert_flawless();
    during.assert_flawless();
}

/// Lets the record be that much older than now, as if nobody had used the ledger for so long.
fn age_by(ledger: &mut Postgres, hours: u32) {
    ledger.change_unseen(&format!(
        "SET session_replication_role = replica;
         ALTER TABLE blockhouse.grants DISABLE TRIGGER no_change;
         UPDATE blockhouse.grants SET at = at - interval '{hours} hours';
         ALTER TABLE blockhouse.grants ENABLE ALWAYS TRIGGER no_change;
         UPDATE blockhouse.clusters
            SET renewed_at = renewed_at - interval '{hours} hours', lease_ends = lease_ends - interval '{hours} hours'"
    ));
}

/// Three lives under load, the first 30 hours before the third, the second three; then a day away. Leaves the ledger down.
async fn three_lives_and_a_day_away(cluster: &mut Cluster, load: Running) {
    for (life, hours) in [(2, 27), (3, 3)] {
        let ledger = cluster.postgres.as_mut().expect("the plan has a ledger");
        ledger.stop();
        age_by(ledger, hours);
        ledger.launch();
        until_granted_in(cluster, life).await;
        assert_skipped(cluster, life, &format!("epoch = {life} - 1"));
        load.until_answered(300).await;
    }
    let ledger = cluster.postgres.as_mut().expect("the plan has a ledger");
    ledger.stop();
    load.until_answered(300).await;
    load.stop().await.assert_flawless();
    age_by(cluster.postgres.as_mut().expect("the plan has a ledger"), 24);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_day_away_a_ledger_skips_what_was_granted_in_the_last_hour_that_it_recorded() {
    let mut cluster = small_supply().start().await;
    let load = callers(&cluster);
    load.until_answered(300).await;
    three_lives_and_a_day_away(&mut cluster, load).await;
    let load = callers(&cluster);
    cluster.postgres.as_mut().expect("the plan has a ledger").launch();
    assert_at_once(until_granted_in(&cluster, 4).await);
    assert_skipped(&cluster, 4, "epoch = 3");
    ends_flawless(&cluster, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_day_away_with_nobody_left_who_knows_a_ledger_skips_what_was_granted_in_the_last_day() {
    let mut cluster = small_supply().start().await;
    let load = callers(&cluster);
    load.until_answered(300).await;
    three_lives_and_a_day_away(&mut cluster, load).await;
    cluster.hydrators.iter_mut().chain(&mut cluster.allocators).for_each(|process| process.kill());
    for pod in &mut cluster.pods {
        pod.kill();
        pod.restart();
    }
    cluster.postgres.as_mut().expect("the plan has a ledger").launch();
    cluster.hydrators.iter_mut().chain(&mut cluster.allocators).for_each(|process| process.start_again());
    until_granted_in(&cluster, 4).await;
    assert_skipped(&cluster, 4, "epoch IN (2, 3)");
    cluster.ready().await;
    cluster.hydrated().await;
    let load = callers(&cluster);
    ends_flawless(&cluster, load).await;
}

/// Every sequence goes on above what the ledger and the clusters know, by its gap.
fn assert_skipped_the_gap(cluster: &Cluster, life: i64, why: &str) {
    let moved = format!(
        "SELECT count(*), bool_and(m.reason = '{why}' AND m.moved_to - greatest(m.moved_from, r.high_water) = s.failover_gap)
           FROM blockhouse.moves AS m JOIN blockhouse.sequences AS s ON s.name = m.sequence
           JOIN (SELECT sequence, max(high_water) AS high_water FROM blockhouse.reports GROUP BY sequence) AS r USING (sequence)
          WHERE m.epoch = {life}"
    );
    assert_eq!(cluster.ledger().psql(&moved), format!("{}|t", cluster.sequences().len()), "life {life}");
}

fn state(cluster: &Cluster) -> (i64, String) {
    let row = cluster.ledger().psql("SELECT epoch, state FROM blockhouse.ledger");
    let (epoch, state) = row.split_once('|').expect("two columns");
    (epoch.parse().expect("a number"), state.to_owned())
}

/// Waits until the ledger is closed and whoever is asked has reported, and accepts it. Gives the life that begins.
async fn accept(cluster: &Cluster) -> i64 {
    let reported = format!(
        "SELECT l.state = 'closed' AND {} = (SELECT count(*) FROM blockhouse.reports AS r WHERE r.answers = l.token)
           FROM blockhouse.ledger AS l",
        cluster.sequences().len()
    );
    cluster.ledger().session().await.until(&reported).await;
    cluster.succeed(&["ledger", "accept-failover", "--yes"]);
    state(cluster).0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_failovers_in_a_row_are_granted_from_at_once_when_accepted_and_no_caller_notices() {
    let cluster = small_supply().start().await;
    let load = callers(&cluster);
    load.until_answered(300).await;
    load.forget();
    for _ in 0..10 {
        cluster.command(&["ledger", "show"]);
        load.until_answered(100).await;
    }
    let (before, mut took) = (load.forget(), Vec::new());
    for _ in 0..10 {
        // It remembers another timeline than it runs on, as after a promotion.
        cluster.ledger().psql("UPDATE blockhouse.ledger SET timeline = '000000FF'");
        let life = accept(&cluster).await;
        took.push(until_granted_since_opened(&cluster, life).await);
        assert_skipped_the_gap(&cluster, life, "accepted");
        load.until_answered(100).await;
    }
    show("an acceptance", took, &before, &load.forget());
    ends_flawless(&cluster, load).await;
}

/// What happens to the ledger's server.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Restart,
    Promotion,
    OlderFiles,
    Dump,
}

async fn happens(cluster: &mut Cluster, event: Event, load: &Running) {
    let ledger = cluster.postgres.as_mut().expect("the plan has a ledger");
    match event {
        Event::Restart => ledger.restart(),
        Event::Promotion => {
            let mut standby = ledger.standby();
            standby.fall_behind();
            load.until_answered(300).await;
            ledger.crash();
            standby.promote();
            standby.replace(ledger);
            *ledger = standby;
        }
        Event::OlderFiles => {
            let granted = ledger.psql("SELECT count(*) FROM blockhouse.grants");
            ledger.stop();
            ledger.set_files_aside();
            ledger.launch();
            // In the life that this restart begins.
            ledger.wait_for(&format!("SELECT count(*) > {granted} FROM blockhouse.grants"));
            load.until_answered(300).await;
            ledger.stop();
            ledger.put_files_back();
            ledger.launch();
        }
        Event::Dump => {
            let dump = ledger.dump();
            load.until_answered(300).await;
            ledger.restore(&dump);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_skips_what_the_table_says_where_a_person_accepts_it() {
    skips_what_the_table_says("wait", |event| event == Event::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_skips_what_the_table_says_where_the_ledger_jumps() {
    // A life followed those files, which did not lead to the one that begins with them: a person decides.
    skips_what_the_table_says("jump", |event| event != Event::OlderFiles).await;
}

async fn skips_what_the_table_says(on_failover: &str, by_itself: fn(Event) -> bool) {
    // Files are copied meanwhile: a pod that is slow for it is not yet dead.
    let mut cluster = small_supply().set("redis.timeout = '1s'").start().await;
    cluster.succeed(&["ledger", "set", "--on-failover", on_failover, "--yes"]);
    let load = callers(&cluster);
    load.until_answered(300).await;
    for event in [Event::Restart, Event::Promotion, Event::OlderFiles, Event::Dump] {
        let before = state(&cluster).0;
        happens(&mut cluster, event, &load).await;
        let life = match by_itself(event) {
            true => opened_above(&cluster, before).await,
            false => accept(&cluster).await,
        };
        until_granted_in(&cluster, life).await;
        match event {
            Event::Restart => assert_skipped(&cluster, life, EVERYTHING),
            _ if by_itself(event) => assert_skipped_the_gap(&cluster, life, "jumped"),
            _ => assert_skipped_the_gap(&cluster, life, "accepted"),
        }
        let moved = cluster.ledger().psql(&format!(
            "SELECT reason, max(moved_to - moved_from) FROM blockhouse.moves WHERE epoch = {life} GROUP BY reason"
        ));
        eprintln!("{event:?}, {on_failover}: {moved} IDs above the counter at most");
        load.until_answered(300).await;
    }
    ends_flawless(&cluster, load).await;
}

/// Waits until a life above this one has begun.
async fn opened_above(cluster: &Cluster, before: i64) -> i64 {
    let mut life = before;
    wait::until(PATIENCE, "the ledger opens by itself", async || {
        let (epoch, state) = state(cluster);
        life = epoch;
        epoch > before && state == "open"
    })
    .await;
    life
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_long_it_was_away_a_ledger_is_found_at_once_with_productions_interval() {
    let mut cluster = small_supply().set("hydrator.interval = '5s'").start().await;
    let load = callers(&cluster);
    load.until_answered(300).await;
    cluster.postgres.as_mut().expect("the plan has a ledger").stop();
    let leader = &cluster.hydrators[0];
    wait::until(
        PATIENCE,
        "the hydrator has looked for it in vain often enough to do so seldom",
        async || {
            let failed = [("purpose", "other"), ("outcome", "unreachable")];
            leader.metrics().await.sum("blockhouse_ledger_requests_total", &failed) >= 4.0
        },
    )
    .await;
    cluster.postgres.as_mut().expect("the plan has a ledger").launch();
    assert_at_once(until_granted_in(&cluster, 2).await);
    ends_flawless(&cluster, load).await;
}
