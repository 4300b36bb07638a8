//! Sequences: what an operator's commands do to them, and what processes then know.

use std::time::Duration;

use blockhouse::ledger::{LedgerError, NewSequence, SequenceChange, State};

use super::*;

pub async fn a_fresh_ledger_is_open_and_empty(bed: &dyn Bed) {
    let ledger = bed.open();
    let facts = ledger.facts(None).await.unwrap();
    assert_eq!(facts.state, State::Open);
    assert_eq!(facts.identity.environment, ENVIRONMENT);
    assert_eq!(facts.identity.life.epoch, 1);
    assert_eq!(facts.catalogue.stamp.epoch, 1);
    assert!(facts.descends && facts.catalogue.sequences.is_empty() && facts.granted.is_empty());

    let history = ledger.history().await.unwrap();
    assert_eq!((history.identity, history.state), (facts.identity.clone(), State::Open));
    let lives: Vec<_> = history.lives.iter().map(|record| record.life).collect();
    assert_eq!(lives, [facts.identity.life]);
    assert!(history.schema.1 <= history.schema.0);
    assert!(history.leases.is_empty() && history.sequences.is_empty());
}

pub async fn a_created_sequence_reads_back_as_it_was_asked_for(bed: &dyn Bed) {
    let ledger = bed.open();
    let new = NewSequence {
        block_size: 250,
        buffer: Some(Duration::from_secs(7200)),
        failover_gap: Some(77),
        ..sequence("tasks.v-2_x", 1001, i64::MAX)
    };
    let created = ledger.create(&new).await.unwrap();
    assert!(created.new);
    assert_eq!((created.row.granted, created.row.grants), (1000, 0));
    let facts = created.row.facts.clone();
    assert_eq!((&*facts.name, facts.generation), ("tasks.v-2_x", 1));
    assert_eq!((facts.first, facts.last), (1001, i64::MAX));
    assert_eq!((facts.block_size, facts.buffer_seconds, facts.failover_gap), (250, Some(7200), 77));
    assert_eq!((facts.halted.clone(), facts.retired), (None, false));

    let known = bed.open().facts(None).await.unwrap();
    assert_eq!(known.catalogue.sequences.get("tasks.v-2_x"), Some(&facts));
    assert_eq!(known.granted, [("tasks.v-2_x".into(), 1000)]);
    assert_eq!(ledger.history().await.unwrap().sequences, [created.row]);
}

pub async fn a_gap_that_nobody_chose_follows_from_the_space(bed: &dyn Bed) {
    let ledger = bed.open();
    for (name, last) in [("a", 1_000_000), ("b", 1 << 30), ("c", i64::MAX)] {
        let row = ledger.create(&sequence(name, 1, last)).await.unwrap().row;
        assert_eq!(row.facts.failover_gap, NewSequence::default_gap(1, last), "{name}");
        assert_eq!(row.facts.buffer_seconds, None);
    }
}

pub async fn a_name_is_taken_once(bed: &dyn Bed) {
    let ledger = bed.open();
    let first = ledger.create(&sequence("tasks", 1, 100)).await.unwrap();
    let again = sequence("tasks", 500, 900);
    refused!(ledger.create(&again).await, LedgerError::Invalid(why) if why.contains("tasks"));
    let existing = ledger.create(&NewSequence { if_not_exists: true, ..again }).await.unwrap();
    assert!(!existing.new);
    assert_eq!(existing.row, first.row);
}

pub async fn what_cannot_be_a_sequence_is_refused(bed: &dyn Bed) {
    let ledger = bed.open();
    let long = "x".repeat(64);
    for name in ["", "Tasks", "1st", "_tasks", "ta sks", "tasks\n", "täsks", "ta'sks", &long] {
        refused!(ledger.create(&sequence(name, 1, 100)).await, LedgerError::Invalid(_));
    }
    for (first, last) in [(0, 100), (-5, 100), (101, 100)] {
        refused!(ledger.create(&sequence("tasks", first, last)).await, LedgerError::Invalid(_));
    }
    let block = NewSequence { block_size: 0, ..sequence("tasks", 1, 100) };
    refused!(ledger.create(&block).await, LedgerError::Invalid(_));
    let gap = NewSequence { failover_gap: Some(-1), ..sequence("tasks", 1, 100) };
    refused!(ledger.create(&gap).await, LedgerError::Invalid(_));
    assert!(ledger.facts(None).await.unwrap().catalogue.sequences.is_empty());

    assert!(ledger.create(&sequence(&long[1..], 1, 1)).await.unwrap().new, "63 bytes and one ID are enough");
}

