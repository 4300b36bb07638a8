//! The port of callers: JSON bodies, messages, and the bytes of a stream.

use std::time::Duration;

use blockhouse_client::v1::allocate_stream_response::Result as Outcome;
use blockhouse_client::v1::{
    AllocateRequest, AllocateResponse, AllocateStreamRequest, AllocateStreamResponse,
};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::wire::{PATIENCE, Server};
use crate::{Verdict, fuzz, kind, must};

/// A server and one connection to it.
struct Caller {
    server: Server,
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
}

struct Answered {
    status: u16,
    grpc: Option<String>,
    body: Bytes,
}

impl Caller {
    fn new() -> Caller {
        let server = Server::with(|grpc| grpc.request_timeout = Duration::from_secs(1));
        let runtime = Runtime::new().unwrap();
        let sender = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender
        });
        Caller { server, runtime, sender }
    }

    /// `None` where `path` makes no request.
    fn ask(&mut self, path: &str, kind: &str, body: &[u8]) -> Option<Answered> {
        let url = format!("http://{}{path}", self.server.address());
        let request = Request::post(url).header("content-type", kind).header("te", "trailers");
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).ok()?;
        let Caller { runtime, sender, .. } = self;
        let answer = async {
            let answer = sender.send_request(request).await.expect("the connection lives on");
            let (head, body) = answer.into_parts();
            let body = body.collect().await.expect("an answer to its end");
            let grpc = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
            let grpc = grpc.or(head.headers.get("grpc-status"));
            let grpc = grpc.map(|code| String::from_utf8_lossy(code.as_bytes()).into_owned());
            Answered { status: head.status.as_u16(), grpc, body: body.to_bytes() }
        };
        Some(runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await.expect("in time") }))
    }
}

/// The first line is the name in the path, the rest the body. Who gets IDs gets as many as the body says; all others are told why.
#[test]
fn json_body() {
    let mut caller = Caller::new();
    let words = &["{\"count\":", "}", "\"", "null", "[", "e2", ".0", "\\u0063ount", "tasks\n", "\n", " "];
    fuzz("json_body", words, 600, |input| {
        let split = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
        let (name, body) = (String::from_utf8_lossy(&input[..split]), &input[split..]);
        let Some(answer) = caller.ask(&format!("/v1/sequences/{name}/ids"), "application/json", body) else {
            return Ok("no request".to_owned());
        };
        let json: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        if answer.status == 200 {
            let ranges = json["ranges"].as_array().ok_or("no ranges")?;
            let count = |range: &Value| range["count"].as_str().and_then(|count| count.parse::<i64>().ok());
            let total: Option<i64> = ranges.iter().map(count).sum();
            must(total.is_some() && total == asked(body), || format!("asked {:?}: {json}", asked(body)))?;
            return Ok(format!("{total:?}").len().to_string());
        }
        let error = &json["error"];
        let said = error["message"].as_str().unwrap_or_default();
        must((400..500).contains(&answer.status) && !said.is_empty(), || {
            format!("{}: {json}", answer.status)
        })?;
        must(error["code"] == answer.status, || format!("{}: {json}", answer.status))?;
        Ok(format!("{} {}", answer.status, kind(said)))
    });
}

/// How many IDs a body asks for.
fn asked(body: &[u8]) -> Option<i64> {
    if body.trim_ascii().is_empty() {
        return Some(1);
    }
    let body: Value = serde_json::from_slice(body).ok()?;
    match body.as_object()?.get("count") {
        None | Some(Value::Null) => Some(1),
        Some(Value::String(digits)) => digits.parse().ok(),
        Some(number) => number.as_f64().filter(|count| count.fract() == 0.0).map(|count| count as i64),
    }
}

