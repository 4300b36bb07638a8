//! Small texts: a pod's entries, names of sequences, durations.

use std::time::Duration;

use blockhouse::block::Span;
use blockhouse::block::catalogue::{NAME_MAX, is_valid_name};
use blockhouse::config::duration;

use crate::{Verdict, fuzz, must};

/// What `first:count` says, reckoned in numbers that are large enough not to overflow.
fn spelt(entry: &str) -> Option<(i128, i128)> {
    let (first, count) = entry.split_once(':')?;
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.trim_start_matches('0').parse::<i128>().ok(),
        false => None,
    };
    let (first, count) = (number(first)?, number(count)?);
    (count >= 1 && first.checked_add(count)? - 1 <= i128::from(i64::MAX)).then_some((first, count))
}

#[test]
fn entries() {
    fuzz("entries", &[":", "9223372036854775807", "0", "+", " "], 30_000, |input| {
        let text = String::from_utf8_lossy(input);
        let spelt = spelt(&text);
        let Ok(span) = text.parse::<Span>() else {
            must(spelt.is_none(), || format!("{text:?} is an entry and was refused"))?;
            return Ok("refused".to_owned());
        };
        let ends = (i128::from(span.first()), i128::from(span.count()));
        must(spelt == Some(ends), || format!("{text:?} was read as {span}"))?;
        must(i128::from(span.last()) == ends.0 + ends.1 - 1, || format!("{span} ends at {}", span.last()))?;
        must(span.to_string().parse() == Ok(span), || format!("{span} doesn't read back"))?;
        halves(span)?;
        Ok(format!("{} digits", span.to_string().len()))
    });
}

/// What a split gives is the span, no more and no less.
fn halves(span: Span) -> Result<(), String> {
    let Some((head, tail)) = span.split(span.count() / 2) else { return Ok(()) };
    must(head.count() + tail.count() == span.count(), || format!("{span}: {head} and {tail}"))?;
    must(head.join(tail) == Some(span), || format!("{head} and {tail} don't join to {span}"))?;
    let inside = |part: Span| part.within(span.first(), span.last());
    must(inside(head) && inside(tail) && !head.overlaps(tail), || format!("{head} and {tail} of {span}"))
}

#[test]
fn names() {
    fuzz("names", &["a", "-", "_", ".", "A", "ä", "0"], 30_000, |input| {
        let text = String::from_utf8_lossy(input);
        let mut letters = text.chars();
        let begins = letters.next().is_some_and(|first| first.is_ascii_lowercase());
        let good = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '_' | '.' | '-');
        let expected = begins && letters.all(good) && text.chars().count() <= NAME_MAX;
        must(is_valid_name(&text) == expected, || format!("{text:?}: valid is {expected}"))?;
        Ok(format!("{expected} {}", text.len() / 16))
    });
}

#[test]
fn durations() {
    fuzz("durations", &["ms", "s", "m", "h", "d", " min", "hours", "٣"], 30_000, |input| {
        let text = String::from_utf8_lossy(input);
        meant(&text)?;
        let Some(read) = duration::parse(&text) else { return Ok("refused".to_owned()) };
        must(read <= duration::LONGEST, || format!("{text:?} is longer than a century"))?;
        let shown = duration::show(read);
        must(duration::parse(&shown) == Some(read), || {
            format!("{text:?} is shown as {shown}, which differs")
        })?;
        let unit = shown.trim_start_matches(|letter: char| letter.is_ascii_digit());
        must(read > Duration::ZERO || shown == "0s", || format!("{text:?} is shown as {shown}"))?;
        Ok(unit.to_owned())
    });
}

/// What is proposed instead is always something that is taken.
fn meant(text: &str) -> Verdict {
    match duration::meant(text) {
        Some(meant) => {
            must(duration::parse(&meant).is_some(), || format!("{text:?}: proposes {meant:?}"))?;
            Ok(meant)
        }
        None => Ok(String::new()),
    }
}
