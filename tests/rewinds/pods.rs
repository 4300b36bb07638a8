//! A pod that comes back as it was.

use std::collections::BTreeSet;
use std::time::Duration;

use blockhouse::block::Span;
use serde_json::Value;
use tokio::time::Instant;

use crate::kinds::{Outcome, Pod};
use crate::support::cluster::pod_in;
use crate::support::process::Process;
use crate::support::redis::{Redis, eventually};
use crate::support::{http, wait};
use crate::trials::lists;
use crate::world::World;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// Entries of lists, whatever life of the server they belong to.
const OLD_LISTS: &str = "
    local found = {}
    for _, key in ipairs(redis.call('KEYS', '*')) do
        if redis.call('TYPE', key).ok == 'list' then
            for _, entry in ipairs(redis.call('LRANGE', key, 0, -1)) do
                table.insert(found, key:match('([^:]+):%d+$') .. ' ' .. entry)
            end
        end
    end
    return found";

type Entries = BTreeSet<String>;

pub async fn run(world: &mut World, kind: Pod, rng: &mut fastrand::Rng) -> Result<Option<Outcome>, String> {
    let at = rng.usize(..world.cluster.pods.len());
    let (kept, copy) = keep(world, kind, at).await;
    // Some of what will come back was popped meanwhile.
    let gone = |world: &World| kept.difference(&entries(world, at)).next().is_some();
    wait::until(PATIENCE, "something is popped of what will come back", async || gone(world)).await;
    let popped: Entries = kept.difference(&entries(world, at)).cloned().collect();
    rewind(world, kind, at, copy, rng);
    let came_back = !all_entries(&world.cluster.pods[at]).is_disjoint(&popped);
    if kind != Pod::Empty && !came_back {
        return Ok(None);
    }
    let refused = used_again(world, at).await;
    let (again, now) = (entries(world, at), Instant::now());
    if let Some(twice) = popped.intersection(&again).next() {
        return Err(format!("{twice} lies in a list that is used, and was popped before"));
    }
    world.callers.as_ref().expect("it began").served_since(now, PATIENCE).await?;
    Ok(Some(if refused { Outcome::Refused } else { Outcome::Anew }))
}

/// Keeps the present, to go back to: its entries, and the server that has them, where that is another one.
async fn keep(world: &World, kind: Pod, at: usize) -> (Entries, Option<Redis>) {
    let pod = &world.cluster.pods[at];
    match kind {
        Pod::Snapshot => {
            let _: () = pod.run(&["SAVE"]);
            (entries(world, at), None)
        }
        Pod::Empty => (entries(world, at), None),
        Pod::Replica | Pod::Demoted => {
            let copy = Redis::vanilla();
            replicable(pod);
            replicable(&copy);
            if pod.info("repl_backlog_active") == "0" {
                // The first replica ever begins another life of its master.
                attach(&copy, pod);
                detach(&copy, pod);
                used_again(world, at).await;
            }
            attach(&copy, pod);
            // With a replica it is none of the pods, so that all stays there.
            let kept = entries(world, at);
            detach(&copy, pod);
            used_again(world, at).await;
            (kept, Some(copy))
        }
    }
}

fn rewind(world: &mut World, kind: Pod, at: usize, copy: Option<Redis>, rng: &mut fastrand::Rng) {
    let pod = &mut world.cluster.pods[at];
    match (kind, copy) {
        (Pod::Empty, _) if rng.bool() => {
            let _: () = pod.run(&["FLUSHALL"]);
        }
        (Pod::Empty, _) => {
            pod.kill();
            let _ = std::fs::remove_file(pod.folder().join("dump.rdb"));
            pod.restart();
        }
        (Pod::Snapshot, _) => {
            pod.kill();
            pod.restart();
        }
        (Pod::Replica, Some(copy)) => {
            pod.kill();
            world.cluster.pod_proxies[at].lead_to(&[copy.port()]);
            *pod = copy;
        }
        (Pod::Demoted, Some(copy)) => {
            attach(pod, &copy);
            promote(pod);
        }
        (Pod::Replica | Pod::Demoted, None) => unreachable!("a copy was kept"),
    }
}

/// Sends the initial synchronisation at once.
fn replicable(server: &Redis) {
    let _: () = server.run(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
}

fn attach(replica: &Redis, master: &Redis) {
    let _: () = replica.run(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    eventually("the replica is in step", || {
        replica.info("role") == "slave"
            && replica.info("master_link_status") == "up"
            && replica.info("master_sync_in_progress") == "0"
    });
}

fn detach(replica: &Redis, master: &Redis) {
    promote(replica);
    eventually("the replica is gone", || master.info("connected_slaves") == "0");
}

fn promote(replica: &Redis) {
    let _: () = replica.run(&["REPLICAOF", "NO", "ONE"]);
}

/// In the lists that are in use.
fn entries(world: &World, at: usize) -> Entries {
    let named = |(sequence, spans): (String, Vec<Span>)| {
        spans.into_iter().map(|span| format!("{sequence} {span}")).collect::<Vec<_>>()
    };
    lists::read(&world.cluster.pods[at]).into_iter().flat_map(named).collect()
}

fn all_entries(pod: &Redis) -> Entries {
    let found: Vec<String> = pod.run(&["EVAL", OLD_LISTS, "0"]);
    found.into_iter().collect()
}

/// Nothing where it can't be had at this moment.
async fn status(process: &Process) -> Value {
    let answer = http::get(process.admin_port(), "/api/v1/status").await;
    answer.ok().and_then(|answer| serde_json::from_slice(&answer.body).ok()).unwrap_or_default()
}

/// Waits until processes use the pod, in its present life. Gives whether one refused it meanwhile.
async fn used_again(world: &World, at: usize) -> bool {
    let port = world.cluster.pod_proxies[at].port();
    let mut refused = false;
    wait::until(PATIENCE, "the pod is used again", async || {
        let (mut all_use_it, mut processes) = (true, world.cluster.allocators.iter());
        let hydrators = world.cluster.hydrators.iter();
        for process in processes.by_ref().chain(hydrators) {
            let pod = pod_in(&status(process).await, port);
            refused |= pod["state"] == "refused";
            all_use_it &= pod["state"] == "up";
        }
        all_use_it && lists::read(&world.cluster.pods[at]).len() == world.cluster.sequences().len()
    })
    .await;
    refused
}
