//! Limits of HTTP/2 and HTTP/1.1, frame by frame.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use prost::Message as _;

use crate::http::Page;
use crate::wire::{PATIENCE, Server, until};
use crate::{client, message, request};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const ENHANCE_YOUR_CALM: u32 = 11;

/// An HTTP/2 client without manners.
struct Rude(TcpStream);

struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Rude {
    fn connect(server: &Server) -> Rude {
        Rude::connect_with(server, &[])
    }

    fn connect_with(server: &Server, settings: &[u8]) -> Rude {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut rude = Rude(stream);
        rude.send(SETTINGS, 0, 0, settings);
        rude
    }

    /// `false` if the server has closed.
    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).is_ok()
    }

    /// One request on the stream 1.
    fn ask(&mut self, correlation_id: u64) {
        let mut data = vec![0; 5];
        message(correlation_id, "tasks", 1).encode(&mut data).unwrap();
        data[4] = u8::try_from(data.len() - 5).unwrap();
        self.send(DATA, 0, 1, &data);
    }

    /// `None` once the server has closed.
    fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind: head[3],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    /// The error of the server's GOAWAY.
    fn goaway(&mut self) -> Option<u32> {
        loop {
            let frame = self.receive()?;
            if frame.kind == GOAWAY {
                return Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
            }
        }
    }
}

fn call_head() -> Vec<u8> {
    head_of("/blockhouse.v1.AllocationService/Allocate")
}

/// As HPACK without a table: `:method POST`, `:scheme http`, then literals.
fn head_of(path: &str) -> Vec<u8> {
    let mut head = vec![0x83, 0x86];
    for (name, value) in
        [(":path", path), (":authority", "x"), ("content-type", "application/grpc"), ("te", "trailers")]
    {
        literal(&mut head, name, value);
    }
    head
}

fn literal(head: &mut Vec<u8>, name: &str, value: &str) {
    head.push(0);
    for text in [name, value] {
        assert!(text.len() < 127);
        head.push(text.len() as u8);
        head.extend(text.as_bytes());
    }
}

/// Whether the server still serves others.
async fn is_well(server: &Server) -> bool {
    client(&server.url()).await.allocate(request("tasks", 1)).await.is_ok()
}

#[test]
fn the_limits_are_announced() {
    let server = Server::with(|grpc| grpc.max_streams = 77);
    let settings = Rude::connect(&server).receive().unwrap();
    assert_eq!((settings.kind, settings.stream), (SETTINGS, 0));
    let number = |setting: &[u8]| u32::from_be_bytes(setting[2..].try_into().unwrap());
    let settings: BTreeMap<u8, u32> =
        settings.payload.chunks(6).map(|setting| (setting[1], number(setting))).collect();
    assert_eq!(settings.get(&3), Some(&77), "SETTINGS_MAX_CONCURRENT_STREAMS");
    assert_eq!(settings.get(&6), Some(&(16 * 1024)), "SETTINGS_MAX_HEADER_LIST_SIZE");
    assert_eq!(settings.get(&4), Some(&(64 * 1024)), "SETTINGS_INITIAL_WINDOW_SIZE");
}

#[tokio::test]
async fn a_stream_beyond_the_limit_is_refused_alone() {
    let server = Server::with(|grpc| grpc.max_streams = 2);
    let mut rude = Rude::connect(&server);
    for stream in [1, 3, 5] {
        rude.send(HEADERS, END_HEADERS, stream, &call_head());
    }
    let refused = loop {
        let frame = rude.receive().expect("an answer");
        if frame.kind == RST_STREAM {
            break frame;
        }
    };
    assert_eq!((refused.stream, refused.payload.as_slice()), (5, &7_u32.to_be_bytes()[..]), "REFUSED_STREAM");
    assert!(is_well(&server).await);
}

/// "Rapid reset": streams opened and reset faster than they can be looked at.
#[tokio::test]
async fn a_flood_of_resets_is_answered_with_goaway() {
    let server = Server::start();
    let mut rude = Rude::connect(&server);
    for stream in (1..20_000).step_by(2) {
        let open = rude.send(HEADERS, END_HEADERS, stream, &call_head())
            && rude.send(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        if !open {
            break;
        }
    }
    assert_eq!(rude.goaway(), Some(ENHANCE_YOUR_CALM));
    assert!(is_well(&server).await);
}

/// RUSTSEC-2024-0003: streams that the server itself must reset, each of which it has to remember for a while.
#[tokio::test]
async fn a_flood_of_errors_is_answered_with_goaway() {
    let server = Server::start();
    let mut rude = Rude::connect(&server);
    // A header of HTTP/1.1's connections is malformed here: the server resets the stream.
    let mut malformed = call_head();
    literal(&mut malformed, "connection", "close");
    let mut sent = 0;
    for stream in (1..6_000).step_by(2) {
        if !rude.send(HEADERS, END_HEADERS | END_STREAM, stream, &malformed) {
            break;
        }
        sent += 1;
    }
    assert!(sent >= 1024, "closed after {sent} errors already");
    assert_eq!(rude.goaway(), Some(ENHANCE_YOUR_CALM));
    assert!(is_well(&server).await);
}

#[tokio::test]
async fn a_client_that_cancels_a_lot_is_served_on() {
    let server = Server::start();
    let mut rude = Rude::connect(&server);
    // Bursts above h2's own 20, each looked at before the next.
    for burst in 0..20_u32 {
        let first = 1 + burst * 200;
        for stream in (first..first + 120).step_by(2) {
            rude.send(HEADERS, END_HEADERS, stream, &call_head());
            rude.send(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        }
        let probe = first + 160;
        rude.send(HEADERS, END_HEADERS, probe, &call_head());
        rude.send(DATA, END_STREAM, probe, &[0, 0, 0, 0, 0]);
        loop {
            let frame = rude.receive().expect("the connection stays open");
            assert_ne!(frame.kind, GOAWAY);
            if frame.kind == HEADERS && frame.stream == probe {
                break;
            }
        }
    }
}

/// One that lets the server send nothing: the answers wait for it, and not in the allocator.
#[tokio::test]
async fn a_client_that_reads_nothing_holds_no_more_than_its_bound() {
    let server = Server::with(|grpc| grpc.max_stream_in_flight = 64);
    let no_window = [0, 4, 0, 0, 0, 0];
    let mut rude = Rude::connect_with(&server, &no_window);
    rude.send(HEADERS, END_HEADERS, 1, &head_of("/blockhouse.v1.AllocationService/AllocateStream"));
    // hyper takes one piece before it looks at the window: here the first answer alone.
    rude.ask(1);
    until("the first is answered", || server.counter.asked() == 1).await;
    for id in 2..500 {
        rude.ask(id);
    }
    until("the bound is reached", || server.counter.asked() == 1 + 64).await;
    assert!(is_well(&server).await);
    assert_eq!((server.counter.asked(), server.counter.waiting()), (1 + 64 + 1, 0));
    drop(rude);
    until("all that wasn't taken is given back", || server.counter.given_back() == 64).await;
}

#[tokio::test]
async fn a_head_over_16_kib_is_refused() {
    let server = Server::start();
    let mut call = tonic::Request::new(request("tasks", 1));
    call.metadata_mut().insert("x-long", "x".repeat(20_000).parse().unwrap());
    let mut client = client(&server.url()).await;
    client.allocate(call).await.unwrap_err();
    client.allocate(request("tasks", 1)).await.unwrap();
    let text =
        format!("POST /v1/sequences/tasks/ids HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(Page::ask(&server, &text).status, 431);
    assert_eq!(server.counter.asked(), 1);
}
