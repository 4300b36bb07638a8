//! Stops a process at a point.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Pid;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// A point that a process will stop at.
pub struct Armed {
    listener: UnixListener,
    socket: PathBuf,
}

/// A process that stands at the point, until this is dropped or it is killed.
pub struct Held(#[expect(dead_code, reason = "what counts is that it is open")] UnixStream);

impl Armed {
    /// `FAILPOINTS` names the folder for this process and those that it starts.
    pub fn at(name: &str, process: Pid) -> Armed {
        let folder = std::env::var_os("FAILPOINTS").expect("the command sets it for itself");
        let socket = PathBuf::from(folder).join(format!("{name}.{}", process.as_raw_nonzero()));
        let listener = UnixListener::bind(&socket).expect("the folder can be written to");
        Armed { listener, socket }
    }

    /// Waits until the process stands there. Whoever comes after it goes on.
    pub async fn reached(self, deadline: Duration) -> io::Result<Held> {
        let (process, _) = timeout(deadline, self.listener.accept()).await??;
        Ok(Held(process))
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}
