//! Named instants at which a test can hold a process, to kill something at exactly then. Nothing at all without the feature
//! `failpoints`, which no release has.
//!
//! A test that waits for a process at a point listens on the socket `NAME.PID` in the folder that `FAILPOINTS` names.

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("failpoints are for tests: a release must not have them");

/// The present thread is at this point: stands still if a test waits for it here, until that lets go.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reach(_name: &str) {}

/// The present thread is at this point: stands still if a test waits for it here, until that lets go.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    let Some(folder) = std::env::var_os("FAILPOINTS") else { return };
    let socket = std::path::Path::new(&folder).join(format!("{name}.{}", std::process::id()));
    // Nobody listens at most points most of the time.
    if let Ok(mut test) = UnixStream::connect(socket) {
        let _ = test.read(&mut [0]);
    }
}

/// Awaits `call`, and reaches the point once its request is on its way and not answered.
#[cfg(not(feature = "failpoints"))]
pub fn sent<T>(_name: &str, call: impl Future<Output = T>) -> impl Future<Output = T> {
    call
}

/// Awaits `call`, and reaches the point once its request is on its way and not answered.
#[cfg(feature = "failpoints")]
pub async fn sent<T>(name: &str, call: impl Future<Output = T>) -> T {
    use std::future::poll_fn;
    use std::task::Poll;

    /// After so many turns of the runtime a request has left.
    const TURNS: usize = 4;

    let mut call = std::pin::pin!(call);
    for _ in 0..TURNS {
        if let Poll::Ready(answer) = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
            return answer;
        }
        tokio::task::yield_now().await;
    }
    reach(name);
    call.await
}
