//! The admin server over real sockets on loopback.
#![allow(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use blockhouse::admin::{self, Control, Listener, Peer, Token};
use blockhouse::observe::metrics::{About, Metrics};
use blockhouse::observe::status::{Ledger, Pod, Sequence, Status};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tower_service::Service;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that says what the test wants it to, and remembers what it was asked.
#[derive(Clone, Default)]
struct Process(Arc<State>);

#[derive(Default)]
struct State {
    status: Mutex<Status>,
    not_ready: Mutex<Option<String>>,
    stuck: Mutex<Option<String>>,
    drains: AtomicUsize,
}

impl Control for Process {
    fn status(&self) -> impl Future<Output = Status> + Send {
        std::future::ready(self.0.status.lock().unwrap().clone())
    }

    fn ready(&self) -> Result<(), String> {
        self.0.not_ready.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn alive(&self) -> Result<(), String> {
        self.0.stuck.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn drain(&self) {
        self.0.drains.fetch_add(1, Ordering::Relaxed);
    }
}

fn metrics() -> Metrics {
    let about = About { environment: "test".into(), stage: "stable".into(), cluster: "east".into() };
    Metrics::new(&about, 1)
}

fn status() -> Status {
    Status {
        instance: "host-7".into(),
        state: "serving".into(),
        ledger: Ledger { state: "up".into(), ..Ledger::default() },
        pods: vec![Pod { address: "10.0.0.1:6379".into(), state: "up".into(), ..Pod::default() }],
        sequences: vec![Sequence { name: "tasks".into(), state: "active".into(), ..Sequence::default() }],
        ..Status::default()
    }
}

/// A running server.
struct Server {
    process: Process,
    address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let process = Process::default();
        *process.0.status.lock().unwrap() = status();
        let (end, ended) = oneshot::channel();
        let router = admin::router(process.clone(), metrics(), Token::new(None));
        let task = serve(Listener::Tcp(listener), router, ended);
        Server { process, address, end: Some(end), task }
    }

    /// A request over HTTP/1.1: the whole answer, head and body.
    async fn ask(&self, method: &str, path: &str, headers: &str) -> String {
        let stream = TcpStream::connect(self.address).await.unwrap();
        ask(stream, method, path, headers).await
    }

    /// How long the end took.
    async fn stop(mut self) -> Duration {
        let started = Instant::now();
        self.end.take().unwrap().send(()).unwrap();
        timeout(PATIENCE, self.task).await.expect("the server ends").unwrap();
        started.elapsed()
    }
}

fn serve(listener: Listener, router: Router, ended: oneshot::Receiver<()>) -> JoinHandle<()> {
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let until = async {
        let _ = ended.await;
    };
    tokio::spawn(admin::serve(listener, router, until, log))
}

async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &str,
) -> String {
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    answer
}

#[track_caller]
fn assert_status(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head and a body").1
}

#[tokio::test]
async fn the_page_shows_the_process_and_forbids_what_comes_from_outside() {
    let server = Server::start().await;
    let answer = server.ask("GET", "/", "").await;
    assert_status(&answer, 200);
    assert!(answer.contains("content-type: text/html; charset=utf-8"));
    assert!(answer.contains("content-security-policy: default-src 'none'"));
    for shown in ["host-7", "serving", "10.0.0.1:6379", "tasks", "No problems."] {
        assert!(body(&answer).contains(shown), "{shown}");
    }
}

#[tokio::test]
async fn status_is_json_that_reads_back() {
    let server = Server::start().await;
    let answer = server.ask("GET", "/api/v1/status", "").await;
    assert_status(&answer, 200);
    assert!(answer.contains("content-type: application/json"));
    assert_eq!(serde_json::from_str::<Status>(body(&answer)).unwrap(), status());
}

