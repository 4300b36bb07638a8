//! An operator who follows docs/ledger.md: backs up, and after a failover cuts the old primary off before accepting the new one.

use std::rc::Rc;
use std::time::Duration;

use blockhouse::block::Life;
use blockhouse::ledger::{Accept, Admin, History, State};
use tokio::time::{Instant, sleep};

use crate::pods::PodServer;
use crate::world::World;

/// How long a person takes.
const THINKS: Duration = Duration::from_secs(4);

/// Looks each second.
pub async fn watch(world: Rc<World>) {
    // Which closing, and since when: each is thought about anew.
    let mut closed: Option<(Life, Instant)> = None;
    // Since when somebody follows another life.
    let mut astray: Option<Instant> = None;
    let goes_back = world.schedule.faults.iter().any(|timed| timed.fault.takes_a_pod_back());
    loop {
        sleep(Duration::from_secs(1)).await;
        let Ok(history) = world.ledger().history().await else { continue };
        if history.state == State::Open {
            closed = None;
            world.ledgers.back_up();
            if goes_back {
                world.pods.iter().for_each(PodServer::back_up);
            }
            bring_back(&world, &history, &mut astray).await;
            continue;
        }
        let life = history.identity.life;
        let since = match closed.filter(|(of, _)| *of == life) {
            Some((_, since)) => since,
            None => closed.insert((life, Instant::now())).1,
        };
        if since.elapsed() >= THINKS {
            accept(&world, since.elapsed() > THINKS * 3).await;
        }
    }
}

/// Whoever follows a life that nobody reported before the ledger opened refuses it until it is restarted, and every pod that was told
/// of that life makes it do so again: those are restarted empty, once it is clear that this doesn't pass.
async fn bring_back(world: &Rc<World>, history: &History, since: &mut Option<Instant>) {
    let led_here = |life: Life| history.lives.iter().any(|record| record.life == life);
    let astray: Vec<usize> = world
        .processes()
        .iter()
        .filter(|process| process.shared.known.load().identity.as_ref().is_some_and(|of| !led_here(of.life)))
        .map(|process| process.slot)
        .collect();
    if astray.is_empty() {
        *since = None;
        return;
    }
    if since.get_or_insert_with(Instant::now).elapsed() < THINKS * 3 {
        return;
    }
    *since = None;
    for pod in world.pods.iter().filter(|pod| pod.told_of().is_some_and(|life| !led_here(life))) {
        world.journal.note(format_args!("the operator restarts pod {}", pod.number));
        pod.restart();
    }
    for slot in astray {
        world.journal.note(format_args!("the operator restarts the process in slot {slot}"));
        world.crash(slot).await;
        crate::faults::start(world, slot);
    }
}

/// Accepts what answers now, if nothing is missing. After a while, where nobody knows anything, every ID that was given out is
/// told.
async fn accept(world: &World, long: bool) {
    world.ledgers.cut_off();
    let mut accept = Accept::default();
    let asked = world.ledger().accept(&accept, true).await;
    let Ok(accepted) = asked else { return };
    let Some(problem) = accepted.problem else {
        world.ledgers.begin_backups_anew();
        return world.journal.note(format_args!("the operator accepts: {:?}", accepted.moves));
    };
    world.journal.note(format_args!("the operator can't accept: {problem}"));
    if long && problem.starts_with("nobody knows") {
        let given = |name: &str| (name.to_owned(), world.journal.lock().checker.greatest(name));
        accept.at_least = accepted.moves.iter().map(|moved| given(&moved.sequence)).collect();
        let accepted = world.ledger().accept(&accept, true).await;
        world.ledgers.begin_backups_anew();
        world.journal.note(format_args!("the operator accepts, with floors: {accepted:?}"));
    }
}
