//! A private PgBouncer before a test's PostgreSQL: transaction mode, fewer sessions than clients, gone when dropped.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::postgres::Postgres;
use super::proxy::Proxy;
use super::redis::eventually;
use super::wait;

/// Sessions that all clients together get.
pub const SESSIONS: usize = 2;

/// A running PgBouncer. It refuses to run as root, as PostgreSQL does, and runs as the same user.
pub struct Pooler {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Pooler {
    /// As Debian's package sets it up, but for the pool's mode and size.
    pub fn before(server: &Postgres) -> Pooler {
        Pooler::with(server, "")
    }

    /// With one more line of configuration.
    pub fn with(server: &Postgres, line: &str) -> Pooler {
        Pooler::to(server.port(), server, line)
    }

    /// Before a proxy: every transaction gets a connection of its own, which the proxy may lead to another server.
    pub fn reconnecting(proxy: &Proxy, server: &Postgres) -> Pooler {
        Pooler::to(proxy.port(), server, "server_lifetime = 0")
    }

    fn to(behind: u16, server: &Postgres, line: &str) -> Pooler {
        let folder = tempfile::Builder::new().prefix("blockhouse-pooler-").tempdir();
        let folder = folder.expect("a temporary folder");
        let port = wait::free_port();
        let here = folder.path().display();
        let settings = format!(
            "[databases]\npostgres = host=127.0.0.1 port={behind}\n\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {here}/users\nadmin_users = postgres\n\
             pool_mode = transaction\ndefault_pool_size = {SESSIONS}\n{line}\n"
        );
        let config = folder.path().join("pgbouncer.ini");
        fs::write(&config, settings).expect("the folder can be written");
        fs::write(folder.path().join("users"), "\"postgres\" \"\"\n").expect("the folder can be written");
        let log = fs::File::create(folder.path().join("log")).expect("the folder can be written");
        server.give_away(folder.path());
        let child = server.neighbour("pgbouncer").arg(config).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.expect("pgbouncer can be started (tests/run brings it)");
        let mut pooler = Pooler { child, port, folder };
        eventually("the pooler listens", || {
            let ended = pooler.child.try_wait().expect("an own child");
            assert!(ended.is_none(), "pgbouncer ended with {ended:?}:\n{}", pooler.log());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        pooler
    }

    /// For `ledger.url`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// What it said of clients and servers.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
