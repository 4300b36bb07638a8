//! What an answer proves about the server that gave it (S3, S5): pure.

use super::Scope;

/// One life of a server's memory: `run_id` changes with the process, `master_replid` with every promotion.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// Of the server's process.
    pub run_id: String,
    /// Its `master_replid`.
    pub replid: String,
}

/// The facts that a server returned in the same instant as it did its work.
#[derive(Debug, Clone)]
pub struct Proof {
    /// As it was sent.
    pub nonce: String,
    /// Whether it went on to the work it was asked for.
    pub done: bool,
    /// Which life of its memory answered.
    pub life: Life,
    /// `master`, or it is none.
    pub role: String,
    /// Attached to it.
    pub replicas: u64,
    /// Whether it is a node of a Redis Cluster.
    pub cluster_node: bool,
    /// Whose pod it is, as ledger id and cluster; empty while nobody wrote to it.
    pub owner: (String, String),
    /// Of the pop counter.
    pub token: u64,
    /// Entries popped since it began.
    pub popped: u64,
    /// Another process, or this one, found its memory restored.
    pub restored: bool,
}

impl Proof {
    /// Why the server must not be used as a pod of `scope` by a connection that began in `life`, for people. The server
    /// asked the same before it did anything; both must come to the same answer.
    pub fn refusal(&self, life: Option<&Life>, scope: Option<&Scope>) -> Option<String> {
        if self.role != "master" {
            return Some(format!("it is a {} of another server", self.role));
        }
        if self.replicas != 0 {
            return Some(format!(
                "it has {} attached: a failover between them would bring popped blocks back",
                if self.replicas == 1 {
                    "a replica".to_owned()
                } else {
                    format!("{} replicas", self.replicas)
                }
            ));
        }
        if self.cluster_node {
            return Some("it is a node of a Redis Cluster".to_owned());
        }
        if life.is_some_and(|life| *life != self.life) {
            return Some(
                "it restarted, or was demoted and promoted again, while the connection stayed".to_owned(),
            );
        }
        if self.restored {
            return Some(
                "its memory was replaced by an older copy: restart that Redis, or empty it".to_owned(),
            );
        }
        let (ledger, cluster) = (&self.owner.0, &self.owner.1);
        let scope = scope.filter(|_| !ledger.is_empty())?;
        if *ledger != scope.ledger.to_string() {
            return Some(format!(
                "it holds blocks of ledger {ledger} (cluster '{cluster}'), not of ledger {} (cluster '{}'): pin ledger.id, \
                 or restart that Redis",
                scope.ledger, scope.cluster
            ));
        }
        (*cluster != *scope.cluster).then(|| {
            format!(
                "two clusters on one pod: it belongs to cluster '{cluster}', not to '{}': give each its own pods, or \
                 restart that Redis",
                scope.cluster
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn proof() -> Proof {
        Proof {
            nonce: "1".to_owned(),
            done: true,
            life: Life { run_id: "a".to_owned(), replid: "b".to_owned() },
            role: "master".to_owned(),
            replicas: 0,
            cluster_node: false,
            owner: (Uuid::nil().to_string(), "eu".to_owned()),
            token: 5,
            popped: 0,
            restored: false,
        }
    }

    fn scope() -> Scope {
        Scope { ledger: Uuid::nil(), cluster: "eu".into() }
    }

    #[test]
    fn a_lone_master_in_the_same_life_is_a_pod() {
        let proof = proof();
        assert_eq!(proof.refusal(Some(&proof.life), Some(&scope())), None);
        assert_eq!(proof.refusal(None, None), None);
    }

    #[test]
    fn an_unclaimed_pod_is_anybodys() {
        let proof = Proof { owner: (String::new(), String::new()), ..proof() };
        assert_eq!(proof.refusal(None, Some(&scope())), None);
    }

    #[test]
    fn everything_else_is_refused_with_the_reason() {
        let other_life = Life { run_id: "a".to_owned(), replid: "c".to_owned() };
        let other_ledger = (Uuid::max().to_string(), "eu".to_owned());
        let other_cluster = (Uuid::nil().to_string(), "us".to_owned());
        for (proof, reason) in [
            (Proof { role: "slave".to_owned(), ..proof() }, "slave of another server"),
            (Proof { replicas: 1, ..proof() }, "a replica attached"),
            (Proof { replicas: 2, ..proof() }, "2 replicas attached"),
            (Proof { cluster_node: true, ..proof() }, "Redis Cluster"),
            (Proof { life: other_life, ..proof() }, "promoted"),
            (Proof { restored: true, ..proof() }, "older copy"),
            (Proof { owner: other_ledger, ..proof() }, "ffffffff-ffff"),
            (Proof { owner: other_cluster, ..proof() }, "'us', not to 'eu'"),
        ] {
            let refusal = proof.refusal(Some(&self::proof().life), Some(&scope()));
            assert!(refusal.as_ref().is_some_and(|text| text.contains(reason)), "{reason}: {refusal:?}");
        }
    }
}
