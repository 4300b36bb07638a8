//! The limits, by example and by properties.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// Tuesday, 24 November 2026, 10:00 UTC.
const TUESDAY: i64 = 1_795_514_400;

fn limits() -> Limits {
    Limits {
        enabled: true,
        dry_run: false,
        faults: Fault::NAMED.iter().map(|(_, fault)| *fault).collect(),
        every: 3600 * SECOND,
        terminate_every: DAY,
        quiet: Vec::new(),
        duration: 30 * SECOND,
        max_duration: 300 * SECOND,
        pause: 600 * SECOND,
        per_day: 24,
        min_pods: 2,
        min_peers: 2,
        max_errors: 0.01,
        pod_latency: SECOND,
        ledger_latency: SECOND,
    }
}

fn pods(healthy: &[bool]) -> Vec<(Arc<str>, bool)> {
    healthy.iter().enumerate().map(|(number, healthy)| (format!("pod-{number}").into(), *healthy)).collect()
}

fn well() -> Health {
    Health {
        serving: true,
        pods: pods(&[true; 3]),
        peers: 2,
        ledger_up: true,
        other_drill: None,
        actors: vec!["buffer".into(), "router-0".into()],
        requests: Requests::default(),
    }
}

fn at(seconds: u64) -> Moment {
    Moment { now: Duration::from_secs(seconds), unix_s: TUESDAY + seconds as i64 }
}

fn drills(limits: Limits) -> Drills {
    Drills::new(limits, Duration::ZERO, [0.5, 0.5])
}

fn by_hand(fault: Fault) -> Wish {
    Wish { by: By::Hand, ..Wish::scheduled(fault) }
}

#[track_caller]
fn refused(drills: &Drills, wish: &Wish, health: &Health, at: Moment) -> Refused {
    drills.consider(wish, health, at, 0).unwrap_err()
}

/// Asserts that each fault is refused, with a reason that says this.
#[track_caller]
fn all_refused(limits: Limits, health: &Health, for_now: bool, says: &str, faults: &[Fault]) {
    let drills = drills(limits);
    for fault in faults {
        let refused = refused(&drills, &by_hand(*fault), health, at(1));
        assert!(refused.why.contains(says), "{fault}: {refused}");
        assert_eq!(refused.for_now, for_now, "{fault}: {refused}");
    }
}

fn every_fault() -> Vec<Fault> {
    limits().faults
}

#[test]
fn names_read_back_also_with_hyphens() {
    for (number, (name, fault)) in Fault::NAMED.iter().enumerate() {
        assert_eq!((*fault as usize, fault.name()), (number, *name));
        assert_eq!(name.replace('_', "-").parse(), Ok(*fault));
    }
    assert!("pod".parse::<Fault>().unwrap_err().contains("pods_gone"));
}

#[test]
fn in_a_group_that_is_well_everything_may_be_injected() {
    let drills = drills(limits());
    for fault in every_fault() {
        let plan = drills.consider(&by_hand(fault), &well(), at(1), 1).unwrap();
        assert_eq!((plan.fault, plan.dry_run), (fault, false));
        assert_eq!(plan.lasts, if fault.is_instant() { Duration::ZERO } else { 30 * SECOND });
        assert_eq!(plan.target.is_some(), fault.aim() != Aim::Nothing, "{fault}");
    }
}

#[test]
fn what_is_not_enabled_is_refused_for_good() {
    all_refused(Limits { enabled: false, ..limits() }, &well(), false, "chaos.enabled", &every_fault());
    all_refused(Limits { faults: vec![], ..limits() }, &well(), false, "chaos.faults", &every_fault());
}

#[test]
fn a_process_that_does_not_serve_is_left_alone() {
    all_refused(limits(), &Health { serving: false, ..well() }, true, "draining", &every_fault());
}

#[test]
fn with_too_few_other_processes_nothing_is_broken() {
    all_refused(limits(), &Health { peers: 1, ..well() }, true, "min_peers", &every_fault());
    all_refused(
        Limits { min_peers: 0, ..limits() },
        &Health { peers: 1, ..well() },
        true,
        "2 must",
        &every_fault(),
    );
    all_refused(Limits { min_peers: 3, ..limits() }, &well(), true, "3 must", &every_fault());
}

#[test]
fn of_two_pods_none_is_taken() {
    let faults = [Fault::PodRefused, Fault::PodSlow, Fault::PodGone];
    all_refused(limits(), &Health { pods: pods(&[true; 2]), ..well() }, false, "too few", &faults);
    let one_down = Health { pods: pods(&[true, false, true]), ..well() };
    all_refused(limits(), &one_down, true, "1 other pods answer", &faults);
    let only_one = Health { pods: pods(&[true, false, false]), ..well() };
    all_refused(
        limits(),
        &only_one,
        true,
        "1 pods answer",
        &[Fault::LedgerSlow, Fault::LedgerGone, Fault::SlotHeld],
    );
}