#[tokio::test]
async fn metrics_are_text_unless_openmetrics_is_asked_for() {
    let server = Server::start().await;
    let text = server.ask("GET", "/metrics", "").await;
    assert_status(&text, 200);
    assert!(text.contains("content-type: text/plain; version=0.0.4; charset=utf-8"));
    assert!(text.contains("\n# TYPE blockhouse_requests_total counter\n") && !text.contains("# EOF"));
    assert!(text.contains("blockhouse_requests_total{method=\"Allocate\",code=\"OK\"} 0\n"));

    let accept =
        "accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3\r\n";
    let openmetrics = server.ask("GET", "/metrics", accept).await;
    assert!(openmetrics.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(openmetrics.ends_with("# EOF\n"));
}

#[tokio::test]
async fn probes_say_why_not() {
    let server = Server::start().await;
    for path in ["/livez", "/readyz"] {
        assert_status(&server.ask("GET", path, "").await, 200);
        assert_status(&server.ask("HEAD", path, "").await, 200);
    }
    *server.process.0.not_ready.lock().unwrap() = Some("no tier can answer".into());
    *server.process.0.stuck.lock().unwrap() = Some("worker 1 hasn't run for 12 s".into());
    let ready = server.ask("GET", "/readyz", "").await;
    assert_status(&ready, 503);
    assert_eq!(body(&ready), "not ready: no tier can answer\n");
    let alive = server.ask("GET", "/livez", "").await;
    assert_status(&alive, 503);
    assert_eq!(body(&alive), "not alive: worker 1 hasn't run for 12 s\n");
}

#[tokio::test]
async fn a_drain_is_accepted_and_passed_on() {
    let server = Server::start().await;
    assert_status(&server.ask("POST", "/api/v1/drain", "").await, 202);
    assert_status(&server.ask("POST", "/api/v1/drain", "content-length: 0\r\n").await, 202);
    assert_eq!(server.process.0.drains.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_web_page_of_another_origin_can_not_drain() {
    let server = Server::start().await;
    let answer = server.ask("POST", "/api/v1/drain", "origin: https://evil.example\r\n").await;
    assert_status(&answer, 403);
    assert_eq!(server.process.0.drains.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn wrong_paths_and_methods_are_told_what_there_is() {
    let server = Server::start().await;
    let missing = server.ask("GET", "/health", "").await;
    assert_status(&missing, 404);
    assert!(body(&missing).contains("/readyz"));

    let allocation = server.ask("POST", "/v1/sequences/tasks/ids", "").await;
    assert_status(&allocation, 404);
    assert!(body(&allocation).contains("7420"));

    let read = server.ask("GET", "/api/v1/drain", "").await;
    assert_status(&read, 405);
    assert!(read.contains("allow: POST") && body(&read).contains("curl -X POST"), "{read}");

    let write = server.ask("PUT", "/metrics", "").await;
    assert_status(&write, 405);
    assert!(write.contains("allow: GET,HEAD"), "{write}");
}

/// What the routes answer to a request from elsewhere, with and without the token.
async fn from_elsewhere(
    method: &str,
    path: &str,
    set: Option<&str>,
    sent: Option<&str>,
) -> (StatusCode, Process) {
    let process = Process::default();
    let mut router = admin::router(process.clone(), metrics(), Token::new(set.map(SecretString::from)));
    let mut request = Request::builder().method(method).uri(path).extension(Peer::Elsewhere);
    if let Some(token) = sent {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = router.call(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status() == 401, answer.headers().contains_key("www-authenticate"));
    (answer.status(), process)
}

#[tokio::test]
async fn from_elsewhere_the_token_decides() {
    for (method, path, set, sent, expected) in [
        ("GET", "/", None, None, 200),
        ("GET", "/api/v1/status", None, None, 200),
        ("GET", "/api/v1/status", Some("t"), None, 401),
        ("GET", "/api/v1/status", Some("t"), Some("u"), 401),
        ("GET", "/api/v1/status", Some("t"), Some("t"), 200),
        ("GET", "/metrics", Some("t"), None, 200),
        ("GET", "/livez", Some("t"), None, 200),
        ("GET", "/readyz", Some("t"), None, 200),
        ("GET", "/nowhere", Some("t"), None, 401),
        ("POST", "/api/v1/drain", None, None, 403),
        ("POST", "/api/v1/drain", None, Some("t"), 403),
        ("POST", "/api/v1/drain", Some("t"), None, 401),
        ("POST", "/api/v1/drain", Some("t"), Some("u"), 401),
        ("POST", "/api/v1/drain", Some("t"), Some("t"), 202),
    ] {
        let (status, process) = from_elsewhere(method, path, set, sent).await;
        assert_eq!(status, expected, "{method} {path} set: {set:?} sent: {sent:?}");
        assert_eq!(process.0.drains.load(Ordering::Relaxed), usize::from(expected == 202));
    }
}

#[tokio::test]
async fn a_new_token_counts_at_once_and_the_old_one_no_longer() {
    let token = Token::new(Some("old".into()));
    let router = admin::router(Process::default(), metrics(), token.clone());
    let answers = async |sent: &str| {
        let request = Request::get("/api/v1/status").extension(Peer::Elsewhere);
        let request = request.header("authorization", format!("Bearer {sent}"));
        router.clone().call(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    };
    assert_eq!((answers("old").await, answers("new").await), (200, 401));
    token.set(Some("new".into()));
    assert_eq!((answers("old").await, answers("new").await), (401, 200));
}

#[tokio::test]
async fn a_unix_socket_counts_as_this_host() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let process = Process::default();
    let (_end, ended) = oneshot::channel();
    let router = admin::router(process.clone(), metrics(), Token::new(Some("secret".into())));
    serve(Listener::Unix(UnixListener::bind(&path).unwrap()), router, ended);
    let stream = UnixStream::connect(&path).await.unwrap();
    assert_status(&ask(stream, "POST", "/api/v1/drain", "").await, 202);
    assert_eq!(process.0.drains.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn http2_without_tls_is_spoken_too() {
    let server = Server::start().await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let get = |path: &str| {
        Request::get(format!("http://{}{path}", server.address)).body(Empty::<bytes::Bytes>::new()).unwrap()
    };
    let answer = client.send_request(get("/readyz")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ready\n");
    // The client that keeps the connection open is told to go.
    assert!(server.stop().await < Duration::from_secs(1));
    let _ = timeout(PATIENCE, connection).await.expect("the connection ends");
}

#[tokio::test]
async fn clients_that_stall_do_not_hold_up_the_end() {
    let server = Server::start().await;
    let mut stalled = Vec::new();
    // Nothing at all, half a preface of HTTP/2, half a head, and a kept connection that is idle.
    for sent in ["", "PRI * HTTP", "GET / HTTP/1.1\r\nhost: ", "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    // One that asks for a lot and reads nothing.
    let mut deaf = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..500 {
        let asked = deaf.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n");
        if timeout(Duration::from_millis(200), asked).await.is_err() {
            break;
        }
    }
    assert_status(&server.ask("GET", "/livez", "").await, 200);
    let took = server.stop().await;
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let server = Server::start().await;
    for sent in ["", "PRI * HTTP", "GET / HTTP/1.1\r\nhost: "] {
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        silent.write_all(sent.as_bytes()).await.unwrap();
        tokio::time::pause();
        let mut rest = Vec::new();
        // Virtual time runs on to the server's deadline.
        let _ = timeout(Duration::from_secs(60), silent.read_to_end(&mut rest))
            .await
            .expect("the server hangs up");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn an_answer_under_way_is_finished_at_the_end() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    let address = server.address;
    let stopping = tokio::spawn(server.stop());
    // The rest of the head comes after the end has begun: no new connection is taken any more.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_status(&answer, 200);
    stopping.await.unwrap();
}

#[tokio::test]
async fn garbage_gets_an_error_and_the_server_lives() {
    let server = Server::start().await;
    for garbage in
        ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nnonsense that is no frame at all"]
    {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(garbage.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end");
    }
    let oversized = format!("x-filler: {}\r\n", "x".repeat(64 * 1024));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let _ = stream.write_all(format!("GET / HTTP/1.1\r\nhost: a\r\n{oversized}\r\n").as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "));
    assert_status(&server.ask("GET", "/livez", "").await, 200);
}

#[tokio::test]
async fn a_process_without_the_role_chaos_says_so_and_a_wish_nobody_understands_is_refused() {
    let server = Server::start().await;
    let listed = server.ask("GET", "/api/v1/chaos", "").await;
    assert!(listed.starts_with("HTTP/1.1 404 ") && listed.contains("has not the role chaos"), "{listed}");
    let stopped = server.ask("POST", "/api/v1/chaos/stop", "").await;
    assert!(stopped.starts_with("HTTP/1.1 409 ") && stopped.contains(r#""retry":false"#), "{stopped}");
    let none = server.ask("POST", "/api/v1/chaos/inject", "content-length: 0\r\n").await;
    assert!(none.starts_with("HTTP/1.1 400 ") && none.contains("the body must be like"), "{none}");
    let read = server.ask("GET", "/api/v1/chaos/inject", "").await;
    assert!(read.starts_with("HTTP/1.1 405 ") && read.contains("blockhouse chaos"), "{read}");
    server.stop().await;
}
