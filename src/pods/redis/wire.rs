//! One connection to one server: opened once, kept until it fails, dropped with the first answer that doesn't prove itself.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::aio::{ConnectionLike, MultiplexedConnection};
use deadpool_redis::redis::{self, ConnectionInfo, Pipeline, ServerError, Value};
use deadpool_redis::{Connection, Pool};
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, WeakShared};
use slog::debug;
use tokio::time::timeout;
use uuid::Uuid;

use super::script::Script;
use super::{Shared, proof};
use crate::config::settings;
use crate::pods::proof::Proof;
use crate::pods::session::{Head, Session};
use crate::pods::{PodError, Scope};

/// What a pod sends through, on one thread. Cheap to clone.
#[derive(Clone)]
pub(super) struct Wire(Rc<Inner>);

struct Inner {
    server: Arc<Shared>,
    /// Opens the connection, logged in as the server's log-in was when it was made.
    pool: RefCell<(Arc<ConnectionInfo>, Pool)>,
    timeout: Duration,
    connect_timeout: Duration,
    prefix: Arc<str>,
    link: RefCell<Option<Rc<Link>>>,
    /// Those who need a connection share one attempt; it ends when the last of them goes.
    attempt: RefCell<Option<WeakShared<Attempt>>>,
    log: slog::Logger,
}

type Attempt = LocalBoxFuture<'static, Result<Rc<Link>, PodError>>;

/// A connection, bound to the life of the server that it began in.
struct Link {
    connection: MultiplexedConnection,
    /// The same connection as the pool knows it.
    pooled: RefCell<Option<Connection>>,
    session: Session,
    rng: RefCell<fastrand::Rng>,
}

/// One call of a script.
pub(super) struct Request<'a> {
    pub script: &'a Script,
    /// Whose entries it touches, where it touches any.
    pub scope: Option<&'a Scope>,
    /// The script's own arguments.
    pub args: &'a dyn Fn(&mut Pipeline),
}

impl Wire {
    pub(super) fn new(server: Arc<Shared>, settings: &settings::Redis, log: &slog::Logger) -> Wire {
        let info = server.info();
        let pool = RefCell::new((Arc::clone(&info), pool(&info)));
        let log = log.new(slog::o!("address" => server.address.to_string()));
        Wire(Rc::new(Inner {
            server,
            pool,
            timeout: settings.timeout,
            connect_timeout: settings.connect_timeout,
            prefix: settings.prefix.clone(),
            link: RefCell::default(),
            attempt: RefCell::default(),
            log,
        }))
    }

    pub(super) fn server(&self) -> &Shared {
        &self.0.server
    }

    pub(super) fn prefix(&self) -> &Arc<str> {
        &self.0.prefix
    }

    /// Waits for the connection as long as opening one may take. For calls that nobody's request waits for.
    pub(super) async fn ready(&self) -> Result<(), PodError> {
        self.link().await.map(drop)
    }

    /// Sends a request once, and gives what the script brought after its proof held.
    ///
    /// Waits for a connection no longer than for an answer: a caller doesn't pay for [`Wire::ready`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection; other calls in flight on it still get their answers.
    pub(super) async fn call(&self, request: Request<'_>) -> Result<(Proof, Value), PodError> {
        let link = match timeout(self.0.timeout, self.link()).await {
            Ok(link) => link?,
            Err(_) => return Err(PodError::Failed(format!("not connected within {:?}", self.0.timeout))),
        };
        let guard = InFlight { wire: self, link: &link, answered: false };
        let answer = match timeout(self.0.timeout, link.call(&self.0.prefix, &request)).await {
            Ok(answer) => answer,
            Err(_) => Err(PodError::InDoubt(format!("no answer within {:?}", self.0.timeout))),
        };
        guard.answered(&answer);
        answer
    }

    async fn link(&self) -> Result<Rc<Link>, PodError> {
        if let Some(link) = &*self.0.link.borrow() {
            return Ok(link.clone());
        }
        let running = self.0.attempt.borrow().as_ref().and_then(WeakShared::upgrade);
        let attempt = running.filter(|attempt| attempt.peek().is_none()).unwrap_or_else(|| {
            let attempt = self.clone().connect().boxed_local().shared();
            *self.0.attempt.borrow_mut() = attempt.downgrade();
            attempt
        });
        attempt.await
    }

    async fn connect(self) -> Result<Rc<Link>, PodError> {
        let inner = &self.0;
        let link = match timeout(inner.connect_timeout, Link::open(inner)).await {
            Ok(link) => Rc::new(link?),
            Err(_) => {
                return Err(PodError::Failed(format!("cannot connect within {:?}", inner.connect_timeout)));
            }
        };
        debug!(inner.log, "connected"; "run_id" => &link.session.life().run_id);
        *inner.link.borrow_mut() = Some(link.clone());
        Ok(link)
    }

    fn hang_up(&self, link: &Rc<Link>) {
        let mut current = self.0.link.borrow_mut();
        if current.as_ref().is_some_and(|current| Rc::ptr_eq(current, link)) {
            *current = None;
        }
        link.leave_pool();
    }
}

impl Inner {
    /// The pool of the present log-in.
    fn pool(&self) -> Pool {
        let info = self.server.info();
        let (of, present) = &mut *self.pool.borrow_mut();
        if !Arc::ptr_eq(of, &info) {
            (*of, *present) = (Arc::clone(&info), pool(&info));
        }
        present.clone()
    }
}

