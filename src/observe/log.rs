//! Logging. Loggers are arguments; there is no global one.
//!
//! Records go through a channel to a thread that writes them, so that a stuck stderr never stops a
//! request. When the channel is full a record is lost, and counted. The level is checked before
//! the channel, and can be changed while the process runs.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use slog::{Drain, FnValue, Level, Logger, Never, OwnedKVList, PushFnValue, Record, RecordStatic, o};
use slog_async::{AsyncCore, AsyncGuard};
use slog_term::{Decorator, FullFormat, PlainDecorator, RecordDecorator, TermDecorator};
use time::OffsetDateTime;

use super::metrics::Counter;
use crate::config::settings::{self, LogFormat};

/// Records that wait to be written; more are lost.
const CHANNEL: usize = 4096;

/// How long the end of the process waits for records to be written.
const FLUSH: Duration = Duration::from_millis(500);

/// Who writes.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// `instance`
    pub instance: &'a str,
    /// `cluster`
    pub cluster: &'a str,
}

/// A logger that writes to stderr.
///
/// `colour` says whether a terminal may get colours (`--no-color` and `NO_COLOR` weren't given); `dropped` counts lost records
/// (see [`Metrics::log_records_dropped`](super::Metrics::log_records_dropped)).
pub fn build(
    settings: &settings::Log,
    origin: Origin<'_>,
    colour: bool,
    dropped: Counter,
) -> (Logger, LogGuard) {
    let terminal = io::stderr().is_terminal();
    if colour && terminal && !is_json(settings.format, terminal) {
        let coloured = for_people(TermDecorator::new().stderr().build());
        return start(coloured, settings.level, o!(), dropped);
    }
    build_to(io::stderr(), terminal, settings, origin, dropped)
}

/// The same, without colours, to another sink, which is or isn't a `terminal`.
pub fn build_to(
    sink: impl Write + Send + 'static,
    terminal: bool,
    settings: &settings::Log,
    origin: Origin<'_>,
    dropped: Counter,
) -> (Logger, LogGuard) {
    if is_json(settings.format, terminal) {
        let who = o!("instance" => origin.instance.to_owned(), "cluster" => origin.cluster.to_owned());
        start(for_programs(sink), settings.level, who, dropped)
    } else {
        start(for_people(PlainDecorator::new(BufWriter::new(sink))), settings.level, o!(), dropped)
    }
}

fn is_json(format: LogFormat, terminal: bool) -> bool {
    format == LogFormat::Json || format == LogFormat::Auto && !terminal
}

/// One object a line: `ts`, `level`, `msg`, then the fields. A line is one write, so that processes can share a stderr.
fn for_programs(sink: impl Write + Send + 'static) -> impl Drain<Ok = (), Err = io::Error> + Send {
    slog_json::Json::new(BufWriter::new(sink))
        .set_flush(true)
        // One by one: of those added together the last would stand first.
        .add_key_value(o!("ts" => FnValue(|record: &Record<'_>| record.tag().to_owned())))
        .add_key_value(o!("level" => FnValue(|record: &Record<'_>| level_name(record.level()))))
        .add_key_value(o!("msg" => PushFnValue(|record: &Record<'_>, value| value.emit(record.msg()))))
        .build()
}

fn for_people<D: Decorator + Send>(decorator: D) -> impl Drain<Ok = (), Err = io::Error> + Send {
    FullFormat::new(decorator)
        .use_original_order()
        .use_custom_header_print(|_, line: &mut dyn RecordDecorator, record, _| {
            line.start_timestamp()?;
            write!(line, "{}", record.tag())?;
            line.start_whitespace()?;
            write!(line, " ")?;
            line.start_level()?;
            write!(line, "{:8}", level_name(record.level()))?;
            line.start_whitespace()?;
            write!(line, " ")?;
            line.start_msg()?;
            write!(line, "{}", record.msg())?;
            Ok(true)
        })
        .build()
}

/// The level in full and lower case.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::Critical => "critical",
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn start<T: slog::SendSyncRefUnwindSafeKV + 'static>(
    writer: impl Drain<Ok = (), Err = io::Error> + Send + 'static,
    level: Level,
    who: slog::OwnedKV<T>,
    dropped: Counter,
) -> (Logger, LogGuard) {
    let level = LogLevel(Arc::new(AtomicUsize::new(level.as_usize())));
    let writer = Writer { writer, dropped: dropped.clone() };
    let (channel, flush) =
        AsyncCore::custom(writer).chan_size(CHANNEL).thread_name("log".to_owned()).build_with_guard();
    let door = Door { channel, level: level.clone(), dropped };
    (Logger::root(door, who), LogGuard { flush: Some(flush), level })
}

/// The caller's side of the channel.
struct Door {
    channel: AsyncCore,
    level: LogLevel,
    dropped: Counter,
}

impl Drain for Door {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if !self.is_enabled(record.level()) {
            return Ok(());
        }
        // The record's tag, otherwise unused, carries the time through the channel: the writer may come to it later.
        let now = rfc3339(OffsetDateTime::now_utc());
        let head = RecordStatic { location: record.location(), tag: &now, level: record.level() };
        if self.channel.log(&Record::new(&head, record.msg(), record.kv()), values).is_err() {
            self.dropped.inc();
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        level.as_usize() <= self.level.0.load(Ordering::Relaxed)
    }
}

/// The writing thread's side: goes on after a failed write, and counts it.
struct Writer<D> {
    writer: D,
    dropped: Counter,
}

impl<D: Drain<Ok = (), Err = io::Error>> Drain for Writer<D> {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if self.writer.log(record, values).is_err() {
            self.dropped.inc();
        }
        Ok(())
    }
}

/// The least level that is written. Cheap to clone; may be changed at any time.
#[derive(Debug, Clone)]
pub struct LogLevel(Arc<AtomicUsize>);

impl LogLevel {
    /// From now on.
    pub fn set(&self, level: Level) {
        self.0.store(level.as_usize(), Ordering::Relaxed);
    }
}

/// Keeps the log going. Dropping it writes what still waits, for at most half a second; later records are lost and counted.
pub struct LogGuard {
    flush: Option<AsyncGuard>,
    level: LogLevel,
}

impl LogGuard {
    /// The level, to change it.
    pub fn level(&self) -> LogLevel {
        self.level.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let (done, is_done) = mpsc::channel::<()>();
        let flush = self.flush.take();
        // Flushing has no deadline of its own, and stderr may be a pipe that nobody reads.
        let flusher = thread::Builder::new().name("log-flush".to_owned()).spawn(move || {
            drop(flush);
            drop(done);
        });
        if flusher.is_ok() {
            let _ = is_done.recv_timeout(FLUSH);
        }
    }
}

impl fmt::Debug for LogGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogGuard").field("level", &self.level).finish_non_exhaustive()
    }
}

/// RFC 3339 in UTC with microseconds, always of the same width.
pub fn rfc3339(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.microsecond()
    )
}

#[cfg(test)]
mod tests;
