//! Connections in great number that do nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::MEMORY_KB;
use crate::frames::{SETTINGS, frame};
use crate::victim::{Attack, Bounds, Victim};

const CONNECTIONS: usize = 5_000;

/// One round, twice: each opens as many connections as are to be idle, and holds them until it is over.
const BOUNDS: Bounds =
    Bounds { rounds: 2, attackers: 1, acts: 2 * CONNECTIONS as u64, refused: 0, memory_kb: MEMORY_KB };

/// For those that have spoken. hyper holds 21 KB for each connection on HTTP/1.1 and 30 KB on HTTP/2 (buffers of 8 and 16 KB, whose size can't
/// be set), so 5,000 of them need more than 50 MB whatever we do; `grpc.max_connections` bounds them all. This bounds what *we* add.
const SPOKEN: Bounds = Bounds { memory_kb: CONNECTIONS as u64 * 32, ..BOUNDS };

/// As many file descriptors as this process may have at all; the server inherits them.
fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    let needed = CONNECTIONS as u64 + 500;
    assert!(limit.maximum.is_none_or(|most| most >= needed), "ulimit -Hn must be {needed} at least");
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the hard limit");
}

/// Opens them all, says `first` on each, waits until the server has heard that where it `answers`, and holds them.
fn hold(attack: &Attack, first: &[u8], answers: bool) {
    let mut held = Vec::with_capacity(CONNECTIONS);
    while held.len() < CONNECTIONS {
        let mut stream = TcpStream::connect(&attack.address).expect("a connection more");
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(first).unwrap();
        if answers {
            stream.read_exact(&mut [0; 9]).expect("the server's word");
        }
        held.push(stream);
    }
    attack.acted(CONNECTIONS as u64);
    while !attack.is_over() {
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn five_thousand_silent_connections() {
    raise_limit();
    Victim::start().await.endures(BOUNDS, |attack| hold(attack, b"", false)).await;
}

#[tokio::test]
async fn five_thousand_idle_http_2_connections() {
    raise_limit();
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
    Victim::start().await.endures(SPOKEN, |attack| hold(attack, &preface, true)).await;
}

#[tokio::test]
async fn five_thousand_idle_http_1_connections() {
    raise_limit();
    let request = b"POST /v1/sequences/tasks/ids HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    Victim::start().await.endures(SPOKEN, |attack| hold(attack, request, true)).await;
}
