//! What the server needs of the process that it belongs to.

use std::future::Future;

use crate::actor::ControlHandle;
use crate::observe::Status;

/// The process, as its admin pages see it. Cheap to clone.
pub trait Control: Clone + Send + Sync + 'static {
    /// Everything that `/api/v1/status` shows. Bounded; gauges that follow from it are set on the way.
    fn status(&self) -> impl Future<Output = Status> + Send;

    /// Whether some tier can answer now and the process isn't draining.
    ///
    /// # Errors
    /// Why not, in one line for people.
    fn ready(&self) -> Result<(), String>;

    /// Whether the control thread and every worker ran lately.
    ///
    /// # Errors
    /// Which didn't, in one line for people.
    fn alive(&self) -> Result<(), String>;

    /// Asks the process to drain and end. Idempotent.
    fn drain(&self);
}

impl Control for ControlHandle {
    async fn status(&self) -> Status {
        ControlHandle::status(self).await
    }

    fn ready(&self) -> Result<(), String> {
        ControlHandle::ready(self)
    }

    fn alive(&self) -> Result<(), String> {
        ControlHandle::alive(self)
    }

    fn drain(&self) {
        ControlHandle::drain(self);
    }
}
