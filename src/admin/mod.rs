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
//! | `GET /api/v1/chaos` | [`Chaos`](crate::observe::status::Chaos) as JSON; 404 without the role |
//! | `POST /api/v1/chaos/inject` | 200 and the drill; 409 and why not; 400 |
//! | `POST /api/v1/chaos/stop` | 200; nothing is injected any more |
//!
//! Who may ask for what stands in [`guard`]. Refusals are one line of text that says what to do.

mod chaos;
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
