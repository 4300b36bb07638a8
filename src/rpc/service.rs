//! The gRPC service of one connection.

use std::sync::Arc;

use blockhouse_client::v1::allocation_service_server::AllocationService;
use blockhouse_client::v1::{
    AllocateRequest, AllocateResponse, AllocateStreamRequest, IdRange, Tier as WireTier,
};
use tonic::{Request, Response, Status, Streaming};

use super::Allocate;
use super::connection::{Busy, Ending};
use super::desk::{Asked, Desk, caller_timeout};
use super::errors;
use super::stream::{self, Answers};
use crate::actor::Issued;
use crate::block::{Span, Tier};
use crate::observe::metrics::Method;

/// Serves one connection's calls at its worker's desk.
pub struct Service<A> {
    desk: Arc<Desk<A>>,
    busy: Busy,
    ending: Ending,
}

impl<A> Service<A> {
    /// `busy` is told of streams under way, and streams end when `ending` says so.
    pub fn new(desk: Arc<Desk<A>>, busy: Busy, ending: Ending) -> Service<A> {
        Service { desk, busy, ending }
    }
}

#[tonic::async_trait]
impl<A: Allocate> AllocationService for Service<A> {
    type AllocateStreamStream = Answers;

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let deadline = self.desk.deadline(caller_timeout(request.metadata().as_ref()));
        let visit = self.desk.open(Method::Allocate, deadline);
        let (metadata, _, AllocateRequest { sequence, count }) = request.into_parts();
        let asked = Asked { sequence: &sequence, count, headers: metadata.as_ref() };
        match visit.take(&sequence, count).await {
            Ok(allocation) => {
                // S2, the point of no return: from here on nothing waits, and the transport takes the answer.
                let answer = answer(&allocation.issue());
                visit.allocated(asked);
                Ok(Response::new(answer))
            }
            Err(refusal) => {
                let wait = visit.refused(asked, &refusal);
                Err(errors::status(&refusal, wait))
            }
        }
    }

    async fn allocate_stream(
        &self,
        request: Request<Streaming<AllocateStreamRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let (metadata, _, requests) = request.into_parts();
        let desk = Arc::clone(&self.desk);
        let answers =
            stream::open(desk, self.busy.enter(), self.ending.clone(), metadata.into_headers(), requests);
        Ok(Response::new(answers))
    }
}

/// What the wire says of issued IDs.
pub fn answer(issued: &Issued) -> AllocateResponse {
    AllocateResponse {
        ranges: issued.spans.iter().copied().map(id_range).collect(),
        tier: wire_tier(issued.tier) as i32,
    }
}

fn id_range(span: Span) -> IdRange {
    IdRange { first: span.first(), count: span.count() }
}

/// The wire's name of a tier.
pub fn wire_tier(tier: Tier) -> WireTier {
    match tier {
        Tier::Memory => WireTier::Memory,
        Tier::Pods => WireTier::Pods,
        Tier::Ledger => WireTier::Ledger,
    }
}
