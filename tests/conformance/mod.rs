//! What every ledger engine does alike, whatever stores it: the same behaviours run on memory, SQLite and PostgreSQL.
//!
//! An engine's test file implements [`Bed`], writes a `run` that makes a fresh one for each behaviour, has this module
//! in scope as `conformance` and calls `conformance::behaviours!(run)`. One that goes through lives implements [`lives::Lived`] too.

// A failed expectation of a test's helper is the test's failure.
#![allow(clippy::unwrap_used)]

pub mod cap;
pub mod catalogue;
pub mod clusters;
pub mod fences;
pub mod generations;
pub mod grants;
pub mod lives;
pub mod records;

use std::rc::Rc;
use std::time::Duration;

use blockhouse::block::Life;
use blockhouse::ledger::{Admin, Expected, Grant, GrantRequest, LedgerError, NewSequence, Purpose};
use tokio::time::Instant;

/// The environment that every bed's ledger is migrated for.
pub const ENVIRONMENT: &str = "test";

/// A fresh ledger of one engine, migrated for [`ENVIRONMENT`], without sequences.
pub trait Bed {
    /// One more process's handle.
    fn handle(&self, expected: Expected) -> Rc<dyn Admin>;

    /// One more process's handle, of a process that is in the right place.
    fn open(&self) -> Rc<dyn Admin> {
        self.handle(Expected { environment: ENVIRONMENT.into(), id: None })
    }
}

/// Makes one `#[test]` of each behaviour: `run` is an `fn(impl AsyncFnOnce(&dyn Bed))`.
macro_rules! behaviours {
    ($run:path) => {
        conformance::behaviours! { $run:
            catalogue {
                a_fresh_ledger_is_open_and_empty,
                a_created_sequence_reads_back_as_it_was_asked_for,
                a_gap_that_nobody_chose_follows_from_the_space,
                a_name_is_taken_once,
                what_cannot_be_a_sequence_is_refused,
                a_change_touches_only_what_it_names,
                a_maximum_is_never_lowered_below_what_was_granted,
                a_change_that_cannot_be_changes_nothing,
                the_version_rises_with_facts_and_with_nothing_else,
                the_first_reason_of_a_halt_stays,
                a_sequence_is_retired_for_good,
                a_name_that_nobody_created_is_unknown_to_every_call,
                migrating_again_changes_nothing,
            }
            grants {
                grants_follow_one_another_without_a_gap,
                a_grant_is_no_more_than_a_64th_of_what_is_left_but_what_is_needed,
                the_last_id_of_all_can_be_granted,
                one_grant_can_take_a_whole_sequence,
                an_exhausted_sequence_says_how_many_are_left_and_keeps_them,
                a_raised_maximum_gives_ids_again,
                sequences_do_not_touch_one_another,
                grants_of_many_at_once_are_distinct_and_contiguous,
            }
            cap {
                a_ledger_waits_until_it_is_told_to_jump,
                a_ledger_that_waits_caps_nothing,
                at_the_cap_a_grant_is_smaller_and_then_refused,
                a_sequence_that_is_used_up_says_so_before_its_cap,
                hydrating_leaves_a_quarter_of_the_hour,
                a_raised_gap_gives_ids_again,
                the_greatest_gap_of_all_is_no_obstacle,
                a_cap_that_is_broken_already_is_refused,
                many_at_once_are_granted_no_more_than_the_gap,
            }
            fences {
                a_halted_sequence_grants_nothing_until_it_is_resumed,
                a_retired_sequence_grants_nothing,
                another_life_is_stale,
                another_generation_is_stale,
                a_counter_below_what_is_known_commits_nothing,
                a_refused_grant_leaves_no_trace,
                another_environment_is_refused_by_every_call,
                another_ledger_than_the_pinned_one_is_refused_by_every_call,
                only_its_own_lives_led_to_a_ledger,
            }
            generations {
                an_advance_moves_the_counter_and_raises_the_generation,
                what_the_counter_has_passed_stays_passed,
                every_advance_of_many_at_once_has_its_own_generation,
                an_advance_beyond_the_end_changes_nothing,
                an_advance_to_the_end_leaves_nothing,
                only_what_is_there_and_active_moves,
                grants_and_advances_at_once_share_no_id_and_mix_no_generation,
                a_lowered_maximum_raises_the_generation,
                the_leader_says_who_has_which_catalogue,
                a_cluster_that_nobody_leads_is_named_by_its_holders,
            }
            records {
                an_id_leads_to_the_grant_it_came_from,
                an_id_that_was_never_granted_leads_nowhere,
                pruning_keeps_the_newest_record,
                pruning_deletes_no_more_than_it_is_told_to,
                pruning_leaves_what_is_young,
            }
            clusters {
                one_holder_leads_a_cluster,
                a_lead_that_is_not_renewed_passes_on,
                a_lead_that_is_given_up_passes_on_at_once,
                a_lead_is_shown_with_its_end,
                demand_adds_up_by_cluster_and_sequence,
            }
        }
    };
    (of lives: $run:path) => {
        conformance::behaviours! { $run:
            lives {
                a_restart_closes_it_once_and_a_report_opens_it,
                after_a_restart_a_fresh_report_costs_an_hours_grants_and_none_a_days,
                a_restart_with_older_files_waits_for_an_operator,
                another_line_of_history_waits_and_comes_along,
                every_cluster_of_the_last_recorded_hour_is_waited_for,
                a_cluster_has_answered_once_its_leader_has_and_what_others_know_counts,
                where_nobody_knows_anything_a_floor_is_demanded,
                a_sequence_and_a_generation_that_a_failover_lost_are_brought_back,
                a_life_is_condemned_by_its_name_only,
                a_ledger_that_may_jump_goes_on_above_the_gap_if_every_report_is_fresh,
                a_clock_that_was_set_back_makes_no_old_report_fresh,
                who_knows_that_it_waits_or_that_nothing_capped_it_keeps_it_from_jumping,
                a_sequence_without_a_gap_keeps_a_ledger_from_jumping,
                a_greater_gap_counts_once_every_cluster_has_seen_it,
                sequences_of_every_size_go_through_a_failover_beside_each_other,
            }
        }
    };
    ($run:path: $($module:ident { $($name:ident,)* })*) => {
        $($(
            #[test]
            fn $name() {
                $run(conformance::$module::$name)
            }
        )*)*
    };
}
pub(crate) use behaviours;

