//! Waiting until everybody knows of a new generation, or naming who doesn't.

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};

use crate::block::Stamp;
use crate::block::witness::{ClusterSeen, Kind};
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::format::plural;
use crate::cli::global::duration;
use crate::cli::opened::Opened;
use crate::cli::ui::Ui;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long to wait for processes and pods.
#[derive(Debug, Clone, Args)]
pub struct Wait {
    /// How long to wait until every process and pod knows of it.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    wait: Duration,
}

impl Wait {
    /// Returns once every cluster's processes and pods have the present catalogue: from then on nothing of an earlier generation
    /// is handed out.
    ///
    /// # Errors
    /// Who has not within that time; what was changed stays changed.
    pub async fn until_seen(&self, opened: &Opened, ui: &Ui, name: &str) -> Outcome {
        let facts = opened.read(opened.ledger.facts(None)).await?;
        let (life, stamp) = (facts.identity.life, facts.catalogue.stamp);
        let end = Instant::now() + self.wait;
        loop {
            let clusters = opened.read(opened.ledger.seen()).await?;
            if opened.read(opened.ledger.facts(None)).await?.identity.life != life {
                let line = format!(
                    "the ledger began another life meanwhile, which may have lost the change: see 'blockhouse sequence show {name}', and \
                     repeat the command if it is not in a later generation"
                );
                return Err(Failure::new(Exit::Failed, line));
            }
            let missing: Vec<String> = clusters.iter().flat_map(|cluster| missing(cluster, stamp)).collect();
            // Where nobody ever led, nobody will say so in a moment.
            let mut behind = clusters.iter().filter(|cluster| !self::missing(cluster, stamp).is_empty());
            let hopeless = behind.all(|cluster| !cluster.led && cluster.seen.is_empty());
            if missing.is_empty() {
                clusters.iter().for_each(|cluster| ui.note(all_have(cluster)));
                clusters.iter().filter_map(unheard).for_each(|line| ui.note(line));
                return Ok(());
            }
            if hopeless || Instant::now() >= end {
                let line = format!(
                    "it is done, but not everybody is known to have heard of it: IDs of '{name}' granted before may still \
                     be handed out by {}",
                    missing.join("; ")
                );
                return Err(Failure::new(Exit::Failed, line));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Whether somebody says what the cluster's processes know.
fn answers(cluster: &ClusterSeen) -> bool {
    cluster.led && cluster.seen.iter().any(|witness| witness.kind == Kind::Pod)
}

/// Who of a cluster is not known to have heard, and what to do about each.
fn missing(cluster: &ClusterSeen, stamp: Stamp) -> Vec<String> {
    let ClusterSeen { cluster: name, seen, holders, .. } = cluster;
    if !answers(cluster) {
        let why = match cluster.led {
            true => "whose leader has not named any pod yet",
            false => "which no hydrator leads",
        };
        let named = match holders.is_empty() {
            true => String::new(),
            false => format!(" ({})", holders.join(", ")),
        };
        return vec![format!(
            "any process{named} of cluster '{name}', {why}: those with pods hear of it within seconds, those without within a \
             minute of reaching the ledger; give them that time, or restart them"
        )];
    }
    let behind = seen.iter().filter(|witness| witness.stamp < stamp);
    behind
        .map(|witness| match (witness.kind, witness.silent) {
            (Kind::Process, false) => format!("process {} of cluster '{name}' (restart it)", witness.name),
            (Kind::Process, true) => format!(
                "process {} of cluster '{name}', which has been silent for seconds (restart it, unless it has ended)",
                witness.name
            ),
            (Kind::Pod, _) => format!(
                "processes that reach only pod {} of cluster '{name}', which can't be reached (restart that Redis, or take it \
                 out of redis.pods)",
                witness.name
            ),
        })
        .collect()
}

/// Who was granted IDs lately and is heard by none of its cluster's pods: ended, or cut off from them since it started.
fn unheard(cluster: &ClusterSeen) -> Option<String> {
    let ClusterSeen { cluster: name, seen, holders, .. } = cluster;
    let is_heard = |holder: &&String| seen.iter().any(|witness| *witness.name == ***holder);
    let unheard: Vec<&str> = holders.iter().filter(|holder| !is_heard(holder)).map(String::as_str).collect();
    (!unheard.is_empty()).then(|| {
        format!(
            "not heard by any pod of cluster '{name}', but granted IDs in the last hour: {}. Unless it has ended, it hears of it \
             within a minute of reaching the ledger",
            unheard.join(", ")
        )
    })
}

fn all_have(cluster: &ClusterSeen) -> String {
    let count = |kind| cluster.seen.iter().filter(|witness| witness.kind == kind).count();
    format!(
        "{} and {} of cluster '{}' have heard of it",
        plural(count(Kind::Process), "process", "processes"),
        plural(count(Kind::Pod), "pod", "pods"),
        cluster.cluster
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Witness;

    const NOW: Stamp = Stamp { epoch: 1, version: 7 };

    fn cluster(seen: &[(Kind, &str, i64, bool)]) -> ClusterSeen {
        let witness = |(kind, name, version, silent): &(Kind, &str, i64, bool)| Witness {
            kind: *kind,
            name: (*name).into(),
            stamp: Stamp { epoch: 1, version: *version },
            silent: *silent,
        };
        ClusterSeen {
            cluster: "east".into(),
            led: true,
            seen: seen.iter().map(witness).collect(),
            holders: vec!["a".into(), "b".into()],
        }
    }

    #[test]
    fn who_is_behind_is_named_and_who_is_not_is_not() {
        let all = cluster(&[(Kind::Process, "a", 7, true), (Kind::Pod, "p:1", 8, false)]);
        assert_eq!(missing(&all, NOW), Vec::<String>::new());
        assert_eq!(all_have(&all), "1 process and 1 pod of cluster 'east' have heard of it");
        assert!(unheard(&all).is_some_and(|line| line.contains("last hour: b. Unless it has ended")));
        let both = cluster(&[(Kind::Process, "a", 7, false), (Kind::Process, "b", 7, false)]);
        assert_eq!(unheard(&both), None);
        let some = cluster(&[
            (Kind::Process, "a", 6, true),
            (Kind::Process, "b", 6, false),
            (Kind::Process, "c", 7, false),
            (Kind::Pod, "p:1", 7, false),
            (Kind::Pod, "p:2", 0, true),
        ]);
        let named = missing(&some, NOW);
        assert_eq!(named.len(), 3, "{named:?}");
        for (line, says) in
            named.iter().zip(["process a of cluster 'east', which has been silent", "process b", "pod p:2"])
        {
            assert!(line.contains(says), "{line}");
        }
    }

    #[test]
    fn where_nobody_can_say_the_cluster_and_its_holders_are_named() {
        let nobody = ClusterSeen {
            led: false,
            ..cluster(&[(Kind::Process, "a", 7, false), (Kind::Pod, "p:1", 7, false)])
        };
        let podless = cluster(&[(Kind::Process, "a", 7, false)]);
        for (cluster, why) in [(nobody, "which no hydrator leads"), (podless, "has not named any pod")] {
            let [line] = &missing(&cluster, NOW)[..] else { panic!("one line") };
            assert!(line.contains("(a, b) of cluster 'east'") && line.contains(why), "{line}");
        }
    }
}
