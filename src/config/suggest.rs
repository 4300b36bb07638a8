//! "Did you mean …?"

/// The candidate that is nearest to `word`, if any is near enough to be a slip of the fingers.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let slips = (word.chars().count() / 4).max(1);
    let distances = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    distances.filter(|(distance, _)| *distance <= slips).min().map(|(_, candidate)| candidate)
}

fn distance(word: &str, candidate: &str) -> usize {
    strsim::damerau_levenshtein(&word.to_lowercase(), candidate)
}

/// The key that an unknown one was meant to be: the nearest, else the only one of that name in another table.
pub(super) fn key<'a>(unknown: &str, keys: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    nearest(unknown, keys.clone()).or_else(|| {
        let name = last_part(unknown);
        let mut elsewhere = keys.filter(|key| last_part(key) == name);
        elsewhere.next().filter(|_| elsewhere.next().is_none())
    })
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let keys = ["redis.timeout", "redis.connect_timeout", "fallback.max_wait", "ledger.timeout"];
        for (unknown, meant) in [
            ("redis.timout", Some("redis.timeout")),
            ("redis.Timeout", Some("redis.timeout")),
            ("redsi.timeout", Some("redis.timeout")),
            ("redis.max_wait", Some("fallback.max_wait")),
            ("grpc.timeout", None),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(key(unknown, keys.into_iter()), meant, "{unknown}");
        }
    }
}
