//! Those who ask for IDs, and whoever looks whether they could be served.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use blockhouse::block::checker::{Answer, Fruitless};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use crate::world::{Process, World};

/// Callers come at random, each on its own, as long as this is polled.
pub async fn come(world: Rc<World>, under_way: Rc<Cell<usize>>) {
    let load = world.schedule.load;
    let mut rng = world.fork_rng();
    let allocators: Vec<usize> =
        (0..world.schedule.slots().len()).filter(|slot| !world.slot(*slot).hydrates).collect();
    loop {
        let pause = -rng.f64().max(1e-9).ln() / load.per_second;
        sleep(Duration::from_millis((pause * 1000.0) as u64)).await;
        let slot = allocators[rng.usize(..allocators.len())];
        let Some(process) = world.present(slot).filter(|process| !process.over.get()) else { continue };
        let worker = rng.usize(..process.workers());
        let sequence = rng.usize(..world.schedule.sequences.len());
        let count = rng.u32(1..=load.most);
        let (least, most) = load.patience;
        let patience = least + (most.saturating_sub(least)).mul_f64(rng.f64());
        let patience = Duration::from_millis(u64::try_from(patience.as_millis()).unwrap_or(1));
        let gives_up = (rng.u16(..1000) < load.cancels).then(|| patience.mul_f64(rng.f64()));
        let name = world.schedule.sequences[sequence].name;
        let (world, under_way) = (Rc::clone(&world), Rc::clone(&under_way));
        under_way.set(under_way.get() + 1);
        spawn_local(async move {
            let asks = ask(&world, &process, worker, name, count, patience);
            let answer = match gives_up {
                None => Some(asks.await),
                Some(after) => timeout(after, asks).await.ok(),
            };
            let mut journal = world.journal.lock();
            let at = journal.now();
            match answer {
                Some(answer) => {
                    let reach = (process.number, sequence as u32);
                    if patience >= Duration::from_secs(1) && !process.over.get() {
                        journal.checker.tried(reach, answer.is_ok(), at);
                    }
                }
                None => journal.checker.fruitless(Fruitless::Unknown),
            }
            under_way.set(under_way.get() - 1);
        });
    }
}

/// One request, from a caller who takes whatever comes.
pub async fn ask(
    world: &World,
    process: &Process,
    worker: usize,
    sequence: &str,
    count: u32,
    patience: Duration,
) -> Result<(), String> {
    let (since, begun) = (world.journal.now(), Instant::now());
    world.journal.lock().checker.asked();
    let answer = process.allocate(worker, sequence, count, begun + patience).await;
    let mut journal = world.journal.lock();
    let at = journal.now();
    journal.checker.ended(since + patience, at);
    if process.over.get() && !matches!(world.present(process.slot), Some(now) if now.number == process.number)
    {
        // Its connection ended with the process: whatever it was about to say, nobody hears it.
        drop(journal);
        drop(answer);
        world.journal.lock().checker.fruitless(Fruitless::Unknown);
        return Err("the process is gone".to_owned());
    }
    match answer {
        Ok(allocation) => {
            let issued = allocation.issue();
            let number = process.number;
            journal.note(format_args!(
                "#{number} gives {:?} of {sequence} from {:?}",
                issued.spans, issued.tier
            ));
            let asked = i64::from(count);
            let answer = Answer { sequence, asked, spans: &issued.spans, by: Some(number), since, at };
            journal.checker.answered(&answer);
            Ok(())
        }
        Err(refusal) => {
            journal.checker.fruitless(Fruitless::Failed);
            journal.note(format_args!("#{} refuses {count} of {sequence}: {refusal}", process.number));
            Err(refusal.to_string())
        }
    }
}

/// Looks, again and again, which process could serve which sequence.
pub async fn look_who_can_serve(world: Rc<World>) {
    loop {
        let rows = world.rows().await;
        for process in world.processes() {
            for (number, sequence) in world.schedule.sequences.iter().enumerate() {
                let Some(row) = rows.iter().find(|row| *row.facts.name == *sequence.name) else { continue };
                let can = !process.over.get() && row.facts.halted.is_none() && world.can_serve(&process, row);
                let mut journal = world.journal.lock();
                let at = journal.now();
                journal.checker.reach((process.number, number as u32), can, at);
            }
        }
        sleep(Duration::from_millis(500)).await;
    }
}
