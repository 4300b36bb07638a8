//! Ranges at hand for one sequence: a worker's leftovers, or the process's reserve.

use std::collections::VecDeque;

use super::{Cause, Range, Tier};

/// A queue of ranges of one sequence, taken from the front.
///
/// Each range remembers the tier it came from until [`Stash::settle`], after which it counts as
/// [`Tier::Memory`]: what is left over from an earlier answer. What was granted before the generation that it follows is
/// discarded, whenever it comes.
#[derive(Debug, Default)]
pub struct Stash {
    generation: i64,
    parts: VecDeque<(Range, Tier)>,
    ids: i64,
}

/// IDs taken for one answer.
#[derive(Debug)]
pub struct Taken {
    /// Ascending, neither overlapping nor touching.
    pub ranges: Vec<Range>,
    /// The farthest tier among them.
    pub tier: Tier,
}

impl Stash {
    /// How many IDs.
    pub fn ids(&self) -> i64 {
        self.ids
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// From now on nothing is kept that was granted before `generation`. Never goes back.
    pub fn follow(&mut self, generation: i64) {
        if generation <= self.generation {
            return;
        }
        self.generation = generation;
        self.ids = 0;
        for (range, tier) in std::mem::take(&mut self.parts) {
            self.put(range, tier);
        }
    }

    /// Adds a range behind the others.
    pub fn put(&mut self, range: Range, tier: Tier) {
        let Some(range) = self.admit(range) else { return };
        self.ids += range.count();
        let range = match self.parts.back_mut() {
            Some((last, from)) if *from == tier => match last.join(range) {
                Ok(()) => return,
                Err(apart) => apart,
            },
            _ => range,
        };
        self.parts.push_back((range, tier));
    }

    /// Puts back what was taken and not issued, before the others, as memory.
    pub fn put_back(&mut self, ranges: Vec<Range>) {
        for range in ranges.into_iter().rev() {
            let Some(range) = self.admit(range) else { continue };
            self.ids += range.count();
            self.parts.push_front((range, Tier::Memory));
        }
    }

    fn admit(&self, range: Range) -> Option<Range> {
        if range.generation() >= self.generation {
            return Some(range);
        }
        range.discard(Cause::Advanced);
        None
    }

    /// Takes exactly `count` IDs, or nothing.
    pub fn take(&mut self, count: i64) -> Option<Taken> {
        if count < 1 || count > self.ids {
            return None;
        }
        Some(self.take_up_to(count))
    }

    /// Takes `count` IDs, or as many as there are.
    pub fn take_up_to(&mut self, count: i64) -> Taken {
        let mut missing = count;
        let mut ranges = Vec::with_capacity(1);
        let mut tier = Tier::Memory;
        while missing > 0 {
            let Some((mut front, from)) = self.parts.pop_front() else { break };
            tier = tier.max(from);
            let part = match front.split_off_front(missing) {
                Some(head) => {
                    self.parts.push_front((front, from));
                    head
                }
                None => front,
            };
            missing -= part.count();
            self.ids -= part.count();
            ranges.push(part);
        }
        Taken { ranges: joined(ranges), tier }
    }

    /// From now on everything here counts as memory.
    pub fn settle(&mut self) {
        for (_, tier) in &mut self.parts {
            *tier = Tier::Memory;
        }
    }

    /// Takes everything out.
    pub fn drain(&mut self) -> impl Iterator<Item = Range> + '_ {
        self.ids = 0;
        self.parts.drain(..).map(|(range, _)| range)
    }

    /// Gives everything up for `cause`.
    pub fn discard(&mut self, cause: Cause) {
        self.drain().for_each(|range| range.discard(cause));
    }
}

