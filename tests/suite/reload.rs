//! SIGHUP: what a running process takes over from its configuration, and what it leaves alone.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::ledger::tls::{Authority, protect};
use crate::support::cluster::pod_in;
use crate::support::process::Process;
use crate::support::redis::Redis;
use crate::support::{Cluster, http, wait};

const SOON: Duration = Duration::from_secs(20);

/// A configuration file and the secrets that it names.
struct Told {
    folder: TempDir,
}

impl Told {
    /// What a process is told in addition to the cluster's own configuration.
    fn new(settings: &str) -> Told {
        let told = Told { folder: tempfile::tempdir().expect("a temporary folder") };
        told.again(settings);
        told
    }

    /// The file is written anew.
    fn again(&self, settings: &str) {
        fs::write(self.file(), settings).expect("the folder can be written to");
    }

    /// A secret's file is written anew.
    fn secret(&self, name: &str, secret: &str) {
        fs::write(self.path(name), secret).expect("the folder can be written to");
    }

    /// As a key takes it.
    fn reference(&self, name: &str) -> String {
        format!("file:{}", self.path(name).display())
    }

    fn file(&self) -> PathBuf {
        self.path("told.toml")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Sends SIGHUP and waits until it is counted.
async fn reload(process: &Process, outcome: &str) {
    let count = async || process.metrics().await.sum("blockhouse_reloads_total", &[("outcome", outcome)]);
    let before = count().await;
    process.signal(Signal::HUP);
    wait::until(SOON, &format!("the reload is {outcome}"), async || count().await == before + 1.0).await;
}

/// A cluster whose ledger lets `app` in by password only, and whose pod does so too; no process yet.
async fn guarded() -> Cluster {
    let mut cluster = Cluster::new().pods(1).postgres().sequence("tasks").start().await;
    let server = cluster.postgres.as_mut().expect("the plan has a ledger");
    server.psql("CREATE ROLE app LOGIN SUPERUSER PASSWORD 'first-secret'");
    let rules = fs::read_to_string(server.data().join("pg_hba.conf")).expect("the server has rules");
    server.give("pg_hba.conf", &format!("host all app all scram-sha-256\n{rules}"));
    server.restart();
    set_pod_password(&cluster.pods[0], "first-secret");
    cluster
}

fn set_pod_password(pod: &Redis, password: &str) {
    let secret = format!(">{password}");
    let _: () = pod.run(&["ACL", "SETUSER", "app", "on", "resetpass", &secret, "~*", "&*", "+@all"]);
}

/// Settings of a process that logs in as `app` with the secrets `ledger` and `pods`.
fn as_app(cluster: &Cluster, told: &Told) -> String {
    let ledger = cluster.ledger().url().replace("postgres@", "app@");
    let [in_ledger, in_pods] = ["ledger", "pods"].map(|secret| told.reference(secret));
    format!(
        "ledger.url = {ledger:?}\nledger.password = {in_ledger:?}\n\
         redis.username = \"app\"\nredis.password = {in_pods:?}\n"
    )
}

/// A process that logs in as `app`, with ledger and pods up.
async fn logged_in(cluster: &Cluster, told: &Told) -> Process {
    told.secret("ledger", "first-secret\n");
    told.secret("pods", "first-secret\n");
    told.again(&as_app(cluster, told));
    let mut process = cluster.process_from("rotated", "all", &told.file());
    process.ready().await;
    wait::until(SOON, "ledger and pod are up", async || all_up(cluster, &process).await).await;
    process
}

async fn all_up(cluster: &Cluster, process: &Process) -> bool {
    let status = process.status().await;
    status["ledger"]["state"] == "up" && pod_in(&status, cluster.pods[0].port())["state"] == "up"
}

/// The process's session at the ledger, if it has one.
fn session(cluster: &Cluster) -> String {
    cluster.ledger().psql(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'blockhouse/rotated' AND usename = 'app'",
    )
}

/// Ends the process's session, and waits for another one.
async fn session_is_renewed(cluster: &Cluster) {
    let old = session(cluster);
    assert!(!old.is_empty(), "it has a session");
    cluster.ledger().psql(&format!("SELECT pg_terminate_backend({old})"));
    wait::until(SOON, "it has another session", async || {
        let new = session(cluster);
        !new.is_empty() && new != old
    })
    .await;
}

/// Numbers of the process's connections to its pod.
fn connections(pod: &Redis) -> Vec<String> {
    let clients: String = pod.run(&["CLIENT", "LIST"]);
    let own = clients.lines().filter(|client| client.contains(" user=app "));
    own.filter_map(|client| client.split(' ').next().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_session_at_the_ledger_has_the_new_password() {
    let cluster = guarded().await;
    let told = Told::new("");
    let process = logged_in(&cluster, &told).await;
    let before = session(&cluster);
    cluster.ledger().psql("ALTER ROLE app PASSWORD 'second-secret'");
    told.secret("ledger", "second-secret\n");
    reload(&process, "ok").await;
    assert_eq!(session(&cluster), before, "the present session stays");
    session_is_renewed(&cluster).await;
    let log = process.log();
    assert!(log.contains(r#""changed":"ledger.password""#), "{log}");
    assert!(!log.contains("needs a restart"), "{log}");
    assert!(!log.contains("-secret"), "{log}");
}

/// Gives the process a certificate that `authority` signed.
fn set_certificate(told: &Told, authority: &Authority) {
    authority.issue("app", "app", "DNS:app");
    told.secret("app.crt", &authority.read("app.crt"));
    told.secret("app.key", &authority.read("app.key"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_read_anew_though_their_paths_stay() {
    let mut cluster = Cluster::new().pods(1).postgres().sequence("tasks").start().await;
    let (told, first, second) = (Told::new(""), Authority::new(), Authority::new());
    set_certificate(&told, &first);
    let server = cluster.postgres.as_mut().expect("the plan has a ledger");
    server.psql("CREATE ROLE app LOGIN SUPERUSER");
    server.give("pg_hba.conf", "hostssl all app all cert\nhost all postgres all trust\n");
    protect(server, &first);
    told.again(&format!(
        "ledger.url = {:?}\nledger.tls = \"require\"\nledger.cert = {:?}\nledger.key = {:?}\n",
        server.url().replace("postgres@", "app@"),
        told.path("app.crt"),
        told.path("app.key")
    ));
    let mut process = cluster.process_from("certified", "all", &told.file());
    process.ready().await;
    let ledger = async |state: &str| {
        let reached = async || process.status().await["ledger"]["state"] == state;
        wait::until(SOON, &format!("the ledger is {state}"), reached).await;
    };
    ledger("up").await;
    let server = cluster.postgres.as_mut().expect("the plan has a ledger");
    server.give("ca.crt", &second.read("ca.crt"));
    server.restart();
    ledger("down").await;
    set_certificate(&told, &second);
    reload(&process, "ok").await;
    ledger("up").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_threads_next_connection_to_a_pod_has_the_new_password() {
    let cluster = guarded().await;
    let told = Told::new("");
    let process = logged_in(&cluster, &told).await;
    let pod = &cluster.pods[0];
    // One of the control thread, one of each worker.
    wait::until(SOON, "every thread is connected", async || connections(pod).len() == 3).await;
    let before = connections(pod);
    set_pod_password(pod, "second-secret");
    told.secret("pods", "second-secret\n");
    reload(&process, "ok").await;
    assert_eq!(connections(pod), before, "the present connections stay");
    let _: u64 = pod.run(&["CLIENT", "KILL", "USER", "app"]);
    wait::until(SOON, "every thread is connected anew", async || {
        let new = connections(pod);
        new.len() == 3 && new.iter().all(|connection| !before.contains(connection))
    })
    .await;
    wait::until(SOON, "the pod is up", async || all_up(&cluster, &process).await).await;
    assert!(process.log().contains(r#""changed":"redis.password""#));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_has_the_new_level_at_once() {
    let cluster = Cluster::new().pods(1).postgres().sequence("tasks").start().await;
    let told = Told::new("log.level = \"info\"");
    let mut process = cluster.process_from("quiet", "all", &told.file());
    process.ready().await;
    assert!(!process.log().contains(r#""level":"debug""#), "{}", process.log());
    told.again("log.level = \"debug\"");
    reload(&process, "ok").await;
    let _: u64 = cluster.pods[0].run(&["CLIENT", "KILL", "TYPE", "normal"]);
    wait::until(SOON, "it tells details", async || process.log().contains(r#""level":"debug""#)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_with_a_mistake_changes_nothing_and_says_where_it_is() {
    let cluster = guarded().await;
    let told = Told::new("");
    let process = logged_in(&cluster, &told).await;
    let good = as_app(&cluster, &told);
    told.secret("ledger", "third-secret\n");
    let mistakes = [
        (format!("{good}log.level = \"loud\"\n"), "told.toml:5:13: log.level: must be "),
        (format!("{good}admin.token = {:?}\n", told.reference("missing")), "admin.token: can't read"),
        (format!("{good}[ledger\n"), "told.toml:5:"),
        (format!("{good}ledger.cert = \"/no.crt\"\nledger.key = \"/no.key\"\n"), "/no.crt"),
        ("ledger.url = \"\"".to_owned(), "ledger.url: is required"),
    ];
    for (mistake, said) in mistakes {
        told.again(&mistake);
        let before = process.log().len();
        reload(&process, "failed").await;
        wait::until(SOON, &format!("it says {said}"), async || process.log()[before..].contains(said)).await;
    }
    session_is_renewed(&cluster).await;
    assert!(!process.log().contains("-secret"), "{}", process.log());
    let counted = process.metrics().await;
    assert_eq!(counted.sum("blockhouse_reloads_total", &[("outcome", "ok")]), 0.0);
    told.secret("ledger", "first-secret\n");
    told.again(&good);
    reload(&process, "ok").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_restart_is_named_and_the_rest_takes_effect() {
    let cluster = Cluster::new().pods(1).postgres().sequence("tasks").start().await;
    let told = Told::new("admin.token = \"first-secret\"");
    let mut process = cluster.process_from("half", "all", &told.file());
    process.ready().await;
    told.again("admin.token = \"second-secret\"\ngrpc.max_count = 7\nredis.pods = [\"redis://:a-secret@127.0.0.1:1\"]");
    reload(&process, "ok").await;
    let warned = r#""keys":"grpc.max_count, redis.pods""#;
    wait::until(SOON, "it names what needs a restart", async || process.log().contains(warned)).await;
    let log = process.log();
    assert!(log.contains(r#""changed":"admin.token""#), "{log}");
    assert_eq!(log.matches("needs a restart").count(), 1, "{log}");
    assert!(!log.contains("-secret"), "{log}");
    assert_eq!(pod_in(&process.status().await, cluster.pods[0].port())["state"], "up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_before_it_is_ready_and_one_in_a_drain_do_no_harm() {
    let cluster = Cluster::new().pods(1).postgres().sequence("tasks").start().await;
    let nobody = wait::free_port();
    let told = Told::new(&format!(
        "ledger.url = \"postgres://app@127.0.0.1:{nobody}/ids\"\nredis.pods = [\"redis://127.0.0.1:{nobody}\"]\n\
         drain.delay = \"3s\"\n"
    ));
    let mut process = cluster.process_from("early", "all", &told.file());
    let answers = async || http::get(process.admin_port(), "/readyz").await.is_ok();
    wait::until(SOON, "its admin port answers", answers).await;
    reload(&process, "ok").await;
    assert!(!process.is_ready().await);
    process.signal(Signal::TERM);
    wait::until(SOON, "it drains", async || process.status().await["state"] == "draining").await;
    reload(&process, "ok").await;
    assert_eq!(process.exit(SOON).await.code(), Some(0), "{}", process.log());
}
