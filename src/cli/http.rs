//! One HTTP request to one blockhouse process.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::format::one_line;

/// The longest answer that is read, in bytes. A status of 10,000 sequences takes about 3 MB; an answer of a million IDs
/// in single ones would take 40 MB and can't be had from blocks.
const ANSWER_MAX: usize = 64 << 20;

/// Where a process listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `HOST:PORT`
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// The service's port is 7420 where none is named.
    ///
    /// # Errors
    /// One line for people.
    pub fn service(text: &str) -> Result<Endpoint, String> {
        Endpoint::parse(text, 7420)
    }

    /// The admin port is 7421 where none is named.
    ///
    /// # Errors
    /// One line for people.
    pub fn admin(text: &str) -> Result<Endpoint, String> {
        Endpoint::parse(text, 7421)
    }

    fn parse(text: &str, default_port: u16) -> Result<Endpoint, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("unix: needs a path".to_owned()),
                path => Ok(Endpoint::Unix(path.into())),
            };
        }
        let rest = match text.split_once("://") {
            None => text,
            Some(("http", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some((scheme, _)) => return Err(format!("{scheme}:// is not supported: say http://HOST:PORT")),
        };
        let authority = rest.parse::<Authority>().ok().filter(|authority| {
            let (host, port) = (authority.host(), authority.port());
            // A port that is no number would silently become the default one.
            let named = authority.as_str().len() > host.len();
            !host.is_empty()
                && !rest.contains('@')
                && (!named || authority.port_u16().is_some() && port.is_some())
        });
        let authority = authority.ok_or("not of the form HOST:PORT or unix:PATH")?;
        Ok(Endpoint::Tcp(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(default_port))))
    }

    /// What the request's `Host` says.
    fn host(&self) -> &str {
        match self {
            Endpoint::Tcp(address) => address,
            Endpoint::Unix(_) => "localhost",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => f.write_str(address),
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What a process answered.
#[derive(Debug)]
pub struct Answer {
    /// Of HTTP.
    pub status: StatusCode,
    /// Whole.
    pub body: Bytes,
}

/// Why there is no answer: half a sentence for people.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreachable(pub String);

/// Sends one request over a connection of its own, and reads the whole answer `within` that time.
///
/// # Cancel safety
/// Dropping the future closes the connection; whether the request was carried out is not known then.
///
/// # Errors
/// Also if the peer doesn't speak HTTP.
pub async fn send(
    endpoint: &Endpoint,
    mut request: Request<Full<Bytes>>,
    within: Duration,
) -> Result<Answer, Unreachable> {
    let host =
        endpoint.host().parse().map_err(|_| Unreachable("the host's name can't be sent".to_owned()))?;
    request.headers_mut().insert(http::header::HOST, host);
    let exchange = async {
        match endpoint {
            Endpoint::Tcp(address) => exchange(TcpStream::connect(address).await?, request).await,
            Endpoint::Unix(path) => exchange(UnixStream::connect(path).await?, request).await,
        }
    };
    match tokio::time::timeout(within, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Unreachable(error.0)),
        Err(_) => Err(Unreachable(format!("no answer within {}", super::format::duration(within)))),
    }
}

async fn exchange(
    io: impl AsyncRead + AsyncWrite + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Broken> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await;
        let body = body.map_err(|error| Broken(format!("its answer can't be read: {error}")))?.to_bytes();
        // Without a sender the connection ends.
        drop(sender);
        Ok(Answer { status: head.status, body })
    };
    match futures_util::future::join(connection, answer).await {
        (_, Ok(answer)) => Ok(answer),
        // The connection knows why; the request only that it was cancelled.
        (Err(error), Err(_)) => Err(error.into()),
        (Ok(()), Err(error)) => Err(error),
    }
}

/// A connection that failed: half a sentence for people.
struct Broken(String);

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken(reason(&error))
    }
}

impl From<hyper::Error> for Broken {
    fn from(error: hyper::Error) -> Broken {
        Broken(broken(&error))
    }
}

fn broken(error: &hyper::Error) -> String {
    let source = std::error::Error::source(error);
    if let Some(system) = source.and_then(|source| source.downcast_ref::<io::Error>()) {
        return reason(system);
    }
    // A request that was cancelled because of what the connection met.
    if let Some(met) = source.and_then(|source| source.downcast_ref::<hyper::Error>()) {
        return broken(met);
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return "the connection ended before the answer".to_owned();
    }
    one_line(&format!("what listens there doesn't speak HTTP ({error})"))
}

/// The system's reason without its number: `connection refused`.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_ports_of_the_contract_where_it_names_none() {
        for (text, parsed) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("ids.example", "ids.example:7420"),
            ("[::1]", "[::1]:7420"),
            ("http://[::1]:9/", "[::1]:9"),
            ("unix:/run/ids.sock", "unix:/run/ids.sock"),
        ] {
            assert_eq!(Endpoint::service(text).unwrap().to_string(), parsed);
        }
        assert_eq!(Endpoint::admin("http://a").unwrap().to_string(), "a:7421");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["", ":7420", "a:b", "a:", "a:70000", "https://a", "u:p@a:1", "a/b", "http://a:1/x", "unix:"]
        {
            assert!(Endpoint::service(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_systems_reason_is_half_a_sentence() {
        assert_eq!(reason(&io::Error::from_raw_os_error(libc::ECONNREFUSED)), "connection refused");
    }
}
