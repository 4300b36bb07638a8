//! The command line as scripts and people meet it. Needs no servers.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The binary, with nothing in its environment that a developer may have set.
fn blockhouse(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blockhouse"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Ended {
    Ended::from(blockhouse(arguments).output().unwrap())
}

/// How it ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// Its exit code, that nothing stands on stdout, and that the last line on stderr holds `said`.
    #[track_caller]
    fn failed(&self, code: i32, said: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: ") && last.contains(said), "{self:?}");
    }

    /// That it is clap's usage error.
    #[track_caller]
    fn misused(&self, said: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(2), ""), "{self:?}");
        assert!(self.stderr.starts_with("error: ") && self.stderr.contains(said), "{self:?}");
    }

    #[track_caller]
    fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }
}

/// Addresses that nobody listens at: tcpmux has been out of use for decades, and a port of our own could be given to
/// another test.
const CLOSED: &str = "127.0.0.1:1";
const CLOSED_TOO: &str = "127.0.0.2:1";

/// An address that takes connections and never answers, for as long as the listener lives.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn help_begins_with_examples() {
    for arguments in [
        &["-h"][..],
        &["--help"],
        &["dev", "-h"],
        &["serve", "-h"],
        &["take", "-h"],
        &["sequence", "-h"],
        &["sequence", "create", "--help"],
        &["ledger", "migrate", "-h"],
        &["ledger", "set", "-h"],
        &["lookup", "-h"],
        &["status", "-h"],
    ] {
        let help = run(arguments).succeeded();
        assert!(help.starts_with("Examples:\n  "), "{arguments:?}: {help}");
        assert!(help.contains("\nUsage: blockhouse"), "{arguments:?}: {help}");
    }
}

#[test]
fn the_version_names_the_revision() {
    let version = run(&["--version"]).succeeded();
    let rest = version.strip_prefix(concat!("blockhouse ", env!("CARGO_PKG_VERSION"), " ("));
    assert!(rest.is_some_and(|revision| revision.len() > 2 && revision.ends_with(")\n")), "{version}");
}

#[test]
fn a_command_line_that_makes_no_sense_is_a_usage_error() {
    for (arguments, said) in [
        (&["tkae"][..], "take"),
        (&["take", "--cuont", "3"], "--count"),
        (&["take", "-n", "-1"], "-1"),
        (&["take", "-n", "4294967296"], "4294967296"),
        (&["take", "-s", "https://a"], "https"),
        (&["take", "--timeout", "5"], "250ms"),
        (&["take", "--ids", "--json"], "--json"),
        (&["status", "--admin", "a:b"], "HOST:PORT"),
        (&["serve", "--role", "leader"], "'leader'"),
        (&["serve", "--role", "chaos"], "all,chaos"),
        (&["chaos", "inject", "pod_gon"], "pod_gone"),
        (&["chaos", "inject", "pod_gone", "--for", "30"], "250ms"),
        (&["dev", "--sequence", "Tasks"], "[a-z]"),
        (&["dev", "--data", "a", "--postgres", "b"], "--postgres"),
        (&["sequence", "create", "tasks", "--max", "int16"], "js-safe"),
        (&["sequence", "create", "tasks", "--block-size", "0"], "0"),
        (&["sequence", "set", "tasks"], "--max"),
        (&["sequence", "set", "tasks", "--buffer", "90ms"], "whole seconds"),
        (&["sequence", "show"], "NAME"),
        (&["ledger", "set"], "--on-failover"),
        (&["ledger", "set", "--on-failover", "jmup"], "jump"),
        (&["lookup", "tasks", "many"], "many"),
        (&["completions", "csh"], "bash"),
    ] {
        let ended = run(arguments);
        assert!(ended.stderr.lines().count() > 1, "{ended:?}");
        ended.misused(said);
    }
}

