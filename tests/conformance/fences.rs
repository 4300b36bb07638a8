//! When a ledger grants nothing (S3, S5, halts), and that it then commits nothing.

use std::time::Duration;

use blockhouse::block::{Life, OnFailover};
use blockhouse::ledger::{Admin, Expected, GrantRequest, LedgerError, SequenceChange};
use uuid::Uuid;

use super::*;

pub async fn a_halted_sequence_grants_nothing_until_it_is_resumed(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 1000).await;
    bed.open().halt("tasks", "an overlap").await.unwrap();
    refused!(take(&*ledger, &ask, 1).await, LedgerError::Halted(why) if why == "an overlap");
    bed.open().resume("tasks").await.unwrap();
    assert_eq!(take(&*ledger, &ask, 1).await.unwrap().span.first(), 1);
}

pub async fn a_retired_sequence_grants_nothing(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 1000).await;
    bed.open().retire("tasks").await.unwrap();
    refused!(take(&*ledger, &ask, 1).await, LedgerError::Retired);
    ledger.halt("tasks", "an overlap").await.unwrap();
    refused!(take(&*ledger, &ask, 1).await, LedgerError::Retired);
    ledger.resume("tasks").await.unwrap();
    refused!(take(&*ledger, &ask, 1).await, LedgerError::Retired);
}

pub async fn another_life_is_stale(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 1000).await;
    let Life { epoch, token } = ask.life;
    for life in [
        Life { epoch: epoch + 1, token },
        Life { epoch: epoch - 1, token },
        Life { epoch, token: Uuid::from_u128(1) },
    ] {
        let ask = GrantRequest { life, ..ask.clone() };
        refused!(ledger.grant(&ask).await, LedgerError::Stale(_));
    }
    assert_eq!(granted(&*ledger, "tasks").await, 0);
}

pub async fn another_generation_is_stale(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 1000).await;
    for generation in [0, 2, i64::MAX] {
        let ask = GrantRequest { generation, ..ask.clone() };
        refused!(ledger.grant(&ask).await, LedgerError::Stale(_));
    }
    assert_eq!(granted(&*ledger, "tasks").await, 0);
}

pub async fn a_counter_below_what_is_known_commits_nothing(bed: &dyn Bed) {
    let ledger = bed.open();
    let mut ask = tasks(&*ledger, 1, 1000).await;
    for known in [1, 500, i64::MAX] {
        ask.known_high_water = known;
        refused!(
            ledger.grant(&ask).await,
            LedgerError::WentBack { granted: 0, known: told } if told == known
        );
    }
    for known in [0, 10] {
        ask.known_high_water = known;
        assert_eq!(
            take(&*ledger, &ask, 10).await.unwrap().span.first(),
            known + 1,
            "all that is known is there"
        );
    }
    ask.known_high_water = 21;
    refused!(ledger.grant(&ask).await, LedgerError::WentBack { granted: 20, known: 21 });
}

pub async fn a_refused_grant_leaves_no_trace(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 10).await;
    take(&*ledger, &ask, 3).await.unwrap();
    let before = ledger.history().await.unwrap().sequences;
    for refusal in [
        GrantRequest { least: 8, need: 8, want: 8, ..ask.clone() },
        GrantRequest { generation: 2, ..ask.clone() },
        GrantRequest { known_high_water: 4, ..ask.clone() },
        GrantRequest { life: Life { epoch: 9, ..ask.life }, ..ask.clone() },
    ] {
        ledger.grant(&refusal).await.unwrap_err();
    }
    assert_eq!(ledger.history().await.unwrap().sequences, before);
    let next = take(&*ledger, &ask, 1).await.unwrap();
    assert_eq!((next.span.first(), next.number), (4, 2));
}

pub async fn another_environment_is_refused_by_every_call(bed: &dyn Bed) {
    let right = bed.open();
    let ask = tasks(&*right, 1, 1000).await;
    let wrong = bed.handle(Expected { environment: "beta".into(), id: None });
    refused!(wrong.facts(None).await, LedgerError::Wrong(why) if why.contains("beta") && why.contains(ENVIRONMENT));
    refuses_everything(&*wrong, &ask).await;
    assert_eq!(granted(&*right, "tasks").await, 0);
}

pub async fn another_ledger_than_the_pinned_one_is_refused_by_every_call(bed: &dyn Bed) {
    let right = bed.open();
    let ask = tasks(&*right, 1, 1000).await;
    let id = right.facts(None).await.unwrap().identity.ledger;
    let pinned = |id: Uuid| bed.handle(Expected { environment: ENVIRONMENT.into(), id: Some(id) });

    let other = Uuid::from_u128(id.as_u128() ^ 1);
    let wrong = pinned(other);
    let (id_text, other_text) = (id.to_string(), other.to_string());
    refused!(wrong.facts(None).await, LedgerError::Wrong(why) if why.contains(&id_text) && why.contains(&other_text));
    refuses_everything(&*wrong, &ask).await;

    assert_eq!(take(&*pinned(id), &ask, 1).await.unwrap().span.first(), 1);
}

async fn refuses_everything(wrong: &dyn Admin, ask: &GrantRequest) {
    refused!(wrong.grant(ask).await, LedgerError::Wrong(_));
    refused!(wrong.lead("cluster-1", "holder-1", Duration::from_secs(9)).await, LedgerError::Wrong(_));
    refused!(wrong.resign("cluster-1", "holder-1").await, LedgerError::Wrong(_));
    refused!(wrong.add_demand("cluster-1", &[("tasks".into(), 1)]).await, LedgerError::Wrong(_));
    refused!(wrong.demand("cluster-1").await, LedgerError::Wrong(_));
    refused!(wrong.halt("tasks", "why").await, LedgerError::Wrong(_));
    refused!(wrong.prune(Duration::ZERO, 10).await, LedgerError::Wrong(_));
    refused!(wrong.migrate().await, LedgerError::Wrong(_));
    refused!(wrong.create(&sequence("comments", 1, 9)).await, LedgerError::Wrong(_));
    refused!(wrong.set("tasks", &SequenceChange::default()).await, LedgerError::Wrong(_));
    refused!(wrong.set_on_failover(OnFailover::Jump).await, LedgerError::Wrong(_));
    refused!(wrong.resume("tasks").await, LedgerError::Wrong(_));
    refused!(wrong.retire("tasks").await, LedgerError::Wrong(_));
    refused!(wrong.lookup("tasks", 1).await, LedgerError::Wrong(_));
    refused!(wrong.history().await, LedgerError::Wrong(_));
}

pub async fn only_its_own_lives_led_to_a_ledger(bed: &dyn Bed) {
    let ledger = bed.open();
    let own = life(&*ledger).await;
    let descends = async |life| ledger.facts(Some(life)).await.unwrap().descends;
    assert!(descends(own).await);
    assert!(!descends(Life { epoch: own.epoch + 1, ..own }).await);
    assert!(!descends(Life { token: Uuid::from_u128(1), ..own }).await);
}
