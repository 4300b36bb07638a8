//! Telling the cluster's pods what a command has changed, so that it is known at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::format::plural;
use super::opened::Opened;
use super::ui::Ui;
use crate::ledger::{Facts, State};
use crate::pods::discovery::roster;
use crate::pods::{Notice, PodError, Target};

/// Why that is no failure.
const LATER: &str = "the hydrator does so at its next pass";

/// How long a look-up of the pods may take.
const LOOK_UP: Duration = Duration::from_secs(2);

/// Writes catalogue and high water to every pod of the configured cluster. What can't be told is a warning: the change
/// is made, and the hydrator tells it at its next pass.
pub async fn tell(opened: &Opened, ui: &Ui) {
    let settings = &opened.settings;
    if settings.redis.pods.is_empty() && settings.redis.discover.is_none() {
        return;
    }
    let (facts, pods) = match look(opened).await {
        Ok(found) => found,
        Err(why) => return ui.warn(format_args!("pods weren't told: {why}; {LATER}")),
    };
    let notice = notice(facts, &settings.cluster);
    let told = join_all(pods.iter().map(|pod| tell_one(pod, &notice, opened, ui))).await;
    let count = told.iter().filter(|told| **told).count();
    if !pods.is_empty() {
        let (of, cluster) = (plural(pods.len(), "pod", "pods"), &settings.cluster);
        ui.note(format_args!("told {count} of {of} of cluster '{cluster}'"));
    }
}

/// What there is to tell, and whom.
async fn look(opened: &Opened) -> Result<(Facts, Vec<Arc<dyn Target>>), String> {
    let facts = opened.read(opened.ledger.facts(None)).await.map_err(|failure| failure.line)?;
    match &facts.state {
        State::Open => Ok((facts, find(opened).await?)),
        State::Closed(why) => Err(format!("the ledger is closed ({why})")),
    }
}

fn notice(facts: Facts, cluster: &Arc<str>) -> Notice {
    Notice {
        identity: facts.identity,
        cluster: Arc::clone(cluster),
        catalogue: Arc::new(facts.catalogue),
        high_waters: facts.granted,
        read_at_us: facts.read_at_us,
    }
}

/// The pods that other processes share with this one: in-process ones would be our own.
async fn find(opened: &Opened) -> Result<Vec<Arc<dyn Target>>, String> {
    let settings = &opened.settings.redis;
    let (mut pods, _) = roster(settings, &mut fastrand::Rng::new(), &opened.log)?;
    let found = tokio::time::timeout(LOOK_UP, pods.wait_for(|pods| !pods.is_empty())).await;
    let found = match found {
        Ok(Ok(pods)) => pods.to_vec(),
        Ok(Err(_)) | Err(_) => return Err("redis.discover finds none".to_owned()),
    };
    Ok(found.into_iter().filter(|pod| pod.shared()).collect())
}

async fn tell_one(pod: &Arc<dyn Target>, notice: &Notice, opened: &Opened, ui: &Ui) -> bool {
    let settings = &opened.settings.redis;
    // The pod bounds itself; this only says so once more.
    let bound = 2 * (settings.connect_timeout + settings.timeout);
    let pod = pod.open(settings, &opened.log);
    let why = match tokio::time::timeout(bound, pod.publish(notice)).await {
        Ok(Ok(())) => return true,
        Ok(Err(refused @ PodError::Refused(_))) => refused.to_string(),
        Ok(Err(error)) => format!("{error}; {LATER}"),
        Err(_) => format!("no answer; {LATER}"),
    };
    ui.warn(format_args!("pod {} wasn't told: {why}", pod.address()));
    false
}
