//! An actor's mailbox: whoever has one can send, and what waits in it is counted.

use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler, Message};
use tokio::sync::oneshot;

use super::process::Part;

/// Where messages to one actor go. Unbounded: what may be sent is bounded by permits and lines before it.
pub(super) struct Mailbox<A: Actor> {
    address: Addr<A>,
    part: Arc<Part>,
}

/// Makes an actor panic, for drills.
pub(super) struct Panic;

impl Message for Panic {
    type Result = ();
}

impl<A: Actor> Clone for Mailbox<A> {
    fn clone(&self) -> Mailbox<A> {
        Mailbox { address: self.address.clone(), part: Arc::clone(&self.part) }
    }
}

impl<A: Actor<Context = Context<A>>> Mailbox<A> {
    pub(super) fn new(address: Addr<A>, part: Arc<Part>) -> Mailbox<A> {
        Mailbox { address, part }
    }

    /// Sends a message. An actor that has ended drops it, and with it whatever it holds.
    pub(super) fn send<M>(&self, message: M)
    where
        A: Handler<M>,
        M: Message<Result = ()> + Send + 'static,
    {
        self.part.sent();
        self.address.do_send(message);
    }

    /// Sends a message that takes a reply along, and waits for it. `None` if the actor let go of it: it panicked or ended.
    ///
    /// # Cancel safety
    /// The message goes on; its handler sees the reply closed.
    pub(super) async fn ask<M, T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> M) -> Option<T>
    where
        A: Handler<M>,
        M: Message<Result = ()> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.send(message(reply));
        answer.await.ok()
    }
}
