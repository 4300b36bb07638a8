//! Telling the cluster's pods what a command has changed, so that it is known at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::failure::Outcome;
use super::format::plural;
use super::opened::Opened;
use super::ui::Ui;
use crate::ledger::{Facts, State};
use crate::pods::discovery::roster;
use crate::pods::{Notice, Target};

/// How long a look-up of the pods may take.
const LOOK_UP: Duration = Duration::from_secs(2);

/// Writes catalogue and high water to every pod of the configured cluster. What can't be told is a warning: the
/// hydrator tells it at its next pass.
///
/// # Errors
/// Only the ledger's.
pub async fn tell(opened: &Opened, ui: &Ui) -> Outcome {
    let settings = &opened.settings;
    if settings.redis.pods.is_empty() && settings.redis.discover.is_none() {
        return Ok(());
    }
    let facts = opened.read(opened.ledger.facts(None)).await?;
    if let State::Closed(why) = &facts.state {
        ui.warn(format_args!("the ledger is closed ({why}): pods are told once it is open"));
        return Ok(());
    }
    let pods = match find(opened).await {
        Ok(pods) => pods,
        Err(why) => {
            ui.warn(format_args!("pods weren't told: {why}; the hydrator tells them at its next pass"));
            return Ok(());
        }
    };
    let notice = notice(facts, &settings.cluster);
    let told = join_all(pods.iter().map(|pod| tell_one(pod, &notice, opened, ui))).await;
    let count = told.iter().filter(|told| **told).count();
    if !pods.is_empty() {
        let (of, cluster) = (plural(pods.len(), "pod", "pods"), &settings.cluster);
        ui.note(format_args!("told {count} of {of} of cluster '{cluster}'"));
    }
    Ok(())
}

fn notice(facts: Facts, cluster: &Arc<str>) -> Notice {
    Notice {
        identity: facts.identity,
        cluster: Arc::clone(cluster),
        catalogue: Arc::new(facts.catalogue),
        high_waters: facts.granted,
    }
}

/// The pods that other processes share with this one: in-process ones would be our own.
async fn find(opened: &Opened) -> Result<Vec<Target>, String> {
    let settings = &opened.settings.redis;
    let mut pods = roster(settings, &mut fastrand::Rng::new(), &opened.log)?;
    let found = tokio::time::timeout(LOOK_UP, pods.wait_for(|pods| !pods.is_empty())).await;
    let found = match found {
        Ok(Ok(pods)) => pods.to_vec(),
        Ok(Err(_)) | Err(_) => return Err("redis.discover finds none".to_owned()),
    };
    Ok(found.into_iter().filter(|pod| matches!(pod, Target::Redis(_))).collect())
}

async fn tell_one(pod: &Target, notice: &Notice, opened: &Opened, ui: &Ui) -> bool {
    let settings = &opened.settings.redis;
    // The pod bounds itself; this only says so once more.
    let bound = 2 * (settings.connect_timeout + settings.timeout);
    let pod = pod.open(settings, &opened.log);
    let why = match tokio::time::timeout(bound, pod.publish(notice)).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".to_owned(),
    };
    ui.warn(format_args!("pod {} wasn't told: {why}; the hydrator tells it at its next pass", pod.address()));
    false
}
