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
//! | `{prefix}:pod:LIFE:popped` | hash | entries popped by sequence |
//!
//! Only database 0 is used. The first that writes (a publish, a push, a raise) decides which ledger's and cluster's pod it is.
//!
//! # How a call goes
//! Every call is one script, sent once. `proof.lua` begins each of them: it reads the server's own facts, goes on only where they
//! are as the connection knows them, and returns them with the result, with our nonce in front (`proof.rs`). The Rust side
//! then comes to its own verdict from the same facts. What doesn't match drops the connection, which is bound to the life that it
//! began in; so does a time-out, and a call that is dropped in flight (`wire.rs`).
//!
//! Pops, pushes and raises wait for a connection no longer than for an answer (`redis.timeout`), because somebody's request
//! may be waiting; all others wait for `redis.connect_timeout`, so that a heartbeat each second brings a slow connection up.
//!
//! [`sweep`](crate::pods::Pod::sweep) finds old keys with SCAN, a bounded step a call, and keeps the cursor: an index of lists would
//! be one more thing that a restored memory can be wrong about, and a pod holds a few dozen keys.

mod counter;
mod pod;
mod proof;
mod script;
mod url;
mod wire;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use deadpool_redis::redis::ConnectionInfo;

use self::counter::Counter;
use self::proof::Life;
use self::script::Scripts;
use super::{Pod, Target};
use crate::config::settings;

/// One Redis server: where it is, how to log in, and what the process knows of its pop counter. Any thread may hold it; a
/// connection is opened by the pod that uses it.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    address: Arc<str>,
    info: ConnectionInfo,
    scripts: Scripts,
    /// One counter a life, the latest last: what one thread learnt protects the others.
    counters: Mutex<VecDeque<(Life, Arc<Mutex<Counter>>)>>,
}

/// Lives of one server that are remembered. An earlier one never comes back.
const LIVES_MAX: usize = 16;

impl Server {
    /// Reads `redis://[user[:password]@]host[:port]`; the URL's own user and password win over the settings'.
    ///
    /// # Errors
    /// What is wrong with the URL, for people, without its secrets.
    pub fn parse(url: &str, settings: &settings::Redis) -> Result<Server, String> {
        let (address, info) = url::parse(url, settings)?;
        let (address, scripts, counters) = (address.into(), Scripts::new(), Mutex::default());
        Ok(Server { shared: Arc::new(Shared { address, info, scripts, counters }) })
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
}

impl Shared {
    fn counter_of(&self, life: &Life) -> Arc<Mutex<Counter>> {
        let mut counters = wire::lock(&self.counters);
        if let Some((_, counter)) = counters.iter().find(|(known, _)| known == life) {
            return counter.clone();
        }
        if counters.len() == LIVES_MAX {
            counters.pop_front();
        }
        let counter: Arc<Mutex<Counter>> = Arc::default();
        counters.push_back((life.clone(), counter.clone()));
        counter
    }
}
