//! Settings together with where each of them came from.

use std::collections::BTreeMap;

use super::keys::Keys;
use super::problem::Problem;
use super::settings::Settings;

/// What a load gives.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Where each key came from: `default`, `FILE:LINE:COLUMN`, `environment NAME`, `--set`, a flag or a command. Keys that
    /// nobody set and that have no default are left out.
    pub origins: BTreeMap<&'static str, String>,
    /// What was ignored because `BLOCKHOUSE_UNKNOWN_KEYS=warn` allows it.
    pub warnings: Vec<Problem>,
    /// How many keys and variables were ignored.
    pub unknown_keys: usize,
}

/// One key as `config print` shows it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Shown {
    /// `redis.timeout`
    pub key: &'static str,
    /// As TOML, secrets hidden; `None` where it isn't set.
    pub value: Option<toml::Value>,
    /// Where it came from; `None` where it isn't set.
    pub origin: Option<String>,
    /// Whether what it holds is hidden.
    pub secret: bool,
}

impl Loaded {
    /// Every key, in the order of the reference.
    pub fn shown(&self) -> Vec<Shown> {
        // Fields are reached through `&mut`, so that one accessor a key is enough.
        let mut settings = self.settings.clone();
        let keys = Keys::default();
        let shown = keys.iter().map(|key| Shown {
            key: key.name,
            value: key.show(&mut settings),
            origin: self.origins.get(key.name).cloned(),
            secret: key.secret,
        });
        shown.collect()
    }
}
