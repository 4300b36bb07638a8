//! The embedded ledger's file, when it fails under a whole process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, prlimit};
use tempfile::TempDir;

use crate::support::caller::{Caller, Outcome, Transport};
use crate::support::checker::Checker;
use crate::support::process::{self, Process};
use crate::support::wait;

/// How long a process may take to notice that its file can be used again.
const NOTICE: Duration = Duration::from_secs(20);

/// A process on a ledger in a file of its own. Without pods and without a reserve, each request is a grant.
struct House {
    folder: TempDir,
    process: Process,
    caller: Caller,
    given: Checker,
}

impl House {
    async fn start() -> House {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("ledger.url=\"sqlite:{}\"", file(folder.path()).display());
        let run = |arguments: &[&str]| {
            let output = process::run(&[arguments, &["--yes", "--set", &url]].concat());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        run(&["ledger", "migrate"]);
        run(&["sequence", "create", "tasks"]);
        let settings = [url.as_str(), "ledger.timeout='500ms'", "fallback.min_ids=1", "fallback.max_ids=1"];
        let settings = settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]);
        let arguments: Vec<String> =
            ["--role", "allocator"].map(str::to_owned).into_iter().chain(settings).collect();
        let mut process = Process::start_without_file_signals("embedded", folder.path(), &arguments);
        process.ready().await;
        let caller = Caller::new(Transport::Grpc, process.port());
        House { folder, process, caller, given: Checker::default() }
    }

    /// Lets no file of the process grow beyond so many bytes.
    fn limit_files(&self, current: Option<u64>) {
        let limit = Rlimit { current, maximum: None };
        prlimit(Some(self.process.pid()), Resource::Fsize, limit).expect("an own child");
    }

    /// Asks for 10 IDs; gives why there are none.
    async fn take(&mut self) -> Result<(), String> {
        match self.caller.ask("tasks", 10, Duration::from_secs(2)).await {
            Outcome::Given { spans, .. } => {
                spans.into_iter().for_each(|span| self.given.record("tasks", span));
                Ok(())
            }
            Outcome::Refused { reason, .. } => Err(reason),
            Outcome::Lost(what) => panic!("no answer: {what}"),
        }
    }

    /// Sees callers refused and operators told `why`, and the process alive.
    async fn assert_refused(&mut self, why: &str) {
        for _ in 0..10 {
            assert_eq!(self.take().await, Err("LEDGER_UNREACHABLE".to_owned()));
        }
        let status = self.process.status().await;
        let error = status["ledger"]["last_error"].as_str().unwrap_or_default();
        assert!(status["ledger"]["state"] == "down" && error.contains(why), "{status}");
        assert!(
            error.contains(&file(self.folder.path()).display().to_string()),
            "it names the file: {error}"
        );
    }

    /// Sees callers served again, by the same process, and nothing given twice.
    async fn assert_served_again(mut self) {
        wait::until(NOTICE, "the file is used again", async || self.take().await.is_ok()).await;
        for _ in 0..10 {
            assert_eq!(self.take().await, Ok(()));
        }
        self.given.assert_unique();
        let log = self.process.log();
        assert!(!log.contains("panic"), "{log}");
        assert_eq!(self.process.terminate(NOTICE).await.code(), Some(0));
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("ledger.sqlite")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_somebody_keeps_locked_refuses_callers_in_time_and_serves_again() {
    let mut house = House::start().await;
    assert_eq!(house.take().await, Ok(()));
    let other = rusqlite::Connection::open(file(house.folder.path())).expect("it can be opened");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
    house.assert_refused("locked").await;
    other.execute_batch("ROLLBACK").expect("it is ours");
    house.assert_served_again().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_can_not_grow_refuses_callers_and_serves_again_once_it_can() {
    let mut house = House::start().await;
    assert_eq!(house.take().await, Ok(()));
    // A reader of the present state keeps what was written ahead from being written over: it can only grow.
    let reader = rusqlite::Connection::open(file(house.folder.path())).expect("it can be opened");
    reader.execute_batch("BEGIN; SELECT count(*) FROM ledger").expect("it can be read");
    // As large as it is, and no larger.
    let log = file(house.folder.path()).with_extension("sqlite-wal");
    let size = std::fs::metadata(log).expect("it writes ahead").len();
    house.limit_files(Some(size));
    wait::until(NOTICE, "the file is full", async || house.take().await.is_err()).await;
    house.assert_refused("writing the ledger file failed").await;
    drop(reader);
    house.limit_files(None);
    house.assert_served_again().await;
}

#[test]
fn a_file_that_can_not_be_had_ends_the_start_with_the_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = folder.path().join("missing").join("ledger.sqlite");
    let files = [
        (missing.as_path(), "can't be opened"),
        (folder.path(), "can't be opened"),
        // A device that is always full.
        (Path::new("/dev/full"), "there is no room for the ledger file"),
    ];
    for (path, why) in files {
        let path = path.to_string_lossy();
        let port = |key: &str| format!("{key}=127.0.0.1:{}", wait::free_port());
        let (grpc, admin) = (port("grpc.listen"), port("admin.listen"));
        let ended = process::run(&["dev", "--data", &path, "--set", &grpc, "--set", &admin]);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(78), "{said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.contains(&*path) && last.contains(why), "{said}");
    }
}
