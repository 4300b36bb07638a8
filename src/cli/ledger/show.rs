//! `ledger show`

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::failure::Outcome;
use crate::cli::format::{moment, plural};
use crate::cli::global::{ConfigArgs, Global};
use crate::cli::opened::Opened;
use crate::cli::table::{Table, pairs};
use crate::cli::ui::Ui;
use crate::ledger::{History, State};

const EXAMPLES: &str = "\
Examples:
  blockhouse ledger show
  blockhouse ledger show --json | jq .lives";

/// Show the ledger's identity, state, lives and leases.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub struct Show {
    /// In JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Show {
    /// Prints it.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let opened = Opened::new(&self.config, global, ui).await?;
        let history = opened.read(opened.ledger.history()).await?;
        if self.json { ui.json(&listed(&history)) } else { ui.data(page(&history, ui.colour())) }
    }
}

fn page(history: &History, colour: bool) -> String {
    let identity = &history.identity;
    let state = match &history.state {
        State::Open => "open".to_owned(),
        State::Closed(why) => format!("closed: {why}"),
    };
    let (schema, readable_from) = history.schema;
    let ours = [
        ("id", identity.ledger.to_string()),
        ("environment", identity.environment.clone()),
        ("state", state),
        ("epoch", identity.life.epoch.to_string()),
        ("on failover", history.on_failover.name().to_owned()),
        ("schema", format!("{schema} (readable from {readable_from})")),
        ("sequences", history.sequences.len().to_string()),
    ];
    let engine = history.engine.iter().map(|(name, value)| (name.as_str(), value.clone()));
    let mut out = pairs(ours.into_iter().chain(engine));
    let mut lives = Table::new([">EPOCH", "TOKEN", "SINCE", "REASON"]);
    for life in &history.lives {
        lives.row([
            life.life.epoch.to_string().into(),
            life.life.token.to_string().into(),
            moment(life.at_us).into(),
            (&life.reason).into(),
        ]);
    }
    out += &format!("\n{}", lives.render(colour));
    if !history.leases.is_empty() {
        let mut leases = Table::new(["CLUSTER", "LEADER", "LEASE"]);
        for lease in &history.leases {
            leases.row([(&lease.cluster).into(), (&lease.leader).into(), left(lease.seconds_left).into()]);
        }
        out += &format!("\n{}", leases.render(colour));
    }
    if !history.reports.is_empty() {
        let mut reports = Table::new(["CLUSTER", "REPORTED BY", ">FOLLOWS LIFE", "READ"]);
        for report in &history.reports {
            let (reporter, none) = (report.reporter.as_deref(), || "-".to_owned());
            reports.row([
                (&report.cluster).into(),
                reporter.unwrap_or("nobody yet").into(),
                report.follows.map_or_else(none, |epoch| epoch.to_string()).into(),
                report.read_at_us.map_or_else(none, moment).into(),
            ]);
        }
        out += &format!("\n{}", reports.render(colour));
    }
    out
}

/// How long a lease still holds, or since when it doesn't.
fn left(seconds: i64) -> String {
    let count = usize::try_from(seconds.unsigned_abs()).unwrap_or(usize::MAX);
    let seconds_shown = plural(count, "second", "seconds");
    if seconds > 0 { format!("{seconds_shown} left") } else { format!("ended {seconds_shown} ago") }
}

fn listed(history: &History) -> Value {
    let identity = &history.identity;
    let (state, reason) = match &history.state {
        State::Open => ("open", None),
        State::Closed(why) => ("closed", Some(why)),
    };
    let lives = history.lives.iter().map(|life| {
        json!({
            "epoch": life.life.epoch, "token": life.life.token, "reason": life.reason, "since": moment(life.at_us),
        })
    });
    let leases = history.leases.iter().map(|lease| {
        json!({ "cluster": lease.cluster, "leader": lease.leader, "seconds_left": lease.seconds_left })
    });
    let reports = history.reports.iter().map(|report| {
        json!({
            "cluster": report.cluster, "reporter": report.reporter, "follows": report.follows,
            "read": report.read_at_us.map(moment),
        })
    });
    let engine = history.engine.iter().map(|(name, value)| (name.clone(), json!(value)));
    json!({
        "id": identity.ledger,
        "environment": identity.environment,
        "state": state,
        "closed_because": reason,
        "epoch": identity.life.epoch,
        "on_failover": history.on_failover,
        "schema": history.schema.0,
        "readable_from": history.schema.1,
        "sequences": history.sequences.len(),
        "engine": engine.collect::<Map<_, _>>(),
        "lives": lives.collect::<Vec<_>>(),
        "leases": leases.collect::<Vec<_>>(),
        "reports": reports.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::block::{Identity, Life, OnFailover};
    use crate::ledger::{LeaseRecord, LifeRecord, ReportRecord};

    fn history() -> History {
        let life = Life { epoch: 3, token: Uuid::nil() };
        History {
            identity: Identity { ledger: Uuid::nil(), environment: "beta".into(), life },
            state: State::Closed("the timeline changed".into()),
            schema: (1, 1),
            engine: vec![("timeline".into(), "2".into())],
            on_failover: OnFailover::Wait,
            lives: vec![LifeRecord { life, reason: "migrate".into(), at_us: 0 }],
            leases: vec![LeaseRecord { cluster: "east".into(), leader: "a".into(), seconds_left: -7 }],
            reports: vec![ReportRecord {
                cluster: "east".into(),
                reporter: None,
                follows: None,
                read_at_us: None,
            }],
            sequences: Vec::new(),
        }
    }

    #[test]
    fn a_closed_ledger_says_why() {
        let page = page(&history(), false);
        assert!(page.contains("state        closed: the timeline changed\n"), "{page}");
        assert!(page.contains("east     a       ended 7 seconds ago\n"), "{page}");
        assert!(page.contains("1970-01-01T00:00:00Z  migrate\n"), "{page}");
    }

    #[test]
    fn lists_are_arrays_and_never_null_in_json() {
        let mut history = history();
        history.leases.clear();
        let json = listed(&history);
        assert_eq!(json["leases"], json!([]));
        assert_eq!(json["lives"][0]["epoch"], json!(3));
    }
}