#[test]
fn the_cache_outage_drill_needs_a_ledger_that_answers_and_caches_to_lose() {
    let gone = [Fault::PodsGone];
    all_refused(limits(), &Health { ledger_up: false, ..well() }, true, "without pods nothing would", &gone);
    all_refused(limits(), &Health { pods: vec![], ..well() }, false, "no pods", &gone);
}

#[test]
fn the_ledger_is_a_target_where_it_answers_and_two_pods_are_left() {
    let ledgers = [Fault::LedgerSlow, Fault::LedgerGone, Fault::SlotHeld];
    all_refused(limits(), &Health { ledger_up: false, ..well() }, true, "doesn't answer anyhow", &ledgers);
    let two_left = Health { pods: pods(&[true, false, true]), ..well() };
    for fault in ledgers {
        assert!(drills(limits()).consider(&by_hand(fault), &two_left, at(1), 0).is_ok(), "{fault}");
    }
}

#[test]
fn a_day_has_its_number_of_faults_and_terminations_have_a_pace_of_their_own() {
    let mut drills = drills(Limits { per_day: 1, ..limits() });
    let plan = drills.consider(&by_hand(Fault::PodGone), &well(), at(1), 0).unwrap();
    drills.begin(plan, Requests::default(), at(1));
    drills.end(Outcome::Done, at(31));
    let last = at(DAY.as_secs());
    assert!(refused(&drills, &by_hand(Fault::PodGone), &well(), last).why.contains("1 faults within a day"));
    assert!(drills.consider(&by_hand(Fault::ProcessTerminated), &well(), last, 0).is_ok());
    assert!(drills.consider(&by_hand(Fault::PodGone), &well(), at(DAY.as_secs() + 1), 0).is_ok());
}

#[test]
fn another_process_of_the_cluster_has_its_drill_first() {
    let other = Health { other_drill: Some("ids-2".into()), ..well() };
    all_refused(limits(), &other, true, "ids-2 has a drill", &every_fault());
}

#[test]
fn in_quiet_hours_nothing_is_injected() {
    let limits = Limits { quiet: vec!["tue 09:00-11:00".parse().unwrap()], ..limits() };
    all_refused(limits, &well(), true, "quiet hours (tue 09:00-11:00 UTC", &every_fault());
}

#[test]
fn a_target_must_be_there_and_only_where_there_is_a_choice() {
    let drills = drills(limits());
    let aimed = |fault, target: &str| Wish { target: Some(target.into()), ..by_hand(fault) };
    let plan = drills.consider(&aimed(Fault::PodGone, "pod-1"), &well(), at(1), 0).unwrap();
    assert_eq!(plan.target.as_deref(), Some("pod-1"));
    let drawn = drills.consider(&by_hand(Fault::PodGone), &well(), at(1), 5).unwrap();
    assert_eq!(drawn.target.as_deref(), Some("pod-2"));
    for (fault, target, says) in [
        (Fault::PodGone, "pod-9", "pod-0, pod-1, pod-2"),
        (Fault::ActorPanic, "chaos", "buffer, router-0"),
        (Fault::LedgerGone, "db", "has no target"),
    ] {
        let refused = refused(&drills, &aimed(fault, target), &well(), at(1));
        assert!(!refused.for_now && refused.why.contains(says), "{refused}");
    }
}

#[test]
fn nothing_lasts_longer_than_the_cap() {
    let long = |lasts| Wish { lasts: Some(lasts), ..by_hand(Fault::PodGone) };
    let refused_for = |limits, lasts| refused(&drills(limits), &long(lasts), &well(), at(1));
    assert!(refused_for(limits(), 301 * SECOND).why.contains("max_duration"));
    let longest = drills(limits()).consider(&long(300 * SECOND), &well(), at(1), 0).unwrap();
    assert_eq!(longest.lasts, 300 * SECOND);
    let boundless = Limits { max_duration: 100 * DAY, ..limits() };
    assert!(refused_for(boundless, LONGEST + SECOND).why.contains("max_duration"));
    assert!(!refused_for(limits(), Duration::ZERO).for_now);
}

