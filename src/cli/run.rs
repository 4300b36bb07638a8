//! Runs a process to its end: what `serve` and `dev` have in common.

use std::sync::Arc;

use slog::{Logger, error};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::configured::{load, wrong};
use super::failure::{Exit, Failure, Outcome};
use super::reload::Reloads;
use super::ui::Ui;
use crate::actor::process::{Fatal, Process};
use crate::app::{self, App, Plan, Running, StartError};
use crate::config::{Errors, Settings, Sources};
use crate::ledger::Admin;
use crate::observe::log::{self, LogLevel, Origin};
use crate::observe::metrics::{About, Metrics};
use crate::role::Roles;

/// What a command adds to a process's life.
pub trait Command {
    /// What its configuration must have beyond being valid; asked at the start and at every reload.
    ///
    /// # Errors
    /// Everything that is missing.
    fn check(&self, _settings: &Settings) -> Result<(), Errors> {
        Ok(())
    }

    /// Whether the role chaos runs beside the others.
    fn chaos(&self) -> bool {
        false
    }

    /// Before anything listens: `dev` makes its ledger ready.
    ///
    /// # Errors
    /// It can't.
    async fn prepare(&self, ledger: &dyn Admin) -> Outcome;

    /// Once it serves.
    ///
    /// # Errors
    /// Nobody reads what is printed.
    fn greet(&self, running: &Running, ui: &Ui) -> Outcome;

    /// After it drained.
    ///
    /// # Errors
    /// Nobody reads what is printed.
    fn part(&self, process: &Process, ui: &Ui) -> Outcome;
}

/// Runs until a signal, a drain by the admin API, or the end of its strength.
///
/// # Errors
/// It can't start or can't go on, or was cut short by a second signal.
pub fn run(sources: Sources, roles: Roles, ui: &Ui, command: &impl Command) -> Outcome {
    let loaded = load(sources.clone(), ui)?;
    command.check(&loaded.settings).map_err(|errors| wrong(&errors))?;
    let settings = Arc::new(loaded.settings);
    let about = About {
        environment: Arc::clone(&settings.environment),
        stage: Arc::clone(&settings.stage),
        cluster: Arc::clone(&settings.cluster),
    };
    let workers = app::worker_count(&settings);
    let metrics = Metrics::new(&about, workers);
    metrics.set_unknown_keys(loaded.unknown_keys);
    let origin = Origin { instance: &settings.instance, cluster: &settings.cluster };
    let (log, flushed) = log::build(&settings.log, origin, ui.log_colour(), metrics.log_records_dropped());
    log_panics(log.clone());
    let plan = Plan { settings, roles, metrics, log, seed: fastrand::u64(..) };
    app::block_on(live(plan, flushed.level(), sources, ui, command))
}

async fn live(plan: Plan, level: LogLevel, sources: Sources, ui: &Ui, command: &impl Command) -> Outcome {
    let mut signals = Signals::new()?;
    let hang_up = open(SignalKind::hangup())?;
    let metrics = plan.metrics.clone();
    let log = plan.log.clone();
    let app = App::build(plan).map_err(cannot_start)?;
    let app = if command.chaos() { app.with_chaos() } else { app };
    command.prepare(&*app.ledger).await?;
    let running = app.bind().map_err(cannot_start)?.start();
    let reloader = running.reloader(level);
    let reloads = Reloads { hang_up, sources, command, reloader, metrics, log: log.clone() };
    tokio::select! {
        biased;
        outcome = until_end(running, &mut signals, &log, ui, command) => outcome,
        never = reloads.run() => match never {},
    }
}

/// Serves until it is asked to end, and ends.
async fn until_end(
    running: Running,
    signals: &mut Signals,
    log: &Logger,
    ui: &Ui,
    command: &impl Command,
) -> Outcome {
    let process = Arc::clone(&running.process);
    let fatal = tokio::select! {
        biased;
        _ = signals.next() => None,
        fatal = async {
            if let Err(fatal) = running.ready().await {
                return Some(fatal);
            }
            tell_service_manager(log, sd_notify::NotifyState::Ready);
            if let Err(failure) = command.greet(&running, ui) {
                ui.warn(failure);
            }
            running.until_end().await
        } => fatal,
    };
    if let Some(fatal) = fatal {
        return Err(cannot_go_on(fatal));
    }
    tell_service_manager(log, sd_notify::NotifyState::Stopping);
    tokio::select! {
        biased;
        exit = signals.next() => return Err(Failure::new(exit, "ended at once by a second signal")),
        // Cut short or not, it ends as it was asked to; the log says which.
        _ = running.drain() => {}
    }
    command.part(&process, ui)
}

fn cannot_start(error: StartError) -> Failure {
    Failure::new(Exit::Config, error.to_string())
}

fn cannot_go_on(fatal: Fatal) -> Failure {
    match fatal {
        Fatal::Misplaced(why) => Failure::new(Exit::Config, why),
        Fatal::Broken(why) => Failure::new(Exit::Internal, format!("{why}; please report it")),
    }
}

fn tell_service_manager(log: &Logger, state: sd_notify::NotifyState<'_>) {
    // Without NOTIFY_SOCKET nobody wants to know.
    if let Err(error) = sd_notify::notify(&[state]) {
        error!(log, "the service manager could not be told"; "error" => %error);
    }
}

/// A panic is a line of the log, like everything else that a process says.
fn log_panics(log: Logger) {
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        error!(log, "panic"; "what" => panic.payload_as_str().unwrap_or("no message"), "where" => place);
    }));
}

/// The signals that end a process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Outcome<Signals> {
        Ok(Signals { terminate: open(SignalKind::terminate())?, interrupt: open(SignalKind::interrupt())? })
    }

    /// The next SIGTERM or SIGINT; gives the exit code that it would cause as the second one. Cancel safe.
    async fn next(&mut self) -> Exit {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Exit::Terminated,
            _ = self.interrupt.recv() => Exit::Interrupted,
        }
    }
}

fn open(kind: SignalKind) -> Outcome<Signal> {
    signal(kind).map_err(|error| Failure::new(Exit::Internal, format!("can't wait for signals: {error}")))
}
