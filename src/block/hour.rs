//! What a sequence was granted in the last hour, by the ledger's clock: what the hourly cap goes by.

/// How many slots reach back an hour, however far the present one has got.
pub const SLOTS: usize = 13;
/// A slot, in microseconds: five minutes.
pub const SLOT_US: i64 = 300_000_000;

/// The last hour of one sequence, in slots that never move back.
///
/// It holds sums rather than counts: what the last slots saw is one subtraction, here and in the ledger's statement. A clock
/// that was set back goes on filling the newest slot, and so frees nothing early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hour {
    /// IDs that grants have given out in all. A counter that was moved gave out nothing.
    pub issued: i64,
    /// The number of the newest slot since 1970.
    pub slot: i64,
    /// What `issued` was when each slot began, the newest first.
    pub starts: [i64; SLOTS],
}

impl Hour {
    /// The number of the slot that `now_us`, in microseconds since 1970, lies in.
    pub fn slot_of(now_us: i64) -> i64 {
        now_us.div_euclid(SLOT_US)
    }

    /// IDs granted in `slot` and the twelve before it: in the last hour at least.
    pub fn spent(&self, slot: i64) -> i64 {
        let oldest = (SLOTS - 1).checked_sub(self.age(slot));
        oldest.map_or(0, |oldest| self.issued - self.starts[oldest])
    }

    /// Notes a grant of `ids` in `slot`.
    pub fn add(&mut self, ids: i64, slot: i64) {
        let age = self.age(slot);
        self.starts.rotate_right(age % SLOTS);
        self.starts[..age].fill(self.issued);
        self.slot = self.slot.max(slot);
        self.issued = self.issued.saturating_add(ids);
    }

    /// Microseconds until as much has left the hour as `fits` asks of what is then spent, if no more is granted: at most until
    /// all of it has.
    pub fn wait_us(&self, now_us: i64, fits: impl Fn(i64) -> bool) -> i64 {
        let newest = self.slot.max(Hour::slot_of(now_us));
        let last = newest.saturating_add(13);
        let free = (newest.saturating_add(1)..last).find(|slot| fits(self.spent(*slot))).unwrap_or(last);
        free.saturating_mul(SLOT_US).saturating_sub(now_us)
    }

    /// How many slots lie between the newest and `slot`, as far as that matters.
    fn age(&self, slot: i64) -> usize {
        usize::try_from(slot.saturating_sub(self.slot)).unwrap_or(0).min(SLOTS)
    }
}