#[test]
fn one_runs_at_once_and_then_there_is_a_pause() {
    let mut drills = drills(limits());
    let plan = drills.consider(&by_hand(Fault::PodGone), &well(), at(1), 0).unwrap();
    drills.begin(plan, Requests::default(), at(1));
    assert!(refused(&drills, &by_hand(Fault::ActorPanic), &well(), at(2)).why.contains("one fault at once"));
    assert_eq!(drills.must_end(&well(), at(30)), None);
    let outcome = drills.must_end(&well(), at(31)).unwrap();
    assert_eq!(outcome, Outcome::Done);
    drills.end(outcome, at(31));
    let too_soon = refused(&drills, &by_hand(Fault::ActorPanic), &well(), at(611));
    assert!(too_soon.why.contains("chaos.pause: the next may come in 20s"), "{too_soon}");
    assert!(refused(&drills, &by_hand(Fault::ActorPanic), &well(), at(630)).why.contains("in 1s"));
    assert!(drills.consider(&by_hand(Fault::ActorPanic), &well(), at(631), 0).is_ok());
}

#[test]
fn a_drill_ends_when_callers_or_the_group_suffer() {
    let mut drills = drills(limits());
    let asked = Requests { all: 1_000, failed: 500 };
    let plan = drills.consider(&by_hand(Fault::PodGone), &well(), at(1), 0).unwrap();
    assert_eq!(plan.target.as_deref(), Some("pod-0"));
    drills.begin(plan, asked, at(1));
    let then = |health: Health| drills.must_end(&health, at(2));
    let asked_more = |all: u64, failed: u64| Requests { all: 1_000 + all, failed: 500 + failed };
    assert_eq!(then(Health { requests: asked_more(19, 19), ..well() }), None, "too few to tell");
    assert!(then(Health { requests: asked_more(20, 20), ..well() }).is_some(), "enough to tell");
    assert_eq!(then(Health { requests: asked_more(1_000, 10), ..well() }), None, "no more than the limit");
    for (health, says) in [
        (Health { requests: asked_more(1_000, 11), ..well() }, "1.1 % of requests fail"),
        (Health { peers: 1, ..well() }, "other processes"),
        (Health { pods: pods(&[true, true, false]), ..well() }, "1 other pods answer"),
        (Health { serving: false, ..well() }, "drains"),
    ] {
        let Some(Outcome::Ended(why)) = then(health) else { panic!("it goes on: {says}") };
        assert!(why.contains(says), "{why}");
    }
}

#[test]
fn none_begins_while_requests_fail_anyhow() {
    let mut drills = drills(limits());
    drills.heed(Requests { all: 100, failed: 100 }, at(0));
    let sick = Health { requests: Requests { all: 200, failed: 110 }, ..well() };
    assert!(refused(&drills, &by_hand(Fault::PodGone), &sick, at(1)).why.contains("10.0 % of requests fail"));
    drills.heed(sick.requests, at(2));
    drills.heed(sick.requests, at(60));
    assert!(drills.consider(&by_hand(Fault::PodGone), &sick, at(60), 0).is_err(), "a minute is not over");
    drills.heed(sick.requests, at(61));
    assert!(drills.consider(&by_hand(Fault::PodGone), &sick, at(61), 0).is_ok(), "that was a minute ago");
}

#[test]
fn after_a_stop_nothing_is_injected_any_more() {
    let mut drills = drills(limits());
    drills.stop("stopped by an operator", at(1));
    drills.stop("the process drains", at(2));
    for fault in every_fault() {
        let refused = refused(&drills, &by_hand(fault), &well(), at(100_000));
        assert!(!refused.for_now && refused.why.contains("by an operator"), "{refused}");
    }
}

#[test]
fn a_dry_run_is_remembered_and_stands_in_nobodys_way() {
    let mut drills = drills(Limits { dry_run: true, ..limits() });
    let plan = drills.consider(&by_hand(Fault::LedgerGone), &well(), at(1), 0).unwrap();
    assert!(plan.dry_run);
    drills.begin(plan, Requests::default(), at(1));
    assert_eq!(drills.running(), None);
    assert_eq!(drills.history().next().unwrap().ended, Some((Outcome::DryRun, at(1))));
    assert!(drills.consider(&by_hand(Fault::LedgerGone), &well(), at(2), 0).is_ok());
}

#[test]
fn the_process_is_terminated_about_once_a_day() {
    let limits = Limits { every: Duration::ZERO, ..limits() };
    let mut drills = Drills::new(limits, Duration::ZERO, [0.0, 0.25]);
    let hour = |hours: u64| at(hours * 3600);
    assert_eq!(drills.due(&well(), hour(17), 0.0, 0), None);
    assert_eq!(drills.due(&well(), hour(18), 1.0, 0), Some(Wish::scheduled(Fault::ProcessTerminated)));
    assert_eq!(drills.due(&well(), hour(18 + 35), 1.0, 0), None, "a day and a half at most");
    assert!(drills.due(&well(), hour(18 + 36), 1.0, 0).is_some());
}

