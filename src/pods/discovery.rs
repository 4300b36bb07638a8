//! Which pods there are: a fixed list, or what DNS says.

mod lookup;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::ExposeSecret;
use slog::{info, warn};
use tokio::sync::watch;
use tokio::time::sleep;

use self::lookup::Lookup;
use super::{Change, Target, memory, redis};
use crate::config::settings;

/// The pods as of now; changes with discovery. Sorted by address, no address twice.
pub type Roster = watch::Receiver<Arc<[Arc<dyn Target>]>>;

/// In-process pods are for trying things out.
const MEMORY_PODS_MAX: usize = 64;

/// Addresses that are remembered beyond the present ones, with what is known of their servers.
const KNOWN_MAX: usize = 1024;

/// The fixed list of `redis.pods` (`memory:N` makes N in-process pods), or a task on the present `LocalSet` that looks
/// `redis.discover` up every `discover_interval` until all receivers are gone. A look-up that fails keeps what was
/// known and logs once until it succeeds again; one that is empty counts as failed. Until the first one has succeeded,
/// there are no pods.
///
/// Also gives the servers behind it, whose log-in may change.
///
/// # Errors
/// What is wrong with a URL, for people, without its secrets; or with the system's DNS configuration.
pub fn roster(
    settings: &settings::Redis,
    rng: &mut fastrand::Rng,
    log: &slog::Logger,
) -> Result<(Roster, Servers), String> {
    let fixed = fixed(settings, rng)?;
    let servers = Servers::new(settings, &fixed);
    let Some(discover) = &settings.discover else {
        return Ok((watch::channel(fixed).1, servers));
    };
    if !fixed.is_empty() {
        return Err(
            "redis.pods and redis.discover are both set: it is either a fixed list or discovery".to_owned()
        );
    }
    let lookup = Lookup::new(discover.clone()).map_err(|error| format!("redis.discover: {error}"))?;
    let (sender, roster) = watch::channel(fixed);
    tokio::task::spawn_local(watch(lookup, settings.discover_interval, servers.clone(), sender, log.clone()));
    Ok((roster, servers))
}

fn fixed(settings: &settings::Redis, rng: &mut fastrand::Rng) -> Result<Arc<[Arc<dyn Target>]>, String> {
    let urls: Vec<&str> = settings.pods.iter().map(|url| url.expose_secret()).collect();
    if let [memory] = urls[..]
        && let Some(count) = memory.strip_prefix("memory:")
    {
        let count = count.parse().ok().filter(|count| (1..=MEMORY_PODS_MAX).contains(count));
        let count =
            count.ok_or(format!("redis.pods: memory:N makes N in-process pods, 1 to {MEMORY_PODS_MAX}"))?;
        return Ok((1..=count).map(|number| Arc::new(memory::Server::new(number, rng)) as _).collect());
    }
    let mut targets: BTreeMap<Arc<str>, Arc<dyn Target>> = BTreeMap::new();
    for (index, url) in urls.iter().enumerate() {
        let wrong = |error| format!("redis.pods[{index}]: {error}");
        if url.starts_with("memory:") {
            return Err(wrong("memory:N stands alone, or not at all".to_owned()));
        }
        let server = redis::Server::parse(url, settings).map_err(wrong)?;
        targets.insert(server.address().clone(), Arc::new(server) as _);
    }
    Ok(targets.into_values().collect())
}

async fn watch(
    lookup: Lookup,
    interval: Duration,
    servers: Servers,
    sender: watch::Sender<Arc<[Arc<dyn Target>]>>,
    log: slog::Logger,
) {
    let mut failing = false;
    loop {
        let found = tokio::select! {
            biased;
            () = sender.closed() => return,
            found = lookup.addresses() => found.and_then(|addresses| servers.at(&addresses)),
        };
        match found {
            Ok(targets) => {
                if std::mem::take(&mut failing) {
                    info!(log, "discovery of pods works again");
                }
                publish(&sender, targets, &log);
            }
            Err(error) if !failing => {
                failing = true;
                warn!(log, "discovery of pods failed; those known stay"; "error" => error);
            }
            Err(_) => {}
        }
        tokio::select! {
            biased;
            () = sender.closed() => return,
            () = sleep(interval) => {}
        }
    }
}

