//! A private PostgreSQL for one test: its own folder, its own port, fsync on, gone when dropped.
//!
//! PostgreSQL refuses to run as root, so under root its programs run as the user `postgres`.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tempfile::{NamedTempFile, TempDir};
use tokio_postgres::NoTls;

/// How long anything of the server's may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server, or one that was stopped and keeps its data.
pub struct Postgres {
    programs: Programs,
    /// Holds the data folder `data` and the log.
    folder: TempDir,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// A server on a copy of a data folder that was made once: all of them have one system identifier.
    pub fn start() -> Postgres {
        let programs = Programs::find();
        let folder = programs.folder();
        let template = programs.template();
        run(Command::new("cp").arg("-a").arg(template).arg(folder.path().join("data")));
        Postgres::started(programs, folder)
    }

    /// A server with a system identifier of its own.
    pub fn start_fresh() -> Postgres {
        let programs = Programs::find();
        let folder = programs.folder();
        programs.initdb(&folder.path().join("data"));
        Postgres::started(programs, folder)
    }

    /// An asynchronous hot standby of this server.
    pub fn standby(&self) -> Postgres {
        let folder = self.programs.folder();
        self.base_backup(&folder.path().join("data"), &["-R"]);
        Postgres::started(self.programs.clone(), folder)
    }

    fn started(programs: Programs, folder: TempDir) -> Postgres {
        let mut server = Postgres { programs, folder, port: super::wait::free_port(), server: None };
        server.launch();
        server
    }

    /// For `ledger.url`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of the process that all others of the server come from.
    pub fn pid(&self) -> Pid {
        let server = self.server.as_ref().expect("the server runs");
        i32::try_from(server.id()).ok().and_then(Pid::from_raw).expect("a process id")
    }

    /// Where its configuration and its data are.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Adds lines to `postgresql.conf`; they count from the next start.
    pub fn configure(&self, lines: &str) {
        let path = self.data().join("postgresql.conf");
        let conf = fs::read_to_string(&path).expect("the server's configuration can be read");
        fs::write(&path, format!("{conf}\n{lines}\n")).expect("the server's configuration can be written");
    }

    /// Puts a file that the server may read into its data folder.
    pub fn give(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        fs::write(&path, text).expect("the data folder can be written");
        run(Command::new("chmod").arg("600").arg(&path));
        self.programs.own(&path);
    }

    /// Starts it again on the same port after [`Postgres::stop`] or [`Postgres::crash`].
    pub fn launch(&mut self) {
        self.launch_on("127.0.0.1");
    }

    fn launch_on(&mut self, listen: &str) {
        assert!(self.server.is_none(), "the server runs already");
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log"));
        let log = log.expect("the log can be opened");
        let server = self
            .programs
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-h", listen, "-p"])
            .arg(self.port.to_string())
            .arg("-k")
            .arg(self.folder.path())
            .stdout(Stdio::from(log.try_clone().expect("a file can be had twice")))
            .stderr(Stdio::from(log))
            .spawn()
            .expect("postgres can be started");
        self.server = Some(server);
        let ready = self.data().join("postmaster.pid");
        self.until("the server is ready", || {
            fs::read_to_string(&ready).is_ok_and(|state| state.trim_end().ends_with("ready"))
        });
    }

    /// Ends it in order; sessions are cut off.
    pub fn stop(&mut self) {
        self.end("INT");
    }

    /// Ends it at once, as a crash would.
    pub fn crash(&mut self) {
        self.end("QUIT");
    }

    /// `kill -9` for all its processes at once, as when its machine fails.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // Stopped first: nobody is born between the look and the end.
        kill("STOP", &[server.id()]);
        kill("KILL", &family(server.id()));
        let _ = server.wait();
        // It had no chance to take this away, and it says that the server is ready.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }

    /// Lets nobody in any more: the first half of a smart shutdown. Those who are connected are served on.
    pub fn close_the_door(&self) {
        kill("TERM", &[self.server.as_ref().expect("the server runs").id()]);
    }

