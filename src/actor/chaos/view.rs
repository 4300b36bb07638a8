//! What the role shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::block::chaos::{Aim, Drills, Fault, Health, Limits, Moment, Outcome, Record};
use crate::config::duration;
use crate::observe::log::rfc3339;
use crate::observe::status::{Chaos, Drill, Fault as Shown};

/// Everything, as of now.
pub(super) fn view(drills: &Drills, health: &Health) -> Chaos {
    let limits = drills.limits();
    Chaos {
        enabled: limits.enabled,
        dry_run: limits.dry_run,
        stopped: drills.stopped().map(|stopped| format!("{} ({})", stopped.why, moment(stopped.at))),
        running: drills.running().map(drill),
        faults: Fault::NAMED.iter().map(|(name, fault)| shown(name, *fault, limits, health)).collect(),
        limits: of(limits),
        history: drills.history().map(drill).collect(),
    }
}

/// One record.
pub fn drill(record: &Record) -> Drill {
    let (outcome, why) = match record.ended.as_ref().map(|(outcome, _)| outcome) {
        None => (None, None),
        Some(Outcome::Done) => (Some("done"), None),
        Some(Outcome::DryRun) => (Some("dry_run"), None),
        Some(Outcome::Ended(why)) => (Some("ended"), Some(why.clone())),
    };
    Drill {
        number: record.number,
        fault: record.plan.fault.name().to_owned(),
        target: record.plan.target.as_deref().map(str::to_owned),
        by: record.plan.by.name().to_owned(),
        dry_run: record.plan.dry_run,
        began: moment(record.began),
        seconds: record.plan.lasts.as_secs_f64(),
        ended: record.ended.as_ref().map(|(_, at)| moment(*at)),
        outcome: outcome.map(str::to_owned),
        why,
    }
}

fn shown(name: &str, fault: Fault, limits: &Limits, health: &Health) -> Shown {
    let targets: Vec<&Arc<str>> = match fault.aim() {
        Aim::Actor => health.actors.iter().collect(),
        Aim::Pod => health.pods.iter().map(|(address, _)| address).collect(),
        Aim::Nothing => Vec::new(),
    };
    Shown {
        name: name.to_owned(),
        meaning: fault.meaning().to_owned(),
        allowed: limits.enabled && limits.faults.contains(&fault),
        targets: targets.into_iter().map(ToString::to_string).collect(),
    }
}

fn of(limits: &Limits) -> BTreeMap<String, String> {
    let quiet: Vec<String> = limits.quiet.iter().map(ToString::to_string).collect();
    let shown = [
        ("every", duration::show(limits.every)),
        ("terminate_every", duration::show(limits.terminate_every)),
        ("quiet", quiet.join(", ")),
        ("duration", duration::show(limits.duration)),
        ("max_duration", duration::show(limits.max_duration)),
        ("pause", duration::show(limits.pause)),
        ("per_day", limits.per_day.to_string()),
        ("min_pods", limits.min_pods.to_string()),
        ("min_peers", limits.min_peers.to_string()),
        ("max_errors", limits.max_errors.to_string()),
    ];
    shown.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn moment(at: Moment) -> String {
    OffsetDateTime::from_unix_timestamp(at.unix_s).map(rfc3339).unwrap_or_default()
}
