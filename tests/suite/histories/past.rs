//! How a ledger comes back as it was.

use tempfile::NamedTempFile;

use super::until;
use crate::support::Cluster;
use crate::support::postgres::Postgres;

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A dump is restored over the ledger of the server that goes on.
    DumpRestored,
    /// The data folder is put back from an older copy: the same line of history, as after a restart.
    OlderFiles,
    /// A standby that lags behind takes over without having been promoted: the same again.
    LaggingStandby,
    /// A backup and the archived write-ahead log are recovered, but for the end of it: a new timeline.
    PointInTime,
}

/// What it goes back to.
pub enum Past {
    Dump(NamedTempFile),
    Files,
    Standby(Postgres),
    Moment(String),
}

impl Event {
    /// Whether nothing but the server's start time tells it from a restart.
    pub fn looks_like_a_restart(self) -> bool {
        matches!(self, Event::OlderFiles | Event::LaggingStandby)
    }

    /// Makes ready what it takes.
    pub async fn prepare(self, mut cluster: Cluster) -> Cluster {
        if self == Event::PointInTime {
            let server = cluster.postgres.as_mut().expect("the plan has a ledger");
            server.archive();
            server.restart();
            let open = "SELECT state = 'open' AND epoch = 2 FROM blockhouse.ledger";
            until(&cluster, "it is open after the restart", open).await;
        }
        cluster
    }

    /// Keeps the present, to go back to.
    pub fn keep(self, ledger: &Postgres) -> Past {
        match self {
            Event::DumpRestored => Past::Dump(ledger.dump()),
            Event::OlderFiles => {
                ledger.back_up();
                Past::Files
            }
            Event::LaggingStandby => {
                let standby = ledger.standby();
                standby.fall_behind();
                Past::Standby(standby)
            }
            Event::PointInTime => {
                ledger.back_up();
                Past::Moment(ledger.moment())
            }
        }
    }
}

impl Past {
    /// The ledger goes back to it, at the same address.
    pub fn returns(self, cluster: &mut Cluster) {
        let mut server = cluster.postgres.take().expect("the plan has a ledger");
        match self {
            Past::Dump(dump) => server.restore(&dump),
            Past::Files => {
                server.crash();
                server.put_files_back();
                server.launch();
            }
            Past::Moment(moment) => server.recover_to(&moment),
            Past::Standby(mut standby) => {
                server.crash();
                standby.stop();
                standby.forget_primary();
                standby.replace(&mut server);
                server = standby;
            }
        }
        cluster.postgres = Some(server);
    }
}
