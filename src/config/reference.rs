//! Every key with its default and meaning, as TOML with comments: `config reference`, and `config/default.toml`.

use serde::Serialize;

use super::keys::{Key, Keys};
use super::table::RESERVED;

const HEAD: &str = "\
# Every key of blockhouse with its default and its meaning: what 'blockhouse config reference' prints.
#
# Later wins: these defaults < files in order (--config, a file or a folder's *.toml by name; else $BLOCKHOUSE_CONFIG,
# separated by ':'; else /etc/blockhouse) < environment (BLOCKHOUSE__REDIS__TIMEOUT=50ms) < --set redis.timeout=50ms.
# Tables merge, lists are replaced. \"\" takes back a key that has no default.
# A duration is a whole number and one of ms, s, m, h, d. A secret is the text itself, \"file:PATH\" or
# \"credential:NAME\" (of systemd). Relative paths start where the process was started.
#
# SIGHUP re-reads everything, all or nothing: what is marked so takes effect in the running process, and the log names
# what else has changed and needs a restart.
";

/// One key for programs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// `redis.timeout`
    pub key: &'static str,
    /// `BLOCKHOUSE__REDIS__TIMEOUT`
    pub variable: String,
    /// `None` where it isn't set unless somebody does.
    pub default: Option<toml::Value>,
    /// For people.
    pub meaning: &'static str,
    /// What may stand there, for people.
    pub allowed: String,
    /// Takes `file:PATH` and `credential:NAME`, and is never shown.
    pub secret: bool,
    /// SIGHUP changes it in a running process.
    pub reloads: bool,
}

/// Every key, in order.
pub fn entries() -> Vec<Entry> {
    let keys = Keys::default();
    let entries = keys.iter().map(|key| Entry {
        key: key.name,
        variable: key.variable(),
        default: key.default.and_then(|default| default.parse().ok()),
        meaning: key.meaning,
        allowed: key.allowed(),
        secret: key.secret,
        reloads: key.reloads,
    });
    entries.collect()
}

/// The reference as a valid file that sets every key to its default.
pub fn toml() -> String {
    let mut text = HEAD.to_owned();
    let mut present = "";
    for key in Keys::default().iter() {
        let (table, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if table != present {
            text.push_str(&format!("\n[{table}]\n"));
            present = table;
        }
        text.push_str(&entry(key, name));
    }
    text.push_str("\n# Reserved for a later release, and refused until then:\n");
    for (name, meaning) in RESERVED {
        text.push_str(&format!("#   {name:<10} {meaning}\n"));
    }
    text
}

fn entry(key: &Key, name: &str) -> String {
    let secret = if key.secret { " Secret." } else { "" };
    let reloads = if key.reloads { " SIGHUP re-reads it." } else { "" };
    let set = match key.default {
        Some(default) => format!("{name} = {default}"),
        None => format!("#{name} = \"\""),
    };
    format!("\n# {}{secret}\n# Must be {}.{reloads}\n{set}\n", key.meaning, key.allowed())
}
