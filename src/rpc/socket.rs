//! An accepted connection's socket.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net;
use std::os::unix::net as unix;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop;

/// An accepted connection on its way to the thread that serves it; nonblocking.
#[derive(Debug)]
pub enum Accepted {
    /// TCP
    Tcp(net::TcpStream),
    /// `unix:PATH`
    Unix(unix::UnixStream),
}

impl Accepted {
    /// Makes it the present thread's.
    ///
    /// # Errors
    /// The runtime can't watch it.
    pub fn open(self) -> io::Result<Socket> {
        let stream: Box<dyn Duplex> = match self {
            Accepted::Tcp(stream) => {
                stream.set_nodelay(true)?;
                Box::new(TcpStream::from_std(stream)?)
            }
            Accepted::Unix(stream) => Box::new(UnixStream::from_std(stream)?),
        };
        Ok(Socket { stream, heard: Heard::default() })
    }
}

/// A connection that counts what it hears, so that a silent one can be told from an idle one.
pub struct Socket {
    stream: Box<dyn Duplex>,
    heard: Heard,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// Bytes read from a socket so far.
#[derive(Debug, Clone, Default)]
pub struct Heard(Rc<Cell<usize>>);

impl Heard {
    /// Bytes, as many as fit.
    pub fn bytes(&self) -> usize {
        self.0.get()
    }
}

impl Socket {
    /// Goes on counting while the socket is read.
    pub fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let bytes = buffer.filled().len() - before;
        self.heard.0.set(self.heard.0.get().saturating_add(bytes));
        take_turns(cx, bytes);
        read
    }
}

/// Bytes that count as one of the 128 steps after which tokio lets other tasks run: a turn is 32 KiB, or some 250 small requests.
const STEP: usize = 256;

/// tokio counts a read as one step, however long, and so would let a peer that floods us keep its worker for megabytes, and for the
/// thousands of requests in them, while the worker's other connections wait.
fn take_turns(cx: &mut Context<'_>, bytes: usize) {
    for _ in 0..bytes / STEP {
        match coop::poll_proceed(cx) {
            Poll::Ready(step) => step.made_progress(),
            Poll::Pending => return,
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;

    use socket2::SockRef;

    use super::*;

    /// A connection whose peer has sent as much as the system takes.
    fn flooded() -> (net::TcpStream, Socket) {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        // Else the window is hardly more than a turn.
        SockRef::from(&listener).set_recv_buffer_size(1024 * 1024).unwrap();
        let mut peer = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        peer.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(bytes) = peer.write(&[0; 16 * 1024]) {
            sent += bytes;
        }
        assert!(sent > 1024 * 1024, "only {sent} bytes were sent");
        (peer, Accepted::Tcp(accepted).open().unwrap())
    }

    #[tokio::test]
    async fn a_flooded_connection_lets_others_have_their_turn() {
        let (_peer, mut socket) = flooded();
        // Once before, so that it is known to be readable.
        let readable = poll_fn(|cx| Pin::new(&mut socket).poll_read(cx, &mut ReadBuf::new(&mut [0; 1])));
        readable.await.unwrap();
        tokio::task::yield_now().await;
        let turn = poll_fn(|cx| {
            let (mut bytes, mut room) = (0, vec![0; 16 * 1024]);
            loop {
                let mut buffer = ReadBuf::new(&mut room);
                match Pin::new(&mut socket).poll_read(cx, &mut buffer) {
                    Poll::Ready(read) => read.unwrap(),
                    Poll::Pending => return Poll::Ready(bytes),
                }
                bytes += buffer.filled().len();
            }
        });
        let bytes = turn.await;
        assert!((1..=48 * 1024).contains(&bytes), "{bytes} bytes in one turn");
    }
}
