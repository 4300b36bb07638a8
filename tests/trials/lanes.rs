//! Lanes: worlds of servers beside each other, that take jobs from one line.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;

use tokio::runtime::{Builder, Runtime};

/// Does every job in one of the lanes' worlds. A world in which a job panicked is left, and another one is built; such a
/// job has no result. Results come in the order of the jobs.
pub fn run<W, J: Sync, R: Send>(
    lanes: usize,
    jobs: &[J],
    build: impl AsyncFn() -> W + Sync,
    work: impl AsyncFn(&mut W, &J) -> R + Sync,
) -> Vec<Option<R>> {
    let line: Mutex<VecDeque<usize>> = Mutex::new((0..jobs.len()).collect());
    let results: Mutex<Vec<Option<R>>> = Mutex::new(jobs.iter().map(|_| None).collect());
    let next = || line.lock().expect("nobody panics with it in hand").pop_front();
    let lane = || {
        let runtime = runtime();
        let mut world = None;
        while let Some(job) = next() {
            let done = catch_unwind(AssertUnwindSafe(|| {
                runtime.block_on(async {
                    if world.is_none() {
                        world = Some(build().await);
                    }
                    work(world.as_mut().expect("just built"), &jobs[job]).await
                })
            }));
            match done {
                Ok(result) => results.lock().expect("nobody panics with it in hand")[job] = Some(result),
                Err(_) => world = None,
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..lanes.min(jobs.len()) {
            scope.spawn(lane);
        }
    });
    results.into_inner().expect("nobody panics with it in hand")
}

/// Callers go on while servers are waited for.
fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be had")
}
