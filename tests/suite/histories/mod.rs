//! A ledger that comes back as it was before its last grants (S3): by how that came about, and by who still knows of what is lost.

mod flips;
pub mod knowledge;
mod past;

use std::time::Duration;

use self::knowledge::{Fresh, Knowledge, Nobody, Old};
use self::past::Event;
use crate::support::cluster::Plan;
use crate::support::load::{Load, Running};
use crate::support::{Cluster, wait};

/// How long processes may take to notice that the ledger is another, or open again.
const NOTICE: Duration = Duration::from_secs(20);
/// Between two requests of a caller: what lies in the pods is to outlast the time that an operator takes.
const PACE: Duration = Duration::from_millis(20);

/// How a ledger goes on: the row of the table in docs/ledger.md that applies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    /// By itself; counters move by what was granted in the last recorded day.
    ByItself,
    /// Once an operator accepts it, above all that is reported.
    Accepted,
    /// The same, and the operator must say above which ID, for nobody knows.
    AtLeast,
}
use Row::{Accepted, AtLeast, ByItself};

/// Older files under the same timeline look like a restart: only somebody who knows more keeps them from opening by themselves. Where
/// nobody is left, the operator's word comes before the first process.
const TABLE: [(Event, [(Knowledge, Row); 3]); 4] = [
    (Event::DumpRestored, [(Fresh, Accepted), (Old, Accepted), (Nobody, AtLeast)]),
    (Event::OlderFiles, [(Fresh, Accepted), (Old, ByItself), (Nobody, AtLeast)]),
    (Event::LaggingStandby, [(Fresh, Accepted), (Old, ByItself), (Nobody, AtLeast)]),
    (Event::PointInTime, [(Fresh, Accepted), (Old, Accepted), (Nobody, AtLeast)]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_is_restored_in_place() {
    repeats_nothing(Event::DumpRestored).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_data_folder_is_put_back() {
    repeats_nothing(Event::OlderFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lagging_standby_is_started_without_its_standby_signal() {
    repeats_nothing(Event::LaggingStandby).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_is_recovered_to_before_its_last_grants() {
    repeats_nothing(Event::PointInTime).await;
}

/// One cluster goes through the event once with each knowledge; nothing that it gave out before is given out after.
async fn repeats_nothing(event: Event) {
    let mut cluster = event.prepare(small_supply().proxies().start().await).await;
    let (_, cells) = TABLE.into_iter().find(|(of, _)| *of == event).expect("the table has every event");
    for (knowledge, row) in cells {
        eprintln!("--- {event:?}, {knowledge:?}: {row:?} ---");
        let life = epoch(&cluster);
        let load = knowledge.goes_back(&mut cluster, event).await;
        match row {
            ByItself => opens_by_itself(&cluster, life).await,
            Accepted => is_accepted(&cluster, knowledge).await,
            AtLeast => is_accepted_above_a_floor(&mut cluster, event).await,
        }
        until_granted_in(&cluster, epoch(&cluster)).await;
        cluster.ready().await;
        cluster.hydrated().await;
        ends_with_all_served(load.unwrap_or_else(|| callers(&cluster).retrying().start())).await;
    }
    cluster.assert_unique();
}

/// So small that what is used in a second or two is worth a grant, and still minutes of what callers use at their pace.
fn small_supply() -> Plan {
    sparing(Cluster::usual())
}

/// Servers are copied and started meanwhile: a pod that is slow for it is not yet dead.
fn sparing(plan: Plan) -> Plan {
    let plan = plan.set("hydrator.min_ids = 600000").set("hydrator.max_ids = 600000");
    plan.set("redis.timeout = '1s'")
}

fn callers(cluster: &Cluster) -> Load {
    cluster.load().counts(1..=500).pace(PACE)
}

fn epoch(cluster: &Cluster) -> i64 {
    cluster.ledger().psql("SELECT epoch FROM blockhouse.ledger").parse().expect("a number")
}

async fn until(cluster: &Cluster, what: &str, sql: &str) {
    wait::until(3 * NOTICE, what, async || cluster.ledger().try_psql(sql).as_deref() == Ok("t")).await;
}

async fn until_granted_in(cluster: &Cluster, epoch: i64) {
    let sql = format!("SELECT EXISTS (SELECT FROM blockhouse.grants WHERE epoch = {epoch})");
    until(cluster, "a grant of the new life", &sql).await;
}

/// Whoever asked got IDs, on a busy machine perhaps at the second try.
async fn ends_with_all_served(load: Running) {
    load.until_answered(300).await;
    let report = load.stop().await;
    assert_eq!(report.given_up, 0, "refused {:?}, lost {:?}", report.refused, report.lost);
}

/// Panics unless every sequence moved to go on in the present life, for this reason and to where the SQL says: of a move `m`, its
/// sequence `s` and what is reported of it `r`.
#[track_caller]
fn assert_moved(cluster: &Cluster, reason: &str, target: &str) {
    let moved = cluster.ledger().psql(&format!(
        "SELECT count(*) = (SELECT count(*) FROM blockhouse.sequences)
                AND bool_and(m.reason = '{reason}' AND m.moved_to = {target})
           FROM blockhouse.moves AS m JOIN blockhouse.sequences AS s ON s.name = m.sequence
           LEFT JOIN blockhouse.reports AS r ON r.sequence = m.sequence
          WHERE m.epoch = (SELECT epoch FROM blockhouse.ledger)"
    ));
    let moves = cluster.ledger().psql("SELECT * FROM blockhouse.moves ORDER BY epoch, sequence");
    assert_eq!(moved, "t", "not {reason} to {target}:\n{moves}");
}

async fn opens_by_itself(cluster: &Cluster, before: i64) {
    let open = format!("SELECT state = 'open' AND epoch > {before} FROM blockhouse.ledger");
    until(cluster, "it opens by itself", &open).await;
    assert_moved(
        cluster,
        "restarted",
        "m.moved_from + (SELECT sum(g.count) FROM blockhouse.grants AS g WHERE g.sequence = m.sequence AND g.epoch < m.epoch)",
    );
}

async fn is_accepted(cluster: &Cluster, knowledge: Knowledge) {
    until_told_to_accept(cluster).await;
    let knows_what_is_lost = match knowledge {
        Fresh => "r.high_water > s.granted",
        Old | Nobody => "r.high_water <= s.granted",
    };
    let reported = format!(
        "SELECT {knows_what_is_lost} AND r.answers = l.token
           FROM blockhouse.ledger AS l, blockhouse.reports AS r JOIN blockhouse.sequences AS s ON s.name = r.sequence
          WHERE s.name = 'tasks'"
    );
    until(cluster, "the cluster reports what it knows", &reported).await;
    assert_eq!(accept(cluster, &[]), Ok(()));
    assert_moved(cluster, "accepted", "greatest(m.moved_from, r.high_water) + s.failover_gap");
}

async fn is_accepted_above_a_floor(cluster: &mut Cluster, event: Event) {
    let mut arguments = Vec::new();
    if event.looks_like_a_restart() {
        arguments.extend(["--without", "default"]);
    } else {
        knowledge::start_processes(cluster).await;
        until_told_to_accept(cluster).await;
    }
    let mut refused = String::new();
    wait::until(3 * NOTICE, "nobody else's word is waited for", async || {
        refused = accept(cluster, &arguments).expect_err("nobody knows what was granted");
        refused.contains("nobody knows what was granted of attachments, comments, tasks: say --at-least")
    })
    .await;
    let floors = cluster.sequences().iter().map(|name| format!("{name}={}", cluster.checker.greatest(name)));
    let floors: Vec<String> = floors.collect();
    arguments.extend(floors.iter().flat_map(|floor| ["--at-least", floor]));
    assert_eq!(accept(cluster, &arguments), Ok(()));
    for sequence in cluster.sequences() {
        let target = format!(
            "CASE m.sequence WHEN '{sequence}' THEN greatest(m.moved_from, {}) + s.failover_gap ELSE m.moved_to END",
            cluster.checker.greatest(sequence)
        );
        assert_moved(cluster, "accepted", &target);
    }
    if event.looks_like_a_restart() {
        knowledge::start_processes(cluster).await;
    }
}

/// Every process that runs says that the ledger is closed, and which command is waited for.
async fn until_told_to_accept(cluster: &Cluster) {
    for process in cluster.hydrators.iter() {
        wait::until(NOTICE, &format!("{} says what to do", process.name()), async || {
            let status = process.status().await;
            status["ledger"]["state"] == "closed"
                && status["problems"].to_string().contains("accept-failover")
        })
        .await;
    }
}

fn accept(cluster: &Cluster, arguments: &[&str]) -> Result<(), String> {
    let accepted = cluster.command(&[&["ledger", "accept-failover", "--yes"], arguments].concat());
    let said = String::from_utf8_lossy(&accepted.stderr).into_owned();
    if accepted.status.success() { Ok(()) } else { Err(said) }
}
