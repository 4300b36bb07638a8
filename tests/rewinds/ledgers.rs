//! A ledger that comes back as it was.

use std::time::Duration;

use tokio::time::Instant;

use crate::kinds::{Ledger, Outcome};
use crate::support::Cluster;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::wait;
use crate::world::World;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the ledger may jump, nobody looks after it at once. It waits all the same where a cluster knows a life that it never met.
const A_PERSON_COMES: Duration = Duration::from_secs(4);

/// What the ledger does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Wait,
    Jump,
}

impl Policy {
    pub const BOTH: [Policy; 2] = [Policy::Wait, Policy::Jump];

    pub fn set(self, cluster: &Cluster) {
        let name = match self {
            Policy::Wait => "wait",
            Policy::Jump => "jump",
        };
        cluster.succeed(&["ledger", "set", "--on-failover", name, "--yes"]);
    }
}

/// Who still knows what was granted.
#[derive(Clone, Copy, Debug)]
enum Witnesses {
    All,
    /// Processes begin afresh, and learn it from the pods.
    Pods,
    /// The pods are empty, and processes know it.
    Processes,
}

pub async fn run(
    world: &mut World,
    kind: Ledger,
    policy: Policy,
    rng: &mut fastrand::Rng,
) -> Result<Option<Outcome>, String> {
    let witnesses = [Witnesses::All, Witnesses::Pods, Witnesses::Processes][rng.usize(..3)];
    let past = keep(world, kind).await;
    more_is_granted(world.cluster.ledger()).await;
    if matches!(witnesses, Witnesses::Pods) {
        world.kill_processes();
    }
    if matches!(witnesses, Witnesses::Processes) {
        world.cluster.pods.iter_mut().for_each(Redis::kill);
        world.cluster.pods.iter_mut().for_each(Redis::restart);
    }
    let lives = lives(world.cluster.ledger());
    past.returns(&mut world.cluster);
    if matches!(witnesses, Witnesses::Pods) {
        world.start_processes();
    }
    let outcome = settle(&world.cluster, policy, &lives).await;
    let outcome = outcome.map_err(|why| format!("{why} ({witnesses:?})"))?;
    let since = Instant::now();
    world.callers.as_ref().expect("it began").served_since(since, PATIENCE).await?;
    world.cluster.ready().await;
    Ok(Some(outcome))
}

/// What it goes back to.
enum Past {
    Backup,
    Moment(String),
    Standby(Box<Postgres>),
    Files,
}

async fn keep(world: &mut World, kind: Ledger) -> Past {
    let cluster = &mut world.cluster;
    match kind {
        Ledger::BaseBackup => {
            cluster.ledger().back_up();
            Past::Backup
        }
        Ledger::PointInTime => {
            // One that was a standby has its predecessor's settings, and not its archive.
            if !cluster.ledger().data().with_file_name("archive").exists() {
                let ledger = cluster.postgres.as_mut().expect("it has one");
                ledger.archive();
                ledger.restart();
                is_open(cluster).await;
            }
            cluster.ledger().back_up();
            Past::Moment(cluster.ledger().moment())
        }
        Ledger::Standby => {
            let standby = cluster.ledger().standby();
            standby.fall_behind();
            Past::Standby(Box::new(standby))
        }
        Ledger::OldFiles => {
            let ledger = cluster.postgres.as_mut().expect("it has one");
            ledger.stop();
            let aside = ledger.data().with_file_name("aside");
            if aside.exists() {
                std::fs::remove_dir_all(aside).expect("an older copy can be removed");
            }
            ledger.set_files_aside();
            ledger.launch();
            is_open(cluster).await;
            Past::Files
        }
    }
}

