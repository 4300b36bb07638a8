//! Where connections come from, and how many.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use blockhouse::config::settings::Listen;
use blockhouse::rpc::listen;

use crate::http::Page;
use crate::wire::{PATIENCE, Server, until};
use crate::{client, request};

#[tokio::test]
async fn a_unix_socket_serves_both_protocols() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids.sock");
    let server = Server::with(|grpc| grpc.listen = vec![Listen::Unix(path.clone())]);
    assert_eq!(server.address(), format!("unix:{}", path.display()));
    client(server.address()).await.allocate(request("tasks", 2)).await.unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream
        .write_all(b"POST /v1/sequences/tasks/ids HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(Page::parse(&answer).json()["ranges"][0]["first"], "3");
}

#[tokio::test]
async fn every_address_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::with(|grpc| grpc.listen.push(Listen::Unix(folder.path().join("ids.sock"))));
    assert_eq!(server.addresses.len(), 2);
    for url in [server.url(), server.addresses[1].clone()] {
        client(&url).await.allocate(request("tasks", 1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_too_many_is_closed_at_once_and_a_place_set_free_is_taken() {
    let server = Server::with(|grpc| grpc.max_connections = 2);
    let mut first = client(&server.url()).await;
    let mut second = client(&server.url()).await;
    first.allocate(request("tasks", 1)).await.unwrap();
    second.allocate(request("tasks", 1)).await.unwrap();
    assert!(is_closed_at_once(server.address()));
    drop(first);
    until("the place is free", || !is_closed_at_once(server.address())).await;
    second.allocate(request("tasks", 1)).await.unwrap();
}

fn is_closed_at_once(address: &str) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ =
        stream.write_all(b"POST /v1/sequences/tasks/ids HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    // Closed, or reset because of what was sent.
    matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_))
}

/// Runs itself again with a socket as a service manager passes it.
#[test]
fn a_socket_of_the_service_manager_is_taken_by_its_name() {
    if std::env::var_os("LISTEN_FDS").is_some() {
        return as_the_service();
    }
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let child = Command::new("sh")
        .args(["-c", "exec 3<&0; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=grpc exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "sockets::a_socket_of_the_service_manager_is_taken_by_its_name"])
        .env("EXPECTED_ADDRESS", address.to_string())
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

fn as_the_service() {
    let named = |name: &str| listen::bind_one(&Listen::Systemd(name.to_owned()));
    // Twice: nothing here owns the socket's number.
    for _ in 0..2 {
        let listeners = named("grpc").unwrap();
        assert_eq!(listeners[0].address(), std::env::var("EXPECTED_ADDRESS").unwrap());
    }
    let error = named("admin").unwrap_err().to_string();
    assert!(error.contains("grpc"), "names what was passed: {error}");
    let server = Server::with(|grpc| grpc.listen = vec![Listen::Systemd("grpc".to_owned())]);
    assert_eq!(Page::post(&server, "/v1/sequences/tasks/ids", "").status, 200);
}
