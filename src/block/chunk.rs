//! Cutting grants into blocks, and blocks into pushes.

use super::Span;

/// The most entries of one push: only an unanswered chunk is lost (S2).
pub const CHUNK: usize = 1000;

/// The blocks of a span, from the front: `block_size` IDs each (1 or more), the last one the rest.
pub fn blocks(span: Span, block_size: i64) -> impl Iterator<Item = Span> {
    let mut rest = Some(span);
    std::iter::from_fn(move || {
        let span = rest.take()?;
        match span.split(block_size.max(1)) {
            Some((block, more)) => {
                rest = Some(more);
                Some(block)
            }
            None => Some(span),
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_are_the_span_again(first in 1i64..1 << 50, count in 1i64..5000, size in 1i64..700) {
            let span = Span::new(first, count).unwrap();
            let parts: Vec<Span> = blocks(span, size).collect();
            let whole = parts[1..].iter().try_fold(parts[0], |whole, part| whole.join(*part));
            prop_assert_eq!(whole, Some(span));
            prop_assert!(parts[..parts.len() - 1].iter().all(|part| part.count() == size));
            prop_assert!(parts[parts.len() - 1].count() <= size);
        }
    }
}
