//! The scripts. Each is one body: what it may do, the proof, then its own work.

use deadpool_redis::redis;

/// A script, and what Redis knows it by.
pub(super) struct Script {
    /// Sent where Redis doesn't know the hash.
    pub body: &'static str,
    /// SHA-1 of the body.
    pub sha: String,
}

/// All of them.
pub(super) struct Scripts {
    pub hello: Script,
    pub heartbeat: Script,
    pub pop: Script,
    pub push: Script,
    pub publish: Script,
    pub raise: Script,
    pub inspect: Script,
    pub sweep: Script,
}

/// `allow-oom`: a pod that is out of memory still serves its own blocks, and counts them. Only a push must fail there,
/// and then it fails before its first line.
macro_rules! script {
    ($name:literal, $flags:literal) => {{
        let body =
            concat!("#!lua", $flags, "\n", include_str!("proof.lua"), include_str!(concat!($name, ".lua")));
        Script { body, sha: redis::Script::new(body).get_hash().to_owned() }
    }};
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        Scripts {
            hello: script!("hello", " flags=allow-oom"),
            heartbeat: script!("heartbeat", " flags=allow-oom"),
            pop: script!("pop", " flags=allow-oom"),
            push: script!("push", ""),
            publish: script!("publish", " flags=allow-oom"),
            raise: script!("raise", " flags=allow-oom"),
            inspect: script!("inspect", " flags=allow-oom"),
            sweep: script!("sweep", " flags=allow-oom"),
        }
    }
}