/// What reads as a message is written again to the same message.
#[test]
fn messages() {
    fuzz(
        "messages",
        &["\x08\x01", "\x12\x05tasks", "\x18\x01", "\x22\x02\x08\x01", "\x0a\x00"],
        15_000,
        |input| {
            let mut read = again::<AllocateRequest>(input)?;
            read.push_str(&again::<AllocateStreamRequest>(input)?);
            read.push_str(&again::<AllocateResponse>(input)?);
            read.push_str(&again::<AllocateStreamResponse>(input)?);
            Ok(read)
        },
    );
}

fn again<M: Message + Default + PartialEq + std::fmt::Debug>(input: &[u8]) -> Verdict {
    let Ok(message) = M::decode(input) else { return Ok("-".to_owned()) };
    let written = message.encode_to_vec();
    must(M::decode(written.as_slice()).as_ref() == Ok(&message), || {
        format!("{message:?} reads back differently")
    })?;
    must(written.len() == message.encoded_len(), || format!("{message:?} has another length"))?;
    Ok(format!("{}", written.len() / 4))
}

/// A call's bytes, however they are cut into messages: each answer is one request's, and brings what that asked for.
#[test]
fn stream() {
    let mut caller = Caller::new();
    let words = &[
        "\0\0\0\0\x0b\x08\x01\x12\x05tasks\x18\x02",
        "\0\0\0\0\x00",
        "\x01\0\0\0\x00",
        "\0\x7f\x7f\x7f\x7f",
        "\x18\x00",
        "\x22\x02\x08\x01",
    ];
    fuzz("stream", words, 500, |input| {
        let path = "/blockhouse.v1.AllocationService/AllocateStream";
        let answer = caller.ask(path, "application/grpc", input).expect("a path");
        must(answer.status == 200, || format!("HTTP status {}", answer.status))?;
        let code = answer.grpc.ok_or("no grpc-status")?;
        let answers: Vec<AllocateStreamResponse> = frames(&answer.body)?;
        // What follows a message that can't be read is nobody's.
        let mut asked: Vec<AllocateStreamRequest> = frames(input).unwrap_or_else(|_| readable(input));
        must(code != "0" || answers.len() == asked.len(), || {
            format!("{} answers to {} requests", answers.len(), asked.len())
        })?;
        let mut allocated = 0;
        for answer in &answers {
            let is_its = |request: &AllocateStreamRequest| is_answer(request, answer);
            let at = asked.iter().position(is_its).ok_or_else(|| format!("nobody asked for {answer:?}"))?;
            asked.swap_remove(at);
            allocated += usize::from(matches!(answer.result, Some(Outcome::Allocated(_))));
        }
        Ok(format!("{code}: {allocated} of {}", answers.len()))
    });
}

fn is_answer(request: &AllocateStreamRequest, answer: &AllocateStreamResponse) -> bool {
    let brought = match &answer.result {
        Some(Outcome::Allocated(ids)) => {
            let whole = ids.ranges.iter().all(|range| range.first >= 1 && range.count >= 1);
            whole && ids.ranges.iter().map(|range| range.count).sum::<i64>() == i64::from(request.count)
        }
        Some(Outcome::Error(error)) => error.code != 0 && !error.reason.is_empty(),
        None => false,
    };
    request.correlation_id == answer.correlation_id && brought
}

/// The messages of a gRPC body.
fn frames<M: Message + Default>(mut body: &[u8]) -> Result<Vec<M>, String> {
    let mut messages = Vec::new();
    while !body.is_empty() {
        let (message, rest) = frame(body).ok_or("no message")?;
        messages.push(message);
        body = rest;
    }
    Ok(messages)
}

/// The first of them, as far as they can be read.
fn readable<M: Message + Default>(mut body: &[u8]) -> Vec<M> {
    let mut messages = Vec::new();
    while let Some((message, rest)) = frame(body) {
        messages.push(message);
        body = rest;
    }
    messages
}

fn frame<M: Message + Default>(body: &[u8]) -> Option<(M, &[u8])> {
    let (head, rest) = body.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let message = rest.get(..length).filter(|_| head[0] == 0)?;
    Some((M::decode(message).ok()?, &rest[length..]))
}
