//! The service as clients in other languages see it, each with the published service config.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::support::postgres::Session;
use crate::support::process::Process;
use crate::support::{Cluster, wait};

/// Runs a client's script with its program, on a process that serves and one that can't.
async fn agrees(program: PathBuf, script: &str, modules: Option<PathBuf>) {
    let mut cluster =
        Cluster::new().pods(1).postgres().allocators(1).hydrator().sequence("tasks").start().await;
    let _held = stuck_sequence(&mut cluster).await;
    let poor = poor_process(&cluster).await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut client = Command::new(program);
    client.arg(root.join("tests/suite/foreign").join(script));
    client.arg(root.join("proto")).arg(root.join("config/client/grpc-service-config.json"));
    let ports = [cluster.allocators[0].port(), poor.port(), poor.admin_port()];
    client.args(ports.map(|port| port.to_string()));
    client.envs(modules.map(|folder| ("NODE_PATH", folder)));
    let output = tokio::task::spawn_blocking(move || client.output()).await.unwrap();
    let output = output.unwrap_or_else(|error| panic!("{error}: tests/run brings the foreign clients"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("agrees"), "{said}");
}

/// A sequence `stuck` that no pod holds and whose row is locked for as long as the session lives: whoever asks waits.
async fn stuck_sequence(cluster: &mut Cluster) -> Session {
    cluster.hydrators[0].kill();
    cluster.succeed(&["sequence", "create", "stuck", "--yes"]);
    let session = cluster.ledger().session().await;
    session.run("BEGIN; SELECT FROM blockhouse.sequences WHERE name = 'stuck' FOR UPDATE").await;
    session
}

/// A process without pods that finds nobody where its ledger should be: it listens, and says UNAVAILABLE for ever.
async fn poor_process(cluster: &Cluster) -> Process {
    let nowhere = ["ledger.url=postgres://nobody@127.0.0.1:1/nowhere", "redis.pods=[]"];
    let poor = cluster.process_with("nowhere", "allocator", &nowhere);
    wait::until(Duration::from_secs(20), "it listens", async || {
        TcpStream::connect(("127.0.0.1", poor.port())).await.is_ok()
    })
    .await;
    poor
}

/// Where `tests/install/foreign` puts them.
fn tools() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target")).join("tools")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pythons_grpcio_is_served_refused_and_led_to_another_server() {
    agrees(tools().join("grpcio/bin/python"), "client.py", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_grpc_js_is_served_refused_and_led_to_another_server() {
    let brought = tools().join("node/bin/node");
    let node = if brought.exists() { brought } else { "node".into() };
    agrees(node, "client.cjs", Some(tools().join("grpc-js/node_modules"))).await;
}
