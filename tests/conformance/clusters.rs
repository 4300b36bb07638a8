//! What the ledger keeps for each cluster: who leads, and how much was used.

use std::time::Duration;

use super::*;

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(20);

pub async fn one_holder_leads_a_cluster(bed: &dyn Bed) {
    let (a, b) = (bed.open(), bed.open());
    let lease = a.lead("cluster-1", "a", LONG).await.unwrap();
    assert_eq!((lease.held, &*lease.leader), (true, "a"));
    let lease = b.lead("cluster-1", "b", LONG).await.unwrap();
    assert_eq!((lease.held, &*lease.leader), (false, "a"));
    assert!(a.lead("cluster-1", "a", LONG).await.unwrap().held, "renewed");
    assert!(b.lead("cluster-2", "b", LONG).await.unwrap().held, "another cluster is another lead");
    assert!(!b.lead("cluster-1", "b", LONG).await.unwrap().held);
}

pub async fn a_lead_that_is_not_renewed_passes_on(bed: &dyn Bed) {
    let (a, b) = (bed.open(), bed.open());
    assert!(a.lead("cluster-1", "a", SHORT).await.unwrap().held);
    eventually("the standby takes over", async || b.lead("cluster-1", "b", LONG).await.unwrap().held).await;
    let lease = a.lead("cluster-1", "a", LONG).await.unwrap();
    assert_eq!((lease.held, &*lease.leader), (false, "b"), "who led before doesn't know better");
}

pub async fn a_lead_that_is_given_up_passes_on_at_once(bed: &dyn Bed) {
    let (a, b) = (bed.open(), bed.open());
    a.resign("cluster-1", "a").await.unwrap();
    assert!(a.lead("cluster-1", "a", LONG).await.unwrap().held);
    b.resign("cluster-1", "b").await.unwrap();
    assert!(!b.lead("cluster-1", "b", LONG).await.unwrap().held, "only the leader can give it up");
    a.resign("cluster-1", "a").await.unwrap();
    let lease = b.lead("cluster-1", "b", LONG).await.unwrap();
    assert_eq!((lease.held, &*lease.leader), (true, "b"));
}

pub async fn a_lead_is_shown_with_its_end(bed: &dyn Bed) {
    let ledger = bed.open();
    ledger.lead("cluster-1", "a", LONG).await.unwrap();
    ledger.lead("cluster-2", "b", LONG).await.unwrap();
    ledger.resign("cluster-2", "b").await.unwrap();
    let leases = ledger.history().await.unwrap().leases;
    let shown: Vec<_> = leases.iter().map(|lease| (&*lease.cluster, &*lease.leader)).collect();
    assert_eq!(shown, [("cluster-1", "a"), ("cluster-2", "b")]);
    assert!((500..=600).contains(&leases[0].seconds_left), "{leases:?}");
    assert!(leases[1].seconds_left <= 0, "{leases:?}");
}

pub async fn demand_adds_up_by_cluster_and_sequence(bed: &dyn Bed) {
    let ledger = bed.open();
    assert!(ledger.demand("cluster-1").await.unwrap().is_empty());
    let used = |tasks: i64, comments: i64| [("tasks".into(), tasks), ("comments".into(), comments)];
    ledger.add_demand("cluster-1", &used(100, 5)).await.unwrap();
    ledger.add_demand("cluster-1", &[]).await.unwrap();
    bed.open().add_demand("cluster-1", &used(20, 0)).await.unwrap();
    ledger.add_demand("cluster-2", &used(7, 7)).await.unwrap();

    let hours = ledger.demand("cluster-1").await.unwrap();
    assert!(hours.iter().all(|hour| hour.hours_ago <= 1), "the test may cross an hour: {hours:?}");
    let sum =
        |name: &str| hours.iter().filter(|hour| &*hour.sequence == name).map(|hour| hour.ids).sum::<i64>();
    assert_eq!((sum("tasks"), sum("comments")), (120, 5));
}
