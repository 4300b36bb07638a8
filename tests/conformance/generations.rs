//! New generations: forward only (S4), one at a time, and what the old one was granted is over.

use blockhouse::block::witness::Kind;
use blockhouse::block::{Stamp, Witness};
use blockhouse::ledger::{LedgerError, SequenceChange};
use futures_util::future::join_all;

use super::*;

pub async fn an_advance_moves_the_counter_and_raises_the_generation(bed: &dyn Bed) {
    let ledger = bed.open();
    let old = tasks(&*ledger, 1, 1000).await;
    take(&*ledger, &old, 10).await.unwrap();
    let version = ledger.facts(None).await.unwrap().catalogue.stamp;

    let row = ledger.advance("tasks", 499).await.unwrap();
    assert_eq!((row.granted, row.grants, row.facts.generation), (499, 1, 2));
    let facts = bed.open().facts(None).await.unwrap();
    assert_eq!(facts.catalogue.sequences["tasks"].generation, 2);
    assert!(facts.catalogue.stamp > version, "everybody hears of it");
    assert_eq!(granted(&*ledger, "tasks").await, 499);

    refused!(ledger.grant(&old).await, LedgerError::Stale(_));
    let new = GrantRequest { generation: 2, ..old };
    let grant = take(&*ledger, &new, 10).await.unwrap();
    assert_eq!((grant.span.first(), grant.number, grant.generation, grant.left), (500, 2, 2, 491));
    assert_eq!(ledger.lookup("tasks", 499).await.unwrap(), None, "what was skipped was never granted");
    assert_eq!(ledger.lookup("tasks", 500).await.unwrap().unwrap().generation, 2);
}

pub async fn what_the_counter_has_passed_stays_passed(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 1000).await;
    take(&*ledger, &ask, 100).await.unwrap();
    for (generation, above) in (2..).zip([100, 99, 1, 0, -5]) {
        let row = ledger.advance("tasks", above).await.unwrap();
        assert_eq!((row.granted, row.facts.generation), (100, generation));
    }
    let ask = GrantRequest { generation: 6, ..ask };
    assert_eq!(take(&*ledger, &ask, 1).await.unwrap().span.first(), 101);
}

pub async fn every_advance_of_many_at_once_has_its_own_generation(bed: &dyn Bed) {
    let ledger = bed.open();
    tasks(&*ledger, 1, 1000).await;
    let handles: Vec<_> = (0..8).map(|_| bed.open()).collect();
    let advances = (1..).zip(&handles).map(|(above, handle)| handle.advance("tasks", above * 100));
    let mut generations: Vec<i64> =
        join_all(advances).await.into_iter().map(|row| row.unwrap().facts.generation).collect();
    generations.sort_unstable();
    assert_eq!(generations, (2..=9).collect::<Vec<_>>());
    assert_eq!(granted(&*ledger, "tasks").await, 800);
}

pub async fn an_advance_beyond_the_end_changes_nothing(bed: &dyn Bed) {
    let ledger = bed.open();
    tasks(&*ledger, 1, 1000).await;
    let before = ledger.facts(None).await.unwrap();
    for above in [1001, i64::MAX] {
        refused!(ledger.advance("tasks", above).await, LedgerError::Invalid(why) if why.contains("ends at 1000"));
    }
    let after = ledger.facts(None).await.unwrap();
    assert_eq!((after.catalogue, after.granted), (before.catalogue, before.granted));
}

pub async fn an_advance_to_the_end_leaves_nothing(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, i64::MAX - 10, i64::MAX).await;
    let row = ledger.advance("tasks", i64::MAX).await.unwrap();
    assert_eq!(row.granted, i64::MAX);
    let ask = GrantRequest { generation: 2, ..ask };
    refused!(ledger.grant(&ask).await, LedgerError::Exhausted { left: 0 });
}

pub async fn only_what_is_there_and_active_moves(bed: &dyn Bed) {
    let ledger = bed.open();
    tasks(&*ledger, 1, 1000).await;
    refused!(ledger.advance("comments", 10).await, LedgerError::Unknown(name) if name == "comments");
    ledger.halt("tasks", "a drill").await.unwrap();
    let row = ledger.advance("tasks", 10).await.unwrap();
    assert_eq!(row.facts.halted.as_deref(), Some("a drill"), "a move resolves no halt");
    ledger.retire("tasks").await.unwrap();
    refused!(ledger.advance("tasks", 20).await, LedgerError::Retired);
    assert_eq!(granted(&*ledger, "tasks").await, 10);
}

