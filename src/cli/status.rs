//! `status`: one row a process, worst first.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::admin::{Admins, not_blockhouse};
use super::failure::{Exit, Failure, Outcome};
use super::format::{duration, one_line, plural};
use super::global::AdminArgs;
use super::http::Endpoint;
use super::table::{Cell, Look, Table};
use super::ui::Ui;
use crate::observe::Status as Process;

const EXAMPLES: &str = "\
Examples:
  blockhouse status                                              the local process
  blockhouse status --watch                                      redrawn every second
  blockhouse status --admin http://ids-1:7421 --admin http://ids-2:7421
  blockhouse status --json | jq '.[].problems'";

/// Show how processes are doing.
///
/// One row a process, worst first, and below what a person should look at. Exit 0 where all is well, 1 with problems, 69
/// where no process can be reached.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Status {
    /// Again every second, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    /// A list of what the processes say of themselves, in JSON (with --watch one line each time).
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// One process that was asked.
struct Asked {
    endpoint: String,
    /// As it was sent, with fields that this binary doesn't know.
    answer: Outcome<(Process, Value)>,
}

impl Status {
    /// Asks all processes at once, and prints.
    ///
    /// # Errors
    /// Problems, or no process could be reached.
    pub async fn run(&self, ui: &Ui) -> Outcome {
        let admins = Admins::new(&self.admin)?;
        if self.watch {
            return self.watch(&admins, ui).await;
        }
        let asked = ask_all(&admins).await;
        if self.json {
            ui.json(&listed(&asked))?;
        } else {
            ui.data(page(&asked, ui.colour()))?;
        }
        verdict(&asked)
    }

    /// Until Ctrl-C, which is the way to end it and no failure.
    async fn watch(&self, admins: &Admins<'_>, ui: &Ui) -> Outcome {
        let ended = async { drop(tokio::signal::ctrl_c().await) };
        tokio::select! {
            biased;
            () = ended => Ok(()),
            failed = self.redraw(admins, ui) => failed,
        }
    }

    async fn redraw(&self, admins: &Admins<'_>, ui: &Ui) -> Outcome {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // An empty screen first; then home, each line to its end, and what is below: nothing flickers.
        let mut home = "\x1b[2J\x1b[H";
        loop {
            second.tick().await;
            let asked = ask_all(admins).await;
            if self.json {
                ui.lines([Value::Array(listed(&asked))])?;
            } else if ui.terminal() {
                let page = page(&asked, ui.colour()).replace('\n', "\x1b[K\n");
                ui.data(format!("{home}{page}\x1b[J"))?;
                home = "\x1b[H";
            } else {
                ui.data(page(&asked, false) + "\n")?;
            }
        }
    }
}

async fn ask_all(admins: &Admins<'_>) -> Vec<Asked> {
    let asking = admins.endpoints().iter().map(|endpoint| async move {
        Asked { endpoint: endpoint.to_string(), answer: ask(admins, endpoint).await }
    });
    let mut asked = join_all(asking).await;
    asked.sort_by_key(|asked| std::cmp::Reverse(badness(asked)));
    asked
}

/// What one process says of itself.
///
/// # Errors
/// It can't be reached, doesn't let us in, or isn't one.
pub async fn ask(admins: &Admins<'_>, endpoint: &Endpoint) -> Outcome<(Process, Value)> {
    let answer = admins.ask(endpoint, Method::GET, "/api/v1/status").await?;
    let value: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let process = value.as_ref().and_then(|value| serde_json::from_value::<Process>(value.clone()).ok());
    match (answer.status, process, value) {
        (StatusCode::OK, Some(process), Some(value)) => Ok((process, value)),
        (status, ..) => Err(not_blockhouse(endpoint, status)),
    }
}

/// Greater is worse: unreachable, then the number of problems, then not serving.
fn badness(asked: &Asked) -> (bool, usize, bool) {
    match &asked.answer {
        Err(_) => (true, 0, true),
        Ok((process, _)) => (false, process.problems.len(), process.state != "serving"),
    }
}

/// The exit code, and the last line where something is wrong.
fn verdict(asked: &[Asked]) -> Outcome {
    let failed: Vec<&Failure> = asked.iter().filter_map(|asked| asked.answer.as_ref().err()).collect();
    if let Some(first) = failed.first()
        && failed.len() == asked.len()
    {
        let many =
            || Failure::new(first.exit, format!("none of {} processes can be asked: see above", asked.len()));
        return Err(if asked.len() == 1 { (*first).clone() } else { many() });
    }
    let problems: usize = asked
        .iter()
        .filter_map(|asked| asked.answer.as_ref().ok())
        .map(|(process, _)| process.problems.len())
        .sum();
    if problems == 0 && failed.is_empty() {
        return Ok(());
    }
    let mut said = Vec::new();
    if problems > 0 {
        said.push(plural(problems, "problem", "problems"));
    }
    if !failed.is_empty() {
        said.push(format!(
            "{} of {} can't be asked",
            failed.len(),
            plural(asked.len(), "process", "processes")
        ));
    }
    Err(Failure::new(Exit::Failed, said.join(", ")))
}

