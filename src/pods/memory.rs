//! In-process pods: for `dev`, tests and simulation.

use std::sync::Arc;

/// One in-process pod, shared by all threads of the process. What it holds ends with the process.
#[derive(Clone)]
pub struct Server {
    address: Arc<str>,
}

impl Server {
    /// An empty pod named `memory:NUMBER`, with a random run_id drawn from `rng`.
    pub fn new(number: usize, rng: &mut fastrand::Rng) -> Server {
        let _ = rng;
        Server { address: format!("memory:{number}").into() }
    }

    /// `memory:NUMBER`
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }
}
