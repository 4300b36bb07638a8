//! What a process says of itself, put together from what its actors share.

use std::sync::atomic::Ordering;

use super::known::Sequence;
use super::pod_set::MemberView;
use super::process::{Process, Supply};
use super::refusals::RIGHT_LEDGER;
use crate::block::OnFailover;
use crate::block::hour::share;
use crate::config::redact_url;
use crate::observe::status::{Actor, Hydrator, Ledger, Pod, Problem, Sequence as SequenceStatus, Status};
use crate::observe::{REVISION, VERSION, log::rfc3339};
use crate::shutdown::Phase;

/// A sequence is worth a word from this share of its IDs on.
const NEARLY_USED_UP: f64 = 0.8;

/// The hourly cap is worth a word from this share of it on.
const NEAR_THE_CAP: f64 = 0.8;

/// Everything but the problems.
pub fn status(process: &Process, pods: &[MemberView], phase: Phase) -> Status {
    let settings = &process.settings;
    let known = process.known.load();
    let view = process.ledger();
    let supply = process.supply(|supply| supply.clone());
    let identity = known.identity.as_ref();
    let chaos = process.chaos();
    Status {
        version: VERSION.to_owned(),
        revision: REVISION.to_owned(),
        instance: settings.instance.to_string(),
        environment: settings.environment.to_string(),
        stage: settings.stage.to_string(),
        cluster: settings.cluster.to_string(),
        roles: process.roles.names().chain(chaos.as_ref().map(|_| "chaos")).map(str::to_owned).collect(),
        state: match phase {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Draining | Phase::Closing => "draining",
        }
        .to_owned(),
        uptime_seconds: process.now().as_secs(),
        ledger: Ledger {
            url: process.ledger_url(redact_url),
            id: identity.map(|identity| identity.ledger.to_string()),
            epoch: identity.map(|identity| identity.life.epoch),
            state: if view.state.is_empty() { "down" } else { view.state }.to_owned(),
            last_error: view.last_error,
        },
        pods: pods
            .iter()
            .map(|pod| Pod {
                address: pod.address.to_string(),
                state: pod.state.to_owned(),
                run_id: pod.run_id.as_deref().map(str::to_owned),
                blocks: supply.blocks.get(&pod.address).map_or_else(Default::default, |blocks| {
                    blocks.iter().map(|(name, n)| (name.to_string(), *n)).collect()
                }),
                last_error: pod.last_error.clone(),
            })
            .collect(),
        sequences: known
            .sequences()
            .map(|sequence| {
                let (pod_ids, supply_seconds) =
                    supply.sequences.get(&sequence.facts.name).copied().unwrap_or_default();
                SequenceStatus {
                    name: sequence.facts.name.to_string(),
                    generation: sequence.facts.generation,
                    granted: sequence.high_water().to_string(),
                    last: sequence.facts.last.to_string(),
                    reserve_ids: sequence.counters.reserve_ids.load(Ordering::Relaxed),
                    pod_ids,
                    supply_seconds,
                    ids_per_second: sequence.counters.ids_per_second(),
                    state: state(sequence).to_owned(),
                }
            })
            .collect(),
        actors: process
            .parts()
            .iter()
            .map(|part| Actor {
                name: part.name.clone(),
                restarts: part.restarts.load(Ordering::Relaxed),
                queued: part.queued.len().max(0).unsigned_abs(),
            })
            .collect(),
        hydrator: Hydrator { leader: supply.leads, last_success: supply.last_success.map(rfc3339) },
        chaos,
        problems: Vec::new(),
    }
}

fn state(sequence: &Sequence) -> &'static str {
    if sequence.facts.retired {
        "retired"
    } else if sequence.facts.halted.is_some() {
        "halted"
    } else if sequence.left_at_most() == 0 {
        "exhausted"
    } else {
        "active"
    }
}