/// What every process sent, with where it was asked.
fn listed(asked: &[Asked]) -> Vec<Value> {
    let one = |asked: &Asked| match &asked.answer {
        Ok((_, sent)) => {
            let mut sent = sent.clone();
            sent["admin"] = json!(asked.endpoint);
            sent
        }
        Err(failure) => json!({ "admin": asked.endpoint, "state": "unreachable", "error": failure.line }),
    };
    asked.iter().map(one).collect()
}

/// The table, the sequences of each process that could be asked, and the problems.
fn page(asked: &[Asked], colour: bool) -> String {
    let mut out = processes(asked).render(colour);
    let sequences = sequences(asked);
    if !sequences.is_empty() {
        let _ = write!(out, "\n{}", sequences.render(colour));
    }
    let problems = problems(asked, colour);
    if !problems.is_empty() {
        let _ = write!(out, "\n{problems}");
    }
    out
}

fn processes(asked: &[Asked]) -> Table<9> {
    let mut table = Table::new([
        "INSTANCE", "CLUSTER", "ROLES", "STATE", "LEDGER", "PODS", ">IDS/S", ">UPTIME", "VERSION",
    ]);
    for asked in asked {
        table.row(match &asked.answer {
            Ok((process, _)) => process_row(process),
            Err(_) => {
                let dash = || Cell::from("-");
                let state = Cell::look("unreachable", Look::Bad);
                [(&asked.endpoint).into(), dash(), dash(), state, dash(), dash(), dash(), dash(), dash()]
            }
        });
    }
    table
}

fn process_row(process: &Process) -> [Cell; 9] {
    let up = process.pods.iter().filter(|pod| pod.state == "up").count();
    let pods_look = match up {
        _ if up == process.pods.len() => Look::Good,
        0 => Look::Bad,
        _ => Look::Poor,
    };
    let rate: f64 = process.sequences.iter().map(|sequence| sequence.ids_per_second).sum();
    let state_look = if process.state == "serving" { Look::Good } else { Look::Poor };
    let ledger_look = if process.ledger.state == "up" { Look::Good } else { Look::Bad };
    [
        (&process.instance).into(),
        (&process.cluster).into(),
        process.roles.join(",").into(),
        Cell::look(&process.state, state_look),
        Cell::look(&process.ledger.state, ledger_look),
        Cell::look(format!("{up}/{}", process.pods.len()), pods_look),
        format!("{rate:.1}").into(),
        duration(Duration::from_secs(process.uptime_seconds)).into(),
        (&process.version).into(),
    ]
}

/// One row a sequence: counters are the ledger's, rates add up, supplies are the greatest that a process knows.
fn sequences(asked: &[Asked]) -> Table<6> {
    let mut rows = std::collections::BTreeMap::<&str, Sequence<'_>>::new();
    for (process, _) in asked.iter().filter_map(|asked| asked.answer.as_ref().ok()) {
        for said in &process.sequences {
            rows.entry(&said.name).or_default().hear(said);
        }
    }
    let mut table = Table::new(["SEQUENCE", "STATE", ">GRANTED", ">MAX", ">IDS/S", ">SUPPLY"]);
    for (name, row) in rows {
        let look = if row.state == "active" { Look::Good } else { Look::Poor };
        let supply = row.supply_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        table.row([
            name.into(),
            Cell::look(row.state, look),
            row.granted.into(),
            row.last.into(),
            format!("{:.1}", row.ids_per_second).into(),
            supply.map_or_else(|| "-".to_owned(), duration).into(),
        ]);
    }
    table
}

/// What all processes together say of one sequence.
#[derive(Default)]
struct Sequence<'a> {
    state: &'a str,
    granted: &'a str,
    last: &'a str,
    ids_per_second: f64,
    supply_seconds: Option<f64>,
}

impl<'a> Sequence<'a> {
    fn hear(&mut self, said: &'a crate::observe::status::Sequence) {
        // The furthest counter is the newest; a state that isn't active is news.
        if number(&said.granted) >= number(self.granted) {
            (self.granted, self.last) = (&said.granted, &said.last);
        }
        if self.state.is_empty() || said.state != "active" {
            self.state = &said.state;
        }
        self.ids_per_second += said.ids_per_second;
        self.supply_seconds = match (self.supply_seconds, said.supply_seconds) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }
}

