//! Where connections come from.

use std::io;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::Peer;

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// An accepted connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// The next connection, and where it comes from. Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                // An IPv6 socket shows an IPv4 peer as a mapped address.
                let is_local = address.ip().to_canonical().is_loopback();
                Ok((Stream::Tcp(stream), if is_local { Peer::ThisHost } else { Peer::Elsewhere }))
            }
            Listener::Unix(listener) => Ok((Stream::Unix(listener.accept().await?.0), Peer::ThisHost)),
        }
    }
}