#[test]
fn what_was_refused_for_now_is_tried_again_before_long() {
    let mut drills = Drills::new(limits(), Duration::ZERO, [1.0, 0.0]);
    let noon = at(12 * 3600);
    let terminates = |wish: Option<Wish>| wish.is_some_and(|wish| wish.fault == Fault::ProcessTerminated);
    assert!(terminates(drills.due(&well(), noon, 1.0, 0)));
    drills.postpone(Fault::ProcessTerminated, noon, 0.5);
    assert!(!terminates(drills.due(&well(), at(12 * 3600 + 599), 0.0, 0)));
    assert!(terminates(drills.due(&well(), at(12 * 3600 + 600), 0.0, 0)));
}

#[test]
fn the_schedule_picks_among_what_is_possible() {
    let mut drills = drills(Limits { terminate_every: Duration::ZERO, ..limits() });
    let two_pods = Health { pods: pods(&[true; 2]), ledger_up: false, ..well() };
    for draw in 0..10 {
        let wish = drills.due(&two_pods, at(7_200 * (draw + 1)), 0.5, draw as usize).unwrap();
        assert_eq!(wish.fault, Fault::ActorPanic);
    }
}

#[test]
fn faults_read_back_by_name_also_with_hyphens() {
    for (name, fault) in Fault::NAMED {
        assert_eq!((fault.to_string(), name.replace('_', "-").parse()), ((*name).to_owned(), Ok(*fault)));
    }
    let said = "pod".parse::<Fault>().unwrap_err();
    assert!(said.starts_with("'pod' is no fault: say one of actor_panic, pod_refused"), "{said}");
    let meanings: std::collections::BTreeSet<_> = every_fault().into_iter().map(Fault::meaning).collect();
    assert_eq!((meanings.len(), Fault::PodSlow.meaning()), (Fault::NAMED.len(), "one pod answers late"));
    assert_eq!((By::Hand.name(), By::Schedule.name()), ("hand", "schedule"));
    let instant: Vec<Fault> = every_fault().into_iter().filter(|fault| fault.is_instant()).collect();
    assert_eq!(instant, [Fault::ActorPanic, Fault::ProcessTerminated]);
}

#[test]
fn drills_are_numbered_and_the_newest_are_kept() {
    let mut drills = drills(Limits { dry_run: true, ..limits() });
    assert_eq!((drills.limits().dry_run, drills.stopped()), (true, None));
    for number in 1..=HISTORY_MAX as u64 + 2 {
        let plan = drills.consider(&by_hand(Fault::PodGone), &well(), at(number), 0).unwrap();
        assert_eq!(drills.begin(plan, Requests::default(), at(number)), Begun { number });
    }
    let numbers: Vec<u64> = drills.history().map(|record| record.number).collect();
    assert_eq!(numbers, (3..=HISTORY_MAX as u64 + 2).collect::<Vec<_>>());
    drills.stop("enough", at(500));
    assert_eq!(drills.stopped(), Some(&Stopped { why: "enough".into(), at: at(500) }));
}

#[test]
fn the_schedule_keeps_its_time_and_says_what_it_wants_where_nothing_is_possible() {
    let mut drills = drills(Limits { terminate_every: Duration::ZERO, ..limits() });
    let ill = Health { serving: false, ..well() };
    assert_eq!(drills.due(&ill, at(3_599), 0.5, 0), None);
    assert_eq!(drills.due(&ill, at(3_600), 0.5, 1), Some(Wish::scheduled(Fault::PodRefused)));
    drills.postpone(Fault::PodRefused, at(3_600), 0.5);
    assert_eq!(drills.due(&ill, at(4_199), 0.5, 0), None);
    assert!(drills.due(&ill, at(4_200), 0.5, 0).is_some());
}

