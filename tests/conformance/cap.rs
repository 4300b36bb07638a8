//! The hourly cap: where a ledger jumps after a failover, no hour sees more than a sequence's gap.

use std::time::Duration;

use blockhouse::block::OnFailover;
use blockhouse::ledger::{GrantRequest, LedgerError, Purpose, SequenceChange};
use futures_util::future::join_all;

use super::*;

/// Thirteen slots of five minutes, the present one included.
const AN_HOUR_AT_MOST: Duration = Duration::from_secs(13 * 300);

/// A ledger that jumps, and a request for one ID of its sequence `tasks`, whose gap this is.
async fn capped(bed: &dyn Bed, gap: i64) -> (Rc<dyn Admin>, GrantRequest) {
    let ledger = bed.open();
    ledger.create(&NewSequence { failover_gap: Some(gap), ..sequence("tasks", 1, i64::MAX) }).await.unwrap();
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();
    let ask = request("tasks", life(&*ledger).await);
    (ledger, ask)
}

fn gap(gap: i64) -> SequenceChange {
    SequenceChange { failover_gap: Some(gap), ..SequenceChange::default() }
}

pub async fn a_ledger_waits_until_it_is_told_to_jump(bed: &dyn Bed) {
    let ledger = bed.open();
    let known = async || {
        let (facts, history) = (bed.open().facts(None).await.unwrap(), ledger.history().await.unwrap());
        assert_eq!(facts.catalogue.on_failover, history.on_failover);
        (facts.catalogue.stamp.version, history.on_failover)
    };
    let (first, waits) = known().await;
    assert_eq!(waits, OnFailover::Wait);
    ledger.set_on_failover(OnFailover::Wait).await.unwrap();
    assert_eq!(known().await, (first, OnFailover::Wait), "nothing has changed");
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();
    let (then, jumps) = known().await;
    assert_eq!(jumps, OnFailover::Jump);
    assert!(then > first, "every process is to hear of it");
    ledger.set_on_failover(OnFailover::Wait).await.unwrap();
    assert_eq!(known().await.1, OnFailover::Wait);
}

pub async fn a_ledger_that_waits_caps_nothing(bed: &dyn Bed) {
    let ledger = bed.open();
    ledger.create(&NewSequence { failover_gap: Some(10), ..sequence("tasks", 1, i64::MAX) }).await.unwrap();
    let ask = request("tasks", life(&*ledger).await);
    assert_eq!(take(&*ledger, &ask, 1_000_000).await.unwrap().span.count(), 1_000_000);
    ledger.create(&NewSequence { failover_gap: Some(0), ..sequence("small", 1, 1_000) }).await.unwrap();
    ledger.set("tasks", &gap(2_000_000)).await.unwrap();
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();
    let small = request("small", ask.life);
    assert_eq!(
        take(&*ledger, &small, 1_000).await.unwrap().span.count(),
        1_000,
        "without a gap there is no cap"
    );
}

pub async fn at_the_cap_a_grant_is_smaller_and_then_refused(bed: &dyn Bed) {
    let (ledger, ask) = capped(bed, 1_000).await;
    take(&*ledger, &ask, 900).await.unwrap();
    let eager = GrantRequest { need: 500, want: 5_000, ..ask.clone() };
    refused!(
        ledger.grant(&GrantRequest { least: 101, ..eager.clone() }).await,
        LedgerError::RateCapped { allowed: 100, wait } if wait <= AN_HOUR_AT_MOST && wait > AN_HOUR_AT_MOST - 2 * (AN_HOUR_AT_MOST / 13)
    );
    let grant = ledger.grant(&GrantRequest { least: 100, ..eager.clone() }).await.unwrap();
    assert_eq!((grant.span.first(), grant.span.count()), (901, 100));
    refused!(bed.open().grant(&eager).await, LedgerError::RateCapped { allowed: 0, .. });
    assert_eq!(granted(&*ledger, "tasks").await, 1_000, "a refusal leaves no trace");
}

pub async fn a_sequence_that_is_used_up_says_so_before_its_cap(bed: &dyn Bed) {
    let ledger = bed.open();
    ledger.create(&NewSequence { failover_gap: Some(100), ..sequence("tasks", 1, 100) }).await.unwrap();
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();
    let ask = request("tasks", life(&*ledger).await);
    take(&*ledger, &ask, 100).await.unwrap();
    refused!(take(&*ledger, &ask, 1).await, LedgerError::Exhausted { left: 0 });
}

