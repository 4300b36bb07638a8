//! In-process pods: for `dev`, tests and simulation. They keep the rules that [`super::redis`] keeps, by the same proofs.

mod client;
mod server;

pub use self::client::{Carrier, Client};
pub use self::server::{Answered, Op, Server, Snapshot};

use std::rc::Rc;
use std::sync::Arc;

use super::proof::Proof;
use super::session::Head;
use super::{Pod, PodError, Target};
use crate::config::settings;

/// A call is made and answered at once.
impl Carrier for Server {
    async fn carry(&self, head: Head, op: Op) -> Result<(Proof, Answered), PodError> {
        self.execute(&head, &op)
    }
}

impl Target for Server {
    fn address(&self) -> &Arc<str> {
        self.address()
    }

    fn shared(&self) -> bool {
        false
    }

    fn open(&self, _: &settings::Redis, _: &slog::Logger) -> Rc<dyn Pod> {
        Rc::new(self.connect())
    }
}

#[cfg(test)]
mod tests;
