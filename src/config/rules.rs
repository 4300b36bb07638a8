//! What must hold between keys.

use std::collections::BTreeSet;

use secrecy::ExposeSecret;

use super::problem::{Errors, Problem};
use super::redact_url;
use super::settings::Settings;
use crate::block::chaos::LONGEST;

/// A key and what is wrong with it in the light of the others.
type Finding = (&'static str, String);

/// Everything that doesn't go together.
pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let rules: [fn(&Settings, &mut Vec<Finding>); 6] = [bounds, times, pods, certificate, engine, drills];
    let mut found = Vec::new();
    for rule in rules {
        rule(settings, &mut found);
    }
    found
}

fn bounds(settings: &Settings, found: &mut Vec<Finding>) {
    let (hydrator, fallback, grpc) = (&settings.hydrator, &settings.fallback, &settings.grpc);
    if hydrator.min_ids > hydrator.max_ids {
        let what = format!("{} is above hydrator.max_ids = {}", hydrator.min_ids, hydrator.max_ids);
        found.push(("hydrator.min_ids", what));
    }
    if fallback.min_ids > fallback.max_ids {
        let what = format!("{} is above fallback.max_ids = {}", fallback.min_ids, fallback.max_ids);
        found.push(("fallback.min_ids", what));
    }
    if grpc.workers > grpc.max_in_flight {
        let what =
            format!("{} leaves some of grpc.workers = {} without any", grpc.max_in_flight, grpc.workers);
        found.push(("grpc.max_in_flight", what));
    }
}

fn times(settings: &Settings, found: &mut Vec<Finding>) {
    if settings.drain.delay >= settings.drain.timeout {
        found.push((
            "drain.delay",
            "must be below drain.timeout, which bounds the whole stop, delay included".to_owned(),
        ));
    }
}

fn pods(settings: &Settings, found: &mut Vec<Finding>) {
    let pods: Vec<_> = settings.redis.pods.iter().map(ExposeSecret::expose_secret).collect();
    if settings.redis.discover.is_some() && !pods.is_empty() {
        let what = "either redis.discover or redis.pods, not both (\"\" or [] takes one back)";
        found.push(("redis.discover", what.to_owned()));
    }
    if pods.len() > 1 && pods.iter().any(|pod| pod.starts_with("memory:")) {
        found.push(("redis.pods", "memory:N must stand alone".to_owned()));
    }
    let mut seen = BTreeSet::new();
    for twice in pods.iter().filter(|pod| !seen.insert(**pod)) {
        found.push(("redis.pods", format!("{} stands there twice", redact_url(twice))));
    }
}

fn certificate(settings: &Settings, found: &mut Vec<Finding>) {
    match (&settings.ledger.cert, &settings.ledger.key) {
        (Some(_), None) => found.push(("ledger.cert", "needs ledger.key".to_owned())),
        (None, Some(_)) => found.push(("ledger.key", "needs ledger.cert".to_owned())),
        _ => {}
    }
}

fn drills(settings: &Settings, found: &mut Vec<Finding>) {
    let chaos = &settings.chaos;
    if chaos.max_duration > LONGEST {
        found.push(("chaos.max_duration", "is more than an hour: no drill lasts longer".to_owned()));
    }
    if chaos.duration > chaos.max_duration {
        found.push(("chaos.duration", "is more than chaos.max_duration".to_owned()));
    }
}

/// Two hosts that each made their own embedded ledger would hand out the same IDs (S5).
fn engine(settings: &Settings, found: &mut Vec<Finding>) {
    let Some(url) = settings.ledger.url.as_ref().map(ExposeSecret::expose_secret) else { return };
    if settings.environment.as_ref() == "production" && !url.starts_with("postgres") {
        let what =
            format!("{} is refused in production: two hosts would hand out the same IDs", redact_url(url));
        found.push(("ledger.url", what));
    }
}

impl Settings {
    /// What `serve` needs beyond valid settings: a ledger, and in production its id. The exit code is 78.
    ///
    /// # Errors
    /// Everything that is missing.
    pub fn require_for_serve(&self) -> Result<(), Errors> {
        let mut missing = Vec::new();
        if let Err(Errors(problems)) = self.require_ledger() {
            missing.extend(problems);
        }
        if self.environment.as_ref() == "production" && self.ledger.id.is_none() {
            let what = "is required where environment = \"production\", so that no other ledger is taken for this one";
            let hint = "'blockhouse ledger migrate' and 'ledger show' print it";
            missing.push(Problem::new("", "ledger.id", what).hint(Some(hint.to_owned())));
        }
        if missing.is_empty() { Ok(()) } else { Err(Errors(missing)) }
    }

    /// What every command on the ledger needs, `ledger migrate` included (which gives the ledger its id).
    ///
    /// # Errors
    /// That no ledger is named.
    pub fn require_ledger(&self) -> Result<(), Errors> {
        if self.ledger.url.is_some() {
            return Ok(());
        }
        let hint = "for example BLOCKHOUSE__LEDGER__URL=postgres://USER@HOST/DATABASE";
        Err(Errors(vec![
            Problem::new("", "ledger.url", "is required: there is no default ledger")
                .hint(Some(hint.to_owned())),
        ]))
    }
}
