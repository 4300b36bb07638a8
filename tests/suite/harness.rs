//! The suite's own tools, tried on servers whose faults are known.

use std::time::Duration;

use blockhouse::block::{Reason, Refusal};

use crate::support::checker::Checker;
use crate::support::load::Load;
use crate::support::wait;
use crate::wire::Server;

const PATIENCE: Duration = Duration::from_secs(10);

/// A load on these servers of one sequence that is mostly under way.
fn load(servers: &[&Server], checker: &Checker) -> Load {
    let ports =
        servers.iter().filter_map(|server| server.address().rsplit(':').next()?.parse().ok()).collect();
    Load::on(ports, &["tasks"], checker).pace(Duration::from_millis(1))
}

#[tokio::test]
async fn a_server_that_counts_gives_nothing_twice() {
    let (server, checker) = (Server::start(), Checker::default());
    let load = load(&[&server], &checker).start();
    load.until_answered(500).await;
    let report = load.stop().await;
    report.assert_flawless();
    assert_eq!(report.tiers.get("TIER_PODS"), Some(&report.answered));
    assert!(report.quantile(0.5) <= report.quantile(0.99));
    checker.assert_unique();
}

#[tokio::test]
async fn two_servers_that_both_count_from_1_are_found_out() {
    let (one, other, checker) = (Server::start(), Server::start(), Checker::default());
    let load = load(&[&one, &other], &checker).start();
    load.until_answered(100).await;
    load.stop().await;
    assert!(!checker.duplicates().is_empty());
}

#[tokio::test]
async fn callers_that_retry_wait_out_a_refusal_and_others_report_it() {
    let (server, checker) = (Server::start(), Checker::default());
    server
        .counter
        .refuse(Refusal::new(Reason::Draining, "for the test").retry_after(Duration::from_millis(20)));
    let (patient, plain) =
        (load(&[&server], &checker).retrying().start(), load(&[&server], &checker).start());
    wait::until(PATIENCE, "both were refused", async || server.counter.asked() > 50).await;
    assert_eq!((patient.answered(), plain.answered()), (0, 0));
    server.counter.refuse(None);
    patient.until_answered(100).await;
    let (patient, plain) = (patient.stop().await, plain.stop().await);
    assert_eq!(patient.given_up, 0);
    for report in [patient, plain] {
        assert!(report.refused.contains_key("DRAINING") && report.lost.is_empty(), "{report:?}");
    }
    checker.assert_unique();
}

#[tokio::test]
async fn a_server_that_is_gone_is_a_loss_and_not_a_refusal() {
    let checker = Checker::default();
    let gone = wait::free_port();
    let load = Load::on(vec![gone], &["tasks"], &checker).start();
    wait::until(PATIENCE, "callers lose requests", async || load.lost() > 10).await;
    let report = load.stop().await;
    assert!(report.answered == 0 && report.refused.is_empty(), "{report:?}");
}
