//! Close, report, open (S3): only what is provably safe happens by itself.

use std::sync::Arc;
use std::time::Duration;

use blockhouse::block::witness::Kind;
use blockhouse::block::{Life, OnFailover, SequenceFacts, Stamp, Witness};
use blockhouse::ledger::{Accept, Admin, Condemned, LedgerError, Report, Reported, SequenceChange, State};
use uuid::Uuid;

use super::*;

/// A ledger that goes through what befalls a server.
pub trait Lived: Bed {
    /// It was stopped and started again, with all that it had.
    fn restart(&self);
    /// A dump of what it is now is restored in its place.
    fn restore_dump(&self);
    /// All that it recorded was recorded so much earlier.
    fn age_by(&self, hours: u32);
}

const LAST: i64 = (1 << 53) - 1;
const GAP: i64 = 1_000_000_000;

/// What a cluster says that knows nothing.
fn knowing_nothing(closed: Life) -> Report {
    Report {
        cluster: "alpha".into(),
        holder: "test-1".into(),
        closed,
        follows: None,
        read_at_us: None,
        on_failover: None,
        sequences: Vec::new(),
    }
}

/// What a cluster knows that follows `life`: `high_water` of `tasks`, read at `read_at_us`.
fn knowing(closed: Life, follows: Life, high_water: i64, read_at_us: i64) -> Report {
    Report {
        follows: Some(follows),
        read_at_us: Some(read_at_us),
        on_failover: Some(OnFailover::Jump),
        sequences: vec![(facts_of("tasks", 1), high_water)],
        ..knowing_nothing(closed)
    }
}

fn facts_of(name: &str, generation: i64) -> SequenceFacts {
    SequenceFacts {
        name: name.into(),
        generation,
        first: 1,
        last: LAST,
        block_size: 1000,
        buffer_seconds: None,
        failover_gap: GAP,
        halted: None,
        retired: false,
    }
}

fn of(cluster: &str, report: Report) -> Report {
    Report { cluster: Arc::from(cluster), ..report }
}

/// A process's handle, the life it follows, and a request for one ID of `tasks`.
async fn begin(bed: &dyn Lived) -> (Rc<dyn Admin>, Life, GrantRequest) {
    let ledger = bed.open();
    let one = tasks(&*ledger, 1, LAST).await;
    (ledger, one.life, one)
}

async fn read_at_us(ledger: &dyn Admin) -> i64 {
    ledger.facts(None).await.unwrap().read_at_us
}

async fn closed(ledger: &dyn Admin, known: Life) -> Life {
    let facts = ledger.facts(Some(known)).await.unwrap();
    assert!(matches!(facts.state, State::Closed(_)) && facts.descends, "{facts:?}");
    facts.identity.life
}

async fn waits(ledger: &dyn Admin, report: &Report, for_what: &str) {
    let answer = ledger.report(report).await.unwrap();
    assert!(matches!(&answer, Reported::Waits(why) if why.contains(for_what)), "{answer:?}");
}

async fn opens(ledger: &dyn Admin, report: &Report) {
    assert_eq!(ledger.report(report).await.unwrap(), Reported::Open);
}

async fn accepted(ledger: &dyn Admin, accept: &Accept) {
    assert_eq!(ledger.accept(accept, true).await.unwrap().problem, None);
}

async fn next_id(ledger: &dyn Admin, life: Life) -> i64 {
    take(ledger, &request("tasks", life), 1).await.unwrap().span.first()
}

pub async fn a_restart_closes_it_once_and_a_report_opens_it(bed: &dyn Lived) {
    let (ledger, known, _) = begin(bed).await;
    bed.restart();
    let life = closed(&*ledger, known).await;
    assert_eq!((life.epoch, closed(&*bed.open(), known).await), (2, life));
    opens(&*ledger, &knowing_nothing(life)).await;
    assert_eq!(next_id(&*ledger, life).await, 1, "nothing was granted, so nothing is skipped");
    assert_eq!(ledger.history().await.unwrap().lives.len(), 2);
}