/// Sorts ranges and joins those that touch.
pub fn joined(mut ranges: Vec<Range>) -> Vec<Range> {
    if ranges.len() < 2 {
        return ranges;
    }
    ranges.sort_unstable_by_key(|range| range.span().first());
    let mut out: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        let apart = match out.last_mut() {
            Some(last) => last.join(range).err(),
            None => Some(range),
        };
        out.extend(apart);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::block::{Span, Tally};

    fn range(first: i64, count: i64, tally: &Arc<Tally>) -> Range {
        Range::hold(Span::new(first, count).unwrap(), 1, Arc::clone(tally))
    }

    #[test]
    fn touching_ranges_leave_as_one_and_in_order() {
        let tally = Arc::default();
        let mut stash = Stash::default();
        stash.put(range(20, 5, &tally), Tier::Memory);
        stash.put(range(10, 10, &tally), Tier::Pods);
        let taken = stash.take(15).unwrap();
        assert_eq!(taken.tier, Tier::Pods);
        assert_eq!(taken.ranges.len(), 1);
        assert_eq!(taken.ranges[0].span(), Span::new(10, 15).unwrap());
        taken.ranges.into_iter().for_each(|range| _ = range.issue());
        assert_eq!(tally.discarded_in_all(), 0);
    }

    #[test]
    fn what_is_not_enough_stays() {
        let tally = Arc::default();
        let mut stash = Stash::default();
        stash.put(range(1, 5, &tally), Tier::Pods);
        assert!(stash.take(6).is_none());
        assert_eq!(stash.ids(), 5);
        stash.discard(Cause::Advanced);
        assert_eq!(tally.discarded(Cause::Advanced), 5);
    }

    #[test]
    fn what_is_left_over_counts_as_memory() {
        let tally = Arc::default();
        let mut stash = Stash::default();
        assert!(stash.is_empty() && stash.take(0).is_none());
        stash.put(range(1, 5, &tally), Tier::Ledger);
        assert!(!stash.is_empty());
        stash.settle();
        assert_eq!(stash.take(2).unwrap().tier, Tier::Memory);
        let all = stash.take_up_to(7);
        assert_eq!((all.tier, all.ranges[0].span()), (Tier::Memory, Span::new(3, 3).unwrap()));
        stash.put(range(11, 5, &tally), Tier::Pods);
        let drained: Vec<Span> = stash.drain().map(Range::issue).collect();
        assert_eq!((drained, stash.ids()), (vec![Span::new(11, 5).unwrap()], 0));
    }

    #[test]
    fn what_was_granted_before_a_new_generation_is_discarded_whenever_it_comes() {
        let tally = Arc::default();
        let of =
            |generation, first| Range::hold(Span::new(first, 10).unwrap(), generation, Arc::clone(&tally));
        let mut stash = Stash::default();
        stash.put(of(1, 1), Tier::Pods);
        stash.put(of(2, 11), Tier::Pods);
        stash.follow(2);
        assert_eq!((stash.ids(), tally.discarded(Cause::Advanced)), (10, 10));
        stash.put(of(1, 21), Tier::Pods);
        stash.put_back(vec![of(1, 31), of(2, 41)]);
        stash.follow(1);
        assert_eq!((stash.ids(), tally.discarded(Cause::Advanced)), (20, 30));
        stash.put(of(3, 51), Tier::Memory);
        stash.follow(3);
        let taken = stash.take(10).unwrap();
        assert_eq!((taken.tier, taken.ranges[0].span().first()), (Tier::Memory, 51));
        assert_eq!(tally.discarded(Cause::Advanced), 50);
    }

    #[test]
    fn ranges_of_two_generations_do_not_join() {
        let tally: Arc<Tally> = Arc::default();
        let mut one = Range::hold(Span::new(1, 10).unwrap(), 1, Arc::clone(&tally));
        let other = Range::hold(Span::new(11, 10).unwrap(), 2, tally);
        assert!(one.join(other).is_err());
    }

    proptest! {
        /// To the unit: put = taken + left, and nothing is given twice.
        #[test]
        fn every_id_is_accounted_for(
            blocks in prop::collection::vec(1i64..50, 1..20),
            takes in prop::collection::vec((1i64..120, any::<bool>()), 1..40),
        ) {
            let tally: Arc<Tally> = Arc::default();
            let mut stash = Stash::default();
            let mut next = 1;
            for (i, count) in blocks.iter().enumerate() {
                stash.put(range(next, *count, &tally), Tier::Pods);
                next += count + i64::from(i % 3 == 0);
            }
            let total: i64 = blocks.iter().sum();
            let mut issued = Vec::new();
            for (count, keep) in takes {
                let before = stash.ids();
                match stash.take(count) {
                    Some(taken) => {
                        prop_assert_eq!(taken.ranges.iter().map(Range::count).sum::<i64>(), count);
                        prop_assert!(taken.ranges.windows(2).all(|w| w[0].span().last() + 1 < w[1].span().first()));
                        if keep {
                            issued.extend(taken.ranges.into_iter().map(Range::issue));
                        } else {
                            stash.put_back(taken.ranges);
                            prop_assert_eq!(stash.ids(), before);
                        }
                    }
                    None => prop_assert!(count > before),
                }
            }
            issued.sort_unstable();
            prop_assert!(issued.windows(2).all(|w| !w[0].overlaps(w[1])));
            let given: i64 = issued.iter().map(|span| span.count()).sum();
            prop_assert_eq!(given + stash.ids(), total);
            let left = stash.ids().unsigned_abs();
            drop(stash);
            prop_assert_eq!(tally.discarded(Cause::Dropped), left);
        }
    }
}
