//! One connection to an in-process pod: it proves every answer as the one to a Redis server does.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt;

use super::server::{Answered, Op};
use crate::block::Span;
use crate::pods::counter::Counters;
use crate::pods::proof::Proof;
use crate::pods::session::{Head, Session};
use crate::pods::{Answer, End, Heartbeat, Inspection, List, Notice, Pod, PodError, Popped, Scope, Seen};

/// What brings calls to a server, and answers back.
pub trait Carrier {
    /// One call. What is lost on the way there or back is an error by what became of it; whose answer it is, is not looked at.
    fn carry(&self, head: Head, op: Op) -> impl Future<Output = Result<(Proof, Answered), PodError>>;
}

/// A pod as one thread sees it through `C`. It keeps its connection until an answer doesn't prove itself.
pub struct Client<C> {
    address: Arc<str>,
    carrier: C,
    /// What the process knows of the server.
    counters: Arc<Counters>,
    session: RefCell<Option<Rc<Session>>>,
    rng: RefCell<fastrand::Rng>,
}

impl<C: Carrier> Client<C> {
    /// Not connected yet.
    pub fn new(address: Arc<str>, carrier: C, counters: Arc<Counters>, rng: fastrand::Rng) -> Client<C> {
        Client { address, carrier, counters, session: RefCell::default(), rng: RefCell::new(rng) }
    }

    async fn call(&self, scope: Option<&Scope>, op: Op) -> Result<Answered, PodError> {
        let present = self.session.borrow().clone();
        let session = match present {
            Some(session) => session,
            None => self.connect().await?,
        };
        let mut in_flight = InFlight { of: &self.session, session: &session, answered: false };
        let head = session.head(scope, &mut self.rng.borrow_mut());
        let answer = self.carrier.carry(head.clone(), op).await;
        let answer = answer.and_then(|(proof, answered)| session.judge(&head, &proof).map(|()| answered));
        in_flight.answered = matches!(answer, Ok(_) | Err(PodError::Failed(_) | PodError::Full(_)));
        answer
    }

    async fn connect(&self) -> Result<Rc<Session>, PodError> {
        let unbound = Session::unbound();
        let head = unbound.head(None, &mut self.rng.borrow_mut());
        let (proof, _) = self.carrier.carry(head.clone(), Op::Hello).await?;
        unbound.judge(&head, &proof)?;
        let session = Rc::new(Session::bound(&proof, &self.counters));
        *self.session.borrow_mut() = Some(Rc::clone(&session));
        Ok(session)
    }
}

/// A call without a good answer so far: with it, the connection ends.
struct InFlight<'a> {
    of: &'a RefCell<Option<Rc<Session>>>,
    session: &'a Rc<Session>,
    answered: bool,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut present = self.of.borrow_mut();
        if !self.answered && present.as_ref().is_some_and(|present| Rc::ptr_eq(present, self.session)) {
            *present = None;
        }
    }
}

/// Reads one kind of answer. Another one is another call's.
macro_rules! expect {
    ($answer:expr, $kind:path) => {
        match $answer.await? {
            $kind(it) => Ok(it),
            _ => Err(PodError::InDoubt("an answer of another kind than was asked for".to_owned())),
        }
    };
}

impl<C: Carrier> Pod for Client<C> {
    fn address(&self) -> &Arc<str> {
        &self.address
    }

    fn heartbeat<'a>(&'a self, seen: &'a Seen) -> Answer<'a, Heartbeat> {
        async move { expect!(self.call(None, Op::Heartbeat(seen.clone())), Answered::Heartbeat) }
            .boxed_local()
    }

    fn pop<'a>(&'a self, list: &'a List, blocks: u32) -> Answer<'a, Popped> {
        let op = move || Op::Pop { list: list.clone(), blocks };
        async move { expect!(self.call(Some(&list.scope), op()), Answered::Popped) }.boxed_local()
    }

    fn push<'a>(&'a self, list: &'a List, entries: &'a [Span], end: End, high_water: i64) -> Answer<'a, ()> {
        async move {
            if entries.is_empty() {
                return Ok(());
            }
            let op = Op::Push { list: list.clone(), entries: entries.to_vec(), end, high_water };
            self.call(Some(&list.scope), op).await.map(drop)
        }
        .boxed_local()
    }

    fn inspect<'a>(&'a self, scope: &'a Scope, lists: &'a [(Arc<str>, i64)]) -> Answer<'a, Inspection> {
        let op = move || Op::Inspect { lists: lists.to_owned() };
        async move { expect!(self.call(Some(scope), op()), Answered::Inspection) }.boxed_local()
    }

    fn publish<'a>(&'a self, notice: &'a Notice) -> Answer<'a, ()> {
        async move {
            let scope = Scope { ledger: notice.identity.ledger, cluster: notice.cluster.clone() };
            self.call(Some(&scope), Op::Publish(notice.clone())).await.map(drop)
        }
        .boxed_local()
    }

    fn raise<'a>(&'a self, scope: &'a Scope, sequence: &'a str, high_water: i64) -> Answer<'a, ()> {
        let op = move || Op::Raise { sequence: sequence.into(), high_water };
        async move { self.call(Some(scope), op()).await.map(drop) }.boxed_local()
    }

    fn sweep<'a>(&'a self, scope: &'a Scope, keep: &'a [(Arc<str>, i64)]) -> Answer<'a, u64> {
        let op = move || Op::Sweep { keep: keep.to_owned() };
        async move { expect!(self.call(Some(scope), op()), Answered::Deleted) }.boxed_local()
    }
}
