//! (to come)
pub struct Stash;
