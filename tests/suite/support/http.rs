//! A small HTTP/1.1 client: one connection, kept, one request at a time.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A connection to one port of this host.
pub struct Connection {
    port: u16,
    sender: http1::SendRequest<Full<Bytes>>,
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Says what broke. A request that was sent may have been carried out.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

impl Connection {
    pub async fn open(port: u16) -> Result<Connection, Error> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection { port, sender })
    }

    /// Sends a request and reads the whole answer. Dropped in flight, it leaves the connection unusable.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, Error> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("127.0.0.1:{}", self.port))
            .body(Full::new(body.into()))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        Ok(Answer { status: head.status, body: body.collect().await?.to_bytes() })
    }
}

/// One GET on a connection of its own.
pub async fn get(port: u16, path: &str) -> Result<Answer, Error> {
    Connection::open(port).await?.send(Method::GET, path, "").await
}