/// A decimal ID, for comparison.
fn number(decimal: &str) -> i64 {
    decimal.parse().unwrap_or(0)
}

fn problems(asked: &[Asked], colour: bool) -> String {
    let mut out = String::new();
    let one = asked.len() == 1;
    for asked in asked {
        match &asked.answer {
            // The last line says it.
            Err(_) if one => {}
            Err(failure) => {
                let _ = writeln!(out, "{}", Look::Bad.paint(&one_line(&failure.line), colour));
            }
            Ok((process, _)) => {
                for problem in &process.problems {
                    let what = one_line(&format!("{}: {}", process.instance, problem.what));
                    let _ = writeln!(
                        out,
                        "{} (since {})\n  {}",
                        Look::Bad.paint(&what, colour),
                        one_line(&problem.since),
                        one_line(&problem.remedy)
                    );
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::status::{Pod, Problem, Sequence};

    fn process(name: &str, problems: usize) -> Asked {
        let problem = Problem {
            what: "pod a:1 is down".into(),
            since: "2026-11-24T20:00:00Z".into(),
            remedy: "start it".into(),
        };
        let pod = |state: &str| Pod { state: state.into(), ..Pod::default() };
        let process = Process {
            instance: name.into(),
            state: "serving".into(),
            ledger: crate::observe::status::Ledger { state: "up".into(), ..Default::default() },
            pods: vec![pod("up"), pod("down")],
            sequences: vec![Sequence {
                name: "tasks".into(),
                granted: "900".into(),
                last: "9007199254740991".into(),
                ids_per_second: 1.25,
                state: "active".into(),
                ..Sequence::default()
            }],
            problems: vec![problem; problems],
            uptime_seconds: 90,
            version: "0.1.0".into(),
            ..Process::default()
        };
        let sent = serde_json::to_value(&process).unwrap();
        Asked { endpoint: format!("{name}:7421"), answer: Ok((process, sent)) }
    }

    fn unreachable(name: &str) -> Asked {
        let failure = Failure::new(Exit::Unreachable, format!("can't reach {name}"));
        Asked { endpoint: format!("{name}:7421"), answer: Err(failure) }
    }

    #[test]
    fn the_worst_process_comes_first() {
        let mut asked = [process("well", 0), process("ill", 2), unreachable("gone")];
        asked.sort_by_key(|asked| std::cmp::Reverse(badness(asked)));
        let page = page(&asked, false);
        let at = |name: &str| page.find(name).unwrap();
        assert!(at("gone") < at("ill") && at("ill") < at("well"), "{page}");
    }

    #[test]
    fn problems_stand_below_the_tables_with_what_to_do() {
        let page = page(&[process("ill", 1)], false);
        assert!(page.ends_with("ill: pod a:1 is down (since 2026-11-24T20:00:00Z)\n  start it\n"), "{page}");
        assert!(page.contains("1/2"), "{page}");
    }

    #[test]
    fn rates_of_one_sequence_add_up_over_processes() {
        let page = page(&[process("a", 0), process("b", 0)], false);
        assert!(page.contains("tasks     active      900  9007199254740991    2.5       -\n"), "{page}");
    }

    #[test]
    fn the_exit_code_tells_problems_from_silence() {
        assert_eq!(verdict(&[process("a", 0)]), Ok(()));
        assert_eq!(verdict(&[process("a", 1)]).unwrap_err().line, "1 problem");
        let some = verdict(&[process("a", 0), unreachable("b")]).unwrap_err();
        assert_eq!((some.exit, some.line.as_str()), (Exit::Failed, "1 of 2 processes can't be asked"));
        assert_eq!(verdict(&[unreachable("b")]).unwrap_err().exit, Exit::Unreachable);
        let none = verdict(&[unreachable("a"), unreachable("b")]).unwrap_err();
        assert_eq!(
            (none.exit, &*none.line),
            (Exit::Unreachable, "none of 2 processes can be asked: see above")
        );
    }

    #[test]
    fn json_keeps_fields_that_this_binary_does_not_know() {
        let mut asked = process("a", 0);
        if let Ok((_, sent)) = &mut asked.answer {
            sent["new"] = json!(7);
        }
        let listed = listed(&[asked, unreachable("b")]);
        assert_eq!((&listed[0]["new"], &listed[0]["admin"]), (&json!(7), &json!("a:7421")));
        assert_eq!(listed[1]["state"], json!("unreachable"));
    }
}