pub async fn grants_and_advances_at_once_share_no_id_and_mix_no_generation(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 1_000_000).await;
    let granting = async {
        let (handle, mut generation, mut spans) = (bed.open(), 1, Vec::new());
        while spans.len() < 60 {
            match take(&*handle, &GrantRequest { generation, ..ask.clone() }, 7).await {
                Ok(grant) => spans.push((grant.generation, grant.span)),
                Err(LedgerError::Stale(_)) => {
                    generation = handle.facts(None).await.unwrap().catalogue.sequences["tasks"].generation;
                }
                Err(other) => panic!("{other}"),
            }
        }
        spans
    };
    let advancing = async {
        let (handle, mut starts) = (bed.open(), Vec::new());
        for _ in 0..10 {
            let above = granted(&*handle, "tasks").await + 1000;
            let row = handle.advance("tasks", above).await.unwrap();
            starts.push((row.facts.generation, row.granted));
        }
        starts
    };
    let (spans, starts) = futures_util::future::join(granting, advancing).await;
    assert!(spans.windows(2).all(|two| two[0].1.last() < two[1].1.first()), "{spans:?}");
    for (generation, start) in starts {
        let below = spans.iter().find(|(of, span)| *of >= generation && span.first() <= start);
        assert_eq!(below, None, "generation {generation} begins above {start}");
        let above = spans.iter().find(|(of, span)| *of < generation && span.last() > start);
        assert_eq!(above, None, "what was granted before generation {generation} lies below its start");
    }
}

pub async fn a_lowered_maximum_raises_the_generation(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 1000).await;
    take(&*ledger, &ask, 100).await.unwrap();
    let to = |last| SequenceChange { last: Some(last), ..SequenceChange::default() };
    for (last, generation) in [(500, 2), (500, 2), (900, 2), (100, 3)] {
        let facts = ledger.set("tasks", &to(last)).await.unwrap().facts;
        assert_eq!((facts.last, facts.generation), (last, generation));
    }
    refused!(ledger.grant(&ask).await, LedgerError::Stale(_));
    let ask = GrantRequest { generation: 3, ..ask };
    refused!(ledger.grant(&ask).await, LedgerError::Exhausted { left: 0 });
}

fn witness(name: &str, version: i64) -> Witness {
    Witness {
        kind: Kind::Process,
        name: name.into(),
        stamp: Stamp { epoch: 1, version },
        silent: version == 1,
    }
}

pub async fn the_leader_says_who_has_which_catalogue(bed: &dyn Bed) {
    let ledger = bed.open();
    assert_eq!(ledger.seen().await.unwrap(), [], "nobody is there yet");
    let minute = Duration::from_secs(60);
    for cluster in ["east", "west"] {
        assert!(ledger.lead(cluster, "leader", minute).await.unwrap().held);
    }
    let seen = |clusters: Vec<blockhouse::ledger::ClusterSeen>| {
        clusters.into_iter().map(|one| (one.cluster, one.led, one.seen)).collect::<Vec<_>>()
    };
    let nothing = [("east".to_owned(), true, vec![]), ("west".to_owned(), true, vec![])];
    assert_eq!(seen(ledger.seen().await.unwrap()), nothing);

    ledger.confirm("east", "leader", &[witness("a", 1), witness("b's", i64::MAX)]).await.unwrap();
    ledger.confirm("west", "other", &[witness("c", 1)]).await.unwrap();
    ledger.confirm("north", "leader", &[witness("d", 1)]).await.unwrap();
    let [(_, _, east), (_, _, west)] = &seen(bed.open().seen().await.unwrap())[..] else {
        panic!("two clusters")
    };
    assert_eq!(*east, [witness("a", 1), witness("b's", i64::MAX)]);
    assert_eq!(*west, [], "only its leader speaks for a cluster");

    ledger.confirm("east", "leader", &[witness("a", 2)]).await.unwrap();
    assert_eq!(seen(ledger.seen().await.unwrap())[0].2, [witness("a", 2)]);
    ledger.resign("east", "leader").await.unwrap();
    let left: Vec<_> = ledger.seen().await.unwrap().into_iter().map(|one| one.cluster).collect();
    assert_eq!(left, ["west"], "a cluster without lead and grants is not spoken of");
}

pub async fn a_cluster_that_nobody_leads_is_named_by_its_holders(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 1000).await;
    for (cluster, holder) in [("east", "b"), ("east", "a"), ("west", "c"), ("east", "b")] {
        let ask = GrantRequest { cluster: cluster.into(), holder: holder.into(), ..ask.clone() };
        take(&*ledger, &ask, 1).await.unwrap();
    }
    ledger.lead("west", "leader", Duration::from_secs(60)).await.unwrap();
    let found = ledger.seen().await.unwrap();
    let found: Vec<_> = found.iter().map(|one| (&*one.cluster, one.led, one.holders.join(" "))).collect();
    assert_eq!(found, [("east", false, "a b".to_owned()), ("west", true, "c".to_owned())]);
}
