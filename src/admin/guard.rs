//! Who may ask for what.
//!
//! | request | from this host | from elsewhere |
//! |---|---|---|
//! | `/metrics`, `/livez`, `/readyz` | yes | yes |
//! | other GETs | yes | with the token, where one is set |
//! | POSTs | yes | with the token; never where none is set |
//!
//! A POST that a browser sends for a page of another origin is refused wherever it comes from: whoever can reach this port from
//! a desk could otherwise be made to drain a process by any page that is open there.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// Where a connection comes from. The server puts it into every request's extensions; a request without it counts as
/// [`Peer::Elsewhere`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Loopback or a Unix socket.
    ThisHost,
    /// Anywhere else.
    Elsewhere,
}

/// `admin.token`, which may change while requests are answered. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Token(Arc<ArcSwapOption<SecretString>>);

impl Token {
    /// `None` where none is set.
    pub fn new(token: Option<SecretString>) -> Token {
        Token(Arc::new(ArcSwapOption::new(token.map(Arc::new))))
    }

    /// For every request from now on.
    pub fn set(&self, token: Option<SecretString>) {
        self.0.store(token.map(Arc::new));
    }

    /// As of now.
    pub fn get(&self) -> Option<Arc<SecretString>> {
        self.0.load_full()
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// 401 where a token would help, else 403.
    pub status: StatusCode,
    /// One line for people.
    pub message: &'static str,
}

const TOKEN_MISSING: Denial = Denial {
    status: StatusCode::UNAUTHORIZED,
    message: "send the token of `admin.token`: Authorization: Bearer TOKEN",
};
const TOKEN_WRONG: Denial =
    Denial { status: StatusCode::UNAUTHORIZED, message: "this is not the token of `admin.token`" };
const NO_TOKEN_SET: Denial = Denial {
    status: StatusCode::FORBIDDEN,
    message: "without `admin.token` in its configuration this process takes orders from its own host only",
};
const CROSS_ORIGIN: Denial =
    Denial { status: StatusCode::FORBIDDEN, message: "this order comes from a web page of another origin" };

/// Decides about one request.
///
/// # Errors
/// The refusal to answer with.
pub fn check<B>(request: &Request<B>, token: Option<&SecretString>) -> Result<(), Denial> {
    let peer = request.extensions().get().copied().unwrap_or(Peer::Elsewhere);
    let only_reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if only_reads && matches!(request.uri().path(), "/metrics" | "/livez" | "/readyz") {
        return Ok(());
    }
    if !only_reads && !is_same_origin(request) {
        return Err(CROSS_ORIGIN);
    }
    match (peer, token) {
        (Peer::ThisHost, _) => Ok(()),
        (Peer::Elsewhere, Some(token)) => check_token(request.headers(), token),
        (Peer::Elsewhere, None) if only_reads => Ok(()),
        (Peer::Elsewhere, None) => Err(NO_TOKEN_SET),
    }
}

fn check_token(headers: &HeaderMap, token: &SecretString) -> Result<(), Denial> {
    let (scheme, given) = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.split_once(' '))
        .ok_or(TOKEN_MISSING)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(TOKEN_MISSING);
    }
    let matches = given.trim().as_bytes().ct_eq(token.expose_secret().as_bytes());
    if matches.into() { Ok(()) } else { Err(TOKEN_WRONG) }
}

/// Whether no browser sent the request, or one that shows a page of this server. The page's host must be an address or
/// `localhost`: any other name could be made to point here by whoever owns it, and its page would then look like ours.
fn is_same_origin<B>(request: &Request<B>) -> bool {
    let Some(origin) = request.headers().get(ORIGIN) else {
        return true;
    };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let asked = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    match (origin, asked) {
        (Some((_, of_page)), Some(asked)) => of_page.eq_ignore_ascii_case(asked) && is_address(asked),
        _ => false,
    }
}

