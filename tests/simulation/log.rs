//! The processes' own logs, as lines of the run's.

use std::fmt::Arguments;

use slog::{Drain, KV, Logger, Never, OwnedKVList, Record, Serializer};

use crate::journal::Journal;

struct Lines {
    journal: Journal,
    process: u32,
}

/// What process number `process` logs goes to the journal.
pub fn to(journal: &Journal, process: u32) -> Logger {
    Logger::root(Lines { journal: journal.clone(), process }, slog::o!())
}

impl Drain for Lines {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        let mut pairs = Pairs(String::new());
        let _ = record.kv().serialize(record, &mut pairs);
        let (level, text) = (record.level().as_short_str(), record.msg());
        self.journal.note(format_args!("#{} {level} {text}{}", self.process, pairs.0));
        Ok(())
    }
}

struct Pairs(String);

impl Serializer for Pairs {
    fn emit_arguments(&mut self, key: slog::Key, value: &Arguments<'_>) -> slog::Result {
        self.0.push_str(&format!(" {key}={value}"));
        Ok(())
    }
}