pub async fn after_a_restart_a_fresh_report_costs_an_hours_grants_and_none_a_days(bed: &dyn Lived) {
    let (ledger, mut known, mut one) = begin(bed).await;
    let mut granted = 0;
    for fresh in [true, false] {
        take(&*ledger, &one, 20).await.unwrap();
        bed.age_by(3);
        granted = take(&*ledger, &one, 10).await.unwrap().span.last().max(granted);
        let read_at_us = read_at_us(&*ledger).await - if fresh { 0 } else { 90_000_000 };
        bed.restart();
        let life = closed(&*ledger, known).await;
        opens(&*ledger, &knowing(life, known, granted, read_at_us)).await;
        let skipped = if fresh { 10 } else { 60 + 1 };
        let next = next_id(&*ledger, life).await;
        assert_eq!(next, granted + skipped + 1, "read a moment before: {fresh}");
        let by = ledger.moved("tasks", granted + 1).await.unwrap().expect("a move");
        assert_eq!((by.from, by.to, by.reason.as_str()), (granted, granted + skipped, "restarted"));
        (known, one, granted) = (life, request("tasks", life), next);
    }
}

pub async fn a_restart_with_older_files_waits_for_an_operator(bed: &dyn Lived) {
    let (ledger, known, one) = begin(bed).await;
    take(&*ledger, &one, 10).await.unwrap();
    let read_at_us = read_at_us(&*ledger).await;
    bed.restart();
    let life = closed(&*ledger, known).await;
    // Somebody knows of a grant that is not in these files.
    waits(&*ledger, &knowing(life, known, 5_000, read_at_us), "accept-failover").await;
    refused!(take(&*ledger, &request("tasks", life), 1).await, LedgerError::Closed(_));
    accepted(&*ledger, &Accept::default()).await;
    assert_eq!(next_id(&*ledger, life).await, 5_000 + GAP + 1);
}

pub async fn another_line_of_history_waits_and_comes_along(bed: &dyn Lived) {
    let (ledger, known, _) = begin(bed).await;
    bed.restart();
    let life = closed(&*ledger, known).await;
    let elsewhere = Life { epoch: 7, token: Uuid::from_u128(7) };
    // What was said stays said, whoever of the cluster speaks next.
    for said in [knowing(life, elsewhere, 0, 0), knowing_nothing(life), knowing(life, known, 0, 0)] {
        waits(&*ledger, &said, "did not lead here").await;
    }
    accepted(&*ledger, &Accept::default()).await;
    for followed in [known, elsewhere] {
        let facts = ledger.facts(Some(followed)).await.unwrap();
        assert!(facts.descends && facts.identity.life.epoch > elsewhere.epoch, "{facts:?}");
    }
}

pub async fn every_cluster_of_the_last_recorded_hour_is_waited_for(bed: &dyn Lived) {
    let (ledger, known, _) = begin(bed).await;
    let lead = async |cluster| ledger.lead(cluster, "test-1", Duration::from_secs(1)).await.unwrap().held;
    assert!(lead("gone").await);
    bed.age_by(2);
    assert!(lead("alpha").await && lead("beta").await);
    bed.restart();
    let life = closed(&*ledger, known).await;
    waits(&*ledger, &of("alpha", knowing_nothing(life)), "beta").await;
    let plan = ledger.accept(&Accept::default(), false).await.unwrap();
    let problem = plan.problem.unwrap_or_default();
    assert!(problem.contains("beta") && !problem.contains("gone"), "{problem}");
    let reports = ledger.history().await.unwrap().reports;
    let heard = reports.iter().map(|report| (report.cluster.as_str(), report.reporter.is_some()));
    assert_eq!(heard.collect::<Vec<_>>(), [("alpha", true), ("beta", false)]);
    opens(&*ledger, &of("beta", knowing_nothing(life))).await;
}

pub async fn a_cluster_has_answered_once_its_leader_has_and_what_others_know_counts(bed: &dyn Lived) {
    let (ledger, known, _) = begin(bed).await;
    assert!(ledger.lead("alpha", "leader", Duration::from_secs(3600)).await.unwrap().held);
    bed.restart();
    let life = closed(&*ledger, known).await;
    let elsewhere = Life { epoch: 5, token: Uuid::from_u128(5) };
    waits(&*ledger, &knowing(life, elsewhere, 9_000, 1), "waits for the report of cluster alpha").await;
    let leader = Report { holder: "leader".into(), ..knowing_nothing(life) };
    waits(&*ledger, &leader, "did not lead here").await;
    accepted(&*ledger, &Accept::default()).await;
    let facts = ledger.facts(Some(elsewhere)).await.unwrap();
    assert!(facts.descends, "who followed another line comes along: {facts:?}");
    assert_eq!(next_id(&*ledger, facts.identity.life).await, 9_000 + GAP + 1);
}