fn is_address(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<http::uri::Authority>() else {
        return false;
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request from `peer` with headers.
    fn request(method: Method, path: &str, peer: Peer, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(path).extension(peer);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn status(request: &Request<()>, token: Option<&str>) -> u16 {
        match check(request, token.map(SecretString::from).as_ref()) {
            Ok(()) => 200,
            Err(denial) => denial.status.as_u16(),
        }
    }

    #[test]
    fn probes_and_metrics_never_need_a_token() {
        for path in ["/metrics", "/livez", "/readyz"] {
            assert_eq!(status(&request(Method::GET, path, Peer::Elsewhere, &[]), Some("secret")), 200);
            assert_eq!(status(&request(Method::HEAD, path, Peer::Elsewhere, &[]), Some("secret")), 200);
        }
    }

    #[test]
    fn the_token_matrix_holds() {
        let right: &[(&str, &str)] = &[("authorization", "Bearer secret")];
        let lower: &[(&str, &str)] = &[("authorization", "bearer secret")];
        let wrong: &[(&str, &str)] = &[("authorization", "Bearer secreT")];
        let longer: &[(&str, &str)] = &[("authorization", "Bearer secret2")];
        let basic: &[(&str, &str)] = &[("authorization", "Basic secret")];
        use Peer::{Elsewhere, ThisHost};
        for (peer, token, headers, get, post) in [
            (ThisHost, None, &[][..], 200, 200),
            (ThisHost, Some("secret"), &[], 200, 200),
            (Elsewhere, None, &[], 200, 403),
            (Elsewhere, None, right, 200, 403),
            (Elsewhere, Some("secret"), &[], 401, 401),
            (Elsewhere, Some("secret"), right, 200, 200),
            (Elsewhere, Some("secret"), lower, 200, 200),
            (Elsewhere, Some("secret"), wrong, 401, 401),
            (Elsewhere, Some("secret"), longer, 401, 401),
            (Elsewhere, Some("secret"), basic, 401, 401),
        ] {
            let what = format!("{peer:?} {token:?} {headers:?}");
            assert_eq!(status(&request(Method::GET, "/api/v1/status", peer, headers), token), get, "{what}");
            assert_eq!(status(&request(Method::GET, "/", peer, headers), token), get, "{what}");
            assert_eq!(status(&request(Method::POST, "/api/v1/drain", peer, headers), token), post, "{what}");
        }
    }

    #[test]
    fn a_request_that_nobody_marked_counts_as_from_elsewhere() {
        let request = Request::post("/api/v1/drain").body(()).unwrap();
        assert_eq!(check(&request, None), Err(NO_TOKEN_SET));
    }

    #[test]
    fn a_page_of_another_origin_gives_no_orders() {
        let post = |headers: &[(&str, &str)]| {
            status(&request(Method::POST, "/api/v1/drain", Peer::ThisHost, headers), None)
        };
        let host = ("host", "127.0.0.1:7421");
        assert_eq!(post(&[host]), 200, "no browser");
        assert_eq!(post(&[host, ("origin", "http://127.0.0.1:7421")]), 200);
        assert_eq!(post(&[("host", "localhost:1"), ("origin", "http://localhost:1")]), 200);
        assert_eq!(post(&[("host", "[::1]:1"), ("origin", "http://[::1]:1")]), 200);
        assert_eq!(post(&[host, ("origin", "http://127.0.0.1:8000")]), 403, "another port");
        assert_eq!(post(&[host, ("origin", "https://evil.example")]), 403);
        assert_eq!(post(&[host, ("origin", "null")]), 403);
        assert_eq!(post(&[("origin", "http://127.0.0.1:7421")]), 403, "no host to compare with");
        let rebound = [("host", "evil.example:7421"), ("origin", "http://evil.example:7421")];
        assert_eq!(post(&rebound), 403, "a name that was made to point here");
    }

    #[test]
    fn reading_needs_no_origin() {
        let headers = [("host", "a:1"), ("origin", "http://b:1")];
        assert_eq!(status(&request(Method::GET, "/", Peer::ThisHost, &headers), None), 200);
    }
}
