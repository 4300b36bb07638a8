//! Where a process is stopped, and what is killed then.

/// A point of `src/failpoint.rs` in one kind of process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub process: Who,
    pub name: &'static str,
    /// What brings the process there; callers alone where there is nothing.
    pub by: By,
}

/// Who stands at the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Allocator,
    Hydrator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Callers,
    /// The sequence is moved to a new generation.
    Advance,
    /// The process is told to end in order.
    Drain,
}

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    Allocator,
    Hydrator,
    Pod,
    Postgres,
}

impl Victim {
    pub const ALL: [Victim; 4] = [Victim::Allocator, Victim::Hydrator, Victim::Pod, Victim::Postgres];

    pub fn name(self) -> &'static str {
        match self {
            Victim::Allocator => "allocator",
            Victim::Hydrator => "hydrator",
            Victim::Pod => "pod",
            Victim::Postgres => "postgres",
        }
    }
}

impl Point {
    const fn at(process: Who, name: &'static str) -> Point {
        Point { process, name, by: By::Callers }
    }

    /// As the table names it.
    pub fn title(&self) -> String {
        match self.process {
            Who::Allocator => format!("allocator {}", self.name),
            Who::Hydrator => format!("hydrator {}", self.name),
        }
    }
}

use Who::{Allocator, Hydrator};

pub const POINTS: [Point; 17] = [
    Point::at(Allocator, "grant.sent"),
    Point::at(Allocator, "grant.committed"),
    Point::at(Allocator, "high_water.before"),
    Point::at(Allocator, "high_water.after"),
    Point::at(Allocator, "grant.received"),
    Point::at(Allocator, "pop.sent"),
    Point::at(Allocator, "pop.answered"),
    Point::at(Allocator, "answer.taken"),
    Point::at(Allocator, "answer.issued"),
    Point { by: By::Advance, ..Point::at(Allocator, "generation.observed") },
    Point { by: By::Drain, ..Point::at(Allocator, "hand_back.before") },
    Point { by: By::Drain, ..Point::at(Allocator, "hand_back.after") },
    Point::at(Hydrator, "grant.sent"),
    Point::at(Hydrator, "grant.committed"),
    Point::at(Hydrator, "push.before"),
    Point::at(Hydrator, "push.sent"),
    Point::at(Hydrator, "push.answered"),
];
