//! The channel to the ledger: what each level of protection accepts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use blockhouse::config::settings::Tls;
use blockhouse::ledger::LedgerError;
use tempfile::TempDir;

use super::{Client, again, ask, life, server_with_tasks};
use crate::support::postgres::Postgres;

/// A certificate authority made for one test.
pub struct Authority {
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Authority {
        let authority = Authority { folder: tempfile::tempdir().unwrap() };
        authority.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.crt");
        authority
    }

    /// Makes `{name}.key` and `{name}.crt`.
    pub fn issue(&self, name: &str, common_name: &str, alternative: &str) {
        fs::write(self.file("san"), format!("subjectAltName={alternative}")).unwrap();
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={common_name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out {name}.crt"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let mut openssl = Command::new("openssl");
        let output = openssl.args(arguments.split(' ')).current_dir(self.folder.path()).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }
}

/// Makes the server speak TLS with a certificate for `localhost`.
pub fn protect(server: &mut Postgres, authority: &Authority) {
    authority.issue("server", "localhost", "DNS:localhost");
    server.give("server.key", &authority.read("server.key"));
    server.give("server.crt", &authority.read("server.crt"));
    server.give("ca.crt", &authority.read("ca.crt"));
    server.configure("ssl = on\nssl_ca_file = 'ca.crt'");
    server.restart();
}

async fn connects(client: &Client) -> Result<(), LedgerError> {
    client.try_open()?.facts(None).await.map(drop)
}

fn refuses(answer: Result<(), LedgerError>, why: &str) {
    assert!(matches!(&answer, Err(LedgerError::Unreachable(said)) if said.contains(why)), "{answer:?}");
}

fn client(url: &str, tls: Tls, ca: Option<&Path>) -> Client {
    let mut client = Client::to(url);
    client.settings.tls = tls;
    client.settings.ca = ca.map(Path::to_owned);
    client
}

#[tokio::test]
async fn each_level_accepts_the_servers_that_it_should() {
    let (mut server, _) = server_with_tasks().await;
    let authority = Authority::new();
    protect(&mut server, &authority);
    again(&*Client::to(&server.url()).open()).await;
    let by_address = server.url();
    let by_name = by_address.replace("127.0.0.1", "localhost");
    let (ours, theirs) = (authority.file("ca.crt"), Authority::new());
    let theirs = theirs.file("ca.crt");

    for (tls, protected) in [(Tls::Disable, "f"), (Tls::Prefer, "t"), (Tls::Require, "t")] {
        let ledger = client(&by_address, tls, None).open();
        ledger.grant(&ask(life(&*ledger).await, 1)).await.unwrap();
        let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                    WHERE application_name = 'blockhouse/test-1'";
        assert_eq!(server.psql(sql), protected, "{tls:?}");
        drop(ledger);
        server.wait_for(
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'blockhouse/test-1'",
        );
    }
    connects(&client(&by_name, Tls::VerifyFull, Some(&ours))).await.unwrap();
    connects(&client(&by_address, Tls::Require, Some(&ours))).await.unwrap();
    refuses(connects(&client(&by_address, Tls::VerifyFull, Some(&ours))).await, "certificate");
    refuses(connects(&client(&by_name, Tls::VerifyFull, Some(&theirs))).await, "certificate");
    refuses(connects(&client(&by_name, Tls::Require, Some(&theirs))).await, "certificate");
    refuses(connects(&client(&by_name, Tls::VerifyFull, None)).await, "certificate");

    let in_the_url = format!("{by_name}?sslmode=verify-full&sslrootcert={}", ours.display());
    connects(&client(&in_the_url, Tls::Disable, None)).await.unwrap();
    let in_the_url = in_the_url.replace("localhost", "127.0.0.1");
    refuses(connects(&client(&in_the_url, Tls::Disable, None)).await, "certificate");
}

#[tokio::test]
async fn a_server_without_tls_is_used_only_where_that_is_allowed() {
    let (server, _) = server_with_tasks().await;
    connects(&client(&server.url(), Tls::Prefer, None)).await.unwrap();
    refuses(connects(&client(&server.url(), Tls::Require, None)).await, "does not support TLS");
    let authority = Authority::new();
    let full = client(&server.url(), Tls::VerifyFull, Some(&authority.file("ca.crt")));
    refuses(connects(&full).await, "does not support TLS");
}

#[tokio::test]
async fn a_clients_certificate_lets_it_in() {
    let (mut server, _) = server_with_tasks().await;
    let authority = Authority::new();
    authority.issue("app", "app", "DNS:app");
    server.psql("CREATE ROLE app LOGIN SUPERUSER");
    let rules = fs::read_to_string(server.data().join("pg_hba.conf")).unwrap();
    server
        .give("pg_hba.conf", &format!("hostssl all app 127.0.0.1/32 cert\nhost all app all reject\n{rules}"));
    protect(&mut server, &authority);
    let mut app = client(&server.url().replace("postgres@", "app@"), Tls::Require, None);
    refuses(connects(&app).await, "certificate");
    app.settings.cert = Some(authority.file("app.crt"));
    app.settings.key = Some(authority.file("app.key"));
    connects(&app).await.unwrap();
    app.settings.key = None;
    assert!(matches!(connects(&app).await, Err(LedgerError::Invalid(why)) if why.contains("go together")));
}
