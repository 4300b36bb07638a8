//! `compose.yaml` and `Containerfile`, as far as they can be tried without a container engine: everything that they run is
//! run here, as they say it, on servers of the test's own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::{http, wait};

const PATIENCE: Duration = Duration::from_secs(20);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What is written behind `key:` in the block that `name:` begins. The file's values stand on their key's line.
fn value(block: &str, key: &str) -> String {
    let compose = text("compose.yaml");
    let begins = |line: &str| line.trim().split(" &").next() == Some(&format!("{block}:"));
    let mut lines = compose.lines().skip_while(|line| !begins(line));
    let depth = |line: &str| line.len() - line.trim_start().len();
    let begin = depth(lines.next().unwrap_or_else(|| panic!("compose.yaml has no {block}")));
    let inside = lines.take_while(|line| line.trim().is_empty() || depth(line) > begin);
    let found =
        inside.filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": ").map(str::to_owned)).next();
    found.unwrap_or_else(|| panic!("{block} in compose.yaml has no {key}"))
}

/// The command of a service, word by word.
fn command(service: &str) -> Vec<String> {
    value(service, "command").split(' ').map(str::to_owned).collect()
}

/// The environment of every blockhouse container.
fn environment() -> BTreeMap<String, String> {
    let compose = text("compose.yaml");
    let set = compose.lines().filter(|line| line.trim().starts_with("BLOCKHOUSE"));
    set.filter_map(|line| line.trim().split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The binary with these words and this environment, and nothing of the machine's own configuration.
fn blockhouse(words: &[String], environment: &BTreeMap<String, String>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blockhouse"));
    let of_machine = std::env::vars_os().map(|(name, _)| name);
    for name in of_machine.filter(|name| name.to_string_lossy().starts_with("BLOCKHOUSE")) {
        command.env_remove(name);
    }
    command.args(words).envs(environment).stdin(Stdio::null());
    command
}

#[track_caller]
fn succeeds(words: &[String], environment: &BTreeMap<String, String>) {
    let output = blockhouse(words, environment).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// One container of the file, with ports of its own; killed when dropped.
struct Container {
    child: Child,
    environment: BTreeMap<String, String>,
    port: u16,
}

impl Container {
    fn start(service: &str, mut environment: BTreeMap<String, String>) -> Container {
        let (port, admin) = (wait::free_port(), wait::free_port());
        // Of a container's own, these are seen from outside; here, only the test may see them.
        for (name, port) in [("BLOCKHOUSE__GRPC__LISTEN", port), ("BLOCKHOUSE__ADMIN__LISTEN", admin)] {
            let listen = environment.get_mut(name).unwrap_or_else(|| panic!("{name} is not set"));
            let (_, usual) = listen.rsplit_once(':').unwrap();
            assert!(
                value("allocator", "ports").contains(&format!("127.0.0.1:{usual}:{usual}")),
                "{name} is published"
            );
            *listen = format!("127.0.0.1:{port}");
        }
        environment.insert("BLOCKHOUSE_ADMIN".to_owned(), format!("http://127.0.0.1:{admin}"));
        let child =
            blockhouse(&command(service), &environment).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Container { child: child.unwrap(), environment, port }
    }

    /// As the file's health check asks.
    async fn healthy(&self) {
        let probe = value("x-serve", "healthcheck");
        let probe =
            probe.split_once("blockhouse ").and_then(|(_, words)| words.split([',', ' ']).next()).unwrap();
        wait::until(PATIENCE, "the container is healthy", async || {
            blockhouse(&[probe.to_owned()], &self.environment).output().unwrap().status.success()
        })
        .await;
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_environment_in_the_compose_file_is_a_valid_configuration() {
    let environment = environment();
    assert_eq!(environment.len(), text("compose.yaml").matches("BLOCKHOUSE__").count(), "{environment:?}");
    succeeds(&["config".to_owned(), "check".to_owned()], &environment);
}

#[test]
fn a_container_is_given_longer_to_stop_than_a_drain_takes() {
    let seconds = |text: &str| text.trim_matches(['"', 's']).parse::<u64>().unwrap();
    let printed = blockhouse(&["config", "print"].map(str::to_owned), &environment()).output().unwrap();
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    let drain = printed.lines().find_map(|line| line.strip_prefix("drain.timeout = ")?.split(' ').next());
    let drain = drain.unwrap_or_else(|| panic!("{printed}"));
    assert!(seconds(&value("x-serve", "stop_grace_period")) > seconds(drain), "{drain}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_compose_file_runs_is_a_cluster_that_hands_out_ids() {
    // As the image of PostgreSQL makes its user and its database.
    let ledger = Postgres::start();
    let [user, password] =
        ["POSTGRES_USER", "POSTGRES_PASSWORD"].map(|name| in_braces(&value("postgres", "environment"), name));
    ledger.psql(&format!("CREATE ROLE {user} SUPERUSER LOGIN PASSWORD '{password}'"));
    ledger.psql(&format!("CREATE DATABASE {}", in_braces(&value("postgres", "environment"), "POSTGRES_DB")));

    // The file that is mounted in the pods' containers, and the words behind it.
    let words = command("x-pod");
    let mounted = value("x-pod", "volumes");
    let (from, to) = mounted.trim_matches(['[', ']', '"']).split_once(':').unwrap();
    assert_eq!((words[0].as_str(), to), ("redis-server", format!("{}:ro", words[1]).as_str()));
    let config = root().join(from);
    let arguments: Vec<&str> =
        [config.to_str().unwrap()].into_iter().chain(words[2..].iter().map(String::as_str)).collect();
    let pods: Vec<Redis> = (0..3).map(|_| Redis::with(&arguments)).collect();

    let mut environment = environment();
    let url = environment.get_mut("BLOCKHOUSE__LEDGER__URL").unwrap();
    *url = url.replace("@postgres/", &format!("@127.0.0.1:{}/", ledger.port()));
    let urls = environment.get_mut("BLOCKHOUSE__REDIS__PODS").unwrap();
    for (nth, pod) in pods.iter().enumerate() {
        *urls = urls.replace(&format!("redis://pod-{}", nth + 1), &pod.url());
    }

    succeeds(&command("migrate"), &environment);
    succeeds(&command("create"), &environment);
    let (hydrator, allocator) =
        (Container::start("hydrator", environment.clone()), Container::start("allocator", environment));
    hydrator.healthy().await;
    allocator.healthy().await;
    wait::until(PATIENCE, "all pods are filled", async || {
        pods.iter().all(|pod| pod.keys("*").iter().any(|key| key.contains(":tasks:")))
    })
    .await;
    let mut caller = http::Connection::open(allocator.port).await.unwrap();
    let answer = caller.send(Method::POST, "/v1/sequences/tasks/ids", "").await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (&answer["ranges"][0]["count"], &answer["tier"]),
        (&"1".into(), &"TIER_PODS".into()),
        "{answer}"
    );
}

/// `value` of `{ NAME: value, OTHER: … }`.
fn in_braces(text: &str, name: &str) -> String {
    let found =
        text.split(['{', ',', '}']).find_map(|part| part.trim().strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

#[test]
fn what_the_containerfile_copies_is_there_and_its_compiler_is_the_one_we_ask_for() {
    let containerfile = text("Containerfile");
    let copied = containerfile.lines().filter_map(|line| line.strip_prefix("COPY --from=build /src/"));
    for path in copied.filter_map(|line| line.split(' ').next()).filter(|path| !path.starts_with("target/")) {
        assert!(root().join(path).exists(), "{path}");
    }
    for line in text(".dockerignore").lines().filter(|line| *line != "*") {
        let path = line.strip_prefix('!').unwrap_or_else(|| panic!("all but a few are left out: {line}"));
        assert!(root().join(path).exists(), "{path}");
    }
    let version = text("Cargo.toml");
    let version =
        version.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(containerfile.contains(&format!("library/rust:{version}-")), "rust-version is {version}");
}