/// A pool of one connection.
fn pool(info: &ConnectionInfo) -> Pool {
    let config = redis::AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let manager = deadpool_redis::Manager::new_with_config(info.clone(), config)
        .expect("an address that was parsed is one that can be tried");
    Pool::builder(manager).max_size(1).build().expect("a pool without time-outs needs no runtime")
}

impl Link {
    async fn open(inner: &Inner) -> Result<Link, PodError> {
        let failed = |error: String| PodError::Failed(format!("cannot connect: {error}"));
        let pooled = inner.pool().get().await.map_err(|error| match error {
            deadpool_redis::PoolError::Backend(error) => failed(error.to_string()),
            error => failed(error.to_string()),
        })?;
        let mut link = Link {
            connection: pooled.clone(),
            pooled: RefCell::new(Some(pooled)),
            session: Session::unbound(),
            rng: RefCell::new(fastrand::Rng::with_seed(Uuid::new_v4().as_u64_pair().1)),
        };
        let hello = Request { script: &inner.server.scripts.hello, scope: None, args: &|_| {} };
        let (proof, _) = link.call(&inner.prefix, &hello).await?;
        link.session = Session::bound(&proof, &inner.server.counters);
        Ok(link)
    }

    /// One round trip; two where the server doesn't know the script, which certainly means that it did nothing.
    async fn call(&self, prefix: &str, request: &Request<'_>) -> Result<(Proof, Value), PodError> {
        let script = request.script;
        let sent = self.send(prefix, request, ["EVALSHA", &script.sha]).await?;
        let sent = match sent {
            Err(error) if error.code() == "NOSCRIPT" => {
                self.send(prefix, request, ["EVAL", script.body]).await?
            }
            sent => sent,
        };
        sent.map_err(|error| certain(&error))
    }

    /// The script's own proof can't come with an error, so an ECHO goes first: an error is ours, and the script
    /// certainly not carried out, only behind our own nonce.
    async fn send(
        &self,
        prefix: &str,
        request: &Request<'_>,
        [eval, script]: [&str; 2],
    ) -> Result<Result<(Proof, Value), ServerError>, PodError> {
        let head = self.session.head(request.scope, &mut self.rng.borrow_mut());
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("ECHO").arg(&head.nonce).cmd(eval).arg(script).arg(0);
        write(&head, prefix, &mut pipeline);
        (request.args)(&mut pipeline);

        let mut connection = self.connection.clone();
        let in_doubt = |why: String| PodError::InDoubt(why);
        let answers = connection.req_packed_commands(&pipeline, 0, 2).await;
        let answers = answers.map_err(|error| in_doubt(format!("connection lost: {error}")))?;
        let Ok([Value::BulkString(echo), answer]) = <[Value; 2]>::try_from(answers) else {
            return Err(in_doubt("an answer of another shape than was asked for".to_owned()));
        };
        if echo != head.nonce.as_bytes() {
            return Err(in_doubt("another call's answer".to_owned()));
        }
        if let Value::ServerError(error) = answer {
            return Ok(Err(error));
        }
        let (proof, payload) =
            proof::read(answer).map_err(|error| in_doubt(format!("an answer that doesn't read: {error}")))?;
        self.session.judge(&head, &proof)?;
        Ok(Ok((proof, payload)))
    }

    /// Never goes back to the pool, which would hand it out again.
    fn leave_pool(&self) {
        self.pooled.borrow_mut().take().map(Connection::take);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.leave_pool();
    }
}

/// As `proof.lua` reads it.
fn write(head: &Head, prefix: &str, pipeline: &mut Pipeline) {
    pipeline.arg(&head.nonce).arg(prefix).arg(&head.life.run_id).arg(&head.life.replid);
    pipeline.arg(head.known.token).arg(head.known.popped);
    match &head.scope {
        Some(scope) => pipeline.arg(scope.ledger.to_string()).arg(&*scope.cluster),
        None => pipeline.arg("").arg(""),
    };
    pipeline.arg(head.token);
}

/// An error that Redis answered: the script wasn't carried out.
fn certain(error: &ServerError) -> PodError {
    let details = error.details().unwrap_or_default();
    let text = format!("{} {details}", error.code());
    match error.code() {
        "READONLY" | "MASTERDOWN" => PodError::Refused(format!("it is a replica of another server ({text})")),
        "OOM" => PodError::Full(text),
        "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" | "TRYAGAIN" => {
            PodError::Refused(format!("it is a node of a Redis Cluster ({text})"))
        }
        _ if details.contains("compiling script") => PodError::Refused(format!(
            "it doesn't understand our scripts: Redis 7.0 or newer is needed ({text})"
        )),
        _ => PodError::Failed(text),
    }
}

/// A call between sending and its answer.
struct InFlight<'a> {
    wire: &'a Wire,
    link: &'a Rc<Link>,
    answered: bool,
}

impl InFlight<'_> {
    fn answered<T>(mut self, answer: &Result<T, PodError>) {
        self.answered = match answer {
            Ok(_) | Err(PodError::Failed(_) | PodError::Full(_)) => true,
            Err(error @ (PodError::InDoubt(_) | PodError::Refused(_))) => {
                debug!(self.wire.0.log, "connection dropped"; "error" => %error);
                false
            }
        };
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.wire.hang_up(self.link);
        }
    }
}