/// What a person should look at, without since when.
pub fn problems(process: &Process, pods: &[MemberView], phase: Phase) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut problem = |what: String, remedy: String| {
        found.push(Problem { what, since: String::new(), remedy });
    };
    if let Some(drill) = process.chaos().and_then(|chaos| chaos.running) {
        let target = drill.target.map_or_else(String::new, |target| format!(" ({target})"));
        problem(
            format!("a drill runs: {}{target}", drill.fault),
            "it ends by itself; `blockhouse chaos stop` ends it at once".to_owned(),
        );
    }
    let known = process.known.load();
    let ledger = process.ledger();
    let error = ledger.last_error.unwrap_or_default();
    match ledger.state {
        "closed" => problem(
            format!("the ledger is closed: {error}"),
            "pods and reserve serve on; see `blockhouse ledger show`, and accept it with `blockhouse ledger accept-failover`".to_owned(),
        ),
        "refused" => problem(
            format!("the ledger is refused: {error}"),
            RIGHT_LEDGER.to_owned(),
        ),
        "down" => problem(
            format!("the ledger can't be reached: {error}"),
            "pods and reserve serve on; bring the ledger back before they are empty".to_owned(),
        ),
        _ => {}
    }
    if let Some(conflict) = &known.conflict {
        problem(
            format!("two ledgers are named, so nothing is taken from tier 3: {conflict}"),
            "set ledger.id to the right one, or restart that Redis empty".to_owned(),
        );
    }
    for pod in pods.iter().filter(|pod| pod.state != "up") {
        let error = pod.last_error.as_deref().unwrap_or("no answer yet");
        let remedy = if pod.state == "refused" {
            "give the cluster plain Redis masters of its own, with config/redis.conf"
        } else {
            "the other pods and the ledger serve meanwhile; bring it back, it may be empty"
        };
        problem(format!("pod {} is {}: {error}", pod.address, pod.state), remedy.to_owned());
    }
    if phase == Phase::Serving && known.identity.is_some() && known.catalogue.sequences.is_empty() {
        problem(
            "there is no sequence yet".to_owned(),
            "create one: `blockhouse sequence create NAME`".to_owned(),
        );
    }
    for sequence in known.sequences() {
        sequence_problems(sequence, &mut problem);
    }
    if let Some(leader) = process.supply(|supply| supply.stranger.clone()) {
        let cluster = &process.settings.cluster;
        problem(
            format!(
                "cluster '{cluster}' is led by {leader}, which none of its pods has heard of for a minute: two clusters have one \
                 name, or {leader} reaches none of these pods; nobody fills them"
            ),
            "give each cluster a name of its own (`cluster`), or all its hydrators the same pods".to_owned(),
        );
    }
    if known.catalogue.on_failover == OnFailover::Jump {
        let supply = process.supply(|supply| supply.clone());
        for sequence in known.sequences().filter(|sequence| !sequence.facts.retired) {
            cap_problems(sequence, &supply, &mut problem);
        }
    }
    found
}

/// Where the ledger jumps after a failover: who keeps it from that, and whose gap caps what it needs.
fn cap_problems(sequence: &Sequence, supply: &Supply, problem: &mut impl FnMut(String, String)) {
    let (name, gap) = (&sequence.facts.name, sequence.facts.failover_gap);
    if gap == 0 {
        return problem(
            format!(
                "after a failover the ledger waits for a person although it is set to jump: sequence '{name}' has no failover gap"
            ),
            format!("give it a gap: `blockhouse sequence set {name} --failover-gap N`"),
        );
    }
    let for_pods = share(gap, true);
    let hourly = supply.hourly.get(name).copied().unwrap_or(0);
    let raise =
        format!("`blockhouse sequence set {name} --failover-gap {}`", hourly.max(gap).saturating_mul(2));
    let lasts = supply.sequences.get(name).and_then(|(_, seconds)| *seconds);
    if supply.capped.contains(name) && lasts.is_some_and(|seconds| seconds < 3600.0) {
        problem(
            format!(
                "the pods of sequence '{name}' run low: its failover gap of {gap} allows them {for_pods} IDs in an hour"
            ),
            format!("raise the gap: {raise}"),
        );
    } else if hourly as f64 > NEAR_THE_CAP * for_pods as f64 {
        problem(
            format!(
                "the demand for sequence '{name}' comes near the {for_pods} IDs that its failover gap of {gap} allows the pods in an \
                 hour"
            ),
            format!("an hour may need {hourly}; raise the gap: {raise}"),
        );
    }
}

fn sequence_problems(sequence: &Sequence, problem: &mut impl FnMut(String, String)) {
    let facts = &sequence.facts;
    let name = &facts.name;
    if let Some(why) = &facts.halted {
        problem(
            format!("sequence '{name}' is halted: {why}"),
            format!("once the cause is resolved: `blockhouse sequence resume {name}`"),
        );
    }
    let space = (facts.last - facts.first) as f64 + 1.0;
    let used = 1.0 - sequence.left_at_most() as f64 / space;
    if used >= NEARLY_USED_UP && !facts.retired {
        problem(
            format!("sequence '{name}' has used {:.0} % of its IDs", used * 100.0),
            format!("raise its maximum: `blockhouse sequence set {name} --max N`"),
        );
    }
    let duplicates = sequence.counters.duplicate_ranges.load(Ordering::Relaxed);
    if duplicates > 0 {
        problem(
            format!(
                "{duplicates} ranges of sequence '{name}' overlapped IDs served before, and were discarded"
            ),
            "find out which pod or ledger went back in time: the log names each range".to_owned(),
        );
    }
}
