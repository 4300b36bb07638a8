//! The keys of drills: a part of [`super::table`].

use super::form::{Choice, Flag, ListOf, QuietHours, Real, Time, Whole};
use super::keys::Key;
use crate::block::chaos::{Fault, LEAST_LEFT};

pub(super) fn chaos() -> Vec<Key> {
    let mut keys = chaos_when();
    keys.extend(chaos_what());
    keys.extend(chaos_unless());
    keys
}

/// Whether and when there are drills.
fn chaos_when() -> Vec<Key> {
    vec![
        Key::new(
            "chaos.enabled",
            "false",
            "Whether a process with the role chaos may injure itself at all. Without the role nothing here has any effect.",
            Flag,
            |s| &mut s.chaos.enabled,
        ),
        Key::new(
            "chaos.dry_run",
            "true",
            "Only say what would be done, in log and history. Turn it off once that reads well.",
            Flag,
            |s| &mut s.chaos.dry_run,
        ),
        Key::new(
            "chaos.every",
            r#""4h""#,
            "Between two faults by schedule, on average. 0 = only by hand.",
            Time::ANY,
            |s| &mut s.chaos.every,
        ),
        Key::new(
            "chaos.terminate_every",
            r#""24h""#,
            "Between two terminations of the process by schedule, on average; something must start it again. 0 = none.",
            Time::ANY,
            |s| &mut s.chaos.terminate_every,
        ),
        Key::new(
            "chaos.quiet",
            r#"["16:00-08:00", "sat-sun"]"#,
            "When there are no drills, by UTC: drills are for hours with people about.",
            ListOf { of: QuietHours, least: 0 },
            |s| &mut s.chaos.quiet,
        ),
    ]
}

/// What a drill is.
fn chaos_what() -> Vec<Key> {
    vec![
        Key::new(
            "chaos.faults",
            r#"["actor_panic", "pod_refused", "pod_slow", "pod_gone", "pods_gone", "ledger_slow", "ledger_gone", "slot_held", "process_terminated"]"#,
            "The faults that there may be, by schedule or by hand.",
            ListOf { of: Choice(Fault::NAMED), least: 0 },
            |s| &mut s.chaos.faults,
        ),
        Key::new(
            "chaos.duration",
            r#""30s""#,
            "How long a fault lasts, unless 'chaos inject --for' says otherwise.",
            Time::POSITIVE,
            |s| &mut s.chaos.duration,
        ),
        Key::new(
            "chaos.max_duration",
            r#""5m""#,
            "The longest that one may last. At most an hour.",
            Time::POSITIVE,
            |s| &mut s.chaos.max_duration,
        ),
        Key::new(
            "chaos.pod_latency",
            r#""30ms""#,
            "By how much the answers of a slow pod are late; from redis.timeout on they count as lost.",
            Time::POSITIVE,
            |s| &mut s.chaos.pod_latency,
        ),
        Key::new(
            "chaos.ledger_latency",
            r#""1s""#,
            "By how much the answers of a slow ledger are late; from ledger.timeout on they count as lost.",
            Time::POSITIVE,
            |s| &mut s.chaos.ledger_latency,
        ),
    ]
}

/// What keeps a drill from beginning, or ends it.
fn chaos_unless() -> Vec<Key> {
    let least_left = i64::try_from(LEAST_LEFT).unwrap_or(i64::MAX);
    vec![
        Key::new(
            "chaos.pause",
            r#""10m""#,
            "From the end of one fault to the beginning of the next, at least.",
            Time::POSITIVE,
            |s| &mut s.chaos.pause,
        ),
        Key::new(
            "chaos.per_day",
            "24",
            "The most faults of a process in 24 hours; its daily termination doesn't count.",
            Whole::new(0, 10_000),
            |s| &mut s.chaos.per_day,
        ),
        Key::new(
            "chaos.min_pods",
            "2",
            "Healthy pods that must be left.",
            Whole::new(least_left, 1024),
            |s| &mut s.chaos.min_pods,
        ),
        Key::new(
            "chaos.min_peers",
            "2",
            "Healthy other processes of the cluster that must be there, of any role: add your hydrators.",
            Whole::new(least_left, 100_000),
            |s| &mut s.chaos.min_peers,
        ),
        Key::new(
            "chaos.max_errors",
            "0.01",
            "Share of the process's requests that fail, above which a drill ends and none begins.",
            Real { least: 0.0, most: 1.0 },
            |s| &mut s.chaos.max_errors,
        ),
    ]
}
