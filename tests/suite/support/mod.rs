//! Servers, processes, proxies and checkers that tests are written with.

pub mod postgres;
pub mod proxy;
pub mod redis;