fn publish(
    sender: &watch::Sender<Arc<[Arc<dyn Target>]>>,
    targets: Arc<[Arc<dyn Target>]>,
    log: &slog::Logger,
) {
    let addresses = |targets: &[Arc<dyn Target>]| -> Vec<Arc<str>> {
        targets.iter().map(|target| target.address().clone()).collect()
    };
    let count = targets.len();
    let changed = sender.send_if_modified(|present| {
        let changed = addresses(present) != addresses(&targets);
        if changed {
            *present = targets;
        }
        changed
    });
    if changed {
        info!(log, "pods discovered"; "count" => count);
    }
}

/// Every server that was listed or discovered, and how one logs in. One that comes back is the one that was known: its pop
/// counter counts on (S3).
#[derive(Clone)]
pub struct Servers(Arc<Mutex<Known>>);

struct Known {
    servers: BTreeMap<String, Arc<dyn Target>>,
    /// For servers yet to be discovered.
    settings: settings::Redis,
}

impl Servers {
    fn new(settings: &settings::Redis, fixed: &[Arc<dyn Target>]) -> Servers {
        let servers = fixed.iter().map(|target| (target.address().to_string(), Arc::clone(target))).collect();
        Servers(Arc::new(Mutex::new(Known { servers, settings: settings.clone() })))
    }

    /// Makes another log-in ready for all of them, and for those yet to be discovered. It counts once the change is made, which
    /// must be before this thread discovers others.
    ///
    /// # Errors
    /// Why it can't be used, without its secrets; nothing is changed.
    pub fn log_in_with(&self, settings: &settings::Redis) -> Result<Change, String> {
        let servers: Vec<_> = self.known().servers.values().cloned().collect();
        let changes = servers.iter().map(|server| server.log_in_with(settings));
        let changes: Vec<Change> = changes.collect::<Result<_, _>>()?;
        let (all, settings) = (self.clone(), settings.clone());
        Ok(Box::new(move || {
            all.known().settings = settings;
            changes.into_iter().for_each(|change| change());
        }))
    }

