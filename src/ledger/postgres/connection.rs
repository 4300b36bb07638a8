//! One connection, driven by whoever asks.
//!
//! No task runs in the background: the wire is polled only inside a call. So a call that is dropped takes the connection
//! with it, and a connection that the server closed while it was idle is seen before anything is sent on it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Error, Row, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure::{self, Failure};
use super::url::Target;

/// Parameters of a statement, each with its type: nothing is prepared first.
pub(super) type Params<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

type Wire = tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// What a statement that committed gave back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) rows: Vec<Row>,
    /// The first notice or warning that came with it.
    pub(super) notice: Option<String>,
}

pub(super) struct Connection {
    client: Client,
    wire: Wire,
    /// Why the wire ended. It must not be polled again.
    ended: Option<String>,
    /// The first notice since the present statement was sent.
    notice: Option<String>,
}

impl Connection {
    /// `with_options` also sends the session's limits, which a pooler may refuse.
    pub(super) async fn open(target: &Target, with_options: bool) -> Result<Connection, Error> {
        let config = if with_options { &target.config } else { &target.without_options };
        let (client, wire) = config.connect(target.tls.clone()).await?;
        let mut connection = Connection { client, wire, ended: None, notice: None };
        // Takes in what the server said while it let us in, such as a warning of another collation: no statement's notice.
        connection.is_alive().await;
        Ok(connection)
    }

    /// Whether the server still held the connection open a moment ago.
    pub(super) async fn is_alive(&mut self) -> bool {
        // Lets the reactor see what has arrived on a socket that nobody watched.
        tokio::task::yield_now().await;
        poll_fn(|cx| {
            self.pump(cx);
            Poll::Ready(self.ended.is_none())
        })
        .await
    }

    /// The connection, unless it ended together with the last answer.
    pub(super) fn if_usable(self) -> Option<Connection> {
        self.ended.is_none().then_some(self)
    }

    /// Sends one unnamed statement. `Ok` means that the server was seen to commit it.
    pub(super) async fn ask(&mut self, sql: &str, params: Params<'_>) -> Result<Reply, Failure> {
        self.notice = None;
        let rows = self.drive(|client| client.query_typed(sql, params)).await?;
        Ok(Reply { rows, notice: self.notice.take() })
    }

    /// Sends several statements as text, without parameters.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), Failure> {
        self.drive(|client| client.batch_execute(sql)).await
    }

    async fn drive<'a, T, F>(&'a mut self, call: impl FnOnce(&'a Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let Connection { client, wire, ended, notice } = self;
        let mut call = pin!(call(client));
        poll_fn(|cx| {
            pump(wire, ended, notice, cx);
            match (call.as_mut().poll(cx), &*ended) {
                (Poll::Ready(Ok(answer)), _) => Poll::Ready(Ok(answer)),
                (Poll::Ready(Err(error)), _) => Poll::Ready(Err(Failure::new(&error))),
                (Poll::Pending, Some(why)) => Poll::Ready(Err(Failure::Lost(why.clone()))),
                (Poll::Pending, None) => Poll::Pending,
            }
        })
        .await
    }

    fn pump(&mut self, cx: &mut Context<'_>) {
        pump(&mut self.wire, &mut self.ended, &mut self.notice, cx);
    }
}

/// Moves bytes both ways for as long as there are any.
fn pump(wire: &mut Wire, ended: &mut Option<String>, notice: &mut Option<String>, cx: &mut Context<'_>) {
    while ended.is_none() {
        match wire.poll_message(cx) {
            Poll::Pending => return,
            Poll::Ready(Some(Ok(AsyncMessage::Notice(said)))) => {
                notice.get_or_insert_with(|| format!("{}: {}", said.severity(), said.message()));
            }
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(error))) => *ended = Some(failure::chain(&error)),
            Poll::Ready(None) => *ended = Some("the connection was closed".to_owned()),
        }
    }
}