#[test]
fn without_a_command_the_help_is_shown_as_a_usage_error() {
    let ended = run(&[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.starts_with("Examples:\n"), "{ended:?}");
}

#[test]
fn a_maximum_below_the_first_id_is_a_usage_error() {
    run(&["sequence", "create", "tasks", "--start", "9", "--max", "8"]).failed(2, "below the first ID");
}

#[test]
fn taking_from_a_closed_port_says_where_and_what_to_do() {
    let ended = run(&["take", "tasks", "-s", CLOSED, "-s", CLOSED_TOO]);
    ended.failed(69, "connection refused");
    assert!(ended.stderr.contains("--server") && ended.stderr.contains(CLOSED_TOO), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}

#[test]
fn the_server_can_be_named_by_the_environment() {
    let ended = Ended::from(blockhouse(&["take"]).env("BLOCKHOUSE_SERVER", CLOSED).output().unwrap());
    ended.failed(69, CLOSED);
}

#[test]
fn a_silent_server_costs_no_more_than_the_timeout() {
    let (_listener, address) = silent();
    let started = Instant::now();
    run(&["take", "-s", &address, "--timeout", "200ms"]).failed(69, "no answer within 200ms");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_peer_that_does_not_speak_http_is_named_as_such() {
    let (listener, address) = silent();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 mail.example ESMTP\r\n").unwrap();
        // Closing with the request unread would reset the connection before the greeting is read.
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    run(&["take", "-s", &address]).failed(69, "doesn't speak HTTP");
    peer.join().unwrap();
}

#[test]
fn a_socket_that_is_not_there_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/none.sock", folder.path().display());
    run(&["take", "-s", &address]).failed(69, "no such file");
}

#[test]
fn a_name_that_can_not_be_one_is_refused_without_asking() {
    run(&["take", "../tasks", "-s", CLOSED]).failed(1, "SEQUENCE_NAME_INVALID");
}

#[test]
fn the_status_of_a_process_that_is_away_is_a_row() {
    let ended = run(&["status", "--admin", CLOSED]);
    assert_eq!(ended.code, Some(69));
    assert!(ended.stdout.lines().any(|row| row.contains(CLOSED) && row.contains("unreachable")), "{ended:?}");
    let json = run(&["status", "--json", "--admin", CLOSED, "--admin", CLOSED_TOO]);
    let listed: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{json:?}");
    assert_eq!(listed[0]["state"], "unreachable");
}

#[test]
fn a_probe_of_a_process_that_is_away_says_so() {
    run(&["health", "--admin", CLOSED]).failed(69, "connection refused");
    run(&["health", "--live", "--admin", CLOSED]).failed(69, "--admin");
}

#[test]
fn a_change_needs_yes_where_there_is_no_terminal() {
    run(&["drain", "--admin", CLOSED]).failed(2, "--yes");
    run(&["drain", "--admin", CLOSED, "--yes"]).failed(69, "connection refused");
    let dry = run(&["drain", "--admin", CLOSED, "--dry-run"]);
    assert!(dry.stderr.contains("nothing was changed"), "{dry:?}");
    dry.succeeded();
}

#[test]
fn quiet_leaves_only_the_reason_of_a_failure() {
    let dry = run(&["-q", "drain", "--admin", CLOSED, "--dry-run"]);
    assert_eq!(dry.stderr, "");
    run(&["take", "-q", "-s", CLOSED]).failed(69, "connection refused");
}

#[test]
fn a_token_that_can_not_be_read_is_a_configuration_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let ask = || {
        let mut command = blockhouse(&["status", "--admin", CLOSED]);
        Ended::from(command.env("BLOCKHOUSE_ADMIN_TOKEN_FILE", &path).output().unwrap())
    };
    ask().failed(78, "no such file");
    std::fs::write(&path, "two words\n").unwrap();
    ask().failed(78, "one word");
    std::fs::write(&path, "secret\n").unwrap();
    assert_eq!(ask().code, Some(69));
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]).succeeded();
        assert!(script.contains("blockhouse") && script.contains("block-size"), "{shell}");
    }
}