    fn at(&self, addresses: &BTreeSet<String>) -> Result<Arc<[Arc<dyn Target>]>, String> {
        let Known { servers, settings } = &mut *self.known();
        for address in addresses {
            if !servers.contains_key(address) {
                let server = redis::Server::parse(&format!("redis://{address}"), settings)?;
                servers.insert(address.clone(), Arc::new(server));
            }
        }
        if servers.len() > KNOWN_MAX.max(addresses.len()) {
            servers.retain(|address, _| addresses.contains(address));
        }
        Ok(addresses.iter().map(|address| servers[address].clone()).collect())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // What it guards is whole after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::lookup::tests::{Zone, a, dns};
    use super::*;

    fn settings(pods: &[&str]) -> settings::Redis {
        settings::Redis {
            pods: pods.iter().map(|url| (*url).to_owned().into()).collect(),
            discover: None,
            discover_interval: Duration::from_millis(1),
            username: None,
            password: None,
            timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_millis(250),
            retry_after: Duration::from_secs(1),
            prefix: "blockhouse".into(),
        }
    }

    fn log() -> slog::Logger {
        slog::Logger::root(slog::Discard, slog::o!())
    }

    fn addresses(roster: &Roster) -> Vec<String> {
        roster.borrow().iter().map(|target| target.address().to_string()).collect()
    }

    fn list(pods: &[&str]) -> Result<Vec<String>, String> {
        roster(&settings(pods), &mut fastrand::Rng::with_seed(1), &log())
            .map(|(roster, _)| addresses(&roster))
    }

    #[test]
    fn a_fixed_list_is_sorted_and_names_nobody_twice() {
        let pods = ["redis://b:7000", "redis://a", "redis://:pw@b:7000/", "redis://[::1]"];
        assert_eq!(list(&pods).unwrap(), ["[::1]:6379", "a:6379", "b:7000"]);
        assert_eq!(list(&[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn memory_n_makes_n_pods() {
        assert_eq!(list(&["memory:3"]).unwrap(), ["memory:1", "memory:2", "memory:3"]);
        for wrong in ["memory:", "memory:0", "memory:65", "memory:x"] {
            assert!(list(&[wrong]).unwrap_err().contains("memory:N"), "{wrong}");
        }
        assert!(list(&["redis://a", "memory:3"]).unwrap_err().contains("alone"));
    }

    #[test]
    fn a_wrong_url_is_named_by_its_place_and_not_by_its_secrets() {
        let error = list(&["redis://a", "reddis://:hunter2@b"]).unwrap_err();
        assert!(error.starts_with("redis.pods[1]: 'reddis://'"), "{error}");
        assert!(error.contains("did you mean redis://") && !error.contains("hunter2"), "{error}");
    }

    #[tokio::test]
    async fn a_list_and_discovery_together_are_refused() {
        let both = settings::Redis { discover: Some(dns()), ..settings(&["redis://a"]) };
        let error = roster(&both, &mut fastrand::Rng::with_seed(1), &log()).err().unwrap();
        assert!(error.contains("redis.discover"), "{error}");
    }

    /// Every message that was logged.
    #[derive(Clone, Default)]
    struct Messages(Arc<std::sync::Mutex<Vec<String>>>);

    impl slog::Drain for Messages {
        type Ok = ();
        type Err = slog::Never;

        fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
            self.0.lock().unwrap().push(record.msg().to_string());
            Ok(())
        }
    }

    async fn changed_to(roster: &mut Roster, expected: &[&str]) {
        let wait = roster.wait_for(|targets| {
            targets.iter().map(|target| &**target.address()).eq(expected.iter().copied())
        });
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("in time").expect("the task runs");
    }

    #[tokio::test]
    async fn the_roster_follows_dns_and_keeps_what_was_known_when_it_fails() {
        let (zone, messages) = (Zone::default(), Messages::default());
        let log = slog::Logger::root(slog::Fuse(messages.clone()), slog::o!());
        LocalSet::new()
            .run_until(async {
                let lookup = zone.lookup(dns()).await;
                let (sender, mut roster) = watch::channel(Arc::from(Vec::new()));
                let servers = Servers::new(&settings(&[]), &[]);
                let interval = Duration::from_millis(1);
                let task = tokio::task::spawn_local(watch(lookup, interval, servers, sender, log));
                let logged = async |count: usize| {
                    let wait = async {
                        while messages.0.lock().unwrap().len() < count {
                            tokio::task::yield_now().await;
                        }
                    };
                    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("in time");
                };
                logged(1).await;
                zone.set(vec![a(2), a(1)]);
                changed_to(&mut roster, &["10.0.0.1:7000", "10.0.0.2:7000"]).await;
                zone.set(Vec::new());
                logged(4).await;
                assert_eq!(addresses(&roster), ["10.0.0.1:7000", "10.0.0.2:7000"]);
                zone.set(vec![a(2), a(3)]);
                changed_to(&mut roster, &["10.0.0.2:7000", "10.0.0.3:7000"]).await;
                drop(roster);
                tokio::time::timeout(Duration::from_secs(10), task).await.expect("it ends").unwrap();
            })
            .await;
        let failed = "discovery of pods failed; those known stay";
        let (works, discovered) = ("discovery of pods works again", "pods discovered");
        assert_eq!(*messages.0.lock().unwrap(), [failed, works, discovered, failed, works, discovered]);
    }

    #[test]
    fn a_server_that_comes_back_is_the_one_that_was_known() {
        let servers = Servers::new(&settings(&[]), &[]);
        let one: BTreeSet<String> = ["a:1".to_owned()].into();
        let first = servers.at(&one).unwrap();
        servers.at(&["b:1".to_owned()].into()).unwrap();
        let again = servers.at(&one).unwrap();
        assert!(Arc::ptr_eq(&first[0], &again[0]));
    }

    #[test]
    fn servers_yet_to_be_discovered_get_the_new_log_in_too() {
        let servers = Servers::new(&settings(&[]), &[]);
        let new = settings::Redis { password: Some("new".into()), ..settings(&[]) };
        let change = servers.log_in_with(&new).unwrap();
        assert!(servers.known().settings.password.is_none());
        change();
        assert!(servers.known().settings.password.is_some());
    }
}
