//! Which door a request goes to.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use blockhouse_client::v1::FILE_DESCRIPTOR_SET;
use blockhouse_client::v1::allocation_service_server::AllocationServiceServer;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use tokio::time::timeout_at;
use tonic::Status;
use tonic::body::Body;
use tonic_health::pb::health_server::HealthServer;
use tower_service::Service as _;

use super::connection::{Busy, Ending, Shared};
use super::desk::{Desk, caller_timeout, late};
use super::health::PhaseHealth;
use super::service::Service;
use super::{Allocate, errors, http as json};

/// The most bytes of one request message: a name and a few numbers.
const MESSAGE_MAX: usize = 4 * 1024;

const ALLOCATE: &str = "/blockhouse.v1.AllocationService/Allocate";

type Answer = LocalBoxFuture<'static, Result<Response<Body>, Infallible>>;

/// Answers which services there are, from their descriptors.
pub type Reflection = Rc<dyn Fn(Request<Incoming>) -> Answer>;

/// Everything that one connection's requests can reach.
pub struct Routes<A: Allocate> {
    desk: Arc<Desk<A>>,
    busy: Busy,
    allocation: AllocationServiceServer<Service<A>>,
    health: HealthServer<PhaseHealth>,
    reflection: Reflection,
}

impl<A: Allocate> Routes<A> {
    /// Of a connection that counts what is under way in `busy` and says with `ending` that it is about to end.
    pub fn new(shared: &Shared<A>, busy: Busy, ending: Ending) -> Routes<A> {
        let desk = Arc::clone(&shared.desk);
        let service = Service::new(Arc::clone(&desk), busy.clone(), ending.clone());
        let health = PhaseHealth::new(shared.phases.clone(), ending);
        Routes {
            desk,
            busy,
            allocation: AllocationServiceServer::new(service).max_decoding_message_size(MESSAGE_MAX),
            health: HealthServer::new(health).max_decoding_message_size(MESSAGE_MAX),
            reflection: Rc::clone(&shared.reflection),
        }
    }

    fn grpc(&self, request: Request<Incoming>) -> Answer {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        match service {
            "blockhouse.v1.AllocationService" if request.uri().path() == ALLOCATE => {
                Box::pin(unary(Arc::clone(&self.desk), self.allocation.clone(), request))
            }
            "blockhouse.v1.AllocationService" => self.allocation.clone().call(request),
            "grpc.health.v1.Health" => self.health.clone().call(request),
            "grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection" => {
                (self.reflection)(request)
            }
            _ => {
                let status =
                    Status::unimplemented("no such service; server reflection lists those there are");
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}

impl<A: Allocate> hyper::service::Service<Request<Incoming>> for Routes<A> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, mut request: Request<Incoming>) -> Answer {
        lighten(request.headers_mut());
        let token = self.busy.enter();
        let answer = if json::is_ours(request.uri().path()) || !is_grpc(request.headers()) {
            Box::pin(json::serve(Arc::clone(&self.desk), request))
        } else {
            self.grpc(request)
        };
        Box::pin(async move {
            let _under_way = token;
            answer.await
        })
    }
}

/// What anybody here reads of a head.
const READ: [&str; 7] =
    ["content-type", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "traceparent", "host", "te"];

/// Bytes of a head above which what nobody reads isn't kept.
const HEAD_KEPT: usize = 2 * 1024;

/// Lets go of what nobody reads, where it is much: a request whose message never comes holds its head until its deadline, and heads of
/// 16 KiB on 1,024 streams a connection would be a cheap way to fill our memory. What stays is copied, since it is a part of the whole.
fn lighten(headers: &mut HeaderMap) {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes <= HEAD_KEPT {
        return;
    }
    let mut kept = HeaderMap::with_capacity(READ.len());
    for name in READ {
        let value = headers.get(name).filter(|value| value.len() <= 256);
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
            kept.insert(name, value);
        }
    }
    *headers = kept;
}

/// A unary call, by its deadline even if its message never comes: the one timer of its request.
async fn unary<A: Allocate>(
    desk: Arc<Desk<A>>,
    mut allocation: AllocationServiceServer<Service<A>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let deadline = desk.deadline(caller_timeout(request.headers()));
    match timeout_at(deadline, allocation.call(request)).await {
        // Trailers only: the call failed, perhaps before its message reached the service.
        Ok(Ok(response)) => Ok(match Status::from_header_map(response.headers()) {
            Some(failed) => errors::unreadable(failed).into_http(),
            None => response,
        }),
        Ok(Err(never)) => Err(never),
        Err(_) => Ok(errors::status(&late(), None).into_http()),
    }
}

/// Server reflection, once a worker. Many clients still ask by v1alpha only, grpcio's among them.
pub fn reflection() -> Reflection {
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = described().build_v1().expect("descriptors that are compiled in can be read");
    let v1alpha = described().build_v1alpha().expect("they were read before");
    Rc::new(move |request| match request.uri().path().starts_with("/grpc.reflection.v1alpha.") {
        true => v1alpha.clone().call(request),
        false => v1.clone().call(request),
    })
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heavy_head_keeps_what_is_read_and_a_light_one_everything() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_static("1S"));
        headers.insert("x-own", HeaderValue::from_static("1"));
        lighten(&mut headers);
        assert_eq!(headers.len(), 2);
        headers.insert("x-heavy", HeaderValue::from_str(&"v".repeat(HEAD_KEPT)).unwrap());
        lighten(&mut headers);
        assert_eq!((headers.len(), headers["grpc-timeout"].as_bytes()), (1, &b"1S"[..]));
    }
}
