//! Pods on a real Redis.
