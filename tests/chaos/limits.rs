//! What keeps a drill from beginning, with real actors, and the schedule.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use blockhouse::block::Stamp;
use blockhouse::block::chaos::{Fault, Refused};
use blockhouse::block::witness::{FORGOTTEN_AFTER, GONE};
use blockhouse::ledger::Admin;
use blockhouse::pods::{Pod, Scope, Seen};

use crate::world::{World, pass, settings, until, with};

#[track_caller]
fn assert_refused(outcome: Result<impl std::fmt::Debug, Refused>, for_now: bool, says: &str) {
    let refused = outcome.unwrap_err();
    assert_eq!(refused.for_now, for_now, "{refused}");
    assert!(refused.why.contains(says), "{refused}");
}

#[test]
fn a_process_that_is_not_enabled_refuses_and_says_why() {
    let mut off = settings();
    off.chaos.enabled = false;
    with(off, async |world| {
        for (_, fault) in Fault::NAMED {
            assert_refused(world.inject(*fault, None, 1).await, false, "chaos.enabled");
            assert_eq!(world.counted(*fault), 0);
        }
        assert_eq!(world.chaos().history, []);
    });
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let mut dry = settings();
    dry.chaos.dry_run = true;
    with(dry, async |world| {
        for (_, fault) in Fault::NAMED {
            let drill = world.inject(*fault, None, 60).await.unwrap();
            assert_eq!((drill.fault.as_str(), drill.outcome.as_deref()), (fault.name(), Some("dry_run")));
            assert_eq!(world.counted(*fault), 0);
        }
        pass(Duration::from_secs(5)).await;
        assert_eq!((world.pods_down().await.len(), world.ledger_state()), (0, "up"));
        assert!(!*world.drain.borrow());
        assert!(world.shared.parts().iter().all(|part| world.restarts(&part.name) == 0));
        assert_eq!(world.chaos().history.len(), Fault::NAMED.len());
        assert_eq!(drills_heard(world).await, [""; 0], "nobody is kept from a drill by one that isn't");
    });
}

#[test]
fn one_runs_at_once_and_a_pause_follows() {
    let mut paused = settings();
    paused.chaos.pause = Duration::from_secs(60);
    with(paused, async |world| {
        world.inject(Fault::PodGone, None, 5).await.unwrap();
        assert_refused(world.inject(Fault::LedgerSlow, None, 5).await, true, "one fault at once");
        world.over().await;
        assert_refused(world.inject(Fault::LedgerSlow, None, 5).await, true, "chaos.pause");
        pass(Duration::from_secs(60)).await;
        world.inject(Fault::LedgerSlow, None, 5).await.unwrap();
    });
}

#[test]
fn a_process_alone_breaks_nothing() {
    with(settings(), async |world| {
        world.peers.set(1);
        pass(Duration::from_secs(5)).await;
        assert_refused(world.inject(Fault::PodGone, None, 5).await, true, "1 other processes");
    });
}

#[test]
fn quiet_hours_are_kept() {
    let mut quiet = settings();
    quiet.chaos.quiet = vec!["tue 10:00-10:30".parse().unwrap()];
    with(quiet, async |world| {
        assert_refused(world.inject(Fault::PodGone, None, 5).await, true, "quiet hours");
        pass(Duration::from_secs(1800)).await;
        world.inject(Fault::PodGone, None, 5).await.unwrap();
    });
}

/// Processes of which some pod heard that they have a drill.
async fn drills_heard(world: &World) -> Vec<String> {
    let ledger = world.shared.known.load().identity.as_ref().unwrap().ledger;
    let scope = Scope { ledger, cluster: Arc::clone(&world.shared.settings.cluster) };
    let mut heard = Vec::new();
    for pod in &world.pods {
        let present = pod.inspect(&scope, &[]).await.unwrap().present;
        heard.extend(present.iter().filter_map(|of| of.instance.strip_prefix("drill/").map(str::to_owned)));
    }
    heard.sort();
    heard.dedup();
    heard
}

async fn say_drill(pods: &[Rc<dyn Pod>], name: &str, stamp: Stamp) {
    for pod in pods {
        pod.heartbeat(&Seen { by: Some((name.into(), stamp)), ..Seen::default() }).await.unwrap();
    }
}

#[test]
fn in_a_cluster_one_process_at_a_time_has_a_drill() {
    with(settings(), async |world| {
        say_drill(&world.pods[..1], "drill/ids-2", GONE).await;
        assert_refused(world.inject(Fault::PodGone, None, 5).await, true, "ids-2 has a drill");
        pass(FORGOTTEN_AFTER + Duration::from_secs(1)).await;
        world.inject(Fault::PodGone, None, 40).await.unwrap();
        assert_eq!(drills_heard(world).await, ["ids-1"]);
        world.over().await;
        until("the others may go on", async || drills_heard(world).await.is_empty()).await;
    });
}

#[test]
fn a_drill_elsewhere_makes_nobody_wait_for_a_process_that_is_none() {
    with(settings(), async |world| {
        world.inject(Fault::PodSlow, None, 5).await.unwrap();
        assert_eq!(drills_heard(world).await, ["ids-1"]);
        pass(Duration::from_secs(20)).await;
        let seen = world.ledger.seen().await.unwrap();
        let names: Vec<_> =
            seen.iter().flat_map(|cluster| &cluster.seen).map(|witness| &*witness.name).collect();
        assert!(names.contains(&"ids-1"), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("drill/")), "{names:?}");
    });
}

#[test]
fn the_schedule_goes_through_the_faults_one_after_the_other() {
    let mut scheduled = settings();
    scheduled.chaos.every = Duration::from_secs(180);
    scheduled.chaos.pause = Duration::from_secs(30);
    scheduled.chaos.terminate_every = Duration::from_secs(40 * 60);
    with(scheduled, async |world| {
        // Within sixty, and it is tried again while another drill is in its way.
        for minute in 0..90 {
            let running = world.chaos().running.map(|drill| drill.number);
            let open: Vec<_> =
                world.chaos().history.into_iter().filter(|drill| drill.ended.is_none()).collect();
            assert!(open.len() <= 1 && open.first().map(|drill| drill.number) == running, "{open:?}");
            assert!(minute > 20 || !*world.drain.borrow(), "terminated in minute {minute}");
            pass(Duration::from_secs(60)).await;
        }
        assert!(*world.drain.borrow(), "once in forty minutes, give or take twenty");
        let history = world.chaos().history;
        assert!((15..=45).contains(&history.len()), "{} drills in an hour and a half", history.len());
        assert!(history.iter().all(|drill| drill.by == "schedule"));
        let terminated = history.iter().filter(|drill| drill.fault == "process_terminated").count();
        assert!((1..=4).contains(&terminated), "{terminated} times in an hour and a half");
        let kinds: BTreeSet<_> = history.iter().map(|drill| &drill.fault).collect();
        assert!(kinds.len() > 4, "{kinds:?}");
    });
}
