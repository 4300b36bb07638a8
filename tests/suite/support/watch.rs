//! Who is connected to the ledger and who is at work there, looked at all the time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use super::postgres::Postgres;

/// Looks at the ledger's sessions until it is stopped.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The most that any single look found.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How often it looked.
    pub looks: u64,
    /// Of all processes together.
    pub together: Most,
    /// Of each process, by the name that it gives the ledger.
    pub processes: BTreeMap<String, Most>,
}

/// The most at one time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Most {
    pub sessions: i64,
    /// Sessions that aren't idle.
    pub requests: i64,
}

impl Most {
    fn see(&mut self, sessions: i64, requests: i64) {
        self.sessions = self.sessions.max(sessions);
        self.requests = self.requests.max(requests);
    }
}

/// By name, so that neither psql nor this watch is counted.
const SESSIONS: &str = "SELECT application_name, count(*), count(*) FILTER (WHERE state <> 'idle') \
    FROM pg_stat_activity WHERE application_name LIKE 'blockhouse/%' GROUP BY 1";

impl Watch {
    /// Begins to look, with a pause between two looks.
    pub async fn over(ledger: &Postgres, pause: Duration) -> Watch {
        let (client, connection) = tokio_postgres::connect(&ledger.url(), NoTls).await.expect("a session");
        tokio::spawn(connection);
        let (stop, stopped) = watch::channel(false);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(look(client, pause, Arc::clone(&seen), stopped));
        Watch { seen, stop, task }
    }

    /// What it has seen once it has looked for the last time.
    pub async fn stop(self) -> Seen {
        self.stop.send_replace(true);
        self.task.await.expect("the ledger answers every look");
        self.seen.lock().expect("no holder panics").clone()
    }
}

async fn look(client: Client, pause: Duration, seen: Arc<Mutex<Seen>>, stopped: watch::Receiver<bool>) {
    let statement = client.prepare(SESSIONS).await.expect("a valid statement");
    while !*stopped.borrow() {
        let rows = client.query(&statement, &[]).await.expect("the ledger answers");
        let found = rows.iter().map(|row| (row.get::<_, String>(0), row.get(1), row.get(2)));
        seen.lock().expect("no holder panics").note(found);
        tokio::time::sleep(pause).await;
    }
}

impl Seen {
    fn note(&mut self, found: impl Iterator<Item = (String, i64, i64)>) {
        let (mut sessions, mut requests) = (0, 0);
        for (process, held, at_work) in found {
            self.processes.entry(process).or_default().see(held, at_work);
            (sessions, requests) = (sessions + held, requests + at_work);
        }
        self.together.see(sessions, requests);
        self.looks += 1;
    }

    /// Panics if a process ever held more than one session, or had more than one request under way.
    #[track_caller]
    pub fn assert_one_at_a_time(&self) {
        assert!(self.looks > 0, "nobody looked");
        let greedy = |most: &Most| most.sessions > 1 || most.requests > 1;
        let greedy: Vec<_> = self.processes.iter().filter(|(_, most)| greedy(most)).collect();
        assert!(greedy.is_empty(), "more than one connection or request at a time: {greedy:?}");
    }
}
