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
        let heard = &self.heard.0;
        heard.set(heard.get().saturating_add(buffer.filled().len() - before));
        read
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