#[test]
fn manual_pages_are_made_for_every_command() {
    let page = run(&["man"]).succeeded();
    assert!(page.contains(".TH blockhouse 1") && page.contains(".SH EXAMPLES"), "{page}");
    let page = run(&["man", "sequence", "create"]).succeeded();
    assert!(
        page.contains(".TH blockhouse\\-sequence\\-create 1")
            || page.contains("blockhouse-sequence-create 1"),
        "{page}"
    );
    assert!(page.contains("js\\-safe"), "{page}");
    run(&["man", "tkae"]).failed(2, "'tkae'");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for arguments in [&["completions", "bash"][..], &["man"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = Ended::from(blockhouse(arguments).stdout(writer).output().unwrap());
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn nobody_listening_on_stderr_changes_no_exit_code() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = Ended::from(blockhouse(&["take", "-s", CLOSED]).stderr(writer).output().unwrap());
    assert_eq!(ended.code, Some(69));
}

#[test]
fn output_that_can_not_be_written_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = Ended::from(blockhouse(&["man"]).stdout(full).output().unwrap());
    ended.failed(70, "no space left on device");
}

/// A folder of its own, with an SQLite ledger and nothing else configured.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Site {
        Site(tempfile::tempdir().unwrap())
    }

    fn migrated() -> Site {
        let site = Site::new();
        site.run(&["ledger", "migrate", "--yes"]).succeeded();
        site
    }

    fn url(&self) -> String {
        format!("sqlite:{}/ledger.sqlite", self.0.path().display())
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = blockhouse(arguments);
        Ended::from(command.env("BLOCKHOUSE__LEDGER__URL", self.url()).output().unwrap())
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.run(arguments).succeeded()).unwrap()
    }
}

#[test]
fn a_ledger_is_made_by_migrate_and_by_nothing_else() {
    let site = Site::new();
    site.run(&["sequence", "list"]).failed(78, "blockhouse ledger migrate");
    site.run(&["sequence", "create", "tasks", "--yes"]).failed(78, "blockhouse ledger migrate");
    site.run(&["ledger", "migrate"]).failed(2, "--yes");
    site.run(&["ledger", "migrate", "--dry-run"]).succeeded();
    site.run(&["ledger", "show"]).failed(78, "blockhouse ledger migrate");
    let made = site.json(&["ledger", "migrate", "--yes", "--json"]);
    assert_eq!(made["schema_before"], 0, "{made}");
    let again = site.json(&["ledger", "migrate", "--yes", "--json"]);
    assert_eq!((&again["schema_before"], &again["id"]), (&made["schema"], &made["id"]));
    assert_eq!(site.json(&["ledger", "show", "--json"])["state"], "open");
}

#[test]
fn a_command_says_which_ledger_it_acts_on_and_where_that_came_from() {
    let site = Site::migrated();
    let said = format!("ledger {} (ledger.url from environment BLOCKHOUSE__LEDGER__URL)", site.url());
    assert_eq!(site.run(&["sequence", "list"]).stderr.lines().next(), Some(&*said));
    assert_eq!(site.run(&["-q", "sequence", "list"]).stderr, "");
}

#[test]
fn a_sequence_is_created_changed_halted_resumed_and_retired() {
    let site = Site::migrated();
    assert_eq!(site.json(&["sequence", "list", "--json"]), serde_json::json!([]));
    let created = site.json(&["sequence", "create", "tasks", "--yes", "--json", "--max", "int32"]);
    assert_eq!((&created["last"], &created["granted"]), (&"2147483647".into(), &"0".into()));
    let set =
        site.json(&["sequence", "set", "tasks", "--block-size", "50", "--max", "int64", "--yes", "--json"]);
    assert_eq!((&set["last"], &set["block_size"]), (&"9223372036854775807".into(), &50.into()));
    let halted = site.json(&["sequence", "halt", "tasks", "--reason", "a drill", "--yes", "--json"]);
    assert_eq!((&halted["state"], &halted["halted"]), (&"halted".into(), &"a drill".into()));
    assert!(site.run(&["sequence", "show", "tasks"]).succeeded().contains("halted: a drill\n"));
    assert_eq!(site.json(&["sequence", "resume", "tasks", "--yes", "--json"])["state"], "active");
    assert_eq!(site.json(&["sequence", "retire", "tasks", "--yes", "--json"])["state"], "retired");
    site.run(&["sequence", "create", "tasks", "--yes"]).failed(1, "names are never reused");
}

