//! What lies in a pod, read from outside.

use std::collections::BTreeMap;

use blockhouse::block::Span;
use deadpool_redis::redis;

use crate::support::redis::Redis;

/// Entries by sequence.
pub type Entries = BTreeMap<String, Vec<Span>>;

/// Every list of the server's present life, with its entries: one moment of it.
const LISTS: &str = "
    local info = redis.call('INFO')
    local life = ':' .. info:match('run_id:(%w+)') .. ':' .. info:match('master_replid:(%w+)') .. ':'
    local found = {}
    for _, key in ipairs(redis.call('KEYS', '*' .. life .. '*')) do
        if redis.call('TYPE', key).ok == 'list' then
            table.insert(found, {key:sub(key:find(life, 1, true) + #life), redis.call('LRANGE', key, 0, -1)})
        end
    end
    return found";

/// What the pod's present lists hold. `newest` alone counts of several generations.
pub fn read(pod: &Redis) -> Entries {
    let found: Vec<(String, Vec<String>)> = pod.run(&["EVAL", LISTS, "0"]);
    newest(found)
}

/// The same, and from that moment on the pod does nothing any more for anybody, until it is killed.
pub fn last_words(pod: &Redis) -> Entries {
    let client = redis::Client::open(pod.url()).expect("an address");
    let mut connection = client.get_connection().expect("the pod answers");
    let mut both = redis::pipe();
    both.atomic().cmd("EVAL").arg(LISTS).arg(0);
    both.cmd("CLIENT").arg("PAUSE").arg(600_000).arg("ALL").ignore();
    let (found,): (Vec<(String, Vec<String>)>,) = both.query(&mut connection).expect("the pod answers");
    newest(found)
}

fn newest(found: Vec<(String, Vec<String>)>) -> Entries {
    let mut newest: BTreeMap<String, (i64, Vec<Span>)> = BTreeMap::new();
    for (name, entries) in found {
        let (sequence, generation) = name.rsplit_once(':').expect("SEQUENCE:GENERATION");
        let generation = generation.parse().expect("a generation");
        let spans = entries.iter().map(|entry| entry.parse().expect("an entry")).collect();
        let known = newest.entry(sequence.to_owned()).or_insert((generation, Vec::new()));
        if generation >= known.0 {
            *known = (generation, spans);
        }
    }
    newest.into_iter().map(|(sequence, (_, spans))| (sequence, spans)).collect()
}
