//! Limits of HTTP/2 and HTTP/1.1, frame by frame.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::http::Page;
use crate::wire::frames::{
    DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, NO_WINDOW, RST_STREAM, Rude, SETTINGS,
    call_head, head_of, literal,
};
use crate::wire::{PATIENCE, Server, until};
use crate::{client, message, request};

fn rude(server: &Server) -> Rude {
    rude_with(server, &[])
}

fn rude_with(server: &Server, settings: &[u8]) -> Rude {
    Rude::connect(server.address(), PATIENCE, settings).unwrap()
}

/// One request on the stream 1.
fn ask(rude: &mut Rude, correlation_id: u64) {
    let mut data = vec![0; 5];
    message(correlation_id, "tasks", 1).encode(&mut data).unwrap();
    data[4] = u8::try_from(data.len() - 5).unwrap();
    rude.send(DATA, 0, 1, &data);
}

/// Whether the server still serves others.
async fn is_well(server: &Server) -> bool {
    client(&server.url()).await.allocate(request("tasks", 1)).await.is_ok()
}

#[test]
fn the_limits_are_announced() {
    let server = Server::with(|grpc| grpc.max_streams = 77);
    let settings = rude(&server).receive().unwrap();
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
    let mut rude = rude(&server);
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
    let mut rude = rude(&server);
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
    let mut rude = rude(&server);
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
    let mut rude = rude(&server);
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
    let mut rude = rude_with(&server, &NO_WINDOW);
    rude.send(HEADERS, END_HEADERS, 1, &head_of("/blockhouse.v1.AllocationService/AllocateStream"));
    // hyper takes one piece before it looks at the window: here the first answer alone.
    ask(&mut rude, 1);
    until("the first is answered", || server.counter.asked() == 1).await;
    for id in 2..500 {
        ask(&mut rude, id);
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
