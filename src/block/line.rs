//! Callers who wait for IDs of one sequence, served in the order they came.

use std::collections::VecDeque;

use super::stash::{Stash, Taken};

/// A first-in, first-out line. `T` is how to reach the caller.
#[derive(Debug)]
pub struct Line<T> {
    waiting: VecDeque<(i64, T)>,
    ids: i64,
}

impl<T> Default for Line<T> {
    fn default() -> Line<T> {
        Line { waiting: VecDeque::new(), ids: 0 }
    }
}

impl<T> Line<T> {
    /// Joins the line for `count` IDs, 1 or more.
    pub fn join(&mut self, count: i64, caller: T) {
        self.ids = self.ids.saturating_add(count);
        self.waiting.push_back((count, caller));
    }

    /// How many callers.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// IDs that all of them wait for.
    pub fn ids(&self) -> i64 {
        self.ids
    }

    /// IDs that the first waits for.
    pub fn first(&self) -> Option<i64> {
        self.waiting.front().map(|(count, _)| *count)
    }

    /// The first caller.
    pub fn front(&self) -> Option<&T> {
        self.waiting.front().map(|(_, caller)| caller)
    }

    /// Takes out the first caller and what it gets, if `stash` has enough for it.
    pub fn serve(&mut self, stash: &mut Stash) -> Option<(T, Taken)> {
        let (count, _) = self.waiting.front()?;
        let taken = stash.take(*count)?;
        let (count, caller) = self.waiting.pop_front()?;
        self.ids -= count;
        Some((caller, taken))
    }

    /// Takes out the first caller and what it waited for, served or not.
    pub fn leave(&mut self) -> Option<(i64, T)> {
        let (count, caller) = self.waiting.pop_front()?;
        self.ids -= count;
        Some((count, caller))
    }

    /// Takes out the last caller.
    pub fn leave_last(&mut self) -> Option<T> {
        let (count, caller) = self.waiting.pop_back()?;
        self.ids -= count;
        Some(caller)
    }

    /// Takes out every caller for which `gone` is true, such as those who gave up.
    pub fn forget(&mut self, gone: impl Fn(&T) -> bool) {
        self.waiting.retain(|(_, caller)| !gone(caller));
        self.ids = self.waiting.iter().map(|(count, _)| *count).fold(0, i64::saturating_add);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::block::{Range, Span, Tally, Tier};

    #[test]
    fn callers_are_served_in_order_and_only_whole() {
        let tally: Arc<Tally> = Arc::default();
        let mut stash = Stash::default();
        let mut line = Line::default();
        line.join(5, 'a');
        line.join(1, 'b');
        line.join(7, 'c');
        assert_eq!((line.ids(), line.first()), (13, Some(5)));
        stash.put(Range::hold(Span::new(1, 4).unwrap(), 1, Arc::clone(&tally)), Tier::Pods);
        assert!(line.serve(&mut stash).is_none(), "b does not overtake a");
        stash.put(Range::hold(Span::new(5, 4).unwrap(), 1, tally), Tier::Pods);
        let mut served = Vec::new();
        while let Some((caller, taken)) = line.serve(&mut stash) {
            served.push((caller, taken.ranges.into_iter().map(Range::issue).collect::<Vec<_>>()));
        }
        assert_eq!(served, [('a', vec![Span::new(1, 5).unwrap()]), ('b', vec![Span::new(6, 1).unwrap()])]);
        line.forget(|caller| *caller == 'c');
        assert_eq!((line.ids(), line.len(), stash.ids()), (0, 0, 2));
    }

    #[test]
    fn who_leaves_takes_its_wish_along() {
        let mut line = Line::default();
        assert!(line.is_empty() && line.front().is_none());
        for (count, caller) in [(1, 'a'), (2, 'b'), (4, 'c'), (8, 'd'), (16, 'e')] {
            line.join(count, caller);
        }
        assert_eq!((line.front(), line.len(), line.is_empty()), (Some(&'a'), 5, false));
        assert_eq!((line.leave(), line.ids()), (Some((1, 'a')), 30));
        assert_eq!((line.leave_last(), line.ids()), (Some('e'), 14));
        line.forget(|caller| *caller == 'c');
        assert_eq!((line.ids(), line.first(), line.len()), (10, Some(2), 2));
        let mut stash = Stash::default();
        stash.put(Range::hold(Span::new(1, 20).unwrap(), 1, Arc::default()), Tier::Pods);
        assert_eq!(line.serve(&mut stash).map(|(caller, _)| caller), Some('b'));
        assert_eq!(line.ids(), 8);
    }
}