impl Past {
    /// The ledger goes back to it, at the same address.
    fn returns(self, cluster: &mut Cluster) {
        let ledger = cluster.postgres.as_mut().expect("it has one");
        match self {
            Past::Backup | Past::Files => {
                ledger.crash();
                ledger.put_files_back();
                ledger.launch();
            }
            Past::Moment(moment) => {
                ledger.recover_to(&moment);
                // What is copied from it later is not to stop there.
                ledger.configure("recovery_target_lsn = ''");
            }
            Past::Standby(standby) => {
                ledger.crash();
                standby.promote();
                let proxy = cluster.ledger_proxy.as_ref().expect("it has one");
                proxy.lead_to(&[standby.port()]);
                *ledger = *standby;
            }
        }
    }
}

/// Every life that the ledger has been in so far, as a list of SQL.
fn lives(ledger: &Postgres) -> String {
    ledger.psql("SELECT string_agg(quote_literal(token), ', ') FROM blockhouse.lives")
}

async fn is_open(cluster: &Cluster) {
    let open = "SELECT state = 'open' FROM blockhouse.ledger";
    if wait_until_some(async || (cluster.ledger().try_psql(open).as_deref() == Ok("t")).then_some(()))
        .await
        .is_none()
    {
        let shown = cluster.command(&["ledger", "show"]);
        panic!("it does not open after a restart: {}", String::from_utf8_lossy(&shown.stdout));
    }
    more_is_granted(cluster.ledger()).await;
}

/// Waits until another grant of every sequence is recorded.
async fn more_is_granted(ledger: &Postgres) {
    let before =
        ledger.psql("SELECT string_agg(format('(%L, %s)', name, grants), ', ') FROM blockhouse.sequences");
    let more = "SELECT bool_and(s.grants > b.grants) FROM blockhouse.sequences AS s JOIN (VALUES";
    until(ledger, &format!("{more} {before}) AS b (name, grants) USING (name)")).await;
}

async fn until(ledger: &Postgres, sql: &str) {
    wait::until(PATIENCE, sql, async || ledger.try_psql(sql).as_deref() == Ok("t")).await;
}

/// Waits until the ledger is in a new life, and open; accepts it where a person has to. Gives how that came.
async fn settle(cluster: &Cluster, policy: Policy, lives: &str) -> Result<Outcome, String> {
    let ledger = cluster.ledger();
    let told = "SELECT count(DISTINCT r.sequence) FROM blockhouse.reports AS r WHERE r.answers = l.token";
    let waits = format!("l.state = 'closed' AND ({told}) = {}", cluster.sequences().len());
    let goes_on = format!("l.state = 'open' AND l.token NOT IN ({lives})");
    let why = "SELECT string_agg(DISTINCT m.reason, ' ') FROM blockhouse.moves AS m WHERE m.epoch = l.epoch";
    let look = format!("SELECT {goes_on}, {waits}, ({why}) FROM blockhouse.ledger AS l");
    let (mut waited, mut seen, mut since) = (false, String::new(), None);
    let decided = wait_until_some(async || {
        seen = ledger.try_psql(&look).unwrap_or_else(|error| error);
        let mut cells = seen.split('|');
        let (goes_on, waits) = (cells.next() == Some("t"), cells.next() == Some("t"));
        let since = *since.get_or_insert_with(Instant::now);
        if waits && (policy == Policy::Wait || since.elapsed() > A_PERSON_COMES) && !waited {
            waited = cluster.command(&["ledger", "accept-failover", "--yes"]).status.success();
        }
        goes_on.then(|| cells.next().unwrap_or_default().to_owned())
    })
    .await;
    match (decided.as_deref(), waited) {
        (Some("accepted"), true) => Ok(Outcome::Waited),
        (Some("jumped"), false) if policy == Policy::Jump => Ok(Outcome::Jumped),
        (Some(reason), _) => {
            Err(format!("it went on by itself, for the reason '{reason}', under {policy:?}"))
        }
        (None, _) => Err(format!("not decided within {PATIENCE:?}: goes on, waits, why: {seen}")),
    }
}

async fn wait_until_some<T>(mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let (mut found, end) = (None, Instant::now() + PATIENCE);
    wait::until(PATIENCE * 2, "it is decided", async || {
        found = look().await;
        found.is_some() || Instant::now() > end
    })
    .await;
    found
}