pub async fn a_change_touches_only_what_it_names(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 1000).await;
    take(&*ledger, &ask, 10).await.unwrap();
    let mut row = ledger.history().await.unwrap().sequences.remove(0);

    let change = SequenceChange { last: Some(2000), ..SequenceChange::default() };
    row.facts.last = 2000;
    assert_eq!(ledger.set("tasks", &change).await.unwrap(), row);

    let change = SequenceChange { block_size: Some(50), failover_gap: Some(5), ..SequenceChange::default() };
    (row.facts.block_size, row.facts.failover_gap) = (50, 5);
    assert_eq!(ledger.set("tasks", &change).await.unwrap(), row);

    let hour = Some(Duration::from_secs(3600));
    for buffer in [hour, None] {
        let change = SequenceChange { buffer: Some(buffer), ..SequenceChange::default() };
        row.facts.buffer_seconds = buffer.map(|buffer| buffer.as_secs() as i64);
        assert_eq!(ledger.set("tasks", &change).await.unwrap(), row);
    }
    assert_eq!(ledger.history().await.unwrap().sequences, [row]);
}

pub async fn a_maximum_is_never_lowered_below_what_was_granted(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 5, 1000).await;
    for last in [4, 1, 0, -1] {
        let change = SequenceChange { last: Some(last), ..SequenceChange::default() };
        refused!(ledger.set("tasks", &change).await, LedgerError::Invalid(_));
    }
    take(&*ledger, &ask, 100).await.unwrap();
    for last in [103, 5, 0] {
        let change = SequenceChange { last: Some(last), block_size: Some(7), ..SequenceChange::default() };
        refused!(ledger.set("tasks", &change).await, LedgerError::Invalid(why) if why.contains("104"));
    }
    let facts = ledger.facts(None).await.unwrap().catalogue.sequences["tasks"].clone();
    assert_eq!((facts.last, facts.generation, facts.block_size), (1000, 1, 1000));
}

pub async fn a_change_that_cannot_be_changes_nothing(bed: &dyn Bed) {
    let ledger = bed.open();
    tasks(&*ledger, 1, 1000).await;
    let before = ledger.facts(None).await.unwrap().catalogue;
    for change in [
        SequenceChange { block_size: Some(0), failover_gap: Some(3), ..SequenceChange::default() },
        SequenceChange { failover_gap: Some(-1), block_size: Some(7), ..SequenceChange::default() },
        SequenceChange { last: Some(0), block_size: Some(7), ..SequenceChange::default() },
    ] {
        refused!(ledger.set("tasks", &change).await, LedgerError::Invalid(_));
    }
    assert_eq!(ledger.facts(None).await.unwrap().catalogue, before);
}