pub async fn where_nobody_knows_anything_a_floor_is_demanded(bed: &dyn Lived) {
    let (ledger, known, one) = begin(bed).await;
    take(&*ledger, &one, 10).await.unwrap();
    bed.restore_dump();
    let life = closed(&*ledger, known).await;
    waits(&*ledger, &knowing_nothing(life), "accept-failover").await;
    let answer = ledger.accept(&Accept::default(), true).await.unwrap();
    assert!(answer.problem.as_deref().is_some_and(|why| why.contains("--at-least")), "{answer:?}");
    refused!(take(&*ledger, &request("tasks", life), 1).await, LedgerError::Closed(_));
    let accept = Accept { at_least: vec![("tasks".to_owned(), 777)], ..Accept::default() };
    assert_eq!(ledger.accept(&accept, false).await.unwrap().moves[0].to, 777 + GAP);
    accepted(&*ledger, &accept).await;
    assert_eq!(next_id(&*ledger, life).await, 777 + GAP + 1);
}

pub async fn a_sequence_and_a_generation_that_a_failover_lost_are_brought_back(bed: &dyn Lived) {
    let (ledger, known, _) = begin(bed).await;
    bed.restart();
    let life = closed(&*ledger, known).await;
    let mut report = knowing(life, known, 0, 1);
    report.sequences = vec![(facts_of("tasks", 7), 0), (facts_of("lost", 1), 4_000)];
    waits(&*ledger, &report, "sequence lost").await;
    accepted(&*ledger, &Accept::default()).await;
    let facts = ledger.facts(None).await.unwrap();
    assert_eq!(facts.catalogue.sequences["tasks"].generation, 7);
    assert!(granted(&*ledger, "lost").await >= 4_000, "it begins above what was given out");
}

pub async fn a_life_is_condemned_by_its_name_only(bed: &dyn Lived) {
    let (ledger, known, _) = begin(bed).await;
    let other = Life { epoch: 1, token: Uuid::from_u128(1) };
    assert_eq!(ledger.condemn(other, 1, "it is another server's").await.unwrap(), Condemned::Elsewhere);
    assert_eq!(life(&*ledger).await, known, "a flipping pooler can't close the good one");
    let below = "the counter lies below what is known";
    assert_eq!(ledger.condemn(known, 9, below).await.unwrap(), Condemned::Closed);
    assert_eq!(ledger.condemn(known, 9, below).await.unwrap(), Condemned::Elsewhere);
    assert_eq!(closed(&*ledger, known).await.epoch, 10);
}

pub async fn a_ledger_that_may_jump_goes_on_above_the_gap_if_every_report_is_fresh(bed: &dyn Lived) {
    let (ledger, known, one) = begin(bed).await;
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();
    take(&*ledger, &one, 10).await.unwrap();
    let read_at_us = read_at_us(&*ledger).await;
    bed.restore_dump();
    let life = closed(&*ledger, known).await;
    let an_hour_before = read_at_us - 3_600_000_000;
    waits(&*ledger, &of("beta", knowing(life, known, 5_000, an_hour_before)), "an hour old").await;
    waits(&*ledger, &of("alpha", knowing(life, known, 6_000, read_at_us)), "beta").await;
    opens(&*ledger, &of("beta", knowing(life, known, 5_000, read_at_us))).await;
    assert_eq!(next_id(&*ledger, life).await, 6_000 + GAP + 1);
}

pub async fn a_clock_that_was_set_back_makes_no_old_report_fresh(bed: &dyn Lived) {
    let (ledger, known, _) = begin(bed).await;
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();
    let read_at_us = read_at_us(&*ledger).await;
    for cluster in ["alpha", "beta"] {
        assert!(ledger.lead(cluster, "test-1", Duration::from_secs(1)).await.unwrap().held);
    }
    bed.restore_dump();
    let life = closed(&*ledger, known).await;
    // One read while the clock was two hours ahead: it is among those that the other may have missed.
    waits(&*ledger, &of("alpha", knowing(life, known, 6_000, read_at_us + 7_200_000_000)), "beta").await;
    waits(&*ledger, &of("beta", knowing(life, known, 5_000, read_at_us)), "beta is over an hour old").await;
}

