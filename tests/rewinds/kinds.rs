//! What comes back as it was, and what may become of it.

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pod(Pod),
    Ledger(Ledger),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pod {
    /// Restarted with an older snapshot.
    Snapshot,
    /// Emptied, or restarted with nothing.
    Empty,
    /// Another server, that lags behind, takes its address.
    Replica,
    /// Made a replica of one that lags behind, and a master again.
    Demoted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ledger {
    /// Restored from a backup of the running server.
    BaseBackup,
    /// Recovered from a backup and the write-ahead log, but for the end of it.
    PointInTime,
    /// A standby that lags behind is promoted in its place.
    Standby,
    /// Its files are put back from a copy that was made while it was down.
    OldFiles,
}

pub const KINDS: [Kind; 8] = [
    Kind::Pod(Pod::Snapshot),
    Kind::Pod(Pod::Empty),
    Kind::Pod(Pod::Replica),
    Kind::Pod(Pod::Demoted),
    Kind::Ledger(Ledger::BaseBackup),
    Kind::Ledger(Ledger::PointInTime),
    Kind::Ledger(Ledger::Standby),
    Kind::Ledger(Ledger::OldFiles),
];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Pod(Pod::Snapshot) => "pod with an old snapshot",
            Kind::Pod(Pod::Empty) => "empty pod",
            Kind::Pod(Pod::Replica) => "lagging replica in a pod's place",
            Kind::Pod(Pod::Demoted) => "pod demoted and promoted again",
            Kind::Ledger(Ledger::BaseBackup) => "PostgreSQL from a base backup",
            Kind::Ledger(Ledger::PointInTime) => "PostgreSQL recovered to a point in time",
            Kind::Ledger(Ledger::Standby) => "asynchronous standby promoted",
            Kind::Ledger(Ledger::OldFiles) => "old files put back",
        }
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Somebody said that it must not be used.
    Refused,
    /// It was taken for what it is, another life: nothing of what came back was used.
    Anew,
    /// The ledger gave nothing before a person accepted it.
    Waited,
    /// The ledger went on by itself, above everything that may have been granted.
    Jumped,
}

impl Outcome {
    pub const ALL: [Outcome; 4] = [Outcome::Refused, Outcome::Anew, Outcome::Waited, Outcome::Jumped];

    pub fn name(self) -> &'static str {
        match self {
            Outcome::Refused => "refused",
            Outcome::Anew => "begun anew",
            Outcome::Waited => "waited",
            Outcome::Jumped => "jumped",
        }
    }
}
