//! The size of a grant, and what lies between two of them: nothing.

use blockhouse::block::Span;
use blockhouse::ledger::{GrantRequest, LedgerError, SequenceChange};
use futures_util::future::join_all;

use super::*;

pub async fn grants_follow_one_another_without_a_gap(bed: &dyn Bed) {
    let (one, other) = (bed.open(), bed.open());
    let ask = tasks(&*one, 1001, 2000).await;
    let mut next = 1001;
    for (number, count) in (1..).zip([1, 7, 500, 1, 491]) {
        let ledger = if number % 2 == 0 { &one } else { &other };
        let grant = take(&**ledger, &ask, count).await.unwrap();
        assert_eq!(Some(grant.span), Span::new(next, count));
        assert_eq!((grant.number, grant.generation, grant.life), (number, 1, ask.life));
        next += count;
        assert_eq!(grant.left, 2001 - next);
        assert_eq!(granted(&*one, "tasks").await, next - 1);
    }
    let row = one.history().await.unwrap().sequences.remove(0);
    assert_eq!((row.granted, row.grants), (2000, 5));
}

pub async fn a_grant_is_no_more_than_a_64th_of_what_is_left_but_what_is_needed(bed: &dyn Bed) {
    let ledger = bed.open();
    let life = life(&*ledger).await;
    // IDs left, least, need, want → IDs granted.
    for (case, (left, least, need, want, count)) in [
        (6400, 1, 1, 1, 1),
        (6400, 1, 1, 100, 100),
        (6400, 1, 1, 101, 100),
        (6400, 1, 1, i64::MAX, 100),
        (6463, 1, 1, 101, 100),
        (6464, 1, 1, 101, 101),
        (6400, 1, 99, 5000, 100),
        (6400, 1, 101, 5000, 101),
        (6400, 1, 6400, 6400, 6400),
        (6400, 1, 6401, 6401, 6400),
        (6400, 6400, 9000, i64::MAX, 6400),
        (63, 1, 1, 1000, 1),
        (64, 1, 1, 1000, 1),
        (1, 1, 1000, 1000, 1),
        (i64::MAX, 1, 1, i64::MAX, i64::MAX / 64),
        (i64::MAX, 1, i64::MAX, i64::MAX, i64::MAX),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("case-{case}");
        ledger.create(&sequence(&name, 1, left)).await.unwrap();
        let ask = GrantRequest { least, need, want, ..request(&name, life) };
        let grant = ledger.grant(&ask).await.unwrap();
        assert_eq!((grant.span.first(), grant.span.count()), (1, count), "{ask:?} of {left}");
        assert_eq!(grant.left, left - count);
    }
}

pub async fn the_last_id_of_all_can_be_granted(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, i64::MAX - 9, i64::MAX).await;
    take(&*ledger, &ask, 9).await.unwrap();
    let grant = take(&*ledger, &ask, 1).await.unwrap();
    assert_eq!((grant.span.first(), grant.span.last(), grant.left), (i64::MAX, i64::MAX, 0));
    refused!(take(&*ledger, &ask, 1).await, LedgerError::Exhausted { left: 0 });
    assert_eq!(granted(&*ledger, "tasks").await, i64::MAX);
    assert_eq!(ledger.lookup("tasks", i64::MAX).await.unwrap().unwrap().number, 2);
}

pub async fn one_grant_can_take_a_whole_sequence(bed: &dyn Bed) {
    let ledger = bed.open();
    let life = life(&*ledger).await;
    for (name, first, last) in [("one", 1, 1), ("greatest", i64::MAX, i64::MAX), ("all", 1, i64::MAX)] {
        ledger.create(&sequence(name, first, last)).await.unwrap();
        let ask = GrantRequest { need: i64::MAX, want: i64::MAX, ..request(name, life) };
        let grant = ledger.grant(&ask).await.unwrap();
        assert_eq!((grant.span.first(), grant.span.last(), grant.left), (first, last, 0));
        refused!(ledger.grant(&ask).await, LedgerError::Exhausted { left: 0 });
    }
}

pub async fn an_exhausted_sequence_says_how_many_are_left_and_keeps_them(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 15).await;
    take(&*ledger, &ask, 10).await.unwrap();
    for _ in 0..2 {
        refused!(take(&*ledger, &ask, 6).await, LedgerError::Exhausted { left: 5 });
    }
    assert_eq!(take(&*ledger, &ask, 5).await.unwrap().span, Span::new(11, 5).unwrap());
}

pub async fn a_raised_maximum_gives_ids_again(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 10).await;
    take(&*ledger, &ask, 10).await.unwrap();
    refused!(take(&*ledger, &ask, 1).await, LedgerError::Exhausted { left: 0 });
    let change = SequenceChange { last: Some(20), ..SequenceChange::default() };
    ledger.set("tasks", &change).await.unwrap();
    assert_eq!(take(&*ledger, &ask, 10).await.unwrap().span, Span::new(11, 10).unwrap());
}

pub async fn sequences_do_not_touch_one_another(bed: &dyn Bed) {
    let ledger = bed.open();
    let tasks = tasks(&*ledger, 1, 1000).await;
    ledger.create(&sequence("comments", 1, 1000)).await.unwrap();
    let comments = request("comments", tasks.life);
    take(&*ledger, &tasks, 100).await.unwrap();
    let grant = take(&*ledger, &comments, 3).await.unwrap();
    assert_eq!((grant.span.first(), grant.number), (1, 1));
    ledger.halt("tasks", "an operator").await.unwrap();
    assert_eq!(take(&*ledger, &comments, 3).await.unwrap().span.first(), 4);
}

/// Asks again where it is certain that nothing was granted: a busy machine may keep one of many waiting too long for a lock.
async fn take_at_last(ledger: &dyn Admin, ask: &GrantRequest, count: i64) -> Grant {
    for _ in 0..50 {
        match take(ledger, ask, count).await {
            Ok(grant) => return grant,
            Err(LedgerError::Unreachable(_) | LedgerError::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("refused fifty times");
}

pub async fn grants_of_many_at_once_are_distinct_and_contiguous(bed: &dyn Bed) {
    const PROCESSES: i64 = 8;
    const GRANTS: i64 = 25;
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, i64::MAX).await;
    let one_process = async |process: i64| {
        let ledger = bed.open();
        let ask = GrantRequest { holder: format!("holder-{process}").into(), ..ask.clone() };
        let mut grants = Vec::new();
        for turn in 1..=GRANTS {
            grants.push(take_at_last(&*ledger, &ask, process + turn % 3).await);
        }
        grants
    };
    let mut grants: Vec<_> = join_all((1..=PROCESSES).map(one_process)).await.into_iter().flatten().collect();
    grants.sort_by_key(|grant| grant.span);

    assert!(
        grants.windows(2).all(|pair| pair[0].span.join(pair[1].span).is_some()),
        "distinct and contiguous"
    );
    let numbers: Vec<i64> = grants.iter().map(|grant| grant.number).collect();
    assert_eq!(numbers, (1..=PROCESSES * GRANTS).collect::<Vec<_>>());
    for grant in &grants {
        let record = ledger.lookup("tasks", grant.span.last()).await.unwrap().unwrap();
        assert_eq!((record.number, record.span), (grant.number, grant.span), "as recorded");
    }
    assert_eq!(granted(&*ledger, "tasks").await, grants[grants.len() - 1].span.last());
}
