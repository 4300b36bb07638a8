//! Who has seen which catalogue: what a command that moves a sequence waits for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Stamp;

/// A process that was not heard for so long is no longer spoken of.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// A process that was not heard for so long is silent: it says so each second.
const SILENT_AFTER: Duration = Duration::from_secs(3);

/// What a process says of itself when it ends in order: nobody needs to wait for it.
pub const GONE: Stamp = Stamp { epoch: i64::MAX, version: i64::MAX };

/// What a witness is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One that hands out IDs or fills pods, by its instance's name.
    Process,
    /// One of the cluster's pods, by its address.
    Pod,
}

/// One process or pod of a cluster, as the cluster's leader knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Witness {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: Arc<str>,
    /// The catalogue that it has.
    pub stamp: Stamp,
    /// Not heard for seconds: stopped, cut off, or gone.
    pub silent: bool,
}

/// What is known of one cluster's processes and pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterSeen {
    /// Its name.
    pub cluster: String,
    /// Whether somebody leads it, and so keeps `seen` true.
    pub led: bool,
    /// As its leader wrote it.
    pub seen: Vec<Witness>,
    /// Processes that were granted IDs in the last hour.
    pub holders: Vec<String>,
}

/// As it is stored.
pub fn to_text(seen: &[Witness]) -> String {
    serde_json::to_string(seen).unwrap_or_default()
}

/// What was stored; nothing where that can't be read, as where a newer release wrote it.
pub fn from_text(text: &str) -> Vec<Witness> {
    serde_json::from_str(text).unwrap_or_default()
}

/// A process as one pod heard it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Its name.
    pub instance: Arc<str>,
    /// The catalogue that it has.
    pub stamp: Stamp,
    /// How long ago, by the pod's clock.
    pub ago: Duration,
}

/// The processes of a cluster, put together from what each pod heard. What was heard last counts, and of two things heard in the same
/// second the older one. A process that has ended in order is none.
pub fn processes(heard: impl IntoIterator<Item = Present>) -> Vec<Witness> {
    let mut by_name: BTreeMap<Arc<str>, (Stamp, Duration)> = BTreeMap::new();
    for Present { instance, stamp, ago } in heard {
        if ago > FORGOTTEN_AFTER {
            continue;
        }
        let (has, last) = by_name.entry(instance).or_insert((stamp, ago));
        if (ago, stamp) < (*last, *has) {
            (*has, *last) = (stamp, ago);
        }
    }
    by_name.retain(|_, (has, _)| *has != GONE);
    let witness =
        |(name, (stamp, ago))| Witness { kind: Kind::Process, name, stamp, silent: ago > SILENT_AFTER };
    by_name.into_iter().map(witness).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_what_any_pod_heard_last() {
        let heard = |instance: &str, version, seconds| Present {
            instance: instance.into(),
            stamp: Stamp { epoch: 1, version },
            ago: Duration::from_secs(seconds),
        };
        let mut all = vec![heard("a", 2, 0), heard("b", 1, 5), heard("a", 1, 50), heard("b", 2, 59)];
        all.extend([heard("a", 3, 0), heard("c", 9, 61), heard("ended", 1, 9), heard("again", 1, 2)]);
        all.push(Present { stamp: GONE, ..heard("ended", 0, 7) });
        all.push(Present { stamp: GONE, ..heard("again", 0, 7) });
        let found: Vec<_> = processes(all)
            .into_iter()
            .map(|one| (one.name.to_string(), one.stamp.version, one.silent))
            .collect();
        let expected = [("a", 2, false), ("again", 1, false), ("b", 1, true)];
        assert_eq!(found, expected.map(|(name, version, silent)| (name.to_owned(), version, silent)));
    }
}
