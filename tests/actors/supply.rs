//! The hydrator and the pods.

use blockhouse::ledger::Purpose;
use blockhouse::role::Roles;
use tokio::time::Instant;

use crate::house::{PATIENCE, settings, until, with};

const LAST: i64 = 1_000_000_000;

#[test]
fn the_supply_is_spread_evenly_over_the_pods_by_one_grant_each() {
    with(settings(), Roles::ALL, LAST, async |house| {
        house.until_pods_hold(300).await;
        let blocks = house.running.process.supply(|supply| supply.blocks.clone());
        let held: Vec<u64> = blocks.values().map(|of_pod| of_pod["tasks"]).collect();
        assert_eq!(held, [10, 10, 10]);
        for id in [1, 101, 201] {
            let grant = house.ledger.lookup("tasks", id).await.unwrap().unwrap();
            assert_eq!((grant.span.count(), grant.purpose.as_str()), (100, Purpose::Hydrate.name()));
            assert_eq!(grant.pod.as_deref(), Some(format!("memory:{}", 1 + id / 100).as_str()));
        }
    });
}

#[test]
fn what_callers_use_is_laid_in_again_and_remembered_as_demand() {
    with(settings(), Roles::ALL, LAST, async |house| {
        house.until_pods_hold(300).await;
        house.take(0, 250).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        while house.granted().await < 550 {
            assert!(Instant::now() < deadline, "never filled up again");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let text = || house.running.process.metrics.encode(false);
        until("the supply is shown in seconds", || {
            text().contains("blockhouse_supply_seconds{sequence=\"tasks\"}")
        })
        .await;
    });
}

#[test]
fn of_two_hydrators_one_leads_and_a_drain_gives_the_lead_up() {
    with(settings(), Roles::ALL, LAST, async |house| {
        house.until_pods_hold(300).await;
        let ttl = std::time::Duration::from_secs(10);
        let lease = house.ledger.lead("default", "another", ttl).await.unwrap();
        assert!(!lease.held);
        let ledger = std::rc::Rc::clone(&house.ledger);
        house.running.drain().await;
        assert!(ledger.lead("default", "another", ttl).await.unwrap().held);
    });
}
