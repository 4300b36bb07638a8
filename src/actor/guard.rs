//! Keeps an actor alive through its panics.
//!
//! actix's own `Supervisor` doesn't catch a panic: the mailbox closes and the process goes on deaf. Here the address and
//! the queued messages survive; what the actor was doing is dropped (its ranges count as discarded, S2) and
//! `Supervised::restarting` rebuilds its state. `tests/actix_contract.rs` pins what this relies on.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use actix::dev::ContextFut;
use actix::{Actor, AsyncContext, Context, Supervised};
use tokio::time::{Sleep, sleep};

use super::mailbox::Mailbox;
use super::process::{Part, Process};

/// Starts an actor on the present thread, under guard; `build` gets its own mailbox.
pub(super) fn start<A>(
    process: &Arc<Process>,
    part: &Arc<Part>,
    build: impl FnOnce(&Mailbox<A>) -> A,
) -> Mailbox<A>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    let context = Context::new();
    let mailbox = Mailbox::new(context.address(), Arc::clone(part));
    let actor = build(&mailbox);
    tokio::task::spawn_local(Guarded {
        running: context.into_future(actor),
        pause: None,
        process: Arc::clone(process),
        part: Arc::clone(part),
    });
    mailbox
}

struct Guarded<A: Actor<Context = Context<A>>> {
    running: ContextFut<A, Context<A>>,
    /// While set the actor rests after a panic; its mailbox fills meanwhile.
    pause: Option<Pin<Box<Sleep>>>,
    process: Arc<Process>,
    part: Arc<Part>,
}

// Nothing in it is pinned in place: `ContextFut` and the boxed timer can both be moved.
impl<A: Actor<Context = Context<A>>> Unpin for Guarded<A> {}

impl<A> Future for Guarded<A>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(cx));
                this.pause = None;
            }
            let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.running).poll(cx)));
            let panic = match polled {
                Ok(progress) => return progress,
                Err(panic) => panic,
            };
            let Some(pause) = this.process.failed(&this.part, describe(&*panic)) else {
                return Poll::Ready(());
            };
            this.pause = Some(Box::pin(sleep(pause)));
            let connected = catch_unwind(AssertUnwindSafe(|| this.running.restart()));
            if !matches!(connected, Ok(true)) {
                return Poll::Ready(());
            }
        }
    }
}

fn describe(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
