//! The admin port: requests from elsewhere, and what stands on the status page.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use blockhouse::admin::{self, Control, Peer, Token};
use blockhouse::observe::metrics::{About, Metrics};
use blockhouse::observe::status::{Actor, Ledger, Pod, Problem, Sequence, Status};
use http::Request;
use http_body_util::BodyExt as _;
use secrecy::SecretString;
use tower_service::Service as _;

use crate::{fuzz, must};

const TOKEN: &str = "open-sesame-7";

#[derive(Clone, Default)]
struct Process(Arc<State>);

#[derive(Default)]
struct State {
    status: Mutex<Status>,
    drains: AtomicUsize,
}

impl Control for Process {
    fn status(&self) -> impl Future<Output = Status> + Send {
        std::future::ready(self.0.status.lock().unwrap().clone())
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn alive(&self) -> Result<(), String> {
        Ok(())
    }

    fn drain(&self) {
        self.0.drains.fetch_add(1, Ordering::Relaxed);
    }
}

struct Page {
    status: u16,
    body: String,
    drained: bool,
}

/// A server, asked without a network.
struct Asked {
    process: Process,
    router: axum::Router,
    runtime: tokio::runtime::Runtime,
}

impl Asked {
    fn new() -> Asked {
        let about = About { environment: "test".into(), stage: "test".into(), cluster: "default".into() };
        let process = Process::default();
        let token = Token::new(Some(SecretString::from(TOKEN)));
        let router = admin::router(process.clone(), Metrics::new(&about, 1), token);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Asked { process, router, runtime }
    }

    fn ask(&mut self, request: Request<Body>) -> Page {
        let before = self.process.0.drains.load(Ordering::Relaxed);
        let answer = self.runtime.block_on(async {
            let answer = self.router.call(request).await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.into_body().collect().await.unwrap().to_bytes())
        });
        Page {
            status: answer.0,
            body: String::from_utf8_lossy(&answer.1).into_owned(),
            drained: self.process.0.drains.load(Ordering::Relaxed) > before,
        }
    }
}

/// `METHOD PATH`, then headers, a line each. `None` where that is no request.
fn request(input: &[u8], peer: Peer) -> Option<Request<Body>> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, path) = first.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(path).extension(peer);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    request.body(Body::empty()).ok()
}

const WORDS: &[&str] = &[
    "POST /api/v1/drain",
    "GET /api/v1/status",
    "HEAD ",
    "/metrics",
    "/livez",
    "/readyz",
    "/api/v1/events",
    "//",
    "/../",
    "%2f",
    "?token=open-sesame-7",
    "\nauthorization: Bearer open-sesame-7",
    "\nauthorization: bearer ",
    "\norigin: http://a:1",
    "\nhost: a:1",
    "\naccept: application/openmetrics-text",
    "\nx-forwarded-for: 127.0.0.1",
];

/// From elsewhere only who names the token gets more than probes, nobody who reads gives an order, and no answer names the token.
#[test]
fn requests() {
    let mut asked = Asked::new();
    fuzz("requests", WORDS, 3_000, |input| {
        let Some(request) = request(input, Peer::Elsewhere) else { return Ok("no request".to_owned()) };
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let named = request.headers().get_all("authorization").iter().any(|value| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            value.to_ascii_lowercase().starts_with("bearer ") && value.ends_with(TOKEN)
        });
        let probe = matches!(path.as_str(), "/metrics" | "/livez" | "/readyz");
        let page = asked.ask(request);
        let what = format!("{method} {path}: {}", page.status);
        let known = matches!(page.status, 200 | 202 | 401 | 403 | 404 | 405);
        must(known, || what.clone())?;
        must(!page.drained || (method == "POST" && path == "/api/v1/drain" && named), || {
            format!("{what} drains")
        })?;
        must(page.drained == (page.status == 202), || what.clone())?;
        must(named || probe || page.status > 400, || format!("{what} without the token"))?;
        must(!page.body.contains(TOKEN), || format!("{what} shows the token"))?;
        Ok(format!("{} {}", page.status, page.body.chars().take(40).collect::<String>()))
    });
}

/// An order that a browser sends from the page of another origin is refused, even on this host.
#[test]
fn origins() {
    let mut asked = Asked::new();
    fuzz(
        "origins",
        &["localhost", "127.0.0.1", "[::1]", ":7421", "://", "@", ".evil", "null", "\n"],
        3_000,
        |input| {
            let text = String::from_utf8_lossy(input);
            let (host, origin) = text.split_once('\n').unwrap_or((&text, ""));
            let built = Request::post("/api/v1/drain").extension(Peer::ThisHost);
            let Ok(request) = built.header("host", host).header("origin", origin).body(Body::empty()) else {
                return Ok("no request".to_owned());
            };
            let page = asked.ask(request);
            let same = origin.to_ascii_lowercase().ends_with(&format!("://{}", host.to_ascii_lowercase()));
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
            let own = name.eq_ignore_ascii_case("localhost")
                || name.parse::<std::net::IpAddr>().is_ok()
                || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
            must(!page.drained || (same && own), || format!("the page {origin:?} drains {host:?}"))?;
            Ok(format!("{} {same} {own}", page.status))
        },
    );
}

/// Whatever a pod, a ledger or a name says stays text: the page has the same elements with it as without.
#[test]
fn status_page() {
    let mut asked = Asked::new();
    let mut page = |text: &str| {
        *asked.process.0.status.lock().unwrap() = status(text);
        asked.ask(Request::get("/").extension(Peer::ThisHost).body(Body::empty()).unwrap()).body
    };
    let marks = |page: &str| page.matches(['<', '>', '"']).count();
    let plain = marks(&page("plain"));
    fuzz(
        "status_page",
        &["<script>", "</td>", "\"", "'", "&", "-->", "\u{202e}", "javascript:"],
        1_000,
        |input| {
            let text = String::from_utf8_lossy(input).into_owned();
            let found = marks(&page(&text));
            must(found == plain, || format!("{text:?} makes {found} marks of {plain}"))?;
            Ok("<>\"'&".chars().filter(|mark| text.contains(*mark)).collect())
        },
    );
}

/// A status in which every text is `text`.
fn status(text: &str) -> Status {
    let text = || text.to_owned();
    let pod = Pod {
        address: text(),
        state: text(),
        run_id: Some(text()),
        last_error: Some(text()),
        ..Pod::default()
    };
    let sequence =
        Sequence { name: text(), granted: text(), last: text(), state: text(), ..Sequence::default() };
    Status {
        version: text(),
        revision: text(),
        instance: text(),
        environment: text(),
        stage: text(),
        cluster: text(),
        roles: vec![text()],
        state: text(),
        ledger: Ledger {
            url: text(),
            id: Some(text()),
            state: text(),
            last_error: Some(text()),
            epoch: Some(1),
        },
        pods: vec![pod],
        sequences: vec![sequence],
        actors: vec![Actor { name: text(), ..Actor::default() }],
        problems: vec![Problem { what: text(), since: text(), remedy: text() }],
        ..Status::default()
    }
}
