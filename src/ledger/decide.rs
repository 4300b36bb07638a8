//! What the embedded engines decide alike, without storing anything: whether a process may use a ledger, what a
//! grant request gets, what a change does to a sequence.
//!
//! PostgreSQL decides the same inside its statements; `tests/conformance` holds all of them to it.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Expected, Facts, Grant, GrantRecord, GrantRequest, LedgerError, NewSequence, Purpose, SequenceChange,
    SequenceRow, State,
};
use crate::block::hour::share;
use crate::block::{Catalogue, Hour, Identity, OnFailover, SequenceFacts, Span, Stamp};

/// What a ledger says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// Which ledger, in which life.
    pub identity: Identity,
    /// Open or closed.
    pub state: State,
    /// Raised with every change of a sequence's facts.
    pub catalogue_version: i64,
    /// What it does after a failover.
    pub on_failover: OnFailover,
}

impl LedgerRow {
    /// Whether a process with these expectations may use the ledger (S5).
    ///
    /// # Errors
    /// [`LedgerError::Wrong`].
    pub fn admit(&self, expected: &Expected) -> Result<(), LedgerError> {
        let Identity { ledger, environment, .. } = &self.identity;
        if *environment != *expected.environment {
            return Err(LedgerError::Wrong(format!(
                "the ledger {ledger} belongs to the environment '{environment}', this process to '{}'",
                expected.environment
            )));
        }
        match expected.id {
            Some(pinned) if pinned != *ledger => {
                Err(LedgerError::Wrong(format!("the ledger is {ledger}, but ledger.id pins {pinned}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether a change may turn a row of it into `after`: no generation is raised while it is closed, because what is raised may be
    /// older than what was raised before.
    ///
    /// # Errors
    /// [`LedgerError::Closed`].
    pub fn allows(&self, before: &SequenceRow, after: &SequenceRow) -> Result<(), LedgerError> {
        match &self.state {
            State::Closed(why) if after.facts.generation > before.facts.generation => {
                Err(LedgerError::Closed(why.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// What a process must know, put together from the rows of all sequences in the order of their names.
    pub fn facts(self, rows: Vec<SequenceRow>, descends: bool, read_at_us: i64) -> Facts {
        let stamp = Stamp { epoch: self.identity.life.epoch, version: self.catalogue_version };
        let granted = rows.iter().map(|row| (row.facts.name.clone(), row.granted)).collect();
        let sequences = rows.into_iter().map(|row| (row.facts.name.clone(), row.facts)).collect();
        let catalogue = Catalogue { stamp, on_failover: self.on_failover, sequences };
        Facts { identity: self.identity, state: self.state, descends, catalogue, granted, read_at_us }
    }
}

/// What the hourly cap of a sequence goes by.
#[derive(Debug)]
pub struct Capped<'a> {
    /// What it was granted in the last hour.
    pub hour: &'a Hour,
    /// A cap that stays until every cluster knows of a looser one.
    pub held: Option<i64>,
    /// The ledger's clock, in µs since 1970.
    pub now_us: i64,
}

/// What `request` gets of the sequence whose row is `row`: the grant to commit, or the refusal.
///
/// `recorded` is the last ID of the sequence's newest recorded grant, 0 without any. Nothing is granted that is not
/// above both it and what the caller knows (S3).
///
/// # Errors
/// Every refusal that [`LedgerError`] has for a grant.
pub fn grant(
    ledger: &LedgerRow,
    row: Option<&SequenceRow>,
    recorded: i64,
    request: &GrantRequest,
    capped: &Capped<'_>,
) -> Result<Grant, LedgerError> {
    let life = ledger.identity.life;
    if let State::Closed(why) = &ledger.state {
        return Err(LedgerError::Closed(why.to_string()));
    }
    if request.life != life {
        return Err(LedgerError::Stale(format!(
            "it lives in epoch {} and the request names {}",
            life.epoch, request.life.epoch
        )));
    }
    let row = row.ok_or_else(|| LedgerError::Unknown(request.sequence.to_string()))?;
    let SequenceRow { facts, granted, grants } = row;
    if facts.retired {
        return Err(LedgerError::Retired);
    }
    // Before what a ledger that went back has forgotten too.
    let known = request.known_high_water.max(recorded);
    if *granted < known {
        return Err(LedgerError::WentBack { granted: *granted, known });
    }
    if let Some(why) = &facts.halted {
        return Err(LedgerError::Halted(why.to_string()));
    }
    if request.generation != facts.generation {
        return Err(LedgerError::Stale(format!(
            "'{}' is in generation {} and the request names {}",
            facts.name, facts.generation, request.generation
        )));
    }
    let left = facts.last.saturating_sub(*granted).max(0);
    let exhausted = LedgerError::Exhausted { left };
    let Some(count) = size(left, request) else { return Err(exhausted) };
    let least = request.least.max(1);
    let Capped { hour, held, now_us } = *capped;
    let hydrates = request.purpose == Purpose::Hydrate;
    let cap = cap(ledger.on_failover, facts.failover_gap, held).map(|cap| share(cap, hydrates));
    let allowed = |spent: i64| cap.map_or(i64::MAX, |cap| cap.saturating_sub(spent).max(0));
    let room = allowed(hour.spent(Hour::slot_of(now_us)));
    if room < least {
        let wait_us = hour.wait_us(now_us, |spent| allowed(spent) >= least);
        let wait = Duration::from_micros(wait_us.unsigned_abs());
        return Err(LedgerError::RateCapped { allowed: room, wait });
    }
    let count = count.min(room);
    let span = granted.checked_add(1).and_then(|first| Span::new(first, count)).ok_or(exhausted)?;
    Ok(Grant { span, number: grants + 1, generation: facts.generation, life, left: left - count })
}

/// `min(left, max(need, min(want, left / 64)))`; `None` where `left` is less than the least that is of use.
fn size(left: i64, request: &GrantRequest) -> Option<i64> {
    let least = request.least.max(1);
    let welcome = request.want.min(left / 64);
    (left >= least).then(|| request.need.max(welcome).max(least).min(left))
}

/// What caps an hour, if anything does: what is set, or what is still held of what was.
pub fn cap(on_failover: OnFailover, gap: i64, held: Option<i64>) -> Option<i64> {
    let set = (on_failover == OnFailover::Jump && gap > 0).then_some(gap);
    [set, held].into_iter().flatten().min()
}

/// Refuses to cap sequences that were granted more than their gap in the last hour: by name, what was granted, and the gap.
///
/// # Errors
/// [`LedgerError::Invalid`].
pub fn may_cap(over: &[(Arc<str>, i64, i64)]) -> Result<(), LedgerError> {
    if over.is_empty() {
        return Ok(());
    }
    let each =
        over.iter().map(|(name, spent, gap)| format!("'{name}' {spent} IDs, with a failover gap of {gap}"));
    Err(LedgerError::Invalid(format!(
        "more was granted in the last hour than a jump would leave out: of {}; raise the gap \
         (`blockhouse sequence set NAME --failover-gap N`), or try again within an hour",
        each.collect::<Vec<_>>().join(", of ")
    )))
}

/// The sequence, where `gap` is too small for what it was granted in the last hour.
pub fn over(facts: &SequenceFacts, gap: i64, hour: &Hour, now_us: i64) -> Option<(Arc<str>, i64, i64)> {
    let spent = hour.spent(Hour::slot_of(now_us));
    (gap > 0 && spent > gap && !facts.retired).then(|| (Arc::clone(&facts.name), spent, gap))
}

/// What is recorded of a grant, in the transaction that makes it.
pub fn record(grant: &Grant, request: &GrantRequest, at_us: i64) -> GrantRecord {
    GrantRecord {
        number: grant.number,
        span: grant.span,
        generation: grant.generation,
        epoch: grant.life.epoch,
        at_us,
        purpose: request.purpose.name().to_owned(),
        holder: request.holder.to_string(),
        cluster: request.cluster.to_string(),
        pod: request.pod.as_deref().map(str::to_owned),
    }
}

/// The first row of a new sequence.
///
/// # Errors
/// [`LedgerError::Invalid`].
pub fn first_row(new: &NewSequence) -> Result<SequenceRow, LedgerError> {
    new.check().map_err(LedgerError::Invalid)?;
    let facts = SequenceFacts {
        name: new.name.clone(),
        generation: 1,
        first: new.first,
        last: new.last,
        block_size: new.block_size,
        buffer_seconds: new.buffer.map(seconds),
        failover_gap: new.failover_gap.unwrap_or_else(|| NewSequence::default_gap(new.first, new.last)),
        halted: None,
        retired: false,
    };
    Ok(SequenceRow { granted: new.first - 1, grants: 0, facts })
}

/// Carries out `sequence set`, or leaves `row` as it was.
///
/// # Errors
/// [`LedgerError::Retired`], [`LedgerError::Invalid`].
pub fn change(row: &mut SequenceRow, change: &SequenceChange) -> Result<(), LedgerError> {
    let SequenceRow { facts, granted, .. } = row;
    if facts.retired {
        return Err(LedgerError::Retired);
    }
    let lowered = change.last.filter(|last| *last < facts.last);
    if let Some(last) = lowered.filter(|last| *last < (*granted).max(facts.first)) {
        return Err(too_low(&facts.name, last, *granted));
    }
    if let Some(size) = change.block_size.filter(|size| *size < 1) {
        return Err(LedgerError::Invalid(format!("the block size must be 1 or more, not {size}")));
    }
    if change.failover_gap.is_some_and(|gap| gap < 0) {
        return Err(LedgerError::Invalid("the failover gap can't be negative".to_owned()));
    }
    facts.last = change.last.unwrap_or(facts.last);
    facts.generation += i64::from(lowered.is_some());
    facts.block_size = change.block_size.unwrap_or(facts.block_size);
    facts.failover_gap = change.failover_gap.unwrap_or(facts.failover_gap);
    if let Some(buffer) = change.buffer {
        facts.buffer_seconds = buffer.map(seconds);
    }
    Ok(())
}

/// What a maximum that would lie below granted IDs is told.
pub fn too_low(name: &str, last: i64, granted: i64) -> LedgerError {
    LedgerError::Invalid(format!(
        "the maximum of '{name}' can't be lowered to {last}: IDs up to {granted} have been granted"
    ))
}

/// Carries out `sequence advance`, or leaves `row` as it was. What the counter has passed already stays passed (S4).
///
/// # Errors
/// [`LedgerError::Retired`], [`LedgerError::Invalid`].
pub fn advance(row: &mut SequenceRow, above: i64) -> Result<(), LedgerError> {
    let SequenceRow { facts, granted, .. } = row;
    if facts.retired {
        return Err(LedgerError::Retired);
    }
    if above > facts.last {
        return Err(LedgerError::Invalid(format!(
            "'{}' ends at {}, which {above} lies above: raise its maximum first",
            facts.name, facts.last
        )));
    }
    *granted = above.max(*granted);
    facts.generation += 1;
    Ok(())
}

/// A name that is taken is no error where the caller says so.
///
/// # Errors
/// [`LedgerError::Invalid`].
pub fn taken(new: &NewSequence) -> Result<(), LedgerError> {
    if new.if_not_exists {
        return Ok(());
    }
    Err(LedgerError::Invalid(format!("the sequence '{}' exists, and names are never reused", new.name)))
}

fn seconds(buffer: std::time::Duration) -> i64 {
    i64::try_from(buffer.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::block::Life;

    const LIFE: Life = Life { epoch: 3, token: Uuid::from_u128(7) };

    fn ledger() -> LedgerRow {
        let identity = Identity { ledger: Uuid::from_u128(1), environment: "test".to_owned(), life: LIFE };
        LedgerRow { identity, state: State::Open, catalogue_version: 1, on_failover: OnFailover::Wait }
    }

    fn row(first: i64, last: i64, granted: i64) -> SequenceRow {
        let new = NewSequence {
            name: "tasks".into(),
            first,
            last,
            block_size: 1,
            buffer: None,
            failover_gap: None,
            if_not_exists: false,
        };
        SequenceRow { granted, ..first_row(&new).unwrap() }
    }

    fn request(least: i64, need: i64, want: i64) -> GrantRequest {
        GrantRequest {
            sequence: "tasks".into(),
            generation: 1,
            life: LIFE,
            least,
            need,
            want,
            known_high_water: 0,
            purpose: Purpose::Fallback,
            holder: "holder".into(),
            cluster: "cluster".into(),
            pod: None,
        }
    }

    /// What a ledger grants of which nothing was taken in the last hour.
    fn granted_at_rest(
        ledger: &LedgerRow,
        row: Option<&SequenceRow>,
        recorded: i64,
        request: &GrantRequest,
    ) -> Result<Grant, LedgerError> {
        grant(
            ledger,
            row,
            recorded,
            request,
            &Capped { hour: &Hour::default(), held: None, now_us: 1_700_000_000_000_000 },
        )
    }

    /// Numbers of every magnitude, the edges of `i64` included.
    fn ids() -> impl Strategy<Value = i64> {
        prop_oneof![
            1i64..200,
            1i64..1 << 40,
            (i64::MAX - 200)..=i64::MAX,
            prop::sample::select(vec![1, i64::MAX]),
        ]
    }

    #[test]
    fn a_closed_ledger_says_so_before_anything_else() {
        let closed = LedgerRow { state: State::Closed("another timeline".into()), ..ledger() };
        let stale = GrantRequest { life: Life { epoch: 2, ..LIFE }, ..request(1, 1, 1) };
        let refusal = granted_at_rest(&closed, None, 0, &stale);
        assert!(matches!(refusal, Err(LedgerError::Closed(why)) if why == "another timeline"));
    }

    #[test]
    fn no_generation_begins_in_a_closed_ledger_and_everything_else_can_be_changed() {
        let closed = LedgerRow { state: State::Closed("another timeline".into()), ..ledger() };
        let before = row(1, 1000, 50);
        let mut after = before.clone();
        change(&mut after, &SequenceChange { last: Some(2000), ..SequenceChange::default() }).unwrap();
        assert!(closed.allows(&before, &after).is_ok());
        advance(&mut after, 60).unwrap();
        assert!(matches!(closed.allows(&before, &after), Err(LedgerError::Closed(_))));
        assert!(ledger().allows(&before, &after).is_ok());
    }

    #[test]
    fn a_counter_below_its_own_newest_record_grants_nothing() {
        let row = row(1, 1000, 50);
        let refusal = granted_at_rest(&ledger(), Some(&row), 60, &request(1, 1, 1));
        assert!(matches!(refusal, Err(LedgerError::WentBack { granted: 50, known: 60 })));
        assert!(granted_at_rest(&ledger(), Some(&row), 50, &request(1, 1, 1)).is_ok());
    }

    #[test]
    fn a_counter_that_went_back_is_reported_before_what_else_may_be_old() {
        let mut old = row(1, 1000, 50);
        old.facts.halted = Some("long ago".into());
        let newer = GrantRequest { generation: 2, known_high_water: 51, ..request(1, 1, 1) };
        assert!(matches!(
            granted_at_rest(&ledger(), Some(&old), 0, &newer),
            Err(LedgerError::WentBack { .. })
        ));
    }

    proptest! {
        #[test]
        fn a_grant_has_the_size_that_was_promised_and_begins_after_the_counter(
            (a, b, c) in (ids(), ids(), ids()), (least, need, want) in (ids(), ids(), ids()),
        ) {
            let mut bounds = [a, b, c];
            bounds.sort_unstable();
            let [first, granted, last] = bounds;
            let (need, want) = (need.max(least), want.max(need).max(least));
            let row = row(first, last, granted);
            let left = i128::from(last) - i128::from(granted);
            match granted_at_rest(&ledger(), Some(&row), granted, &request(least, need, want)) {
                Ok(grant) => {
                    let welcome = i128::from(want).min(left / 64);
                    prop_assert_eq!(i128::from(grant.span.count()), left.min(welcome.max(need.into())));
                    prop_assert!(grant.span.count() >= least);
                    prop_assert_eq!(grant.span.first(), granted + 1);
                    prop_assert!(grant.span.within(first, last));
                    prop_assert_eq!(i128::from(grant.left), left - i128::from(grant.span.count()));
                }
                Err(LedgerError::Exhausted { left: told }) => {
                    prop_assert_eq!(i128::from(told), left);
                    prop_assert!(left < i128::from(least));
                }
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }

        /// Whoever asks for whatever, in whatever order: no ID twice, none skipped, none beyond the end.
        #[test]
        fn grants_tile_the_sequence(
            first in ids(), space in 1i64..5000,
            asks in prop::collection::vec((1i64..50, 0i64..50, 0i64..500), 1..100),
        ) {
            let last = first.saturating_add(space - 1);
            let mut row = row(first, last, first - 1);
            for (least, more, welcome) in asks {
                let ask = request(least, least + more, least + more + welcome);
                let Ok(grant) = granted_at_rest(&ledger(), Some(&row), row.granted, &ask) else { continue };
                prop_assert_eq!((grant.span.first(), grant.number), (row.granted + 1, row.grants + 1));
                (row.granted, row.grants) = (grant.span.last(), grant.number);
                prop_assert!(row.granted <= last);
            }
        }

        /// However the cap and the 64th meet: never more than the hour has room for, never less than is of use.
        #[test]
        fn a_capped_grant_is_between_what_is_of_use_and_what_the_hour_has_room_for(
            gap in 1i64..1000, spent in 0i64..1200, hydrates: bool, (least, more, want) in (1i64..400, 0i64..400, 0i64..2000),
        ) {
            let now_us = 1_700_000_000_000_000;
            let jumps = LedgerRow { on_failover: OnFailover::Jump, ..ledger() };
            let mut row = row(1, 1 << 40, 0);
            row.facts.failover_gap = gap;
            let mut hour = Hour::default();
            hour.add(spent, Hour::slot_of(now_us));
            let mut ask = request(least, least + more, want.max(least + more));
            ask.purpose = if hydrates { Purpose::Hydrate } else { Purpose::Exercise };
            let room = (share(gap, hydrates) - spent).max(0);
            match grant(&jumps, Some(&row), 0, &ask, &Capped { hour: &hour, held: None, now_us }) {
                Ok(grant) => prop_assert_eq!(grant.span.count(), ask.want.min(room)),
                Err(LedgerError::RateCapped { allowed, wait }) => {
                    prop_assert_eq!(allowed, room);
                    prop_assert!(room < least && wait <= Duration::from_secs(3900));
                }
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }

        /// A request that breaks its own rules still gets at least one ID, and none that isn't there.
        #[test]
        fn a_request_beyond_reason_breaks_nothing(
            granted in 0i64..=100, known in any::<i64>(),
            (least, need, want) in any::<(i64, i64, i64)>(),
        ) {
            let ask = GrantRequest { known_high_water: known, ..request(least, need, want) };
            if let Ok(grant) = granted_at_rest(&ledger(), Some(&row(1, 100, granted)), 0, &ask) {
                prop_assert!(grant.span.within(granted + 1, 100));
                prop_assert!(known <= granted);
            }
        }
    }
}
