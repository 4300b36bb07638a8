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

/// The processes of a cluster, as its leader knows them from what its pods heard.
///
/// What was heard last counts; of two things heard in the same second, the older one. Who isn't heard any more is remembered for a
/// minute, also where no pod can be asked meanwhile.
#[derive(Debug, Default)]
pub struct Roll {
    /// By name: the catalogue that it had, and when it was heard.
    heard: BTreeMap<Arc<str>, (Stamp, Duration)>,
}

impl Roll {
    /// Takes in what the pods heard, as read at `now`.
    pub fn hear(&mut self, presents: impl IntoIterator<Item = Present>, now: Duration) {
        let mut latest: BTreeMap<Arc<str>, (Duration, Stamp)> = BTreeMap::new();
        for Present { instance, stamp, ago } in presents {
            let last = latest.entry(instance).or_insert((ago, stamp));
            *last = (*last).min((ago, stamp));
        }
        for (name, (ago, stamp)) in latest {
            let at = now.saturating_sub(ago);
            let known = self.heard.entry(name).or_insert((stamp, at));
            // Pods count in whole seconds.
            if at + Duration::from_secs(1) >= known.1 {
                *known = (stamp, at);
            }
        }
        self.heard.retain(|_, (_, at)| now.saturating_sub(*at) <= FORGOTTEN_AFTER);
    }

    /// Whether somebody of this name was heard in the last minute, also if it has ended since.
    pub fn has_heard(&self, name: &str) -> bool {
        self.heard.contains_key(name)
    }

    /// Who there is at `now`. A process that has ended in order is not.
    pub fn processes(&self, now: Duration) -> Vec<Witness> {
        let here = self.heard.iter().filter(|(_, (stamp, _))| *stamp != GONE);
        here.map(|(name, (stamp, at))| Witness {
            kind: Kind::Process,
            name: Arc::clone(name),
            stamp: *stamp,
            silent: now.saturating_sub(*at) > SILENT_AFTER,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn heard(instance: &str, version: i64, seconds: u64) -> Present {
        let (instance, ago) = (instance.into(), Duration::from_secs(seconds));
        Present { instance, stamp: Stamp { epoch: 1, version }, ago }
    }

    fn gone(instance: &str, seconds: u64) -> Present {
        Present { stamp: GONE, ..heard(instance, 0, seconds) }
    }

    /// Names and versions; a silent one has a question mark.
    fn processes(roll: &Roll, now: Duration) -> String {
        let one =
            |of: &Witness| format!("{}{}{}", of.name, of.stamp.version, if of.silent { "?" } else { "" });
        roll.processes(now).iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_process_is_known_by_what_any_pod_heard_last() {
        let mut roll = Roll::default();
        let mut all = vec![heard("a", 2, 0), heard("b", 1, 5), heard("a", 1, 50), heard("b", 2, 59)];
        all.extend([heard("a", 3, 0), heard("c", 9, 61), heard("d", 1, 9), heard("e", 1, 2)]);
        all.extend([gone("d", 7), gone("e", 7)]);
        roll.hear(all, NOW);
        assert_eq!(processes(&roll, NOW), "a2 b1? e1");
    }

    #[test]
    fn what_is_written_reads_back_and_what_cannot_be_read_says_nothing() {
        let seen = [Witness { kind: Kind::Pod, name: "a".into(), stamp: Stamp::default(), silent: true }];
        assert_eq!(from_text(&to_text(&seen)), seen);
        assert_eq!(from_text("{\"newer\": 1}"), []);
    }

    #[test]
    fn who_was_heard_within_a_minute_is_known_and_silent_after_three_seconds() {
        let mut roll = Roll::default();
        roll.hear([heard("a", 1, 3), heard("b", 1, 4), heard("c", 1, 60), gone("d", 1)], NOW);
        assert_eq!(processes(&roll, NOW), "a1 b1? c1?");
        assert_eq!(["a", "d", "e"].map(|name| roll.has_heard(name)), [true, true, false]);
        roll.hear([heard("a", 2, 4), heard("b", 2, 6)], NOW);
        assert_eq!(processes(&roll, NOW), "a2? b1? c1?", "pods count in whole seconds");
    }

    #[test]
    fn who_is_not_heard_any_more_is_remembered_for_a_minute() {
        let mut roll = Roll::default();
        roll.hear([heard("a", 1, 0), heard("b", 1, 0)], NOW);
        let (soon, later) = (NOW + Duration::from_secs(30), NOW + Duration::from_secs(61));
        // No pod could be asked, or one that hears only the other.
        roll.hear([], soon);
        assert_eq!(processes(&roll, soon), "a1? b1?");
        roll.hear([heard("a", 2, 1)], soon);
        assert_eq!(processes(&roll, soon), "a2 b1?");
        roll.hear([heard("a", 1, 25)], soon);
        assert_eq!(processes(&roll, soon), "a2 b1?", "what is older teaches nothing");
        roll.hear([gone("a", 0)], later);
        assert_eq!(processes(&roll, later), "");
    }
}
