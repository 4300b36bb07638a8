//! `grpc.health.v1`: a view of the process's phase.

use std::pin::Pin;

use futures_util::stream::{self, Stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::connection::Ending;
use crate::shutdown::{Phase, Phases};

/// What may be asked about: the whole process, and its one service.
pub const NAMES: [&str; 2] = ["", "blockhouse.v1.AllocationService"];

/// Says SERVING from ready until the first moment of a drain.
pub struct PhaseHealth {
    phases: Phases,
    ending: Ending,
}

impl PhaseHealth {
    /// Of one connection: watches end when `ending` says so.
    pub fn new(phases: Phases, ending: Ending) -> PhaseHealth {
        PhaseHealth { phases, ending }
    }
}

#[tonic::async_trait]
impl Health for PhaseHealth {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match health(&request.get_ref().service, *self.phases.borrow()) {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found("health is known of '' and 'blockhouse.v1.AllocationService'"))
            }
            known => Ok(Response::new(response(known))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watch = Watch {
            service: request.into_inner().service,
            said: None,
            phases: self.phases.clone(),
            ending: self.ending.clone(),
        };
        Ok(Response::new(Box::pin(stream::unfold(watch, Watch::next))))
    }
}

struct Watch {
    service: String,
    said: Option<ServingStatus>,
    phases: Phases,
    ending: Ending,
}

impl Watch {
    /// The next status that differs from the last one said.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Watch)> {
        let (service, said) = (&self.service, self.said);
        let phase = tokio::select! {
            biased;
            phase = self.phases.wait_for(|phase| said != Some(health(service, *phase))) => *phase.ok()?,
            () = self.ending.reached() => return None,
        };
        let status = health(service, phase);
        self.said = Some(status);
        Some((Ok(response(status)), self))
    }
}

fn health(service: &str, phase: Phase) -> ServingStatus {
    if !NAMES.contains(&service) {
        ServingStatus::ServiceUnknown
    } else if phase == Phase::Serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}
