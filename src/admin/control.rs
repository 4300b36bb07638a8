//! What the server needs of the process that it belongs to.

use std::future::{Future, ready};

use crate::actor::ControlHandle;
use crate::actor::supervisor::NO_CHAOS;
use crate::block::chaos::{Refused, Wish};
use crate::observe::Status;
use crate::observe::status::{Chaos, Drill};

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

    /// Drills; `None` without the role chaos.
    fn chaos(&self) -> Option<Chaos> {
        None
    }

    /// Injects a fault, or says what it would inject.
    ///
    /// # Errors
    /// Why it doesn't.
    fn inject(&self, _wish: Wish) -> impl Future<Output = Result<Drill, Refused>> + Send {
        ready(Err(Refused::never(NO_CHAOS)))
    }

    /// Ends what runs, and keeps the process from any further drill. `false` without the role chaos.
    fn stop_drills(&self, _why: &str) -> impl Future<Output = bool> + Send {
        ready(false)
    }
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

    fn chaos(&self) -> Option<Chaos> {
        ControlHandle::chaos(self)
    }

    async fn inject(&self, wish: Wish) -> Result<Drill, Refused> {
        ControlHandle::inject(self, wish).await
    }

    async fn stop_drills(&self, why: &str) -> bool {
        ControlHandle::stop_drills(self, why).await
    }
}
