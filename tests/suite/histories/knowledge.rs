//! Who still knows what a ledger has lost.

use tokio::net::TcpStream;

use super::past::Event;
use super::{NOTICE, PACE, callers, ends_with_all_served};
use crate::support::load::Running;
use crate::support::process::Process;
use crate::support::proxy::Mode;
use crate::support::redis::Redis;
use crate::support::{Cluster, wait};

/// What is left of a cluster's knowledge when its ledger has gone back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Knowledge {
    /// Processes and pods live on.
    Fresh,
    /// One pod that was cut off before, and two hours ago at that; processes and other pods are new.
    Old,
    /// Nothing: processes and pods are new.
    Nobody,
}
pub use Knowledge::{Fresh, Nobody, Old};

const TWO_HOURS_US: i64 = 2 * 3_600_000_000;

impl Knowledge {
    /// The ledger goes back under load, without grants that every process has heard of. Gives the load, where somebody lives on.
    pub async fn goes_back(self, cluster: &mut Cluster, event: Event) -> Option<Running> {
        let load = if self == Fresh { callers(cluster).retrying() } else { callers(cluster) }.start();
        load.until_answered(300).await;
        if self == Old {
            cluster.pod_proxies[0].set(Mode::Reset);
        }
        let past = event.keep(cluster.ledger());
        let kept = granted(cluster);
        for process in cluster.allocators.iter().chain(&cluster.hydrators) {
            until_knows_more(process, kept).await;
        }
        if self == Fresh {
            past.returns(cluster);
            assert!(granted(cluster) <= kept, "it went back");
            ends_with_all_served(load).await;
            // Calmer: on a busy machine an operator's commands take longer than callers need for all that the pods hold.
            return Some(callers(cluster).pace(3 * PACE).retrying().start());
        }
        cluster.allocators.iter_mut().chain(&mut cluster.hydrators).for_each(Process::kill);
        load.stop().await;
        let lost = granted(cluster);
        past.returns(cluster);
        assert!(granted(cluster) <= kept && kept < lost, "it went back");
        let forgetful = if self == Old { 1.. } else { 0.. };
        for pod in &mut cluster.pods[forgetful] {
            pod.kill();
            pod.restart();
        }
        if self == Old {
            make_older(&cluster.pods[0]);
            cluster.pod_proxies[0].set(Mode::Pass);
            start_processes(cluster).await;
        }
        None
    }
}

fn granted(cluster: &Cluster) -> i64 {
    let sql = "SELECT granted FROM blockhouse.sequences WHERE name = 'tasks'";
    cluster.ledger().psql(sql).parse().expect("a number")
}

async fn until_knows_more(process: &Process, than: i64) {
    wait::until(3 * NOTICE, &format!("{} knows of grants after {than}", process.name()), async || {
        let status = process.status().await;
        let mut sequences = status["sequences"].as_array().into_iter().flatten();
        let tasks = sequences.find(|sequence| sequence["name"] == "tasks");
        let known = tasks.and_then(|tasks| tasks["granted"].as_str()?.parse::<i64>().ok());
        known.is_some_and(|known| known > than)
    })
    .await;
}

/// What the pod knows was read two hours earlier than it was.
pub fn make_older(pod: &Redis) {
    for key in pod.keys("*:pod:*") {
        if pod.try_run::<bool>(&["HEXISTS", &key, "read_at"]) == Ok(true) {
            pod.run::<i64>(&["HINCRBY", &key, "read_at", &(-TWO_HOURS_US).to_string()]);
        }
    }
}

/// Starts what was ended. Whether it gets ready is for the ledger to say.
pub async fn start_processes(cluster: &mut Cluster) {
    for process in cluster.allocators.iter_mut().chain(&mut cluster.hydrators) {
        process.start_again();
    }
    for process in cluster.allocators.iter().chain(&cluster.hydrators) {
        wait::until(NOTICE, &format!("{} answers", process.name()), async || {
            TcpStream::connect(("127.0.0.1", process.admin_port())).await.is_ok()
        })
        .await;
    }
}
