//! The admin HTTP server: status page, metrics, health and drain. It runs on the control thread.
//!
//! | route | answers |
//! |---|---|
//! | `GET /` | the status page |
//! | `GET /metrics` | text format 0.0.4, or OpenMetrics where `Accept` asks for it |
//! | `GET /livez` | 200, or 503 if the control thread or a worker is stuck |
//! | `GET /readyz` | 200, or 503 and why |
//! | `GET /api/v1/status` | [`Status`](crate::observe::Status) as JSON |
//! | `POST /api/v1/drain` | 202; the process drains and ends |
//!
//! Who may ask for what stands in [`guard`]. Refusals are one line of text that says what to do.

pub mod control;
pub mod guard;
pub mod listen;
mod page;
mod routes;
mod serve;

pub use control::Control;
pub use guard::{Peer, Token};
pub use listen::Listener;
pub use routes::router;
pub use serve::serve;
