use std::sync::atomic::Ordering;

use super::*;
use crate::block::{Cause, Reason, Tier};

fn metrics() -> Metrics {
    let about = About { environment: "test".into(), stage: "stable".into(), cluster: "east".into() };
    Metrics::new(&about, 2)
}

/// The value of one sample of the text format.
#[track_caller]
fn value(text: &str, sample: &str) -> f64 {
    find(text, sample).unwrap_or_else(|| panic!("{sample} is missing from:\n{text}"))
}

fn find(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn every_metric_of_the_contract_is_there() {
    let metrics = metrics();
    let (tasks, pod) = (Arc::from("tasks"), Arc::from("10.0.0.1:6379"));
    metrics.sequence(&tasks);
    metrics.pod_request(&pod, "pop", "ok", Duration::from_micros(90));
    metrics.set_hydrator_leader(true);
    metrics.set_pod_blocks(&pod, &tasks, 5);
    metrics.set_supply_seconds(&tasks, Some(60.0));
    metrics.set_used_ratio(&tasks, 0.5);
    metrics.fence_trip("high_water");
    metrics.actor_restart("router", "panic");
    metrics.queue("router").add(1);
    let text = metrics.encode(false);
    for name in [
        "blockhouse_build_info",
        "blockhouse_process_info",
        "blockhouse_requests_total",
        "blockhouse_refusals_total",
        "blockhouse_allocations_total",
        "blockhouse_allocated_ids_total",
        "blockhouse_request_duration_seconds",
        "blockhouse_in_flight_requests",
        "blockhouse_connections",
        "blockhouse_streams",
        "blockhouse_ledger_up",
        "blockhouse_ledger_last_success_timestamp_seconds",
        "blockhouse_ledger_requests_total",
        "blockhouse_ledger_request_duration_seconds",
        "blockhouse_reserve_ids",
        "blockhouse_pod_up",
        "blockhouse_pod_requests_total",
        "blockhouse_pod_request_duration_seconds",
        "blockhouse_pod_blocks",
        "blockhouse_supply_seconds",
        "blockhouse_hydrated_ids_total",
        "blockhouse_hydrator_leader",
        "blockhouse_hydrator_last_success_timestamp_seconds",
        "blockhouse_sequence_used_ratio",
        "blockhouse_discarded_ids_total",
        "blockhouse_duplicate_ranges_total",
        "blockhouse_fence_trips_total",
        "blockhouse_sequence_halted",
        "blockhouse_actor_restarts_total",
        "blockhouse_actor_queued_messages",
        "blockhouse_exercises_total",
        "blockhouse_draining",
        "blockhouse_log_records_dropped_total",
        "blockhouse_config_unknown_keys",
        "blockhouse_reloads_total",
    ] {
        for head in ["# HELP", "# TYPE"] {
            assert!(
                text.contains(&format!("\n{head} {name} ")) || text.starts_with(&format!("{head} {name} ")),
                "{name}"
            );
        }
    }
    assert_eq!(
        value(&text, "blockhouse_process_info{environment=\"test\",stage=\"stable\",cluster=\"east\"}"),
        1.0
    );
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_shows_what_it_uses() {
    let text = metrics().encode(false);
    assert!(value(&text, "process_resident_memory_bytes") > 100_000.0);
    assert!(value(&text, "process_open_fds") >= 3.0);
    assert!(value(&text, "process_cpu_seconds_total") >= 0.0);
    assert!(value(&text, "process_start_time_seconds") > 1.6e9);
}

#[test]
fn counters_of_a_known_sequence_exist_at_zero() {
    let metrics = metrics();
    metrics.sequence("tasks");
    let text = metrics.encode(false);
    for tier in Tier::ALL {
        let labels = format!("{{sequence=\"tasks\",tier=\"{}\"}}", tier.name());
        assert_eq!(value(&text, &format!("blockhouse_allocations_total{labels}")), 0.0);
        assert_eq!(value(&text, &format!("blockhouse_allocated_ids_total{labels}")), 0.0);
    }
    for cause in Cause::ALL {
        let labels = format!("{{sequence=\"tasks\",cause=\"{}\"}}", cause.name());
        assert_eq!(value(&text, &format!("blockhouse_discarded_ids_total{labels}")), 0.0);
    }
    assert_eq!(value(&text, "blockhouse_duplicate_ranges_total{sequence=\"tasks\"}"), 0.0);
    assert_eq!(value(&text, "blockhouse_sequence_halted{sequence=\"tasks\"}"), 0.0);
    for reason in Reason::ALL {
        assert_eq!(value(&text, &format!("blockhouse_refusals_total{{reason=\"{}\"}}", reason.name())), 0.0);
    }
}

#[test]
fn what_a_sequence_counts_is_read_at_the_scrape() {
    let metrics = metrics();
    let counters = metrics.sequence("tasks");
    counters.allocated(0, Tier::Pods, 5);
    counters.allocated(1, Tier::Pods, 7);
    counters.tally.count(Cause::InDoubt, 1000);
    counters.reserve_ids.store(42, Ordering::Relaxed);
    counters.halted.store(true, Ordering::Relaxed);
    let text = metrics.encode(false);
    assert_eq!(value(&text, "blockhouse_allocations_total{sequence=\"tasks\",tier=\"pods\"}"), 2.0);
    assert_eq!(value(&text, "blockhouse_allocated_ids_total{sequence=\"tasks\",tier=\"pods\"}"), 12.0);
    assert_eq!(value(&text, "blockhouse_discarded_ids_total{sequence=\"tasks\",cause=\"in_doubt\"}"), 1000.0);
    assert_eq!(value(&text, "blockhouse_reserve_ids{sequence=\"tasks\"}"), 42.0);
    assert_eq!(value(&text, "blockhouse_sequence_halted{sequence=\"tasks\"}"), 1.0);
}

#[test]
fn a_sequence_has_one_set_of_counters_and_shares_it_with_no_other() {
    let metrics = metrics();
    assert!(Arc::ptr_eq(&metrics.sequence("tasks"), &metrics.sequence("tasks")));
    assert!(!Arc::ptr_eq(&metrics.sequence("tasks"), &metrics.sequence("comments")));
}

#[test]
fn names_that_no_sequence_can_have_count_as_unknown() {
    let metrics = metrics();
    for name in ["", "No", "a b", "x\"} 1\n", UNKNOWN] {
        metrics.sequence(name).tally.count(Cause::Dropped, 1);
    }
    let text = metrics.encode(false);
    assert_eq!(value(&text, "blockhouse_discarded_ids_total{sequence=\"_unknown\",cause=\"dropped\"}"), 5.0);
    assert_eq!(text.matches("blockhouse_duplicate_ranges_total{").count(), 1);
}

#[test]
fn requests_of_all_workers_add_up() {
    let metrics = metrics();
    let (one, other, again) = (metrics.worker(), metrics.worker(), metrics.worker());
    one.request(Method::Allocate, "OK", None, Duration::from_micros(60));
    other.request(Method::Allocate, "OK", None, Duration::from_secs(9));
    again.request(Method::Http, "UNAVAILABLE", Some(Reason::LedgerBusy), Duration::from_millis(2));
    one.in_flight(2);
    other.in_flight(-1);
    other.connections(3);
    again.streams(1);
    let text = metrics.encode(false);
    assert_eq!(value(&text, "blockhouse_requests_total{method=\"Allocate\",code=\"OK\"}"), 2.0);
    assert_eq!(value(&text, "blockhouse_requests_total{method=\"http\",code=\"UNAVAILABLE\"}"), 1.0);
    assert_eq!(value(&text, "blockhouse_refusals_total{reason=\"LEDGER_BUSY\"}"), 1.0);
    assert_eq!(value(&text, "blockhouse_request_duration_seconds_count{method=\"Allocate\"}"), 2.0);
    assert_eq!(
        value(&text, "blockhouse_request_duration_seconds_bucket{le=\"0.0001\",method=\"Allocate\"}"),
        1.0
    );
    assert_eq!(
        value(&text, "blockhouse_request_duration_seconds_bucket{le=\"+Inf\",method=\"Allocate\"}"),
        2.0
    );
    assert_eq!(value(&text, "blockhouse_in_flight_requests"), 1.0);
    assert_eq!(value(&text, "blockhouse_connections"), 3.0);
    assert_eq!(value(&text, "blockhouse_streams"), 1.0);
}

#[test]
fn a_code_that_nobody_documented_makes_no_new_series() {
    let metrics = metrics();
    metrics.worker().request(Method::Http, "TEAPOT", None, Duration::ZERO);
    let text = metrics.encode(false);
    assert_eq!(value(&text, "blockhouse_requests_total{method=\"http\",code=\"UNKNOWN\"}"), 1.0);
    assert!(!text.contains("TEAPOT"));
}

#[test]
fn ledger_requests_exist_at_zero_for_every_purpose_and_date_the_last_success() {
    let metrics = metrics();
    let text = metrics.encode(false);
    assert_eq!(
        value(&text, "blockhouse_ledger_requests_total{purpose=\"exercise\",outcome=\"in_doubt\"}"),
        0.0
    );
    assert_eq!(value(&text, "blockhouse_ledger_last_success_timestamp_seconds"), 0.0);

    metrics.ledger_request("fallback", "failed", Duration::from_secs(5));
    assert_eq!(value(&metrics.encode(false), "blockhouse_ledger_last_success_timestamp_seconds"), 0.0);

    metrics.ledger_request("fallback", "ok", Duration::from_millis(1));
    metrics.set_ledger_up(true);
    let text = metrics.encode(false);
    assert!(value(&text, "blockhouse_ledger_last_success_timestamp_seconds") > 1.6e9);
    assert_eq!(value(&text, "blockhouse_ledger_request_duration_seconds_count{purpose=\"fallback\"}"), 2.0);
    assert_eq!(value(&text, "blockhouse_ledger_up"), 1.0);
}

#[test]
fn operations_and_outcomes_that_nobody_documented_count_as_other() {
    let metrics = metrics();
    let pod = Arc::from("a:1");
    metrics.pod_request(&pod, "pop", "empty", Duration::ZERO);
    assert!(!metrics.encode(false).contains("operation=\"other\""));
    metrics.pod_request(&pod, "juggle", "dropped", Duration::ZERO);
    let text = metrics.encode(false);
    assert_eq!(
        value(&text, "blockhouse_pod_requests_total{address=\"a:1\",operation=\"other\",outcome=\"other\"}"),
        1.0
    );
    assert_eq!(
        value(&text, "blockhouse_pod_requests_total{address=\"a:1\",operation=\"pop\",outcome=\"empty\"}"),
        1.0
    );
    assert_eq!(
        value(&text, "blockhouse_pod_requests_total{address=\"a:1\",operation=\"push\",outcome=\"ok\"}"),
        0.0
    );
    assert!(!text.contains("operation=\"push\",outcome=\"empty\""));
}

#[test]
fn only_the_leading_hydrator_shows_supply() {
    let metrics = metrics();
    let (tasks, pod) = (Arc::from("tasks"), Arc::from("a:1"));
    metrics.set_pod_blocks(&pod, &tasks, 5);
    assert!(!metrics.encode(false).contains("blockhouse_hydrator_leader"), "not a hydrator");

    let fill = || {
        metrics.set_pod_blocks(&pod, &tasks, 5);
        metrics.set_supply_seconds(&tasks, Some(3600.0));
        metrics.hydrated(&tasks, &pod, 5000);
        metrics.encode(false)
    };
    metrics.set_hydrator_leader(true);
    let leading = fill();
    assert_eq!(value(&leading, "blockhouse_pod_blocks{address=\"a:1\",sequence=\"tasks\"}"), 5.0);
    assert_eq!(value(&leading, "blockhouse_supply_seconds{sequence=\"tasks\"}"), 3600.0);
    assert_eq!(value(&leading, "blockhouse_hydrated_ids_total{sequence=\"tasks\",address=\"a:1\"}"), 5000.0);

    metrics.set_hydrator_leader(false);
    let standby = fill();
    assert_eq!(value(&standby, "blockhouse_hydrator_leader"), 0.0);
    for family in ["blockhouse_pod_blocks", "blockhouse_supply_seconds", "blockhouse_hydrated_ids_total"] {
        assert!(!standby.contains(family), "{family}");
    }
}

#[test]
fn a_sequence_without_demand_has_no_supply() {
    let metrics = metrics();
    let tasks = Arc::from("tasks");
    metrics.set_hydrator_leader(true);
    metrics.set_supply_seconds(&tasks, Some(1.0));
    metrics.set_supply_seconds(&tasks, None);
    assert!(!metrics.encode(false).contains("blockhouse_supply_seconds"));
}

#[tokio::test(start_paused = true)]
async fn the_series_of_a_gone_pod_end_after_ten_minutes() {
    let metrics = metrics();
    let (tasks, gone, stays) = (Arc::from("tasks"), Arc::from("a:1"), Arc::from("b:1"));
    metrics.set_hydrator_leader(true);
    for pod in [&gone, &stays] {
        metrics.set_pod_up(pod, true);
        metrics.set_pod_blocks(pod, &tasks, 5);
    }
    metrics.pod_gone(&gone);
    // A late answer doesn't keep it.
    metrics.pod_request(&gone, "pop", "failed", Duration::ZERO);
    metrics.set_pod_up(&gone, false);
    assert_eq!(value(&metrics.encode(false), "blockhouse_pod_up{address=\"a:1\"}"), 0.0);

    tokio::time::advance(pods::GONE_FOR).await;
    let text = metrics.encode(false);
    assert!(!text.contains("a:1"), "{text}");
    assert_eq!(value(&text, "blockhouse_pod_up{address=\"b:1\"}"), 1.0);
    assert_eq!(value(&text, "blockhouse_pod_blocks{address=\"b:1\",sequence=\"tasks\"}"), 5.0);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_back_keeps_its_series() {
    let metrics = metrics();
    let pod = Arc::from("a:1");
    metrics.pod_request(&pod, "pop", "ok", Duration::ZERO);
    metrics.pod_gone(&pod);
    tokio::time::advance(pods::GONE_FOR / 2).await;
    metrics.set_pod_up(&pod, true);
    tokio::time::advance(pods::GONE_FOR).await;
    let text = metrics.encode(false);
    assert_eq!(
        value(&text, "blockhouse_pod_requests_total{address=\"a:1\",operation=\"pop\",outcome=\"ok\"}"),
        1.0
    );
}

#[test]
fn messages_that_wait_are_summed_by_the_actors_name() {
    let metrics = metrics();
    let (one, other) = (metrics.queue("router"), metrics.queue("router"));
    one.add(3);
    other.add(1);
    one.add(-1);
    let database = metrics.queue("database");
    database.add(1);
    let text = metrics.encode(false);
    assert_eq!(value(&text, "blockhouse_actor_queued_messages{actor=\"router\"}"), 3.0);
    assert_eq!(value(&text, "blockhouse_actor_queued_messages{actor=\"database\"}"), 1.0);
}

#[test]
fn openmetrics_ends_with_its_mark_and_the_text_format_does_not() {
    let metrics = metrics();
    let openmetrics = metrics.encode(true);
    assert!(openmetrics.ends_with("\n# EOF\n"));
    assert!(openmetrics.contains("# TYPE blockhouse_requests counter\n"));
    let text = metrics.encode(false);
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    assert!(text.contains("# TYPE blockhouse_requests_total counter\n"));
}

#[test]
fn every_counter_of_the_text_format_ends_in_total() {
    let text = metrics().encode(false);
    let counters: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    assert!(counters.len() > 5);
    assert!(counters.iter().all(|name| name.ends_with("_total")), "{counters:?}");
}
