//! What each route answers.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use super::{Control, Token, chaos, guard, page};
use crate::observe::Metrics;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Nothing from outside, and no page may frame this one. What the page shows is escaped; this is the second wall.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; \
                           connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// All routes, behind the rules of [`guard`]. `token` is `admin.token`.
pub fn router<C: Control>(control: C, metrics: Metrics, token: Token) -> Router {
    Router::new()
        .route("/", get(status_page::<C>))
        .route("/metrics", get(scrape::<C>))
        .route("/livez", get(livez::<C>))
        .route("/readyz", get(readyz::<C>))
        .route("/api/v1/status", get(status::<C>))
        .route("/api/v1/drain", post(drain::<C>))
        .route("/api/v1/chaos", get(chaos::list::<C>))
        .route("/api/v1/chaos/inject", post(chaos::inject::<C>))
        .route("/api/v1/chaos/stop", post(chaos::stop::<C>))
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_page)
        .layer(from_fn(move |request, next| guarded(token.clone(), request, next)))
        .with_state(Process { control, metrics })
}

#[derive(Clone)]
pub(super) struct Process<C> {
    pub(super) control: C,
    metrics: Metrics,
}

/// Answers with `body`; nothing here may be kept by a cache.
pub(super) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<axum::body::Body>,
) -> Response {
    (status, [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")], body.into()).into_response()
}

async fn guarded(token: Token, request: Request, next: Next) -> Response {
    let mut response = match guard::check(&request, token.get().as_deref()) {
        Ok(()) => return next.run(request).await,
        Err(denial) => answer(denial.status, TEXT, format!("{}\n", denial.message)),
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

async fn status_page<C: Control>(State(process): State<Process<C>>) -> Response {
    let status = process.control.status().await;
    let mut response = answer(StatusCode::OK, HTML, page::render(&status).into_string());
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    response
}

async fn scrape<C: Control>(State(process): State<Process<C>>, headers: HeaderMap) -> Response {
    // Sets the gauges that follow from the process's state.
    process.control.status().await;
    let openmetrics = headers
        .get_all(ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("application/openmetrics-text")));
    let content_type = if openmetrics { OPENMETRICS } else { PROMETHEUS };
    answer(StatusCode::OK, content_type, process.metrics.encode(openmetrics))
}

async fn livez<C: Control>(State(process): State<Process<C>>) -> Response {
    probe(process.control.alive(), "alive")
}

async fn readyz<C: Control>(State(process): State<Process<C>>) -> Response {
    probe(process.control.ready(), "ready")
}

fn probe(outcome: Result<(), String>, what: &str) -> Response {
    match outcome {
        Ok(()) => answer(StatusCode::OK, TEXT, format!("{what}\n")),
        Err(why) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not {what}: {why}\n")),
    }
}

async fn status<C: Control>(State(process): State<Process<C>>) -> Response {
    json(StatusCode::OK, &process.control.status().await)
}

pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => answer(status, JSON, body),
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("no JSON: {error}\n")),
    }
}

async fn drain<C: Control>(State(process): State<Process<C>>) -> Response {
    process.control.drain();
    answer(StatusCode::ACCEPTED, JSON, "{\"state\":\"draining\"}\n")
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let help = match uri.path() {
        "/api/v1/drain" => "draining is a POST: curl -X POST, or `blockhouse drain`".to_owned(),
        "/api/v1/chaos/inject" | "/api/v1/chaos/stop" => {
            "drills are a POST: curl -X POST, or `blockhouse chaos`".to_owned()
        }
        path => format!("{path} is only read: GET it, not {method}"),
    };
    answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("{help}\n"))
}

async fn no_such_page(uri: Uri) -> Response {
    let mut help =
        "there are /, /metrics, /livez, /readyz, /api/v1/status, /api/v1/chaos, and POST /api/v1/drain, \
                    /api/v1/chaos/inject and /api/v1/chaos/stop"
            .to_owned();
    if uri.path().starts_with("/v1/") {
        help.push_str("; IDs are handed out on the port of `grpc.listen` (7420)");
    }
    answer(StatusCode::NOT_FOUND, TEXT, format!("nothing here: {help}\n"))
}
