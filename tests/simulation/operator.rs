//! An operator who follows docs/ledger.md: backs up, and after a failover cuts the old primary off before accepting the new one.

use std::rc::Rc;
use std::time::Duration;

use blockhouse::block::Life;
use blockhouse::ledger::{Accept, Admin, State};
use tokio::time::{Instant, sleep};

use crate::world::World;

/// How long a person takes.
const THINKS: Duration = Duration::from_secs(4);

/// Looks each second.
pub async fn watch(world: Rc<World>) {
    // Which closing, and since when: each is thought about anew.
    let mut closed: Option<(Life, Instant)> = None;
    loop {
        sleep(Duration::from_secs(1)).await;
        let Ok(history) = world.ledger().history().await else { continue };
        if history.state == State::Open {
            closed = None;
            world.ledgers.back_up();
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
