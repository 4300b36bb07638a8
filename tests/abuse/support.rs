//! The suite's own, as far as needed here.

#![allow(dead_code)]

#[path = "../suite/support/http.rs"]
pub mod http;
#[path = "../suite/support/metrics.rs"]
pub mod metrics;
#[path = "../suite/support/process.rs"]
pub mod process;
#[path = "../suite/support/wait.rs"]
pub mod wait;
