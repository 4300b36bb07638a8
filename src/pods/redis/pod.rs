//! The calls of a pod, each as one script.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::{self, FromRedisValue, Pipeline, RedisWrite, ToRedisArgs, Value};
use futures_util::FutureExt;

use super::script::Script;
use super::wire::{Request, Wire};
use crate::block::chunk::CHUNK;
use crate::block::witness::{FORGOTTEN_AFTER, Present};
use crate::block::{Catalogue, Identity, Span, Stamp};
use crate::failpoint;
use crate::pods::{Answer, End, Heartbeat, Inspection, List, Notice, Pod, PodError, Popped, Scope, Seen};

/// A Redis server as one thread sees it.
pub(super) struct Redis {
    wire: Wire,
    /// Where the next sweep goes on.
    cursor: RefCell<String>,
}

impl Redis {
    pub(super) fn new(wire: Wire) -> Redis {
        Redis { wire, cursor: RefCell::new("0".to_owned()) }
    }

    fn script(&self) -> &super::Scripts {
        &self.wire.server().scripts
    }

    /// A call that somebody's request may be waiting for.
    async fn call<T: FromRedisValue>(
        &self,
        script: &Script,
        scope: Option<&Scope>,
        args: impl Fn(&mut Pipeline),
    ) -> Result<T, PodError> {
        let (_, payload) = self.wire.call(Request { script, scope, args: &args }).await?;
        read(payload)
    }
}

impl Pod for Redis {
    fn address(&self) -> &Arc<str> {
        &self.wire.server().address
    }

    fn heartbeat<'a>(&'a self, seen: &'a Seen) -> Answer<'a, Heartbeat> {
        async move {
            self.wire.ready().await?;
            let script = &self.script().heartbeat;
            let args = |args: &mut Pipeline| {
                args.arg(seen.stamp.epoch).arg(seen.stamp.version).arg(seen.high_waters);
                match &seen.by {
                    Some((name, has)) => args.arg(&**name).arg(format!("{}:{}", has.epoch, has.version)),
                    None => args.arg("").arg(""),
                };
            };
            let (proof, payload) = self.wire.call(Request { script, scope: None, args: &args }).await?;
            let (identity, epoch, version, raised, catalogue, high_waters, read_at) = read::<(
                Option<String>,
                Option<i64>,
                Option<i64>,
                u64,
                Option<String>,
                Option<Pairs>,
                Option<i64>,
            )>(payload)?;
            let (_, cluster) = proof.owner;
            Ok(Heartbeat {
                run_id: proof.life.run_id.into(),
                identity: identity.as_deref().map(parse::<Identity>).transpose()?,
                cluster: (!cluster.is_empty()).then(|| cluster.into()),
                stamp: Stamp { epoch: epoch.unwrap_or(0), version: version.unwrap_or(0) },
                catalogue: catalogue.as_deref().map(parse::<Catalogue>).transpose()?,
                high_waters_seen: raised,
                high_waters: high_waters.map(by_sequence),
                read_at_us: read_at,
            })
        }
        .boxed_local()
    }

    fn pop<'a>(&'a self, list: &'a List, blocks: u32) -> Answer<'a, Popped> {
        async move {
            let call = self.call::<(i64, Vec<Vec<u8>>)>(&self.script().pop, Some(&list.scope), |args| {
                args.arg(&*list.sequence).arg(list.generation).arg(blocks);
            });
            let (high_water, entries) = failpoint::sent("pop.sent", call).await?;
            let entries = entries.into_iter().map(lossy).collect();
            Ok(Popped { entries, high_water })
        }
        .boxed_local()
    }

