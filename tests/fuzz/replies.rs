//! The bytes that a Redis server answers with: a server of our own says hello properly, and answers the pop with the input, in
//! which `NONCE` stands for the nonce of the request.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use blockhouse::config::Settings;
use blockhouse::pods::redis::Server;
use blockhouse::pods::{List, PodError, Popped, Scope, Target as _};
use deadpool_redis::redis::{Value, parse_redis_value};
use uuid::Uuid;

use crate::{fuzz, kind, must};

const HELLO: &str = "*12\r\n$5\r\nNONCE\r\n:1\r\n$1\r\na\r\n$1\r\nb\r\n$6\r\nmaster\r\n:0\r\n:0\r\n+\r\n+\r\n:5\r\n:0\r\n:0\r\n";

const WORDS: &[&str] = &[
    "\r\n",
    "$-1\r\n",
    ":1\r\n",
    ":0\r\n",
    "*0\r\n",
    "*13\r\n",
    "$1\r\na\r\n",
    "+master\r\n",
    "+slave\r\n",
    "-OOM x\r\n",
    "-NOSCRIPT x\r\n",
    "NONCE",
    "+1:10\r\n",
    "%1\r\n",
    "_\r\n",
    "#t\r\n",
    ">2\r\n",
    "*1000000000\r\n",
    "$999999999999\r\n",
];

/// IDs come only out of an answer that proves itself (S3): it names this request, this life, and a lone master that is ours.
#[test]
fn replies() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let (answers, answer) = mpsc::channel::<Vec<u8>>();
    let server = std::thread::spawn(move || serve(&listener, &answer));
    let mut settings = Settings::default().redis;
    settings.timeout = Duration::from_secs(5);
    settings.connect_timeout = Duration::from_secs(5);
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let scope = Scope { ledger: Uuid::from_u128(7), cluster: "default".into() };
    let list = List { scope, sequence: "tasks".into(), generation: 1 };
    fuzz("replies", WORDS, 400, |input| {
        answers.send(input.to_vec()).unwrap();
        let pod = Server::parse(&url, &settings).unwrap().open(&settings, &log);
        match runtime.block_on(pod.pop(&list, 3)) {
            Ok(popped) => proven(input, &popped).map(|()| format!("{} entries", popped.entries.len())),
            Err(error) => Ok(match error {
                PodError::Failed(why) => format!("failed: {}", kind(&why)),
                PodError::Full(_) => "full".to_owned(),
                PodError::InDoubt(why) => format!("in doubt: {}", kind(&why)),
                PodError::Refused(why) => format!("refused: {}", kind(&why)),
            }),
        }
    });
    drop(answers);
    // Wakes the server, which then finds nobody who tells it what to answer.
    drop(TcpStream::connect(url.trim_start_matches("redis://")));
    server.join().unwrap();
}

/// Reads the answer once more, by the words of `proof.lua` alone.
fn proven(input: &[u8], popped: &Popped) -> Result<(), String> {
    let Ok(Value::Array(fields)) = parse_redis_value(input) else {
        return Err("IDs out of no array".to_owned());
    };
    let text = |at: usize| fields.get(at).map_or(String::new(), plain);
    must(text(0) == "NONCE", || format!("another request's answer: {:?}", text(0)))?;
    must((text(2), text(3)) == ("a".to_owned(), "b".to_owned()), || "another life's".to_owned())?;
    must(text(4) == "master", || format!("a {}'s", text(4)))?;
    let number = |at: usize| text(at).parse::<i64>().ok();
    must([1, 5, 6, 11].map(number) == [Some(1), Some(0), Some(0), Some(0)], || {
        format!("not done, with replicas, a cluster's node or restored: {fields:?}")
    })?;
    must(text(7).is_empty() || text(7) == Uuid::from_u128(7).to_string() && text(8) == "default", || {
        "somebody else's".to_owned()
    })?;
    let Some(Value::Array(payload)) = fields.get(12) else { return Err("no payload".to_owned()) };
    let entries = match payload.get(1) {
        Some(Value::Array(entries)) => entries.len(),
        _ => 0,
    };
    must(popped.entries.len() == entries, || format!("{popped:?} of {entries} entries"))
}

fn plain(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// One answer a connection.
fn serve(listener: &TcpListener, answers: &mpsc::Receiver<Vec<u8>>) {
    while let Ok(answer) = answers.recv() {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.set_nodelay(true).unwrap();
        converse(&stream, &answer);
    }
}

/// Says hello, then gives `answer` to the next script and hangs up.
fn converse(mut stream: &TcpStream, answer: &[u8]) {
    let mut requests = BufReader::new(stream);
    let (mut nonce, mut scripts) = (Vec::new(), 0);
    while let Some(request) = request(&mut requests) {
        let reply = match request[0].to_ascii_uppercase().as_slice() {
            b"ECHO" => {
                nonce.clone_from(&request[1]);
                [format!("${}\r\n", nonce.len()).as_bytes(), &nonce, b"\r\n"].concat()
            }
            b"EVALSHA" | b"EVAL" => {
                scripts += 1;
                if scripts > 1 {
                    let _ = stream.write_all(&with_nonce(answer, &nonce));
                    return;
                }
                with_nonce(HELLO.as_bytes(), &nonce)
            }
            _ => b"+OK\r\n".to_vec(),
        };
        if stream.write_all(&reply).is_err() {
            return;
        }
    }
}

/// `$5\r\nNONCE` with the length that the nonce has.
fn with_nonce(answer: &[u8], nonce: &[u8]) -> Vec<u8> {
    let placeholder = b"$5\r\nNONCE";
    let Some(at) = answer.windows(placeholder.len()).position(|window| window == placeholder) else {
        return answer.to_vec();
    };
    let length = format!("${}\r\n", nonce.len());
    [&answer[..at], length.as_bytes(), nonce, &answer[at + placeholder.len()..]].concat()
}

/// `None` once the client is gone.
fn request(from: &mut BufReader<&TcpStream>) -> Option<Vec<Vec<u8>>> {
    let parts = head(from, b'*')?;
    (0..parts).map(|_| part(from)).collect()
}

fn part(from: &mut BufReader<&TcpStream>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; head(from, b'$')? + 2];
    from.read_exact(&mut bytes).ok()?;
    bytes.truncate(bytes.len() - 2);
    Some(bytes)
}

fn head(from: &mut BufReader<&TcpStream>, mark: u8) -> Option<usize> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    line.strip_prefix(char::from(mark))?.trim_end().parse().ok()
}