pub async fn the_version_rises_with_facts_and_with_nothing_else(bed: &dyn Bed) {
    let ledger = bed.open();
    let mut last = ledger.facts(None).await.unwrap().catalogue.stamp;
    let mut rises = async |expected: bool, what: &str| {
        let now = ledger.facts(None).await.unwrap().catalogue.stamp;
        assert_eq!(now > last, expected, "{what}");
        assert_eq!(now.epoch, last.epoch, "{what}");
        last = now;
    };

    let ask = tasks(&*ledger, 1, 1000).await;
    rises(true, "create").await;
    let again = NewSequence { if_not_exists: true, ..sequence("tasks", 1, 1000) };
    ledger.create(&again).await.unwrap();
    rises(false, "create of what is there").await;
    take(&*ledger, &ask, 5).await.unwrap();
    rises(false, "a grant").await;
    let change = SequenceChange { block_size: Some(10), ..SequenceChange::default() };
    ledger.set("tasks", &change).await.unwrap();
    rises(true, "set").await;
    ledger.set("tasks", &change).await.unwrap();
    rises(false, "set to what it is").await;
    assert!(!ledger.resume("tasks").await.unwrap());
    rises(false, "resume of what runs").await;
    ledger.halt("tasks", "first").await.unwrap();
    rises(true, "halt").await;
    ledger.halt("tasks", "second").await.unwrap();
    rises(false, "halt of what is halted").await;
    assert!(ledger.resume("tasks").await.unwrap());
    rises(true, "resume").await;
    ledger.lead("cluster-1", "holder-1", Duration::from_secs(60)).await.unwrap();
    ledger.add_demand("cluster-1", &[("tasks".into(), 5)]).await.unwrap();
    ledger.migrate().await.unwrap();
    rises(false, "lease, demand and migrate").await;
    assert!(ledger.retire("tasks").await.unwrap());
    rises(true, "retire").await;
    assert!(!ledger.retire("tasks").await.unwrap());
    rises(false, "retire of what is retired").await;
}

pub async fn the_first_reason_of_a_halt_stays(bed: &dyn Bed) {
    let ledger = bed.open();
    tasks(&*ledger, 1, 1000).await;
    let halted = async || {
        let facts = bed.open().facts(None).await.unwrap();
        facts.catalogue.sequences["tasks"].halted.as_deref().map(str::to_owned)
    };
    ledger.halt("tasks", "overlap: 1:5 it's").await.unwrap();
    ledger.halt("tasks", "an operator").await.unwrap();
    assert_eq!(halted().await.as_deref(), Some("overlap: 1:5 it's"));
    assert!(ledger.resume("tasks").await.unwrap());
    assert_eq!(halted().await, None);
    assert!(!ledger.resume("tasks").await.unwrap());
    ledger.halt("tasks", "an operator").await.unwrap();
    assert_eq!(halted().await.as_deref(), Some("an operator"));
}

pub async fn a_sequence_is_retired_for_good(bed: &dyn Bed) {
    let ledger = bed.open();
    tasks(&*ledger, 1, 1000).await;
    assert!(ledger.retire("tasks").await.unwrap());
    assert!(!ledger.retire("tasks").await.unwrap());
    let facts = bed.open().facts(None).await.unwrap();
    assert!(facts.catalogue.sequences["tasks"].retired);
    let change = SequenceChange { last: Some(2000), ..SequenceChange::default() };
    refused!(ledger.set("tasks", &change).await, LedgerError::Retired);
    refused!(ledger.create(&sequence("tasks", 1, 100)).await, LedgerError::Invalid(_));
}

pub async fn a_name_that_nobody_created_is_unknown_to_every_call(bed: &dyn Bed) {
    let ledger = bed.open();
    tasks(&*ledger, 1, 1000).await;
    let ask = request("comments", life(&*ledger).await);
    refused!(ledger.grant(&ask).await, LedgerError::Unknown(name) if name == "comments");
    refused!(ledger.set("comments", &SequenceChange::default()).await, LedgerError::Unknown(_));
    refused!(ledger.advance("comments", 1).await, LedgerError::Unknown(_));
    refused!(ledger.halt("comments", "why").await, LedgerError::Unknown(_));
    refused!(ledger.resume("comments").await, LedgerError::Unknown(_));
    refused!(ledger.retire("comments").await, LedgerError::Unknown(_));
    refused!(ledger.lookup("comments", 1).await, LedgerError::Unknown(_));
}

pub async fn migrating_again_changes_nothing(bed: &dyn Bed) {
    let ledger = bed.open();
    let ask = tasks(&*ledger, 1, 1000).await;
    take(&*ledger, &ask, 10).await.unwrap();
    let before = ledger.history().await.unwrap();
    let migrated = bed.open().migrate().await.unwrap();
    assert_eq!(migrated.identity, before.identity);
    assert_eq!((migrated.from, migrated.to), (before.schema.0, before.schema.0));
    let after = ledger.history().await.unwrap();
    assert_eq!((after.lives, after.sequences), (before.lives, before.sequences));
}