/// What was lost of a change would have stopped it.
pub async fn who_knows_that_it_waits_or_that_nothing_capped_it_keeps_it_from_jumping(bed: &dyn Lived) {
    let (ledger, known, _) = begin(bed).await;
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();
    let read_at_us = read_at_us(&*ledger).await;
    bed.restore_dump();
    let life = closed(&*ledger, known).await;
    let fresh = knowing(life, known, 10, read_at_us);
    let knows_wait = Report { on_failover: Some(OnFailover::Wait), ..fresh.clone() };
    for said in [&knows_wait, &fresh] {
        waits(&*ledger, said, "cluster alpha knows a ledger that waits").await;
    }
    let uncapped = SequenceFacts { failover_gap: 0, ..facts_of("tasks", 1) };
    let knows_no_gap = Report { sequences: vec![(uncapped, 10)], ..fresh.clone() };
    for said in [knows_no_gap, fresh] {
        waits(&*ledger, &of("beta", said), "sequence tasks has no failover_gap").await;
    }
}

pub async fn a_sequence_without_a_gap_keeps_a_ledger_from_jumping(bed: &dyn Lived) {
    let (ledger, known, _) = begin(bed).await;
    ledger.create(&sequence("small", 1, 1_000)).await.unwrap();
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();
    let read_at_us = read_at_us(&*ledger).await;
    bed.restore_dump();
    let life = closed(&*ledger, known).await;
    waits(&*ledger, &knowing(life, known, 10, read_at_us), "sequence small has no failover_gap").await;
}

/// What a failover could lose with nobody to report it doesn't count yet.
pub async fn a_greater_gap_counts_once_every_cluster_has_seen_it(bed: &dyn Lived) {
    let (ledger, _, one) = begin(bed).await;
    let gap = |failover_gap| SequenceChange { failover_gap: Some(failover_gap), ..SequenceChange::default() };
    ledger.set("tasks", &gap(100)).await.unwrap();
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();
    take(&*ledger, &one, 100).await.unwrap();
    for cluster in ["east", "west"] {
        assert!(ledger.lead(cluster, "leader", Duration::from_secs(60)).await.unwrap().held);
    }
    ledger.set("tasks", &gap(200)).await.unwrap();
    let stamp = ledger.facts(None).await.unwrap().catalogue.stamp;
    let has = async |cluster, stamp| {
        let seen = [Witness { kind: Kind::Process, name: "app-1".into(), stamp, silent: false }];
        ledger.confirm(cluster, "leader", &seen).await.unwrap();
    };
    has("east", stamp).await;
    has("west", Stamp { version: stamp.version - 1, ..stamp }).await;
    refused!(take(&*ledger, &one, 1).await, LedgerError::RateCapped { .. });
    has("west", stamp).await;
    take(&*ledger, &one, 100).await.unwrap();
    refused!(take(&*ledger, &one, 1).await, LedgerError::RateCapped { .. });
}

pub async fn sequences_of_every_size_go_through_a_failover_beside_each_other(bed: &dyn Lived) {
    let ledger = bed.open();
    let ends = [("thousand", 1_000), ("int32", i64::from(i32::MAX)), ("js-safe", LAST), ("int64", i64::MAX)];
    for (name, last) in ends {
        ledger.create(&sequence(name, 1, last)).await.unwrap();
    }
    let known = life(&*ledger).await;
    take(&*ledger, &request("int64", known), i64::MAX - 5).await.unwrap();
    bed.restore_dump();
    let life = closed(&*ledger, known).await;
    let facts = ledger.facts(None).await.unwrap().catalogue;
    let known_of = |name: &str| match name {
        "thousand" => 990,
        "int64" => i64::MAX - 2,
        _ => 50_000,
    };
    let mut report = knowing(life, known, 0, 1);
    report.sequences = facts.sequences.values().map(|facts| (facts.clone(), known_of(&facts.name))).collect();
    waits(&*ledger, &report, "accept-failover").await;
    accepted(&*ledger, &Accept::default()).await;
    let next =
        async |name: &str| take(&*ledger, &request(name, life), 1).await.map(|grant| grant.span.first());
    assert_eq!(next("thousand").await.unwrap(), 991, "too small for a gap: it goes on where the report ends");
    assert_eq!(next("int32").await.unwrap(), 50_000 + i64::from(i32::MAX - 1) / 1024 + 1);
    assert_eq!(next("js-safe").await.unwrap(), 50_000 + GAP + 1);
    refused!(next("int64").await, LedgerError::Exhausted { left: 0 });
}
