//! Configuration: raw file shape → resolved settings.

pub mod settings;

pub use settings::Settings;
