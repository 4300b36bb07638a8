//! Whatever comes from outside, by the million: each target takes bytes that nobody vouches for to one place where the product reads
//! them, and holds what must be true of the outcome; that nothing panics goes without saying.
//!
//! `cargo test --test fuzz` tries the corpus and a fixed number of inputs from a fixed seed, some seconds in all; `tests/fuzz/run`
//! goes on for longer, from another seed.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "../wire/mod.rs"]
mod wire;

mod admin;
mod config;
mod corpus;
mod engine;
mod ledger;
mod pods;
mod replies;
mod rpc;
mod text;

use engine::{Verdict, fuzz};

/// Breaks a rule where `holds` is false.
fn must(holds: bool, rule: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(rule()) }
}

/// An error as the kind that it is: how it begins, without what it quotes.
fn kind(error: &str) -> String {
    let plain = |letter: &char| letter.is_ascii_lowercase() || *letter == ' ';
    let begins = error.split(['"', '\'', ':']).next().unwrap_or_default();
    begins.chars().filter(plain).take(32).collect()
}
