//! A whole cluster for one test: private servers, a migrated ledger, and blockhouse processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use blockhouse::block::Span;
use serde_json::Value;
use tempfile::TempDir;
use toml::{Table, Value as Setting};

use super::checker::Checker;
use super::load::Load;
use super::postgres::Postgres;
use super::process::{self, Process};
use super::proxy::Proxy;
use super::redis::Redis;
use super::wait;

/// How long the first blocks may take to reach the pods; the contract says 2 s, a busy machine more.
const FILLED: Duration = Duration::from_secs(15);

/// What to start: `Cluster::new().pods(3).postgres().allocators(2).hydrator().sequence("tasks").start().await`.
#[derive(Default)]
pub struct Plan {
    pods: usize,
    unguarded: bool,
    postgres: bool,
    proxies: bool,
    allocators: usize,
    hydrators: usize,
    sequences: Vec<String>,
    settings: Vec<String>,
    binary: Option<PathBuf>,
    /// The ledger of another cluster, and what callers of both are given.
    beside: Option<(String, Checker)>,
}

/// The parts of a running cluster. Dropped, everything ends: processes first, then the servers they use.
pub struct Cluster {
    pub allocators: Vec<Process>,
    pub hydrators: Vec<Process>,
    pub pods: Vec<Redis>,
    pub postgres: Option<Postgres>,
    /// Before each pod, in the same order, where the plan asks for proxies.
    pub pod_proxies: Vec<Proxy>,
    /// Before the ledger, where the plan asks for proxies.
    pub ledger_proxy: Option<Proxy>,
    /// Everything that callers of [`Cluster::load`] are given.
    pub checker: Checker,
    sequences: Vec<String>,
    binary: PathBuf,
    config: PathBuf,
    folder: TempDir,
}

/// Short times, so that a test sees in seconds what takes minutes in production, and a supply that doesn't follow the demand: what a
/// test uses in a second would else be laid in for a day. Every test may set others.
const QUICK: &str = r#"
environment = "test"
grpc.workers = 2
ledger.connect_spread = "100ms"
# A busy machine's Redis may need longer than production's 50 ms; nobody here is to wait for a pod that is only slow.
redis.timeout = "250ms"
hydrator.interval = "500ms"
hydrator.min_ids = 3000000
hydrator.max_ids = 3000000
exercise.ratio = 0.0
drain.delay = "100ms"
drain.timeout = "10s"
log.level = "debug"
log.format = "json"
"#;

impl Plan {
    /// So many Redis servers.
    pub fn pods(mut self, pods: usize) -> Plan {
        self.pods = pods;
        self
    }

    /// Redis servers without our configuration: they can be replicated, and their memory restored.
    pub fn unguarded(mut self) -> Plan {
        self.unguarded = true;
        self
    }

    /// A PostgreSQL server for the ledger.
    pub fn postgres(mut self) -> Plan {
        self.postgres = true;
        self
    }

    /// A proxy before each pod and before the ledger.
    pub fn proxies(mut self) -> Plan {
        self.proxies = true;
        self
    }

    /// So many processes with the role allocator.
    pub fn allocators(mut self, allocators: usize) -> Plan {
        self.allocators = allocators;
        self
    }

    /// One more process with the role hydrator.
    pub fn hydrator(mut self) -> Plan {
        self.hydrators += 1;
        self
    }

    /// One more sequence.
    pub fn sequence(mut self, name: &str) -> Plan {
        self.sequences.push(name.to_owned());
        self
    }

    /// One more setting for all processes, as in a configuration file: `exercise.ratio = 1.0`.
    pub fn set(mut self, setting: &str) -> Plan {
        self.settings.push(setting.to_owned());
        self
    }

    /// The same for a setting that those before and behind it win over.
    pub fn set_first(mut self, setting: &str) -> Plan {
        self.settings.insert(0, setting.to_owned());
        self
    }

    /// Of another release's binary.
    pub fn binary(mut self, binary: &Path) -> Plan {
        self.binary = Some(binary.to_owned());
        self
    }

    /// On another cluster's ledger, with its sequences; what callers of both are given is checked together.
    pub fn beside(mut self, other: &Cluster) -> Plan {
        self.beside = Some((other.ledger().url(), other.checker.clone()));
        self.sequences.clone_from(&other.sequences);
        self
    }

