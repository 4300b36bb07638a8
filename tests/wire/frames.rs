//! An HTTP/2 client without manners, frame by frame.

#![allow(dead_code)] // Each target uses its part.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const ENHANCE_YOUR_CALM: u32 = 11;

/// SETTINGS_INITIAL_WINDOW_SIZE 0: the server may send no body.
pub const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// One connection.
pub struct Rude(pub TcpStream);

pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Rude {
    /// Waits for no frame, and with no write, longer than `patience`.
    pub fn connect(address: &str, patience: Duration, settings: &[u8]) -> std::io::Result<Rude> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        let mut rude = Rude(stream);
        rude.send(SETTINGS, 0, 0, settings);
        Ok(rude)
    }

    /// `false` if the server has closed, or reads no more.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.0.write_all(&frame(kind, flags, stream, payload)).is_ok()
    }

    /// `None` once the server has closed.
    pub fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], stream, payload })
    }

    /// The error of the server's GOAWAY.
    pub fn goaway(&mut self) -> Option<u32> {
        loop {
            let frame = self.receive()?;
            if frame.kind == GOAWAY {
                return Some(u32::from_be_bytes(frame.payload[4..8].try_into().expect("four bytes")));
            }
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a payload in memory").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub fn call_head() -> Vec<u8> {
    head_of("/blockhouse.v1.AllocationService/Allocate")
}

/// As HPACK without a table: `:method POST`, `:scheme http`, then literals.
pub fn head_of(path: &str) -> Vec<u8> {
    let mut head = vec![0x83, 0x86];
    for (name, value) in
        [(":path", path), (":authority", "x"), ("content-type", "application/grpc"), ("te", "trailers")]
    {
        literal(&mut head, name, value);
    }
    head
}

pub fn literal(head: &mut Vec<u8>, name: &str, value: &str) {
    head.push(0);
    for text in [name, value] {
        assert!(text.len() < 127);
        head.push(text.len() as u8);
        head.extend(text.as_bytes());
    }
}
