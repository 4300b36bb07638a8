use std::sync::{Condvar, Mutex};
use std::time::Instant;

use slog::{debug, error, info, warn};
use time::format_description::well_known::Rfc3339;

use super::*;

const ORIGIN: Origin<'static> = Origin { instance: "host-7", cluster: "east" };

fn settings(level: Level, format: LogFormat) -> settings::Log {
    settings::Log { level, format, slow: Duration::from_millis(50) }
}

/// Keeps what is written.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes nothing until it is opened.
#[derive(Clone, Default)]
struct Stuck(Arc<(Mutex<bool>, Condvar)>);

impl Stuck {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |open| !*open).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a logger wrote while `log` had it.
fn written(settings: &settings::Log, terminal: bool, log: impl FnOnce(&Logger, &LogGuard)) -> String {
    let sink = Sink::default();
    let (logger, guard) = build_to(sink.clone(), terminal, settings, ORIGIN, Counter::default());
    log(&logger, &guard);
    drop(guard);
    sink.text()
}

#[test]
fn a_json_line_has_time_level_message_origin_and_fields() {
    let before = OffsetDateTime::now_utc();
    let text = written(&settings(Level::Info, LogFormat::Json), true, |log, _| {
        error!(log.new(o!("sequence" => "tasks")), "grant refused"; "left_ids" => 5, "why" => "a \"quote\"\nand more");
    });
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], "grant refused");
    assert_eq!(line["instance"], "host-7");
    assert_eq!(line["cluster"], "east");
    assert_eq!(line["sequence"], "tasks");
    assert_eq!(line["left_ids"], 5);
    assert_eq!(line["why"], "a \"quote\"\nand more");
    let at = OffsetDateTime::parse(line["ts"].as_str().unwrap(), &Rfc3339).unwrap();
    assert!(
        at.offset().is_utc()
            && at - before < time::Duration::minutes(1)
            && before - at < time::Duration::SECOND
    );
    assert!(text.starts_with("{\"ts\":\""), "{text}");
}

#[test]
fn every_level_is_named_in_full_and_lower_case() {
    let text = written(&settings(Level::Trace, LogFormat::Json), false, |log, _| {
        slog::crit!(log, "m");
        error!(log, "m");
        warn!(log, "m");
        info!(log, "m");
        debug!(log, "m");
        slog::trace!(log, "m");
    });
    let levels: Vec<String> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["level"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(levels, ["critical", "error", "warning", "info", "debug", "trace"]);
}

#[test]
fn auto_is_for_people_on_a_terminal_and_json_elsewhere() {
    let auto = settings(Level::Info, LogFormat::Auto);
    let log = |log: &Logger, _: &LogGuard| info!(log, "ready"; "pods" => 3);
    let for_people = written(&auto, true, log);
    assert!(for_people.contains("info     ready, pods: 3"), "{for_people}");
    assert!(!for_people.contains('\u{1b}'), "no colours: {for_people}");
    assert!(written(&auto, false, log).starts_with('{'));
}

#[test]
fn what_is_below_the_level_is_neither_written_nor_counted() {
    let dropped = Counter::default();
    let sink = Sink::default();
    let (log, guard) =
        build_to(sink.clone(), false, &settings(Level::Warning, LogFormat::Json), ORIGIN, dropped.clone());
    for _ in 0..2 * CHANNEL {
        info!(log, "quiet");
    }
    assert!(!log.is_enabled(Level::Info) && log.is_enabled(Level::Warning));
    drop(guard);
    assert_eq!((sink.text().as_str(), dropped.get()), ("", 0));
}

#[test]
fn the_level_can_be_changed_while_the_process_runs() {
    let text = written(&settings(Level::Info, LogFormat::Json), false, |log, guard| {
        debug!(log, "before");
        guard.level().set(Level::Debug);
        debug!(log, "between");
        guard.level().set(Level::Error);
        warn!(log, "after");
    });
    assert!(text.contains("between") && !text.contains("before") && !text.contains("after"), "{text}");
}

#[test]
fn the_time_is_that_of_the_event_however_late_it_is_written() {
    let stuck = Stuck::default();
    let sink = Sink::default();
    let both = Both(stuck.clone(), sink.clone());
    let (log, guard) =
        build_to(both, false, &settings(Level::Info, LogFormat::Json), ORIGIN, Counter::default());
    info!(log, "early");
    info!(log, "early too");
    let logged = OffsetDateTime::now_utc();
    while OffsetDateTime::now_utc() <= logged {
        thread::yield_now();
    }
    stuck.open();
    drop(guard);
    for line in sink.text().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(OffsetDateTime::parse(line["ts"].as_str().unwrap(), &Rfc3339).unwrap() <= logged);
    }
    assert_eq!(sink.text().lines().count(), 2);
}

/// Writes to the second what the first lets through.
struct Both(Stuck, Sink);

impl Write for Both {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(bytes)?;
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn records_that_find_the_channel_full_are_counted_and_nobody_waits() {
    let stuck = Stuck::default();
    let dropped = Counter::default();
    let (log, guard) =
        build_to(stuck.clone(), false, &settings(Level::Info, LogFormat::Json), ORIGIN, dropped.clone());
    let too_many = 100;
    for _ in 0..CHANNEL + too_many {
        info!(log, "more");
    }
    // One may stand in the writer's hand.
    let lost = dropped.get();
    assert!((too_many as u64 - 1..=too_many as u64).contains(&lost), "{lost}");
    stuck.open();
    drop(guard);
}

#[test]
fn a_record_that_can_not_be_written_is_counted() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dropped = Counter::default();
    let (log, guard) =
        build_to(Broken, false, &settings(Level::Info, LogFormat::Json), ORIGIN, dropped.clone());
    info!(log, "into the void");
    drop(guard);
    assert_eq!(dropped.get(), 1);
}

#[test]
fn a_stuck_sink_holds_the_end_up_for_a_bounded_time() {
    let stuck = Stuck::default();
    let (log, guard) =
        build_to(stuck.clone(), false, &settings(Level::Info, LogFormat::Json), ORIGIN, Counter::default());
    info!(log, "never written");
    let started = Instant::now();
    drop(guard);
    assert!((FLUSH..FLUSH * 5).contains(&started.elapsed()));
    stuck.open();
}
