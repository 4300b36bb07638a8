//! Consecutive IDs as plain numbers: a description, not a holding.

use std::fmt;
use std::str::FromStr;

/// The IDs `first, first + 1, …, first + count - 1`; `first` and `count` are 1 or more and the
/// last ID fits an `i64`.
///
/// A span only *describes* IDs: rows, pod entries and answers on the wire are spans. Who may
/// give the IDs out holds a [`Range`](crate::block::Range).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    first: i64,
    count: i64,
}

impl Span {
    /// `None` unless both numbers are positive and the last ID fits an `i64`.
    pub const fn new(first: i64, count: i64) -> Option<Span> {
        if first < 1 || count < 1 || first > i64::MAX - (count - 1) {
            return None;
        }
        Some(Span { first, count })
    }

    /// The smallest ID.
    pub const fn first(self) -> i64 {
        self.first
    }

    /// How many IDs, 1 or more.
    pub const fn count(self) -> i64 {
        self.count
    }

    /// The greatest ID.
    pub const fn last(self) -> i64 {
        self.first + (self.count - 1)
    }

    /// Whether the two share an ID.
    pub const fn overlaps(self, other: Span) -> bool {
        self.first <= other.last() && other.first <= self.last()
    }

    /// Whether every ID lies in `first..=last`.
    pub const fn within(self, first: i64, last: i64) -> bool {
        self.first >= first && self.last() <= last
    }

    /// Splits after `count` IDs, which must leave both parts non-empty: `1 <= count < self.count()`.
    pub const fn split(self, count: i64) -> Option<(Span, Span)> {
        if count < 1 || count >= self.count {
            return None;
        }
        let head = Span { first: self.first, count };
        let tail = Span { first: self.first + count, count: self.count - count };
        Some((head, tail))
    }

    /// The union, where `next` begins right after `self` ends.
    pub const fn join(self, next: Span) -> Option<Span> {
        if self.last() == i64::MAX || self.last() + 1 != next.first {
            return None;
        }
        Span::new(self.first, self.count + next.count)
    }
}

/// A pod's entry: `first:count`, decimal.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.first, self.count)
    }
}

/// What a pod's entry must look like: `first:count`, digits only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an entry of the form first:count, both 1 or more")]
pub struct NotASpan;

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(entry: &str) -> Result<Span, NotASpan> {
        let (first, count) = entry.split_once(':').ok_or(NotASpan)?;
        Span::new(decimal(first)?, decimal(count)?).ok_or(NotASpan)
    }
}

/// Digits only: `i64::from_str` would also take a sign.
fn decimal(text: &str) -> Result<i64, NotASpan> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotASpan);
    }
    text.parse().map_err(|_| NotASpan)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_that_are_not_spans_are_refused() {
        for entry in [
            "",
            ":",
            "1",
            "1:",
            ":1",
            "0:1",
            "1:0",
            "-1:1",
            "+1:1",
            "1:1:1",
            " 1:1",
            "1:1 ",
            "a:b",
            "9223372036854775808:1",
            "9223372036854775807:2",
        ] {
            assert_eq!(entry.parse::<Span>(), Err(NotASpan), "{entry:?}");
        }
        let last = "9223372036854775807:1".parse::<Span>().unwrap();
        assert_eq!((last.last(), last.join(last)), (i64::MAX, None));
    }

    #[test]
    fn a_span_lies_within_bounds_that_it_touches() {
        let span = Span::new(10, 5).unwrap();
        assert!(span.within(10, 14) && span.within(1, 20));
        assert!(!span.within(11, 14) && !span.within(10, 13));
    }

    proptest! {
        #[test]
        fn an_entry_reads_back_as_what_was_written(first in 1i64.., count in 1i64..) {
            if let Some(span) = Span::new(first, count) {
                prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
            }
        }

        #[test]
        fn split_parts_join_again(first in 1i64..1 << 60, count in 2i64..1 << 40, at in 1i64..1 << 40) {
            let whole = Span::new(first, count).unwrap();
            match whole.split(at) {
                Some((head, tail)) => {
                    prop_assert_eq!(head.count(), at);
                    prop_assert!(!head.overlaps(tail));
                    prop_assert_eq!(head.join(tail), Some(whole));
                }
                None => prop_assert!(at >= count),
            }
        }
    }
}