pub async fn hydrating_leaves_a_quarter_of_the_hour(bed: &dyn Bed) {
    let (ledger, ask) = capped(bed, 1_000).await;
    let hydrate = GrantRequest { purpose: Purpose::Hydrate, need: 500, want: 500, ..ask.clone() };
    let taken = [ledger.grant(&hydrate).await.unwrap(), ledger.grant(&hydrate).await.unwrap()];
    assert_eq!(taken.map(|grant| grant.span.count()), [500, 250]);
    refused!(ledger.grant(&hydrate).await, LedgerError::RateCapped { allowed: 0, .. });
    assert_eq!(take(&*ledger, &ask, 250).await.unwrap().span.first(), 751, "the rest is for those who wait");
    refused!(take(&*ledger, &ask, 1).await, LedgerError::RateCapped { allowed: 0, .. });
}

pub async fn a_raised_gap_gives_ids_again(bed: &dyn Bed) {
    let (ledger, ask) = capped(bed, 100).await;
    take(&*ledger, &ask, 100).await.unwrap();
    refused!(take(&*ledger, &ask, 1).await, LedgerError::RateCapped { .. });
    bed.open().set("tasks", &gap(300)).await.unwrap();
    assert_eq!(take(&*ledger, &ask, 200).await.unwrap().span.first(), 101);
    refused!(take(&*ledger, &ask, 1).await, LedgerError::RateCapped { allowed: 0, .. });
}

pub async fn the_greatest_gap_of_all_is_no_obstacle(bed: &dyn Bed) {
    let (ledger, ask) = capped(bed, i64::MAX).await;
    let hydrate = GrantRequest { purpose: Purpose::Hydrate, need: i64::MAX, want: i64::MAX, ..ask.clone() };
    let three_quarters = i64::MAX / 2 + i64::MAX / 4;
    assert_eq!(ledger.grant(&hydrate).await.unwrap().span.count(), three_quarters);
    assert_eq!(take(&*ledger, &ask, i64::MAX - three_quarters).await.unwrap().left, 0);
}

/// A report of the last hour and the gap must cover everything granted, from the first moment on.
pub async fn a_cap_that_is_broken_already_is_refused(bed: &dyn Bed) {
    let ledger = bed.open();
    for (name, gap) in [("tasks", 100), ("comments", 1_000)] {
        ledger.create(&NewSequence { failover_gap: Some(gap), ..sequence(name, 1, i64::MAX) }).await.unwrap();
        take(&*ledger, &request(name, life(&*ledger).await), 101).await.unwrap();
    }
    refused!(
        ledger.set_on_failover(OnFailover::Jump).await,
        LedgerError::Invalid(why) if why.contains("'tasks' 101 IDs") && why.contains("--failover-gap") && !why.contains("comments")
    );
    assert_eq!(ledger.history().await.unwrap().on_failover, OnFailover::Wait);
    ledger.set("tasks", &gap(101)).await.unwrap();
    ledger.set_on_failover(OnFailover::Jump).await.unwrap();

    refused!(
        ledger.set("comments", &SequenceChange { block_size: Some(7), ..gap(100) }).await,
        LedgerError::Invalid(why) if why.contains("'comments' 101 IDs")
    );
    let comments = |facts: blockhouse::ledger::Facts| facts.catalogue.sequences["comments"].clone();
    let facts = comments(ledger.facts(None).await.unwrap());
    assert_eq!((facts.failover_gap, facts.block_size), (1_000, 1_000), "nothing was changed");
    ledger.set("comments", &gap(0)).await.unwrap();
    ledger.set("comments", &gap(101)).await.unwrap();
    ledger.set_on_failover(OnFailover::Wait).await.unwrap();
    ledger.set("comments", &gap(1)).await.unwrap();
}

pub async fn many_at_once_are_granted_no_more_than_the_gap(bed: &dyn Bed) {
    const GAP: i64 = 1_000;
    let (_, ask) = capped(bed, GAP).await;
    let one_process = async |process: i64| {
        let ledger = bed.open();
        let mut sum = 0;
        loop {
            let ask = GrantRequest { need: 5 + process, want: 40, ..ask.clone() };
            match ledger.grant(&ask).await {
                Ok(grant) => sum += grant.span.count(),
                Err(LedgerError::RateCapped { allowed: 0, .. }) => return sum,
                Err(LedgerError::Unreachable(_) | LedgerError::Conflict(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let sums = join_all((1..=8).map(one_process)).await;
    assert_eq!(sums.iter().sum::<i64>(), GAP, "all of it, and not one more: {sums:?}");
}