    /// Starts everything, and waits until it is ready and its pods hold blocks of every sequence.
    pub async fn start(self) -> Cluster {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pod = if self.unguarded { Redis::vanilla } else { Redis::pod };
        let pods: Vec<Redis> = (0..self.pods).map(|_| pod()).collect();
        let postgres = self.postgres.then(Postgres::start);
        let proxied = |port: u16| self.proxies.then(|| Proxy::to(port));
        let pod_proxies: Vec<Proxy> = pods.iter().filter_map(|pod| proxied(pod.port())).collect();
        let own = postgres.as_ref().map(Postgres::url);
        let (ledger, checker) = self.beside.clone().unzip();
        let ledger = own.or(ledger);
        let ledger_proxy = ledger.as_deref().and_then(|url| proxied(port_of(url)));

        let mut settings: Table = QUICK.parse().expect("it is TOML");
        if let Some(url) = &ledger {
            let url = match &ledger_proxy {
                Some(proxy) => at_port(url, proxy.port()),
                None => url.clone(),
            };
            merge(&mut settings, &format!("ledger.url = {url:?}"));
        }
        let ports = pods.iter().map(Redis::port);
        let ports: Vec<u16> = match self.proxies {
            true => pod_proxies.iter().map(Proxy::port).collect(),
            false => ports.collect(),
        };
        let urls: Vec<String> = ports.iter().map(|port| format!("redis://127.0.0.1:{port}")).collect();
        merge(&mut settings, &format!("redis.pods = {urls:?}"));
        self.settings.iter().for_each(|setting| merge(&mut settings, setting));
        let config = folder.path().join("blockhouse.toml");
        std::fs::write(&config, settings.to_string()).expect("the folder can be written to");

        let mut cluster = Cluster {
            allocators: Vec::new(),
            hydrators: Vec::new(),
            pods,
            postgres,
            pod_proxies,
            ledger_proxy,
            checker: checker.unwrap_or_default(),
            sequences: self.sequences,
            binary: self.binary.unwrap_or_else(|| PathBuf::from(process::PRESENT)),
            config,
            folder,
        };
        if self.beside.is_none() {
            cluster.prepare();
        }
        for number in 1..=self.hydrators {
            let hydrator = cluster.process(&format!("hydrator-{number}"), "hydrator");
            cluster.hydrators.push(hydrator);
        }
        cluster.hydrated().await;
        for number in 1..=self.allocators {
            let allocator = cluster.process(&format!("allocator-{number}"), "allocator");
            cluster.allocators.push(allocator);
        }
        cluster.ready().await;
        cluster
    }
}

impl Cluster {
    #[expect(clippy::new_ret_no_self, reason = "what is new is a plan until it is started")]
    pub fn new() -> Plan {
        Plan::default()
    }

    /// Two allocators, a hydrator, three pods, a ledger and three sequences: what most faults are tried on.
    pub fn usual() -> Plan {
        let plan = Cluster::new().pods(3).postgres().allocators(2).hydrator();
        plan.sequence("tasks").sequence("comments").sequence("attachments")
    }

    /// Migrates the ledger and creates the sequences.
    fn prepare(&self) {
        self.succeed(&["ledger", "migrate", "--yes"]);
        for sequence in &self.sequences {
            self.succeed(&["sequence", "create", sequence, "--yes"]);
        }
    }

    /// Starts one more process; `role` as `--role` takes it. It isn't part of `allocators` or `hydrators`.
    pub fn process(&self, name: &str, role: &str) -> Process {
        self.process_with(name, role, &[])
    }

    /// The same, with settings of its own: `redis.timeout=100ms`.
    pub fn process_with(&self, name: &str, role: &str, settings: &[&str]) -> Process {
        let config = self.config.to_string_lossy();
        let fixed = ["--role", role, "--config", &config].into_iter();
        let own = settings.iter().flat_map(|setting| ["--set", *setting]);
        let arguments: Vec<String> = fixed.chain(own).map(str::to_owned).collect();
        Process::start_of(&self.binary, name, self.folder.path(), &arguments)
    }

    /// The same, with a configuration file of its own behind the cluster's.
    pub fn process_from(&self, name: &str, role: &str, file: &Path) -> Process {
        let (config, file) = (self.config.to_string_lossy(), file.to_string_lossy());
        let arguments = ["--role", role, "--config", &config, "--config", &file].map(str::to_owned);
        Process::start_of(&self.binary, name, self.folder.path(), &arguments)
    }

