//! The history of grants.

use std::time::Duration;

use blockhouse::ledger::{GrantRequest, Purpose};

use super::*;

pub async fn an_id_leads_to_the_grant_it_came_from(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 101, 10_000).await;
    let asks = [
        GrantRequest { purpose: Purpose::Fallback, ..ask.clone() },
        GrantRequest { purpose: Purpose::Exercise, holder: "it's \"holder\" 2".into(), ..ask.clone() },
        GrantRequest {
            purpose: Purpose::Hydrate,
            cluster: "cluster-2".into(),
            pod: Some("pod:6379".into()),
            ..ask.clone()
        },
    ];
    let mut newest_us = i64::MIN;
    for ask in &asks {
        let grant = take(&*ledger, ask, 10).await.unwrap();
        for id in [grant.span.first(), grant.span.first() + 5, grant.span.last()] {
            let record = bed.open().lookup("tasks", id).await.unwrap().unwrap();
            assert_eq!((record.number, record.span), (grant.number, grant.span));
            assert_eq!((record.generation, record.epoch), (1, ask.life.epoch));
            assert_eq!(record.purpose, ask.purpose.name());
            assert_eq!((&*record.holder, &*record.cluster), (&*ask.holder, &*ask.cluster));
            assert_eq!(record.pod.as_deref(), ask.pod.as_deref());
            assert!(record.at_us >= newest_us);
            newest_us = record.at_us;
        }
    }
}

pub async fn an_id_that_was_never_granted_leads_nowhere(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 101, 10_000).await;
    assert_eq!(ledger.lookup("tasks", 101).await.unwrap(), None);
    take(&*ledger, &ask, 10).await.unwrap();
    for id in [i64::MIN, 0, 100, 111, i64::MAX] {
        assert_eq!(ledger.lookup("tasks", id).await.unwrap(), None, "{id}");
    }
}

pub async fn pruning_keeps_the_newest_record(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 10_000).await;
    ledger.create(&sequence("comments", 1, 10_000)).await.unwrap();
    let comments = request("comments", ask.life);
    take(&*ledger, &comments, 10).await.unwrap();
    for _ in 0..5 {
        take(&*ledger, &ask, 10).await.unwrap();
    }
    let mut deleted = 0;
    eventually("the four older records are old enough to go", async || {
        deleted += ledger.prune(Duration::ZERO, 1000).await.unwrap();
        deleted == 4
    })
    .await;
    assert_eq!(ledger.lookup("tasks", 40).await.unwrap(), None);
    assert_eq!(ledger.lookup("tasks", 41).await.unwrap().unwrap().number, 5);
    assert_eq!(ledger.lookup("comments", 1).await.unwrap().unwrap().number, 1);
    assert_eq!(ledger.prune(Duration::ZERO, 1000).await.unwrap(), 0);
    let next = take(&*ledger, &ask, 10).await.unwrap();
    assert_eq!((next.span.first(), next.number), (51, 6), "nothing but history went");
}

pub async fn pruning_deletes_no_more_than_it_is_told_to(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 10_000).await;
    for _ in 0..8 {
        take(&*ledger, &ask, 10).await.unwrap();
    }
    assert_eq!(ledger.prune(Duration::ZERO, 0).await.unwrap(), 0);
    let mut passes = Vec::new();
    eventually("seven records go, three at a time", async || {
        let deleted = ledger.prune(Duration::ZERO, 3).await.unwrap();
        assert!(deleted <= 3);
        passes.push(deleted);
        passes.iter().sum::<u64>() == 7
    })
    .await;
}

pub async fn pruning_leaves_what_is_young(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 10_000).await;
    for _ in 0..3 {
        take(&*ledger, &ask, 10).await.unwrap();
    }
    assert_eq!(ledger.prune(Duration::from_secs(3600), 1000).await.unwrap(), 0);
    assert_eq!(ledger.prune(Duration::from_secs(400 * 86_400), 1000).await.unwrap(), 0);
    assert!(ledger.lookup("tasks", 1).await.unwrap().is_some());
}
