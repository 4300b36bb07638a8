//! Pods: the Redis instances of the cluster's cache, and in-process ones for `dev`.
//!
//! A pod is a cache of blocks that may forget, repeat itself or be somebody else's. Every answer
//! therefore brings its proof (S3, S5); what doesn't match is an error here and never an entry.

pub mod counter;
pub mod discovery;
pub mod memory;
pub mod proof;
pub mod redis;
pub mod session;

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use uuid::Uuid;

use crate::block::witness::Present;
use crate::block::{Catalogue, Identity, Span, Stamp};
use crate::config::settings;

/// What a pod call gives back, on the thread that made it.
pub type Answer<'a, T> = LocalBoxFuture<'a, Result<T, PodError>>;

/// One pod, as one thread sees it: one connection, kept.
///
/// Every call is bounded by the pod's own time-outs and connects if it has to. **No call repeats a pop or
/// a push.** Dropping a call in flight drops the connection, so that its late answer can't be taken for
/// another call's.
pub trait Pod {
    /// `host:port`, the label of its metrics.
    fn address(&self) -> &Arc<str>;

    /// Whether the pod may be used, and what it knows. Sent once a second by every user of the pod.
    fn heartbeat<'a>(&'a self, seen: &'a Seen) -> Answer<'a, Heartbeat>;

    /// Takes up to `blocks` entries off the front of a list.
    fn pop<'a>(&'a self, list: &'a List, blocks: u32) -> Answer<'a, Popped>;

    /// Appends entries to a list (or puts them back in front), all or none, at most
    /// [`CHUNK`](crate::block::chunk::CHUNK) of them. Raises the pod's high water to `high_water` first.
    fn push<'a>(&'a self, list: &'a List, entries: &'a [Span], end: End, high_water: i64) -> Answer<'a, ()>;

    /// How full it is, and what was popped from it. For the hydrator.
    fn inspect<'a>(&'a self, scope: &'a Scope, lists: &'a [(Arc<str>, i64)]) -> Answer<'a, Inspection>;

    /// Writes identity, catalogue and high water, each monotonically: what is older than the pod's own is not
    /// written. A pod of another ledger, environment or cluster refuses.
    fn publish<'a>(&'a self, notice: &'a Notice) -> Answer<'a, ()>;

    /// Raises one sequence's high water: whoever made a grant does so before using it.
    fn raise<'a>(&'a self, scope: &'a Scope, sequence: &'a str, high_water: i64) -> Answer<'a, ()>;

    /// Deletes lists of earlier lives of the pod and of earlier generations, own ledger and cluster only, a bounded
    /// number a call. Gives how many lists it deleted. `keep` holds the present generations.
    fn sweep<'a>(&'a self, scope: &'a Scope, keep: &'a [(Arc<str>, i64)]) -> Answer<'a, u64>;
}

/// A change that was made ready, and can't fail any more.
pub type Change = Box<dyn FnOnce()>;

/// A server that may be used as a pod, as any thread may hold it.
pub trait Target: Send + Sync {
    /// `host:port`, or `memory:NUMBER`.
    fn address(&self) -> &Arc<str>;

    /// Whether other processes use it too.
    fn shared(&self) -> bool;

    /// A pod for the present thread; connects when first used.
    fn open(&self, settings: &settings::Redis, log: &slog::Logger) -> Rc<dyn Pod>;

    /// Makes another log-in ready. It counts once the change is made, from every thread's next connection on.
    ///
    /// # Errors
    /// Why it can't be used, without its secrets; nothing is changed.
    fn log_in_with(&self, _settings: &settings::Redis) -> Result<Change, String> {
        Ok(Box::new(|| {}))
    }
}

/// Its address: how to log in is nobody's business.
impl fmt::Debug for dyn Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(self.address()).finish()
    }
}

/// Whose lists: entries of another ledger or cluster are never touched (S5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The ledger's id.
    pub ledger: Uuid,
    /// The cluster that shares the pods.
    pub cluster: Arc<str>,
}

/// One list: `{prefix}:{ledger id}:{cluster}:{run_id}:{master_replid}:{sequence}:{generation}`, of which the
/// implementation knows prefix, run_id and master_replid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct List {
    /// Whose.
    pub scope: Scope,
    /// Which sequence.
    pub sequence: Arc<str>,
    /// Of which generation.
    pub generation: i64,
}

/// Which end of a list a push goes to. Pops take from the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// New blocks.
    Back,
    /// Rests that were handed back.
    Front,
}

/// What the caller has seen of the pod, so that a heartbeat needn't repeat it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Of the catalogue.
    pub stamp: Stamp,
    /// Of the high water; 0 asks for it in any case.
    pub high_waters: u64,
    /// Who asks, and the catalogue that it has by now; the pod remembers it for a minute.
    pub by: Option<(Arc<str>, Stamp)>,
}

/// What a pod says once a second.
#[derive(Debug, Clone, Default)]
pub struct Heartbeat {
    /// One life of the server process; the same under two addresses is one pod.
    pub run_id: Arc<str>,
    /// Which ledger the pod was filled from; `None` for an empty pod.
    pub identity: Option<Identity>,
    /// Which cluster it belongs to; `None` for an empty pod.
    pub cluster: Option<Arc<str>>,
    /// The catalogue's stamp on the pod.
    pub stamp: Stamp,
    /// Present only if its stamp differs from what the caller has seen.
    pub catalogue: Option<Catalogue>,
    /// Changes whenever a high water is raised.
    pub high_waters_seen: u64,
    /// By sequence; present only if `high_waters_seen` differs from what the caller has seen.
    pub high_waters: Option<BTreeMap<Arc<str>, i64>>,
    /// When its high waters were last read from the ledger, by the ledger's clock (µs since 1970); `None` if never.
    pub read_at_us: Option<i64>,
}

/// What a pop brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Popped {
    /// As they stood in the list, unparsed; empty if the list is.
    pub entries: Vec<String>,
    /// The sequence's high water as the pod knows it, 0 if it doesn't.
    pub high_water: i64,
}

/// How full a pod is.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// Entries by sequence, in the order asked.
    pub blocks: Vec<u64>,
    /// Bytes in use.
    pub used_memory: u64,
    /// Its `maxmemory`; 0 = no limit.
    pub max_memory: u64,
    /// Names one life of the counters below: another value means that they began anew.
    pub counter_token: Arc<str>,
    /// IDs popped since, by sequence.
    pub used_ids: BTreeMap<Arc<str>, u64>,
    /// Processes that it heard of within the last minute.
    pub present: Vec<Present>,
}

/// What the hydrator writes to every pod at each pass.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Which ledger, in which life.
    pub identity: Identity,
    /// For which cluster.
    pub cluster: Arc<str>,
    /// Sequences and stamp.
    pub catalogue: Arc<Catalogue>,
    /// The ledger's counters, by sequence.
    pub high_waters: Vec<(Arc<str>, i64)>,
    /// When those were read, by the ledger's clock (µs since 1970).
    pub read_at_us: i64,
}

/// What went wrong, by what became of the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PodError {
    /// Certainly not carried out: no connection, or an answer that is an error (out of memory, read-only). What a push
    /// carried is still held.
    #[error("{0}")]
    Failed(String),
    /// Certainly not carried out: the pod has no memory left for more. What it holds can still be popped.
    #[error("out of memory: {0}")]
    Full(String),
    /// Sent, and no answer that proves itself: whatever it carried is discarded (S2).
    #[error("{0}")]
    InDoubt(String),
    /// Certainly not carried out: the server must not be used as a pod, and why (S3, S5).
    #[error("refused: {0}")]
    Refused(String),
}
