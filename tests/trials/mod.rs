//! What the commands of many trials on real servers share: what was asked for, lanes, callers, and the books.
#![allow(dead_code, reason = "each command uses its part")]

pub mod books;
pub mod callers;
pub mod command;
pub mod lanes;
pub mod lists;