#[test]
fn a_change_is_only_made_with_yes() {
    let site = Site::migrated();
    site.run(&["sequence", "create", "tasks"]).failed(2, "--yes");
    site.run(&["sequence", "create", "tasks", "--dry-run"]).succeeded();
    site.run(&["sequence", "show", "tasks"]).failed(1, "'tasks' does not exist");
    site.run(&["sequence", "create", "tasks", "--yes"]).succeeded();
    for change in [
        &["set", "tasks", "--block-size", "7"][..],
        &["set", "tasks", "--max", "int32"],
        &["advance", "tasks", "--to", "7"],
        &["import", "tasks", "--above", "7"],
        &["halt", "tasks"],
        &["resume", "tasks"],
        &["retire", "tasks"],
    ] {
        site.run(&[&["sequence"], change].concat()).failed(2, "--yes");
        let dry = site.run(&[&["sequence"], change, &["--dry-run"]].concat());
        assert!(dry.stderr.contains("nothing was changed"), "{dry:?}");
    }
    let row = &site.json(&["sequence", "list", "--json"])[0];
    assert_eq!((&row["state"], &row["block_size"]), (&"active".into(), &1000.into()));
    assert_eq!((&row["generation"], &row["granted"]), (&1.into(), &"0".into()));
}

#[test]
fn a_sequence_moves_forward_only() {
    let site = Site::migrated();
    site.run(&["sequence", "create", "tasks", "--start", "100", "--max", "1000", "--yes"]).succeeded();
    let moved = site.run(&["sequence", "advance", "tasks", "--to", "500", "--yes"]);
    assert!(moved.stderr.contains("skips 400 IDs"), "{moved:?}");
    assert_eq!(moved.succeeded(), "tasks is in generation 2: the next ID is 500 or above\n");
    site.run(&["sequence", "advance", "tasks", "--to", "499", "--yes"]).failed(1, "say --to 500 or more");
    site.run(&["sequence", "advance", "tasks", "--to", "1002", "--yes"]).failed(1, "ends at 1000");
    site.run(&["sequence", "advance", "nobody", "--to", "7", "--yes"]).failed(1, "'nobody' does not exist");

    // What was given by something else may lie below what was granted: what is held of it must not be handed out.
    let imported = site.json(&["sequence", "import", "tasks", "--above", "300", "--yes", "--json"]);
    assert_eq!((&imported["generation"], &imported["granted"]), (&3.into(), &"499".into()));
    let below = site.run(&["sequence", "import", "tasks", "--above", "99", "--yes"]);
    assert!(below.stderr.contains("nothing to import"), "{below:?}");
    below.succeeded();
    site.run(&["sequence", "import", "tasks", "--above", "1001", "--yes"]).failed(1, "ends at 1000");
    for half in [&["--yes"][..], &["--table", "t"], &["--column", "id"], &["--above", "5", "--table", "t"]] {
        site.run(&[&["sequence", "import", "tasks"], half].concat()).misused("import");
    }
    let table = ["sequence", "import", "tasks", "--table", "t", "--column", "id", "--yes"];
    site.run(&table).failed(1, "only a ledger on PostgreSQL");

    site.run(&["sequence", "set", "tasks", "--max", "498", "--yes"]).failed(1, "IDs up to 499");
    let lowered = site.json(&["sequence", "set", "tasks", "--max", "600", "--yes", "--json"]);
    assert_eq!((&lowered["generation"], &lowered["last"]), (&4.into(), &"600".into()));
    let end = site.run(&["sequence", "import", "tasks", "--above", "600", "--yes"]).succeeded();
    assert_eq!(end, "tasks is in generation 5: no ID is left below its maximum 600\n");
}

#[test]
fn what_a_failover_does_is_set_for_the_whole_ledger_and_says_what_follows() {
    let site = Site::migrated();
    for (name, max) in [("tasks", "js-safe"), ("small", "1000")] {
        let made = site.run(&["sequence", "create", name, "--max", max, "--yes"]);
        let says = if name == "small" { "waits for a person" } else { "256410 IDs/s" };
        assert!(made.stderr.contains(says), "{made:?}");
    }
    let set = ["ledger", "set", "--on-failover", "jump"];
    site.run(&set).failed(2, "--yes");
    let dry = site.run(&[&set[..], &["--dry-run"]].concat());
    for says in [
        "tasks: ",
        "1000000000 IDs",
        "small: ",
        "waits for a person",
        "fence the old primary",
        "nothing was changed",
    ] {
        assert!(dry.stderr.contains(says), "{dry:?}");
    }
    assert_eq!(site.json(&["ledger", "show", "--json"])["on_failover"], "wait");
    assert_eq!(site.json(&[&set[..], &["--yes", "--json"]].concat())["on_failover"], "jump");
    assert!(site.run(&["ledger", "show"]).succeeded().contains("on failover  jump\n"));

    let rows = site.json(&["sequence", "list", "--json"]);
    assert_eq!(
        (&rows[0]["jump_ids_per_second"], &rows[1]["jump_ids_per_second"]),
        (&serde_json::Value::Null, &256_410.into())
    );
    let dry = site.run(&["sequence", "set", "small", "--failover-gap", "39000", "--dry-run"]);
    assert!(dry.stderr.contains("10 IDs/s at most"), "{dry:?}");
}

