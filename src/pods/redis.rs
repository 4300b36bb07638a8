//! Redis as a pod.

use std::sync::Arc;

use crate::config::settings;

/// One Redis server: where it is and how to log in. Plain data; a connection is opened by the pod that uses it.
#[derive(Clone)]
pub struct Server {
    address: Arc<str>,
}

impl Server {
    /// Reads `redis://[user[:password]@]host[:port]` or `rediss://…`; the URL's own user and password win over the settings'.
    ///
    /// # Errors
    /// What is wrong with the URL, for people, without its secrets.
    pub fn parse(url: &str, settings: &settings::Redis) -> Result<Server, String> {
        let _ = (url, settings);
        Err("not built yet".to_owned())
    }

    /// `host:port`
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }
}