    /// Runs a command with the cluster's configuration.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let config = self.config.to_string_lossy();
        process::run_of(&self.binary, &[arguments, &["--config", &config]].concat())
    }

    /// The same, and panics unless it exits with 0. Gives what it printed.
    #[track_caller]
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}: {said}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until every allocator and hydrator is ready.
    pub async fn ready(&mut self) {
        for process in self.hydrators.iter_mut().chain(&mut self.allocators) {
            process.ready().await;
        }
    }

    /// Waits until every pod holds blocks of every sequence, if anybody fills them.
    pub async fn hydrated(&self) {
        if self.hydrators.is_empty() || self.pods.is_empty() {
            return;
        }
        self.filled_within(FILLED).await;
    }

    /// Waits until every pod holds blocks of every sequence, but no longer than this.
    pub async fn filled_within(&self, deadline: Duration) {
        wait::until(deadline, "every pod holds blocks of every sequence", async || {
            (0..self.pods.len()).all(|pod| self.is_filled(pod))
        })
        .await;
    }

    /// Whether a pod holds blocks of every sequence.
    pub fn is_filled(&self, pod: usize) -> bool {
        let held = pod_ids(&self.pods[pod]);
        self.sequences.iter().all(|sequence| held.contains_key(sequence))
    }

    /// A load on all allocators and sequences.
    pub fn load(&self) -> Load {
        self.load_on(&self.allocators)
    }

    /// A load on these processes alone, and all sequences.
    pub fn load_on(&self, processes: &[Process]) -> Load {
        let ports = processes.iter().map(Process::port).collect();
        let sequences: Vec<&str> = self.sequences.iter().map(String::as_str).collect();
        Load::on(ports, &sequences, &self.checker)
    }

    /// Panics if any ID was given twice: to callers, or to a caller while a pod still holds it.
    #[track_caller]
    pub fn assert_unique(&self) {
        self.checker.assert_unique();
        for allocator in &self.allocators {
            let log = allocator.log();
            assert!(!log.contains("panicked"), "{} panicked", allocator.name());
        }
    }

    /// The ledger's server.
    pub fn ledger(&self) -> &Postgres {
        self.postgres.as_ref().expect("the plan has a ledger")
    }

    /// How many IDs of the sequence the ledger has granted in all.
    pub fn granted(&self, sequence: &str) -> i64 {
        let statement = "SELECT granted - first + 1 FROM blockhouse.sequences WHERE name";
        self.ledger().psql(&format!("{statement} = '{sequence}'")).parse().expect("the sequence was created")
    }

    /// How many grants the ledger has recorded for a purpose.
    pub fn grants(&self, purpose: &str) -> i64 {
        let statement = "SELECT count(*) FROM blockhouse.grants WHERE purpose";
        self.ledger().psql(&format!("{statement} = '{purpose}'")).parse().expect("count gives a number")
    }

    /// Sessions that blockhouse processes hold at the ledger, and how many of them are at work.
    pub fn sessions(&self) -> (usize, usize) {
        let statement = "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity \
            WHERE backend_type = 'client backend' AND application_name NOT IN ('psql', 'pg_isready')";
        let counts = self.ledger().psql(statement);
        let (all, busy) = counts.split_once('|').expect("two columns");
        (all.parse().expect("a number"), busy.parse().expect("a number"))
    }

    /// IDs of the sequence that lie in the pods' present lists.
    pub fn in_pods(&self, sequence: &str) -> i64 {
        self.pods.iter().map(|pod| pod_ids(pod).get(sequence).copied().unwrap_or(0)).sum()
    }

    /// The configuration of all its processes.
    pub fn config(&self) -> &Path {
        &self.config
    }

    pub fn sequences(&self) -> &[String] {
        &self.sequences
    }
}

/// A pod as a process sees it: `state`, `last_error` and so on.
pub fn pod_in(status: &Value, port: u16) -> Value {
    let own =
        |pod: &&Value| pod["address"].as_str().is_some_and(|address| address.ends_with(&format!(":{port}")));
    status["pods"].as_array().into_iter().flatten().find(own).cloned().unwrap_or_default()
}

/// IDs by sequence in the lists of the server's present life; nothing if it doesn't answer.
fn pod_ids(pod: &Redis) -> BTreeMap<String, i64> {
    let Ok(info) = pod.try_run::<String>(&["INFO"]) else { return BTreeMap::new() };
    let life =
        |key: &str| info.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_owned();
    let present = format!(":{}:{}:", life("run_id:"), life("master_replid:"));
    let mut held = BTreeMap::new();
    for key in pod.try_run::<Vec<String>>(&["KEYS", &format!("*{present}*")]).unwrap_or_default() {
        let named = key.split_once(&present).and_then(|(_, rest)| rest.rsplit_once(':'));
        let (Some((sequence, _generation)), Ok(entries)) =
            (named, pod.try_run::<Vec<String>>(&["LRANGE", &key, "0", "-1"]))
        else {
            continue;
        };
        let ids: i64 = entries.iter().filter_map(|entry| entry.parse::<Span>().ok()).map(Span::count).sum();
        *held.entry(sequence.to_owned()).or_default() += ids;
    }
    held.retain(|_, ids| *ids > 0);
    held
}

fn port_of(url: &str) -> u16 {
    url::Url::parse(url).expect("a URL").port().expect("a test's server has a port of its own")
}

fn at_port(url: &str, port: u16) -> String {
    let mut url = url::Url::parse(url).expect("a URL");
    url.set_port(Some(port)).expect("it has a host");
    url.into()
}

/// Adds a setting to a table, into the tables that it names.
fn merge(into: &mut Table, setting: &str) {
    fn add(into: &mut Table, from: Table) {
        for (key, value) in from {
            match (into.get_mut(&key), value) {
                (Some(Setting::Table(into)), Setting::Table(from)) => add(into, from),
                (_, value) => drop(into.insert(key, value)),
            }
        }
    }
    add(into, setting.parse().unwrap_or_else(|error| panic!("not a setting: {setting}: {error}")));
}
