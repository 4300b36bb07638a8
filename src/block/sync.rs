//! The atomics of the core, behind one door: `tests/concurrency` compiles the same files against loom's.

pub(super) use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