    fn push<'a>(&'a self, list: &'a List, entries: &'a [Span], end: End, high_water: i64) -> Answer<'a, ()> {
        async move {
            assert!(entries.len() <= CHUNK, "a push of more than one chunk");
            if entries.is_empty() {
                return Ok(());
            }
            let call = self.call(&self.script().push, Some(&list.scope), |args| {
                args.arg(&*list.sequence).arg(list.generation).arg(high_water);
                match end {
                    End::Back => entries.iter().fold(args.arg("RPUSH"), |args, span| args.arg(Entry(*span))),
                    // The last one pushed to the front is the first one popped.
                    End::Front => {
                        entries.iter().rev().fold(args.arg("LPUSH"), |args, span| args.arg(Entry(*span)))
                    }
                };
            });
            failpoint::sent("push.sent", call).await
        }
        .boxed_local()
    }

    fn inspect<'a>(&'a self, scope: &'a Scope, lists: &'a [(Arc<str>, i64)]) -> Answer<'a, Inspection> {
        async move {
            self.wire.ready().await?;
            let script = &self.script().inspect;
            let args = |args: &mut Pipeline| {
                args.arg(FORGOTTEN_AFTER.as_secs());
                pairs(args, lists);
            };
            let (proof, payload) =
                self.wire.call(Request { script, scope: Some(scope), args: &args }).await?;
            let (used_memory, max_memory, used, blocks, present) =
                read::<(u64, u64, BTreeMap<String, u64>, Vec<u64>, Vec<Heard>)>(payload)?;
            Ok(Inspection {
                blocks,
                used_memory,
                max_memory,
                counter_token: proof.token.to_string().into(),
                used_ids: by_sequence(used),
                present: present.into_iter().map(heard).collect(),
            })
        }
        .boxed_local()
    }

    fn publish<'a>(&'a self, notice: &'a Notice) -> Answer<'a, ()> {
        async move {
            self.wire.ready().await?;
            let scope = Scope { ledger: notice.identity.ledger, cluster: notice.cluster.clone() };
            let (identity, catalogue) = (json(&notice.identity), json(&*notice.catalogue));
            let Identity { environment, life, .. } = &notice.identity;
            let held = self
                .call::<Option<(String, i64, String)>>(&self.script().publish, Some(&scope), |args| {
                    args.arg(environment).arg(life.epoch).arg(life.token.to_string()).arg(&identity);
                    let Stamp { epoch, version } = notice.catalogue.stamp;
                    args.arg(epoch).arg(version).arg(&catalogue).arg(notice.read_at_us);
                    pairs(args, &notice.high_waters);
                })
                .await?;
            match held {
                None => Ok(()),
                Some((theirs, ..)) if theirs != *environment => Err(PodError::Refused(format!(
                    "it belongs to environment '{theirs}', not to '{environment}'"
                ))),
                Some((_, epoch, token)) => Err(PodError::Refused(format!(
                    "it knows life {epoch} of the ledger as {token}, and this ledger as {}: two lines of history",
                    life.token
                ))),
            }
        }
        .boxed_local()
    }

    fn raise<'a>(&'a self, scope: &'a Scope, sequence: &'a str, high_water: i64) -> Answer<'a, ()> {
        self.call(&self.script().raise, Some(scope), move |args| {
            args.arg(sequence).arg(high_water);
        })
        .boxed_local()
    }

    fn sweep<'a>(&'a self, scope: &'a Scope, keep: &'a [(Arc<str>, i64)]) -> Answer<'a, u64> {
        async move {
            self.wire.ready().await?;
            let (cursor, pattern) = (self.cursor.borrow().clone(), pattern(self.wire.prefix()));
            let (next, deleted) = self
                .call::<(String, u64)>(&self.script().sweep, Some(scope), |args| {
                    args.arg(&cursor).arg(&pattern);
                    pairs(args, keep);
                })
                .await?;
            *self.cursor.borrow_mut() = next;
            Ok(deleted)
        }
        .boxed_local()
    }
}

/// Writes a span as an entry, without a string of its own.
struct Entry(Span);

impl ToRedisArgs for Entry {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(self.0);
    }
}

type Pairs = BTreeMap<String, i64>;

/// A process that the pod heard of: its name, epoch and version of its catalogue, and how many seconds ago.
type Heard = (String, i64, i64, u64);

fn heard((instance, epoch, version, seconds): Heard) -> Present {
    let stamp = Stamp { epoch, version };
    Present { instance: instance.into(), stamp, ago: Duration::from_secs(seconds) }
}

fn pairs(args: &mut Pipeline, pairs: &[(Arc<str>, i64)]) {
    for (sequence, number) in pairs {
        args.arg(&**sequence).arg(*number);
    }
}

fn by_sequence<T>(pairs: BTreeMap<String, T>) -> BTreeMap<Arc<str>, T> {
    pairs.into_iter().map(|(sequence, number)| (sequence.into(), number)).collect()
}

/// All keys of a prefix, whatever stands in it.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 2);
    for letter in prefix.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern + ":*"
}

fn lossy(entry: Vec<u8>) -> String {
    String::from_utf8(entry).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data with text for keys is always JSON")
}

fn read<T: FromRedisValue>(payload: Value) -> Result<T, PodError> {
    redis::from_redis_value(payload).map_err(unreadable)
}

fn parse<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, PodError> {
    serde_json::from_str(json).map_err(unreadable)
}

/// Somebody else wrote to our keys: whatever the script did, its answer is worth nothing.
fn unreadable(error: impl std::fmt::Display) -> PodError {
    PodError::InDoubt(format!("an answer that doesn't read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_stands_for_itself_in_a_pattern() {
        assert_eq!(pattern("blockhouse"), "blockhouse:*");
        assert_eq!(pattern(r"a*b?[c]^\"), r"a\*b\?\[c\]\^\\:*");
    }

    #[test]
    fn identity_and_catalogue_read_back_as_they_were_written() {
        let life = crate::block::Life { epoch: i64::MAX, token: uuid::Uuid::max() };
        let identity = Identity { ledger: uuid::Uuid::max(), environment: "production".to_owned(), life };
        assert_eq!(parse::<Identity>(&json(&identity)), Ok(identity));
        let catalogue = Catalogue { stamp: Stamp { epoch: 2, version: 3 }, ..Catalogue::default() };
        assert_eq!(parse::<Catalogue>(&json(&catalogue)), Ok(catalogue));
        assert!(parse::<Catalogue>("{}").is_err());
    }
}
