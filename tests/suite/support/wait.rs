//! Waiting for conditions, with a deadline: tests never sleep.

use std::net::TcpListener;
use std::ops::AsyncFnMut;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Between two looks at a condition.
const STEP: Duration = Duration::from_millis(10);

/// Returns once `condition` holds, and panics with `what` if it doesn't within `deadline`.
#[track_caller]
pub fn until(
    deadline: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) -> impl Future<Output = ()> {
    let (caller, end) = (std::panic::Location::caller(), Instant::now() + deadline);
    async move {
        while !condition().await {
            assert!(Instant::now() < end, "{caller}: not within {deadline:?}: {what}");
            sleep(STEP).await;
        }
    }
}

/// Lets time pass: only for the pace of a load or of a schedule of faults.
pub async fn pass(time: Duration) {
    sleep(time).await;
}

/// A port of the loopback address that nobody listens on. Taken from below the ports that the system gives to
/// outgoing connections, at random, so that tests that run at the same time don't meet.
pub fn free_port() -> u16 {
    // Below the ports that the kernel gives to connections; tests that run as processes beside each other begin apart, and
    // none gives a port out twice.
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(64);
    let next = || 10_000 + (begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % 22_000) as u16;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(next).take(1_000).find(free).expect("one of a thousand ports is free")
}
