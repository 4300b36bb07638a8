//! `chaos`: drills in processes that have the role.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::admin::{Admins, not_blockhouse};
use super::failure::{Exit, Failure, Outcome};
use super::format;
use super::global::{AdminArgs, Change, duration};
use super::http::{Answer, Endpoint};
use super::table::{Cell, Look, Table, pairs};
use super::ui::Ui;
use crate::block::chaos::Fault;
use crate::config::duration::show;
use crate::observe::status::{Chaos as Shown, Drill};

const EXAMPLES: &str = "\
Examples:
  blockhouse chaos list
  blockhouse chaos inject pods_gone --for 1m --yes     the cache-outage drill
  blockhouse chaos stop                                ends what runs, and keeps the process from more";

const LIST_EXAMPLES: &str = "\
Examples:
  blockhouse chaos list
  blockhouse chaos list --admin http://ids-1:7421 --json";

const INJECT_EXAMPLES: &str = "\
Examples:
  blockhouse chaos inject pod_gone --dry-run           what would be done, within the limits as they are now
  blockhouse chaos inject pod_slow --target pod-1:6379 --for 30s --yes
  blockhouse chaos inject actor_panic --target buffer --yes";

const STOP_EXAMPLES: &str = "\
Examples:
  blockhouse chaos stop
  blockhouse chaos stop --admin http://ids-1:7421 --admin http://ids-2:7421";

/// Break a process on purpose, within limits.
///
/// Only a process that was started with the role chaos and has chaos.enabled breaks anything, and only itself.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, arg_required_else_help = true)]
pub struct Chaos {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Inject(Inject),
    Stop(Stop),
}

