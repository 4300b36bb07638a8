//! What Prometheus itself says of `/metrics`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use blockhouse::block::{Cause, Reason, Tier};
use blockhouse::observe::Metrics;
use blockhouse::observe::metrics::{About, Method};

/// A process that has counted something everywhere.
fn busy() -> Metrics {
    let about = About { environment: "test".into(), stage: "canary".into(), cluster: "a \"b\" \\ c".into() };
    let metrics = Metrics::new(&about, 4);
    let (tasks, pod) = (Arc::from("tasks"), Arc::from("[::1]:6379"));
    let counters = metrics.sequence(&tasks);
    counters.allocated(3, Tier::Pods, 1000);
    counters.tally.count(Cause::InDoubt, 5);
    metrics.worker().request(Method::Allocate, "OK", None, Duration::from_micros(70));
    metrics.worker().request(
        Method::Http,
        "NOT_FOUND",
        Some(Reason::SequenceUnknown),
        Duration::from_secs(7),
    );
    metrics.ledger_request("fallback", "ok", Duration::from_millis(3));
    metrics.pod_request(&pod, "pop", "ok", Duration::from_micros(80));
    metrics.set_pod_up(&pod, true);
    metrics.set_hydrator_leader(true);
    metrics.hydrator_succeeded();
    metrics.set_pod_blocks(&pod, &tasks, 12);
    metrics.set_supply_seconds(&tasks, Some(86_400.0));
    metrics.hydrated(&tasks, &pod, 12_000);
    metrics.set_used_ratio(&tasks, 1e-9);
    metrics.fence_trip("high_water");
    metrics.actor_restart("router", "panic");
    metrics.queue("router").add(1);
    metrics
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool (package prometheus) is needed");
    let text = busy().encode(false);
    promtool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && said.trim().is_empty(), "promtool: {said}\n{text}");
}
