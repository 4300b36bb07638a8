//! JSON over HTTP/1.1 and h2c.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tonic::body::Body;

use crate::call;
use crate::wire::{PATIENCE, Server};

/// An answer over HTTP/1.1.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    head: String,
    body: String,
}

impl Page {
    pub fn post(server: &Server, path: &str, body: &str) -> Page {
        Page::ask(
            server,
            &format!(
                "POST {path} HTTP/1.1\r\nhost: blockhouse\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        )
    }

    pub fn ask(server: &Server, text: &str) -> Page {
        Page::talk(TcpStream::connect(server.address()).unwrap(), text.as_bytes())
    }

    /// Writes `request`, reads until the server closes.
    pub fn talk(mut stream: TcpStream, request: &[u8]) -> Page {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        Page::parse(&String::from_utf8_lossy(&answer))
    }

    pub fn parse(answer: &str) -> Page {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Page { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_str(&self.body).unwrap()
    }
}

const PATH: &str = "/v1/sequences/tasks/ids";

#[test]
fn a_post_takes_ids() {
    let server = Server::start();
    let page = Page::post(&server, PATH, "{\"count\":3}");
    assert_eq!(page.status, 200);
    assert_eq!(page.json(), json!({"ranges": [{"first": "1", "count": "3"}], "tier": "TIER_PODS"}));
}

#[test]
fn an_empty_body_takes_one_and_any_content_type_will_do() {
    let server = Server::start();
    for body in ["", " \n", "{}", "{\"count\":null}"] {
        assert_eq!(Page::post(&server, PATH, body).json()["ranges"][0]["count"], "1");
    }
    for kind in ["application/json", "application/x-www-form-urlencoded", "application/grpc", "text/x"] {
        let text = format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: 11\r\n\r\n{{\"count\":2}}"
        );
        assert_eq!(Page::ask(&server, &text).json()["ranges"][0]["count"], "2", "{kind}");
    }
}

#[test]
fn a_body_that_is_no_count_is_refused_with_what_is_allowed() {
    let server = Server::start();
    let long = format!("{{\"count\":1{}}}", " ".repeat(5000));
    for body in [
        "{\"count\":0}",
        "{\"count\":-1}",
        "{\"count\":1.5}",
        "{\"count\":\"many\"}",
        "{\"count\":5000000000}",
        "{\"cuont\":1}",
        "[1]",
        "3",
        "{",
        "count=3",
        long.as_str(),
    ] {
        let page = Page::post(&server, PATH, body);
        let error = &page.json()["error"];
        assert_eq!((page.status, error["reason"].as_str()), (400, Some("COUNT_INVALID")), "{body:.40}");
        assert_eq!(error["status"], "INVALID_ARGUMENT");
    }
    assert_eq!(server.counter.asked(), 0);
}

#[test]
fn a_name_that_is_none_is_refused() {
    let server = Server::start();
    for path in ["/v1/sequences/Tasks/ids", "/v1/sequences//ids", "/v1/sequences/t%20s/ids"] {
        let page = Page::post(&server, path, "");
        assert_eq!(
            (page.status, page.json()["error"]["reason"].as_str()),
            (400, Some("SEQUENCE_NAME_INVALID"))
        );
    }
}

#[test]
fn a_get_is_told_the_curl_line() {
    let server = Server::start();
    let page = Page::ask(
        &server,
        &format!("GET {PATH}?n=1 HTTP/1.1\r\nhost: ids.example:7420\r\nconnection: close\r\n\r\n"),
    );
    assert_eq!((page.status, page.header("allow")), (405, Some("POST")));
    let message = page.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("curl -X POST http://ids.example:7420/v1/sequences/tasks/ids"), "{message}");
    assert_eq!(server.counter.asked(), 0);
}

#[test]
fn elsewhere_is_nothing_but_help() {
    let server = Server::start();
    for path in [
        "/",
        "/v1/sequences",
        "/metrics",
        "/v1/sequences/a/b/ids",
        "/blockhouse.v1.AllocationService/Allocate",
    ] {
        let page = Page::post(&server, path, "{}");
        let message = page.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(page.status, 404, "{path}");
        assert!(message.contains("POST /v1/sequences/{name}/ids"), "{message}");
    }
}

#[test]
fn a_connection_serves_one_request_after_another() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    for turn in 0..3 {
        let close = if turn == 2 { "connection: close\r\n" } else { "" };
        write!(stream, "POST {PATH} HTTP/1.1\r\nhost: x\r\n{close}content-length: 0\r\n\r\n").unwrap();
    }
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 3, "{all}");
}

#[test]
fn an_answer_in_time_or_none() {
    let server = Server::with(|grpc| grpc.request_timeout = Duration::from_millis(80));
    let page = Page::post(&server, "/v1/sequences/held/ids", "");
    assert_eq!((page.status, page.json()["error"]["reason"].as_str()), (504, Some("DEADLINE")));
    // A body that never comes is waited for no longer.
    let page = Page::ask(
        &server,
        &format!("POST {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 11\r\n\r\n{{\"c"),
    );
    assert_eq!((page.status, page.json()["error"]["reason"].as_str()), (504, Some("DEADLINE")));
}

#[tokio::test]
async fn http_2_without_tls_speaks_json_too() {
    let server = Server::start();
    let body = Body::new(http_body_util::Full::new("{\"count\":4}".into()));
    let response = call(&server, Request::post(PATH).body(body).unwrap()).await;
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(answer["ranges"][0]["count"], "4");
}