/// Show faults, limits, what runs and what ran.
#[derive(Debug, Args)]
#[command(before_help = LIST_EXAMPLES)]
struct List {
    /// A list with one object a process, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Inject one fault.
///
/// Exit 1 where it can't be (not enabled, not allowed, too long), 75 where it may be later (another one runs, quiet hours, too
/// few healthy pods or processes).
#[derive(Debug, Args)]
#[command(before_help = INJECT_EXAMPLES)]
struct Inject {
    /// Which, as 'chaos list' names them.
    #[arg(value_name = "FAULT")]
    fault: Fault,
    /// Of which actor or pod; drawn where it isn't said.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// How long; chaos.duration where it isn't said.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    lasts: Option<Duration>,
    /// A list of the drills, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    change: Change,
}

/// End what runs, at once.
///
/// The process injects nothing any more until it is started again. Never asks before.
#[derive(Debug, Args)]
#[command(before_help = STOP_EXAMPLES)]
struct Stop {
    /// A list with one object a process, in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Chaos {
    /// Runs the one that was named.
    ///
    /// # Errors
    /// A process can't be reached, doesn't let us in, or refuses; and why.
    pub async fn run(&self, ui: &Ui) -> Outcome {
        match &self.command {
            Command::List(list) => list.run(ui).await,
            Command::Inject(inject) => inject.run(ui).await,
            Command::Stop(stop) => stop.run(ui).await,
        }
    }
}

impl List {
    async fn run(&self, ui: &Ui) -> Outcome {
        let admins = Admins::new(&self.admin)?;
        let mut all = Vec::new();
        for endpoint in admins.endpoints() {
            let answer = admins.ask(endpoint, Method::GET, "/api/v1/chaos").await?;
            let (value, shown) = read::<Shown>(endpoint, &answer)?;
            if self.json {
                all.push(json!({"admin": endpoint.to_string(), "chaos": value}));
            } else {
                ui.data(page(endpoint, &shown, ui.colour()))?;
            }
        }
        if self.json { ui.json(&all) } else { Ok(()) }
    }
}

impl Inject {
    async fn run(&self, ui: &Ui) -> Outcome {
        let admins = Admins::new(&self.admin)?;
        let names: Vec<_> = admins.endpoints().iter().map(ToString::to_string).collect();
        let what = format!("inject {} into {}", self.fault, names.join(", "));
        // The process itself says what a dry run would do.
        if !self.change.dry_run && !ui.may_change(&self.change, &what)? {
            return Ok(());
        }
        let body = json!({
            "fault": self.fault.name(),
            "target": self.target,
            "for": self.lasts.map(show),
            "dry_run": self.change.dry_run,
        });
        let mut all = Vec::new();
        for endpoint in admins.endpoints() {
            let body = Bytes::from(body.to_string());
            let answer = admins.send(endpoint, Method::POST, "/api/v1/chaos/inject", body).await?;
            let (value, drill) = read::<Drill>(endpoint, &answer)?;
            if self.json {
                all.push(value);
            } else {
                ui.data(format!("{endpoint}: {}\n", sentence(&drill)))?;
            }
        }
        if self.json { ui.json(&all) } else { Ok(()) }
    }
}

impl Stop {
    /// Stops every process, also after one that can't be.
    async fn run(&self, ui: &Ui) -> Outcome {
        let admins = Admins::new(&self.admin)?;
        let (mut all, mut failed) = (Vec::new(), Ok(()));
        for endpoint in admins.endpoints() {
            let answer = admins.ask(endpoint, Method::POST, "/api/v1/chaos/stop").await;
            match answer.and_then(|answer| read::<Shown>(endpoint, &answer)) {
                Ok((value, _)) if self.json => {
                    all.push(json!({"admin": endpoint.to_string(), "chaos": value}));
                }
                Ok(_) => ui.data(format!("{endpoint} injects nothing until it is started again\n"))?,
                Err(failure) if failed.is_ok() => failed = Err(failure),
                Err(failure) => ui.warn(failure),
            }
        }
        if self.json {
            ui.json(&all)?;
        }
        failed
    }
}

/// What a process answered, or why it refuses.
fn read<T: DeserializeOwned>(endpoint: &Endpoint, answer: &Answer) -> Outcome<(Value, T)> {
    let value: Option<Value> = serde_json::from_slice(&answer.body).ok();
    if answer.status == StatusCode::OK
        && let Some(value) = value
        && let Ok(read) = serde_json::from_value(value.clone())
    {
        return Ok((value, read));
    }
    let value: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let error = value.as_ref().and_then(|value| value.get("error"));
    let Some(why) = error.and_then(|error| error.get("message")).and_then(Value::as_str) else {
        return Err(not_blockhouse(endpoint, answer.status));
    };
    let retry = error.and_then(|error| error.get("retry")).and_then(Value::as_bool).unwrap_or(false);
    let exit = if retry { Exit::Refused } else { Exit::Failed };
    Err(Failure::new(exit, format!("{endpoint} refuses: {why}")))
}

fn sentence(drill: &Drill) -> String {
    let target = drill.target.as_deref().map_or_else(String::new, |target| format!(" ({target})"));
    let lasts = Duration::try_from_secs_f64(drill.seconds).unwrap_or_default();
    let lasts = if lasts.is_zero() { String::new() } else { format!(" for {}", format::duration(lasts)) };
    let how = if drill.dry_run { "would be injected (dry run): " } else { "" };
    format!("{how}{}{target}{lasts}", drill.fault)
}

fn page(endpoint: &Endpoint, shown: &Shown, colour: bool) -> String {
    let state = match (&shown.stopped, &shown.running) {
        (Some(why), _) => format!("stopped: {why}"),
        _ if !shown.enabled => "not enabled (chaos.enabled)".to_owned(),
        (_, Some(drill)) => format!("{} runs since {}", sentence(drill), drill.began),
        _ if shown.dry_run => "dry run (chaos.dry_run)".to_owned(),
        _ => "nothing runs".to_owned(),
    };
    let mut facts = vec![("process", endpoint.to_string()), ("state", state)];
    facts.extend(shown.limits.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let mut faults = Table::new(["FAULT", "ALLOWED", "WHAT", "TARGETS"]);
    for fault in &shown.faults {
        let allowed = match fault.allowed {
            true => Cell::look("yes", Look::Good),
            false => Cell::look("no", Look::Plain),
        };
        faults.row([
            fault.name.as_str().into(),
            allowed,
            fault.meaning.as_str().into(),
            fault.targets.join(" ").into(),
        ]);
    }
    let mut history = Table::new([">NO", "BEGAN", "FAULT", "TARGET", "BY", "OUTCOME"]);
    for drill in &shown.history {
        history.row([
            drill.number.to_string().into(),
            drill.began.as_str().into(),
            drill.fault.as_str().into(),
            drill.target.as_deref().unwrap_or_default().into(),
            drill.by.as_str().into(),
            outcome(drill),
        ]);
    }
    let mut text = pairs(facts);
    text += "\n";
    text += &faults.render(colour);
    if !history.is_empty() {
        text += "\n";
        text += &history.render(colour);
    }
    text
}

fn outcome(drill: &Drill) -> Cell {
    match (drill.outcome.as_deref(), &drill.why) {
        (None, _) => Cell::look("runs", Look::Bad),
        (Some("ended"), Some(why)) => Cell::look(format!("ended: {why}"), Look::Poor),
        (Some(outcome), _) => Cell::from(outcome),
    }
}
