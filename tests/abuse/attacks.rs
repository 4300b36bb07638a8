//! Attacks on single connections, again and again.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::MEMORY_KB;
use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, NO_WINDOW, PING, PRIORITY, RST_STREAM, Rude,
    SETTINGS, WINDOW_UPDATE, call_head, frame, head_of, literal,
};
use crate::victim::{Attack, Bounds, Victim};

/// How long an attacker stays with a server that neither reads nor closes.
const PATIENCE: Duration = Duration::from_millis(500);

const BOUNDS: Bounds = Bounds { rounds: 6, attackers: 2, acts: 200, refused: 1, memory_kb: MEMORY_KB };

/// Frames that an attacker sends at once. It pauses for two milliseconds between: without, it would take the processors of the machine that
/// it shares with the server, and that, not the server, would be measured.
const BURST: usize = 64;

/// Sends what `bytes` makes, `frames` at a time, with a counter, over one connection after the other, each until the server ends it.
fn flood(attack: &Attack, frames: usize, mut bytes: impl FnMut(&mut Rude, u32) -> bool) {
    while !attack.is_over() {
        let Ok(mut rude) = Rude::connect(&attack.address, PATIENCE, &[]) else { continue };
        let mut number = 0;
        while !attack.is_over() && bytes(&mut rude, number) {
            attack.acted(1);
            number += 1;
            if number as usize % (BURST / frames) == 0 {
                std::thread::park_timeout(Duration::from_millis(2));
            }
        }
        if !attack.is_over() {
            attack.refused();
        }
    }
}

/// Client streams are odd, and run out some time.
fn stream(number: u32) -> u32 {
    1 + 2 * (number % (1 << 29))
}

#[tokio::test]
async fn rapid_resets() {
    let reset = |rude: &mut Rude, number: u32| {
        let open = frame(HEADERS, END_HEADERS, stream(number), &call_head());
        let both = [open, frame(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes())].concat();
        rude.0.write_all(&both).is_ok()
    };
    Victim::start().await.endures(BOUNDS, |attack| flood(attack, 2, reset)).await;
}

/// A head that is small on the wire and large in memory: one field that goes to the table, then named 4,000 times.
#[tokio::test]
async fn header_bombs() {
    let mut bomb = call_head();
    // Literal with indexing, new name `x`, a value of 3,000 bytes: length 127 + 2873, as HPACK writes it.
    bomb.extend([0x40, 1, b'x', 0x7f, 0xb9, 0x16]);
    bomb.extend([b'v'; 3_000]);
    bomb.extend([0xbe; 4_000]);
    let explode =
        |rude: &mut Rude, number: u32| rude.send(HEADERS, END_HEADERS | END_STREAM, stream(number), &bomb);
    // Each is refused by itself, with 431: the connection lives on.
    let bounds = Bounds { refused: 0, ..BOUNDS };
    Victim::start().await.endures(bounds, |attack| flood(attack, 8, explode)).await;
}

/// Many heads at the limit, each with its request never finished: as many streams as may be open.
#[tokio::test]
async fn header_floods() {
    let mut head = call_head();
    for field in 0..100 {
        literal(&mut head, &format!("x-{field}"), &"v".repeat(BURST / 3));
    }
    let open = |rude: &mut Rude, number: u32| rude.send(HEADERS, END_HEADERS, stream(number), &head);
    let bounds = Bounds { refused: 0, ..BOUNDS };
    Victim::start().await.endures(bounds, |attack| flood(attack, 16, open)).await;
}

/// A head that never ends (CVE-2024-27316).
#[tokio::test]
async fn endless_continuation() {
    let mut fields = Vec::new();
    for field in 0..100 {
        literal(&mut fields, &format!("x-{field}"), &"v".repeat(BURST / 3));
    }
    let go_on = |rude: &mut Rude, number: u32| match number {
        0 => rude.send(HEADERS, 0, 1, &call_head()),
        _ => rude.send(CONTINUATION, 0, 1, &fields),
    };
    Victim::start().await.endures(BOUNDS, |attack| flood(attack, 4, go_on)).await;
}

/// The same with nothing in it: no limit of bytes is ever reached.
#[tokio::test]
async fn endless_empty_continuation() {
    let go_on = |rude: &mut Rude, number: u32| match number {
        0 => rude.send(HEADERS, 0, 1, &call_head()),
        _ => rude.send(CONTINUATION, 0, 1, &[]),
    };
    Victim::start().await.endures(BOUNDS, |attack| flood(attack, 4, go_on)).await;
}

/// Frames that the server must answer or take in, and that carry nothing; the answers are never read.
#[tokio::test]
async fn floods_of_pings_and_settings() {
    let frames = [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &NO_WINDOW), frame(SETTINGS, 0, 0, &[])];
    let burst = frames.concat().repeat(BURST / 3);
    let ping = |rude: &mut Rude, _: u32| rude.0.write_all(&burst).is_ok();
    let bounds = Bounds { refused: 0, ..BOUNDS };
    Victim::start().await.endures(bounds, |attack| flood(attack, BURST, ping)).await;
}

/// One call that never ends, in data frames without data, window updates and priorities.
#[tokio::test]
async fn floods_of_frames_without_content() {
    let (data, window) = (frame(DATA, 0, 1, &[]), frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()));
    let burst = [data, window, frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])].concat().repeat(BURST / 3);
    let path = "/blockhouse.v1.AllocationService/AllocateStream";
    let flow = |rude: &mut Rude, number: u32| match number {
        0 => rude.send(HEADERS, END_HEADERS, 1, &head_of(path)),
        _ => rude.0.write_all(&burst).is_ok(),
    };
    let bounds = Bounds { refused: 0, ..BOUNDS };
    Victim::start().await.endures(bounds, |attack| flood(attack, BURST, flow)).await;
}

/// What is no HTTP at all, or lies about its length, or is said by half.
#[tokio::test]
async fn garbage() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client's hello".to_vec();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let too_long = [preface.as_slice(), b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", &[0; 20_000]].concat();
    let noise: Vec<u8> = (0..5_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let head =
        b"POST /v1/sequences/tasks/ids HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n".to_vec();
    let chunks = b"POST /v1/sequences/tasks/ids HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec();
    let all = [hello, too_long, noise, head, chunks];
    let talk = |attack: &Attack| {
        for garbage in all.iter().cycle().take_while(|_| !attack.is_over()) {
            let Ok(mut stream) = TcpStream::connect(&attack.address) else { continue };
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let _ = stream.write_all(garbage);
            // Half open: the server may still answer.
            let _ = stream.shutdown(Shutdown::Write);
            attack.acted(1);
            if stream.read_to_end(&mut Vec::new()).is_ok() {
                attack.refused();
            }
        }
    };
    Victim::start().await.endures(Bounds { acts: 100, ..BOUNDS }, talk).await;
}
