//! The service as clients in other languages see it, each with the published service config.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Cluster;

/// A client's program and its script.
async fn agrees(program: PathBuf, script: &str, modules: Option<PathBuf>) {
    let cluster = Cluster::new().pods(1).postgres().allocators(1).hydrator().sequence("tasks").start().await;
    // It never learns of any ledger, and says UNAVAILABLE for ever.
    let nowhere = ["ledger.url=postgres://nobody@127.0.0.1:1/nowhere", "redis.pods=[]"];
    let starting = cluster.process_with("nowhere", "allocator", &nowhere);
    crate::support::wait::until(std::time::Duration::from_secs(10), "it listens", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", starting.port())).await.is_ok()
    })
    .await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut client = Command::new(program);
    client.arg(root.join("tests/suite/foreign").join(script));
    client.arg(root.join("proto")).arg(root.join("config/client/grpc-service-config.json"));
    client.arg(cluster.allocators[0].port().to_string()).arg(starting.port().to_string());
    client.envs(modules.map(|folder| ("NODE_PATH", folder)));
    let output = tokio::task::spawn_blocking(move || client.output()).await.unwrap();
    let output = output.unwrap_or_else(|error| panic!("{error}: tests/run brings the foreign clients"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("agrees"), "{said}");
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
    agrees("node".into(), "client.cjs", Some(tools().join("grpc-js/node_modules"))).await;
}