#[test]
fn creating_what_exists_is_a_failure_unless_that_is_welcome() {
    let site = Site::migrated();
    site.run(&["sequence", "create", "tasks", "--yes"]).succeeded();
    site.run(&["sequence", "create", "tasks", "--yes"]).failed(1, "exists");
    site.run(&["sequence", "create", "tasks", "--dry-run"]).failed(1, "exists");
    let again = site.run(&["sequence", "create", "tasks", "--yes", "--if-not-exists", "--max", "int32"]);
    assert!(again.stderr.contains("it stays as it was"), "{again:?}");
    again.succeeded();
}

#[test]
fn an_id_that_was_not_granted_says_why() {
    let site = Site::migrated();
    site.run(&["sequence", "create", "tasks", "--yes", "--max", "int32"]).succeeded();
    site.run(&["lookup", "tasks", "7"]).failed(1, "has not been granted yet");
    site.run(&["lookup", "tasks", "-7"]).failed(1, "no ID of 'tasks'");
    site.run(&["lookup", "comments", "7"]).failed(1, "'comments' does not exist");
}

#[test]
fn another_environments_ledger_is_refused() {
    let site = Site::migrated();
    site.run(&["sequence", "list", "--set", "environment=beta"]).failed(78, "'beta'");
    let other = "ledger.id=0d9f0c0a-7b1e-4c3c-9a55-d0f1f6a0b6a7";
    site.run(&["sequence", "list", "--set", other]).failed(78, "ledger.id");
}

#[test]
fn a_ledger_that_is_away_is_unreachable_and_its_password_stays_secret() {
    let ended = run(&["sequence", "list", "--set", "ledger.url=postgres://me:hunter2@127.0.0.1:1/ids"]);
    ended.failed(69, "127.0.0.1:1/ids");
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
}

#[test]
fn pods_that_can_not_be_told_are_a_warning() {
    let site = Site::migrated();
    let create = ["sequence", "create", "tasks", "--yes", "--set", "redis.pods=redis://127.0.0.1:1"];
    let ended = site.run(&create);
    assert!(ended.stderr.contains("warning: pod 127.0.0.1:1 wasn't told"), "{ended:?}");
    ended.succeeded();
}

#[test]
fn what_is_wrong_with_the_configuration_is_listed_before_the_last_line() {
    let site = Site::new();
    site.run(&["sequence", "list", "--set", "redis.timeot=5s"]).failed(78, "did you mean redis.timeout");
    let two = site.run(&["sequence", "list", "--set", "redis.timeot=5s", "--set", "cluster="]);
    two.failed(78, "2 errors");
    assert_eq!(two.stderr.lines().count(), 3, "{two:?}");
    site.run(&["config", "check", "--set", "redis.timeot=5s"]).failed(78, "1 error");
    run(&["config", "check"]).failed(78, "1 error");
    run(&["sequence", "list", "-c", "/nowhere.toml"]).failed(78, "/nowhere.toml");
}

#[test]
fn a_configuration_without_a_ledger_is_no_reason_to_act_on_another() {
    run(&["sequence", "list", "--set", "cluster=east"]).failed(78, "ledger.url");
}

#[test]
fn configuration_files_can_be_named_before_and_after_the_command() {
    let site = Site::new();
    let path = site.0.path().join("a.toml");
    std::fs::write(&path, "cluster = \"east\"\n").unwrap();
    let path = path.to_str().unwrap();
    for arguments in [["config", "-c", path, "print"], ["config", "print", "-c", path]] {
        let shown = site.run(&arguments).succeeded();
        assert!(shown.contains("cluster = \"east\"") && shown.contains(&format!("{path}:1")), "{shown}");
    }
}