/// What an hour may see in all, and what of it hydrating may take: three quarters, so that fallback always finds something.
pub fn share(gap: i64, hydrates: bool) -> i64 {
    if hydrates { gap / 2 + gap / 4 } else { gap }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_US: i64 = 12 * SLOT_US;

    #[test]
    fn an_hour_later_all_of_it_is_free_and_not_a_slot_before() {
        let mut hour = Hour::default();
        hour.add(7, 1_000);
        for (slot, spent) in [(1_000, 7), (1_001, 7), (1_012, 7), (1_013, 0), (i64::MAX, 0)] {
            assert_eq!(hour.spent(slot), spent, "in slot {slot}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_frees_nothing_and_fills_the_newest_slot() {
        let mut hour = Hour::default();
        hour.add(7, 1_000);
        hour.add(5, 980);
        assert_eq!((hour.slot, hour.spent(980), hour.spent(0)), (1_000, 12, 12));
        assert_eq!((hour.spent(1_012), hour.spent(1_013)), (12, 0));
    }

    #[test]
    fn it_is_said_when_enough_will_be_free() {
        let mut hour = Hour::default();
        hour.add(100, 1_000);
        hour.add(50, 1_003);
        let now_us = 1_004 * SLOT_US + 1_000_000;
        let until = |slot: i64| slot * SLOT_US - now_us;
        assert_eq!(hour.wait_us(now_us, |spent| spent <= 50), until(1_013));
        assert_eq!(hour.wait_us(now_us, |spent| spent == 0), until(1_016));
        assert_eq!(hour.wait_us(now_us, |_| false), until(1_017), "never, but no longer than that");
        assert_eq!(
            hour.wait_us(900 * SLOT_US, |spent| spent == 0),
            116 * SLOT_US,
            "set back, it takes longer"
        );
    }

    /// What passes between two grants.
    fn pauses() -> impl Strategy<Value = i64> {
        prop_oneof![
            8 => 0..SLOT_US,
            2 => 0..2 * HOUR_US,
            1 => prop::sample::select(vec![SLOT_US, HOUR_US, 13 * SLOT_US, SLOT_US - 1, HOUR_US - 1]),
        ]
    }

    /// Where somebody sets the clock to.
    fn steps() -> impl Strategy<Value = i64> {
        prop_oneof![6 => Just(0), 1 => -2 * HOUR_US..0, 1 => 0..2 * HOUR_US, 1 => Just(-HOUR_US), 1 => Just(HOUR_US)]
    }

    /// Grants what there is room for, and gives how much that was.
    fn grant(hour: &mut Hour, gap: i64, ids: i64, hydrates: bool, clock_us: i64) -> i64 {
        let slot = Hour::slot_of(clock_us);
        let ids = ids.min(share(gap, hydrates) - hour.spent(slot)).max(0);
        if ids > 0 {
            hour.add(ids, slot);
        }
        ids
    }

    fn in_the_last_hour(granted: &[(i64, i64)], now_us: i64) -> i64 {
        granted.iter().filter(|(at, _)| now_us - at <= HOUR_US).map(|(_, ids)| ids).sum()
    }

    const BEGAN_US: i64 = 1_700_000_000_000_000;

    proptest! {
        /// Whoever asks for whatever, and wherever the clock is set to: no hour sees more than the gap, by the greatest time at
        /// which something was granted. A clock set forward by an hour frees what an hour would.
        #[test]
        fn no_hour_sees_more_than_the_gap(
            gap in 1i64..2_000,
            grants in prop::collection::vec((pauses(), steps(), 1i64..700, any::<bool>()), 1..200),
        ) {
            let (mut hour, mut clock_us, mut newest_us) = (Hour::default(), BEGAN_US, 0);
            let mut granted = Vec::new();
            for (pause, step, ids, hydrates) in grants {
                clock_us += pause + step;
                let ids = grant(&mut hour, gap, ids, hydrates, clock_us);
                if ids > 0 {
                    newest_us = clock_us.max(newest_us);
                    granted.push((newest_us, ids));
                }
                let recent = in_the_last_hour(&granted, clock_us.max(newest_us));
                prop_assert!(recent <= gap, "{recent} of {gap}");
            }
        }

        /// The same by a clock on the wall, while the ledger's is set back again and again.
        #[test]
        fn a_clock_set_back_never_lets_more_through(
            gap in 1i64..2_000,
            grants in prop::collection::vec((pauses(), -2 * HOUR_US..=0, 1i64..700, any::<bool>()), 1..200),
        ) {
            let (mut hour, mut clock_us, mut wall_us) = (Hour::default(), BEGAN_US, 0);
            let mut granted = Vec::new();
            for (pause, step, ids, hydrates) in grants {
                clock_us += pause + step;
                wall_us += pause;
                granted.push((wall_us, grant(&mut hour, gap, ids, hydrates, clock_us)));
                let recent = in_the_last_hour(&granted, wall_us);
                prop_assert!(recent <= gap, "{recent} of {gap}");
            }
        }

        /// Hydrating alone never takes more than three quarters, so fallback finds a quarter.
        #[test]
        fn hydrating_leaves_a_quarter(gap in 1i64.., asks in prop::collection::vec((pauses(), 1i64..), 1..50)) {
            let (mut hour, mut clock_us) = (Hour::default(), BEGAN_US);
            for (pause, ids) in asks {
                clock_us += pause;
                grant(&mut hour, gap, ids, true, clock_us);
                prop_assert!(gap - hour.spent(Hour::slot_of(clock_us)) >= gap / 4);
                // Nothing ever adds up to more than a counter can hold.
                if hour.issued > i64::MAX / 4 {
                    break;
                }
            }
        }

        /// The sums say what thirteen counts would.
        #[test]
        fn sums_are_as_good_as_counts(grants in prop::collection::vec((0i64..20, 1i64..100), 1..100)) {
            let (mut hour, mut slot, mut counts) = (Hour::default(), 100, std::collections::BTreeMap::new());
            for (later, ids) in grants {
                slot += later;
                *counts.entry(slot).or_insert(0) += ids;
                hour.add(ids, slot);
                for ahead in 0..15 {
                    let at = slot + ahead;
                    let counted: i64 = counts.range(at - 12..=at).map(|(_, ids)| ids).sum();
                    prop_assert_eq!(hour.spent(at), counted);
                }
            }
        }
    }
}
