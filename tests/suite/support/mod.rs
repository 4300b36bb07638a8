//! Servers, processes, proxies and checkers that tests are written with.

pub mod caller;
pub mod checker;
pub mod cluster;
pub mod http;
pub mod load;
pub mod metrics;
pub mod pooler;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod toxics;
pub mod wait;
pub mod watch;

pub use cluster::Cluster;