/// A sequence of the IDs `first..=last`.
fn sequence(name: &str, first: i64, last: i64) -> NewSequence {
    NewSequence {
        name: name.into(),
        first,
        last,
        block_size: 1000,
        buffer: None,
        failover_gap: None,
        if_not_exists: false,
    }
}

/// Creates the sequence `tasks` of the IDs `first..=last` and gives a request for one ID of it.
async fn tasks(ledger: &dyn Admin, first: i64, last: i64) -> GrantRequest {
    ledger.create(&sequence("tasks", first, last)).await.unwrap();
    request("tasks", life(ledger).await)
}

/// Asks for one ID and welcomes no more.
fn request(sequence: &str, life: Life) -> GrantRequest {
    GrantRequest {
        sequence: sequence.into(),
        generation: 1,
        life,
        least: 1,
        need: 1,
        want: 1,
        known_high_water: 0,
        purpose: Purpose::Fallback,
        holder: "holder-1".into(),
        cluster: "cluster-1".into(),
        pod: None,
    }
}

/// Takes exactly `count` IDs, or what a refusal says.
async fn take(ledger: &dyn Admin, like: &GrantRequest, count: i64) -> Result<Grant, LedgerError> {
    ledger.grant(&GrantRequest { least: count, need: count, want: count, ..like.clone() }).await
}

async fn life(ledger: &dyn Admin) -> Life {
    ledger.facts(None).await.unwrap().identity.life
}

async fn granted(ledger: &dyn Admin, sequence: &str) -> i64 {
    let facts = ledger.facts(None).await.unwrap();
    facts.granted.iter().find(|(name, _)| &**name == sequence).map(|(_, granted)| *granted).unwrap()
}

/// Asks again until it holds, for at most ten seconds.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < deadline, "within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The result is an error of this kind.
macro_rules! refused {
    ($result:expr, $kind:pat $(if $guard:expr)?) => {
        match $result {
            Err($kind) $(if $guard)? => {}
            other => panic!("expected {}, got {other:?}", stringify!($kind $(if $guard)?)),
        }
    };
}
use refused;