/// One thing that happens to a process with drills.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Wish { fault: usize, lasts: Option<u64>, target: Option<usize> },
    Schedule { random: f64, draw: usize },
    Health { peers: usize, healthy: Vec<bool>, ledger_up: bool, failed: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..5_000_u64).prop_map(Step::Wait),
        3 => (0..Fault::NAMED.len(), prop::option::of(0..8_000_u64), prop::option::of(0..6_usize))
            .prop_map(|(fault, lasts, target)| Step::Wish { fault, lasts, target }),
        2 => (0.0..1.0, any::<usize>()).prop_map(|(random, draw)| Step::Schedule { random, draw }),
        1 => (0..6_usize, prop::collection::vec(prop::bool::weighted(0.8), 0..6), prop::bool::weighted(0.8), 0..3_u64)
            .prop_map(|(peers, healthy, ledger_up, failed)| Step::Health { peers, healthy, ledger_up, failed }),
    ]
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let times = (1..7_200_u64, 1..2_000_u64, 0..20_000_u64, 0..100_000_u64);
    (times, 0..6_usize, 0..4_usize, 0..4_usize, prop::bool::weighted(0.3)).prop_map(
        |((max, pause, every, terminate_every), per_day, min_pods, min_peers, quiet)| Limits {
            duration: Duration::from_secs(max / 2 + 1),
            max_duration: Duration::from_secs(max),
            pause: Duration::from_secs(pause),
            every: Duration::from_secs(every),
            terminate_every: Duration::from_secs(terminate_every),
            per_day,
            min_pods,
            min_peers,
            quiet: if quiet { vec!["12:00-20:00".parse().unwrap()] } else { vec![] },
            ..limits()
        },
    )
}

/// What is asserted of a fault at the moment it begins, from the words of the contract and not from the code.
fn assert_within_limits(limits: &Limits, plan: &Plan, health: &Health, at: Moment) {
    assert!(plan.lasts <= limits.max_duration && plan.lasts <= LONGEST);
    assert!(health.peers >= 2 && health.peers >= limits.min_peers, "{} peers", health.peers);
    assert!(!limits.quiet.iter().any(|quiet| quiet.covers(at.unix_s)));
    if plan.fault.aim() == Aim::Pod {
        let left =
            health.pods.iter().filter(|(pod, well)| *well && Some(pod) != plan.target.as_ref()).count();
        assert!(
            health.pods.len() >= 3 && left >= 2 && left >= limits.min_pods,
            "{left} of {:?}",
            health.pods
        );
    }
    if plan.fault == Fault::PodsGone {
        assert!(health.ledger_up);
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_limits_hold(limits in any_limits(), steps in prop::collection::vec(step(), 1..120)) {
        let mut drills = drills(limits.clone());
        let (mut now, mut health) = (0, well());
        let (mut begun, mut ended_at): (Vec<u64>, Option<u64>) = (Vec::new(), None);
        let mut running: Option<(u64, Plan)> = None;
        for step in steps {
            let wish = match step {
                Step::Wait(seconds) => { now += seconds; None }
                Step::Wish { fault, lasts, target } => Some(Wish {
                    lasts: lasts.map(Duration::from_secs),
                    target: target.map(|pod| format!("pod-{pod}").into()),
                    ..by_hand(Fault::NAMED[fault].1)
                }),
                Step::Schedule { random, draw } => drills.due(&health, at(now), random, draw),
                Step::Health { peers, healthy, ledger_up, failed } => {
                    let requests = Requests { all: health.requests.all + 100, failed: health.requests.failed + failed };
                    health = Health { peers, pods: pods(&healthy), ledger_up, requests, ..health };
                    None
                }
            };
            drills.heed(health.requests, at(now));
            if let Some(outcome) = drills.must_end(&health, at(now)) {
                drills.end(outcome, at(now));
                (running, ended_at) = (None, Some(now));
            }
            if let Some((began, plan)) = &running {
                prop_assert!(at(now).now < at(*began).now + plan.lasts, "it lasts too long");
            }
            let Some(Ok(plan)) = wish.map(|wish| drills.consider(&wish, &health, at(now), 7)) else { continue };
            assert_within_limits(&limits, &plan, &health, at(now));
            prop_assert!(running.is_none(), "two at once");
            prop_assert!(ended_at.is_none_or(|end| now >= end + limits.pause.as_secs()), "no pause");
            drills.begin(plan.clone(), health.requests, at(now));
            if plan.fault != Fault::ProcessTerminated {
                let today = begun.iter().filter(|then| now - **then < DAY.as_secs()).count();
                prop_assert!(today < limits.per_day, "over the day's budget");
            }
            if plan.fault != Fault::ProcessTerminated {
                begun.push(now);
            }
            running = Some((now, plan.clone()));
            if plan.fault.is_instant() {
                drills.end(Outcome::Done, at(now));
                (running, ended_at) = (None, Some(now));
            }
        }
        prop_assert!(drills.history().count() <= HISTORY_MAX);
        prop_assert_eq!(drills.running().map(|record| &record.plan), running.as_ref().map(|(_, plan)| plan));
    }
}
