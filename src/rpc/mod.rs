//! What callers see: the gRPC service, and JSON over HTTP, on the same port.
//!
//! One thread accepts connections and deals them to the workers ([`server`]); a connection is served on its worker's
//! thread to its end ([`connection`]), and each request goes through that worker's [`desk`] to its allocator.

pub mod connection;
pub mod desk;
pub mod errors;
pub mod health;
pub mod http;
pub mod listen;
pub mod route;
pub mod server;
pub mod service;
pub mod socket;
pub mod stream;

use tokio::time::Instant;

use crate::actor::{Allocation, AllocatorHandle};
use crate::block::Refusal;

/// The worker's allocator, as far as the service needs it.
pub trait Allocate: Clone + Send + Sync + 'static {
    /// See [`AllocatorHandle::allocate`].
    fn allocate(
        &self,
        sequence: &str,
        count: u32,
        deadline: Instant,
    ) -> impl Future<Output = Result<Allocation, Refusal>> + Send;
}

impl Allocate for AllocatorHandle {
    async fn allocate(&self, sequence: &str, count: u32, deadline: Instant) -> Result<Allocation, Refusal> {
        AllocatorHandle::allocate(self, sequence, count, deadline).await
    }
}
