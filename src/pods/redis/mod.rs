//! Redis as a pod.
//!
//! # What stands on the server
//! `LIFE` is `{run_id}:{master_replid}`: everything belongs to one life of the server's memory, and what an earlier life
//! left is never read (S3).
//!
//! | key | type | holds |
//! |---|---|---|
//! | `{prefix}:{ledger id}:{cluster}:LIFE:{sequence}:{generation}` | list | entries `first:count` |
//! | `{prefix}:pod:LIFE` | hash | whose pod it is (`ledger`, `cluster`, `environment`), `identity` with its `epoch` and `life`, `catalogue` with its `stamp_epoch` and `stamp_version`, the pop counter's `token` and `popped`, `restored`, and `raised`: changes with every high water |
//! | `{prefix}:pod:LIFE:granted` | hash | high water by sequence |
//! | `{prefix}:pod:LIFE:used` | hash | IDs popped by sequence, for the hydrator's forecast |
//! | `{prefix}:pod:LIFE:present` | hash | by process: the stamp of the catalogue that it has, and when it said so |
//!
//! Only database 0 is used. The first that writes (a publish, a push, a raise) decides which ledger's and cluster's pod it is.
//!
//! # How a call goes
//! Every call is one script, sent once. `proof.lua` begins each of them: it reads the server's own facts, goes on only where they
//! are as the connection knows them, and returns them with the result, with our nonce in front. The Rust side
//! then comes to its own verdict from the same facts ([`session`](super::session)). What doesn't match drops the connection, which is bound to the life that it
//! began in; so does a time-out, and a call that is dropped in flight (`wire.rs`).
//!
//! Pops, pushes and raises wait for a connection no longer than for an answer (`redis.timeout`), because somebody's request
//! may be waiting; all others wait for `redis.connect_timeout`, so that a heartbeat each second brings a slow connection up.
//!
//! [`sweep`](crate::pods::Pod::sweep) finds old keys with SCAN, a bounded step a call, and keeps the cursor: an index of lists would
//! be one more thing that a restored memory can be wrong about, and a pod holds a few dozen keys.

mod pod;
mod proof;
mod script;
mod url;
mod wire;

use std::rc::Rc;
use std::sync::{Arc, Mutex};

use deadpool_redis::redis::ConnectionInfo;
use secrecy::{ExposeSecret, SecretString};

use self::script::Scripts;
use super::counter::{Counters, lock};
use super::{Change, Pod, Target};
use crate::config::settings;

/// One Redis server: where it is, how to log in, and what the process knows of its pop counter. Any thread may hold it; a
/// connection is opened by the pod that uses it.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    address: Arc<str>,
    /// As it was given; its own user and password win over the settings'.
    url: SecretString,
    /// Of the next connection.
    info: Mutex<Arc<ConnectionInfo>>,
    scripts: Scripts,
    counters: Counters,
}

impl Server {
    /// Reads `redis://[user[:password]@]host[:port]`; the URL's own user and password win over the settings'.
    ///
    /// # Errors
    /// What is wrong with the URL, for people, without its secrets.
    pub fn parse(url: &str, settings: &settings::Redis) -> Result<Server, String> {
        let (address, info) = url::parse(url, settings)?;
        Ok(Server {
            shared: Arc::new(Shared {
                address: address.into(),
                url: url.into(),
                info: Mutex::new(Arc::new(info)),
                scripts: Scripts::new(),
                counters: Counters::default(),
            }),
        })
    }
}

impl Target for Server {
    fn address(&self) -> &Arc<str> {
        &self.shared.address
    }

    fn shared(&self) -> bool {
        true
    }

    fn open(&self, settings: &settings::Redis, log: &slog::Logger) -> Rc<dyn Pod> {
        Rc::new(pod::Redis::new(wire::Wire::new(self.shared.clone(), settings, log)))
    }

    fn log_in_with(&self, settings: &settings::Redis) -> Result<Change, String> {
        let (_, info) = url::parse(self.shared.url.expose_secret(), settings)?;
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(move || *lock(&shared.info) = Arc::new(info)))
    }
}

impl Shared {
    fn info(&self) -> Arc<ConnectionInfo> {
        Arc::clone(&lock(&self.info))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, Sources, load};

    fn settings(set: &[&str]) -> settings::Redis {
        let set = set.iter().map(|&assignment| assignment.to_owned()).collect();
        let Settings { redis, .. } = load(Sources { set, ..Sources::default() }).unwrap().settings;
        redis
    }

    #[test]
    fn another_log_in_counts_once_the_change_is_made_but_for_what_the_url_itself_says() {
        let old = settings(&["redis.username=app", "redis.password=old"]);
        let new = settings(&["redis.username=app2", "redis.password=new"]);
        let log_in = |server: &Server| {
            let info = server.shared.info();
            let login = info.redis_settings();
            (login.username().unwrap_or_default().to_owned(), login.password().unwrap_or_default().to_owned())
        };
        let pair = |user: &str, password: &str| (user.to_owned(), password.to_owned());
        for (url, before, after) in [
            ("redis://a", pair("app", "old"), pair("app2", "new")),
            ("redis://me:own@a", pair("me", "own"), pair("me", "own")),
            ("redis://:own@a", pair("app", "own"), pair("app2", "own")),
        ] {
            let server = Server::parse(url, &old).unwrap();
            let change = server.log_in_with(&new).unwrap();
            assert_eq!(log_in(&server), before, "{url}");
            change();
            assert_eq!(log_in(&server), after, "{url}");
        }
    }
}
