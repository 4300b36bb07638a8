//! Drills with real actors on virtual time: what each fault does, that it is counted, and that it ends, whatever happens.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![allow(clippy::field_reassign_with_default, reason = "settings read as in a file, a key a line")]

mod ends;
mod faults;
mod limits;
mod world;
