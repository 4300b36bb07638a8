//! Configuration: raw file shape → resolved settings.

mod redact;
pub mod settings;

pub use redact::redact_url;

pub use settings::Settings;