    /// The other half: it ends by itself once everybody has left.
    pub fn stop_when_left(&mut self) {
        self.end("TERM");
    }

    /// Changes what a stopped server has recorded, unseen: only a socket in its folder leads to it meanwhile.
    pub fn change_unseen(&mut self, sql: &str) {
        self.launch_on("");
        let mut psql = self.client("psql");
        run(psql.env("PGHOST", self.folder.path()).args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]));
        self.stop();
    }

    /// Stops and starts it, with the same data.
    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    /// Freezes all its processes: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Ends [`Postgres::pause`].
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Makes a standby the primary of its own line of history.
    pub fn promote(&self) {
        assert_eq!(self.psql("SELECT pg_promote(true, 30)"), "t", "the standby was promoted");
    }

    /// Makes a standby that is stopped forget that it was one: started again it goes on by itself, in the line of history of its primary.
    pub fn forget_primary(&self) {
        assert!(self.server.is_none(), "the server runs");
        fs::remove_file(self.data().join("standby.signal")).expect("it was a standby");
    }

    /// Keeps a copy of the running server's files, as a backup or a volume's snapshot does.
    pub fn back_up(&self) {
        let aside = self.folder.path().join("aside");
        if aside.exists() {
            fs::remove_dir_all(&aside).expect("an older copy can be removed");
        }
        self.base_backup(&aside, &[]);
    }

    fn base_backup(&self, to: &Path, more: &[&str]) {
        run(self
            .programs
            .command("pg_basebackup")
            .args(["-h", "127.0.0.1", "-U", "postgres", "-X", "stream", "-c", "fast", "--no-sync", "-p"])
            .arg(self.port.to_string())
            .args(more)
            .arg("-D")
            .arg(to));
    }

    /// Keeps a copy of the stopped server's files.
    pub fn set_files_aside(&self) {
        self.copy_files("data", "aside");
    }

    /// Puts the stopped server's files back as they were set aside.
    pub fn put_files_back(&self) {
        fs::remove_dir_all(self.data()).expect("the data folder can be removed");
        self.copy_files("aside", "data");
    }

    fn copy_files(&self, from: &str, to: &str) {
        assert!(self.server.is_none(), "the server runs");
        let folder = self.folder.path();
        run(Command::new("cp").arg("-a").arg(folder.join(from)).arg(folder.join(to)));
    }

    /// From its next start it keeps its write-ahead log for [`Postgres::recover_to`].
    pub fn archive(&self) {
        let archive = self.folder.path().join("archive");
        fs::create_dir(&archive).expect("the folder can be written");
        self.programs.own(&archive);
        let archive = archive.display();
        self.configure(&format!(
            "archive_mode = on\narchive_command = 'cp %p {archive}/%f'\nrestore_command = 'cp {archive}/%f %p'"
        ));
    }

    /// Where its write-ahead log ends now.
    pub fn moment(&self) -> String {
        self.psql("SELECT pg_current_wal_lsn()")
    }

    /// Ends the server, and starts it from the last backup as it was at that moment.
    pub fn recover_to(&mut self, moment: &str) {
        self.psql("SELECT pg_switch_wal()");
        self.wait_for(&format!(
            "SELECT last_archived_wal >= pg_walfile_name('{moment}') FROM pg_stat_archiver"
        ));
        self.crash();
        self.put_files_back();
        self.give("recovery.signal", "");
        self.configure(&format!("recovery_target_lsn = '{moment}'\nrecovery_target_action = promote"));
        self.launch();
        self.wait_for("SELECT NOT pg_is_in_recovery()");
    }

    /// A dump that puts back the ledger over whatever is there.
    pub fn dump(&self) -> NamedTempFile {
        let file = NamedTempFile::new().expect("a temporary file");
        let out = Stdio::from(file.reopen().expect("the file can be written"));
        let mut dump = self.client("pg_dump");
        let dumped = dump.args(["--clean", "--if-exists", "-n", "blockhouse"]).stdout(out).status();
        assert!(dumped.expect("pg_dump can be run").success());
        file
    }

    /// Puts a dump in the place of what is there, in one transaction: nobody sees half of it.
    pub fn restore(&self, dump: &NamedTempFile) {
        let input = Stdio::from(dump.reopen().expect("the file can be read"));
        let mut psql = self.client("psql");
        let restored = psql
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction"])
            .stdin(input)
            .stdout(Stdio::null())
            .status();
        assert!(restored.expect("psql can be run").success());
    }

    /// Lets what the ledger recorded so far be that much older than now.
    pub fn age_by(&self, hours: u32) {
        self.psql(&format!(
            "SET session_replication_role = replica;
             ALTER TABLE blockhouse.grants DISABLE TRIGGER no_change;
             UPDATE blockhouse.grants SET at = at - interval '{hours} hours';
             ALTER TABLE blockhouse.grants ENABLE ALWAYS TRIGGER no_change;
             UPDATE blockhouse.clusters SET renewed_at = renewed_at - interval '{hours} hours',
                                            lease_ends = lease_ends - interval '{hours} hours'"
        ));
    }

    /// Ends a standby's replication: what its primary commits from now on, it never gets.
    pub fn fall_behind(&self) {
        self.psql("ALTER SYSTEM SET primary_conninfo = ''");
        self.psql("SELECT pg_reload_conf()");
        self.wait_for("SELECT count(*) = 0 FROM pg_stat_wal_receiver");
    }

    /// Takes the address of another server, which is down and stays so.
    pub fn replace(&mut self, gone: &mut Postgres) {
        assert!(gone.server.is_none(), "the other server runs");
        self.stop();
        std::mem::swap(&mut self.port, &mut gone.port);
        self.launch();
    }

    /// From now on its log names every session that is opened.
    pub fn log_connections(&self) {
        self.psql("ALTER SYSTEM SET log_connections = on");
        self.psql("SELECT pg_reload_conf()");
        self.until("the server has read it", || self.psql("SHOW log_connections") == "on");
    }

    /// Everything it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("the server has a log")
    }

    /// What one or more statements print, columns separated by `|`. Panics if one fails.
    pub fn psql(&self, sql: &str) -> String {
        self.try_psql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// What one or more statements print, or why one failed.
    pub fn try_psql(&self, sql: &str) -> Result<String, String> {
        let output =
            self.client("psql").args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]).output();
        text(output.expect("psql can be run"))
    }

    /// A session of its own, that can hold locks while others wait.
    pub async fn session(&self) -> Session {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.expect("a session");
        tokio::spawn(connection);
        Session { client }
    }

    /// One of PostgreSQL's client programs, pointed at this server.
    pub fn client(&self, program: &str) -> Command {
        let mut command = self.programs.command(program);
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres");
        command
    }

    /// A program of somebody else's, run as the user that the server runs as.
    pub fn neighbour(&self, program: &str) -> Command {
        self.programs.as_its_user(Command::new(program))
    }

    /// Gives a file or folder to that user.
    pub fn give_away(&self, path: &Path) {
        self.programs.own(path);
    }

    /// Asks until the statement prints `t`.
    pub fn wait_for(&self, sql: &str) {
        self.until(sql, || self.try_psql(sql).as_deref() == Ok("t"));
    }

    fn until(&self, what: &str, reached: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached() {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "waited too long until {what}; the server's log:\n{}", log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(&mut self, signal: &str) {
        let Some(mut server) = self.server.take() else { return };
        kill("CONT", &family(server.id()));
        kill(signal, &[server.id()]);
        let deadline = Instant::now() + PATIENCE;
        while matches!(server.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                kill("KILL", &family(server.id()));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, signal: &str) {
        if let Some(server) = &self.server {
            kill(signal, &family(server.id()));
        }
    }
}

/// One session, for tests that need the order of things.
pub struct Session {
    client: tokio_postgres::Client,
}

impl Session {
    /// Runs one or more statements. Panics if one fails.
    pub async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Waits until the statement gives true.
    pub async fn until(&self, sql: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let row = self.client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            if row.get(0) {
                return;
            }
            assert!(Instant::now() < deadline, "waited too long until {sql}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

/// Where PostgreSQL's programs are, and as whom they run.
#[derive(Clone)]
struct Programs {
    bin: PathBuf,
    /// User and group, where this process itself may not run them.
    run_as: Option<(u32, u32)>,
}

impl Programs {
    /// Version 15 from where Debian puts it, else what is on PATH.
    fn find() -> Programs {
        let debian = PathBuf::from("/usr/lib/postgresql/15/bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = std::iter::once(debian).chain(std::env::split_paths(&path));
        let bin = folders.find(|folder| folder.join("initdb").exists());
        let bin = bin.expect("initdb is on PATH: tests/run brings it");
        let id = |of: &str, user: &str| run(Command::new("id").args([of, user])).parse::<u32>();
        let root = run(Command::new("id").arg("-u")) == "0";
        let run_as = root.then(|| {
            let user = id("-u", "postgres").expect("the user 'postgres' exists");
            (user, id("-g", "postgres").expect("the user 'postgres' has a group"))
        });
        Programs { bin, run_as }
    }

    fn command(&self, program: &str) -> Command {
        self.as_its_user(Command::new(self.bin.join(program)))
    }

    fn as_its_user(&self, mut command: Command) -> Command {
        if let Some((user, group)) = self.run_as {
            command.uid(user).gid(group);
        }
        // Nothing of the developer's own PostgreSQL settings reaches the test.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn folder(&self) -> TempDir {
        let folder = tempfile::Builder::new().prefix("blockhouse-pg-").tempdir().expect("a temporary folder");
        self.own(folder.path());
        folder
    }

    fn own(&self, path: &Path) {
        if let Some((user, group)) = self.run_as {
            chown(path, Some(user), Some(group)).expect("root can give a folder away");
        }
    }

    fn initdb(&self, data: &Path) {
        run(self
            .command("initdb")
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--wal-segsize=1",
                "--no-sync",
                "-D",
            ])
            .arg(data));
        let conf = data.join("postgresql.conf");
        let text = fs::read_to_string(&conf).expect("initdb wrote a configuration");
        fs::write(
            conf,
            format!("{text}\nshared_buffers = 16MB\nmax_connections = 100\nwal_keep_size = 64MB\n"),
        )
        .expect("the configuration can be written");
    }

    /// A data folder to copy: made once for all tests and kept with the build.
    fn template(&self) -> PathBuf {
        let version =
            run(self.command("postgres").arg("--version")).replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("template-{version}"));
        if !template.exists() {
            let folder = self.folder();
            self.initdb(&folder.path().join("data"));
            let made = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder beside the build");
            run(Command::new("cp").arg("-a").arg(folder.path().join("data")).arg(made.path()));
            // Of several tests that make one, the first wins, and the others' are dropped.
            if let Err(error) = fs::rename(made.path().join("data"), &template) {
                assert!(template.exists(), "{}: {error}", template.display());
            }
        }
        template
    }
}

/// A process and its children; PostgreSQL's have no others below them.
fn family(parent: u32) -> Vec<u32> {
    let parent_of = |pid: u32| -> io::Result<Option<u32>> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in brackets may hold anything; state and parent follow it.
        Ok(stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok()))
    };
    let mut pids = vec![parent];
    for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
        if let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>()
            && parent_of(pid).is_ok_and(|found| found == Some(parent))
        {
            pids.push(pid);
        }
    }
    pids
}

fn kill(signal: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    // One of them may be gone by now.
    let _ = Command::new("kill").arg("-s").arg(signal).args(pids).stderr(Stdio::null()).status();
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    text(output).unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn text(output: Output) -> Result<String, String> {
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
    }
}
