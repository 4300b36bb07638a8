//! Drills over HTTP.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Control;
use super::routes::{Process, json};
use crate::actor::supervisor::NO_CHAOS;
use crate::block::chaos::{By, Refused, Wish};
use crate::config::duration;

/// The body of `POST /api/v1/chaos/inject`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inject {
    fault: String,
    #[serde(default)]
    target: Option<String>,
    /// A duration such as `30s`.
    #[serde(default, rename = "for")]
    lasts: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

/// Why something is not done.
#[derive(Serialize)]
struct Refusal {
    error: Error,
}

#[derive(Serialize)]
struct Error {
    message: String,
    /// Whether the same may be allowed later.
    retry: bool,
}

pub(super) async fn list<C: Control>(State(process): State<Process<C>>) -> Response {
    match process.control.chaos() {
        Some(chaos) => json(StatusCode::OK, &chaos),
        None => refuse(StatusCode::NOT_FOUND, Refused::never(NO_CHAOS)),
    }
}

pub(super) async fn inject<C: Control>(State(process): State<Process<C>>, body: Bytes) -> Response {
    let wish = match wish(&body) {
        Ok(wish) => wish,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, Refused::never(why)),
    };
    match process.control.inject(wish).await {
        Ok(drill) => json(StatusCode::OK, &drill),
        Err(refused) => refuse(StatusCode::CONFLICT, refused),
    }
}

pub(super) async fn stop<C: Control>(State(process): State<Process<C>>) -> Response {
    if !process.control.stop_drills("stopped by an operator").await {
        return refuse(StatusCode::CONFLICT, Refused::never(NO_CHAOS));
    }
    json(StatusCode::OK, &process.control.chaos().unwrap_or_default())
}

fn wish(body: &[u8]) -> Result<Wish, String> {
    let asked: Inject = serde_json::from_slice(body)
        .map_err(|error| format!(r#"the body must be like {{"fault":"pod_gone","for":"30s"}}: {error}"#))?;
    let lasts = asked.lasts.map(|text| {
        duration::parse(&text).ok_or_else(|| format!("\"for\" must be a duration such as 30s, not {text:?}"))
    });
    Ok(Wish {
        fault: asked.fault.parse()?,
        target: asked.target.map(Into::into),
        lasts: lasts.transpose()?,
        dry_run: asked.dry_run,
        by: By::Hand,
    })
}

fn refuse(status: StatusCode, refused: Refused) -> Response {
    json(status, &Refusal { error: Error { message: refused.why, retry: refused.for_now } })
}
