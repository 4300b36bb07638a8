//! What actix 0.13.5 gives and what it does not, as far as the safety argument leans on it (ARCHITECTURE.md). A new version of actix that fails
//! one of these tests changes what the actors may rely on.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use actix::dev::{ContextFut, channel};
use actix::fut::wrap_future;
use actix::prelude::*;
use blockhouse::block::{Cause, Range, Span, Tally};
use tokio::task::LocalSet;
use tokio::time::Instant;

/// Runs `test` on a system of its own, on virtual time.
fn run<F: Future<Output = ()>>(test: F) {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().expect("a runtime needs no more than file handles")
    };
    System::with_tokio_rt(runtime).block_on(test);
}

/// Lets everything run that can.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// What a probe lived through, as its test sees it.
#[derive(Clone, Default)]
struct Trace {
    notes: Rc<RefCell<Vec<u32>>>,
    starts: Rc<Cell<u32>>,
    restarts: Rc<Cell<u32>>,
}

impl Trace {
    fn notes(&self) -> Vec<u32> {
        self.notes.borrow().clone()
    }
}

/// An actor that does what its messages say.
struct Probe {
    trace: Trace,
    capacity: Option<usize>,
}

impl Probe {
    fn new(trace: &Trace) -> Probe {
        Probe { trace: trace.clone(), capacity: None }
    }
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.trace.starts.set(self.trace.starts.get() + 1);
        if let Some(capacity) = self.capacity {
            ctx.set_mailbox_capacity(capacity);
        }
    }
}

impl Supervised for Probe {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.trace.restarts.set(self.trace.restarts.get() + 1);
    }
}

/// Writes a number down, and gives it back.
struct Note(u32);

impl Message for Note {
    type Result = u32;
}

impl Handler<Note> for Probe {
    type Result = u32;

    fn handle(&mut self, Note(number): Note, _: &mut Self::Context) -> u32 {
        self.trace.notes.borrow_mut().push(number);
        number
    }
}

/// Panics in the handler itself.
struct Panic;

impl Message for Panic {
    type Result = ();
}

impl Handler<Panic> for Probe {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Self::Context) {
        panic!("on demand");
    }
}

/// Panics in the future that a handler answers with: one of the actor, or a bare one.
struct PanicLater {
    in_actor: bool,
}

impl Message for PanicLater {
    type Result = ();
}

impl Handler<PanicLater> for Probe {
    type Result = ActorResponse<Self, ()>;

    fn handle(&mut self, message: PanicLater, ctx: &mut Self::Context) -> Self::Result {
        let later = async {
            settle().await;
            panic!("on demand, later");
        };
        if message.in_actor {
            ctx.spawn(wrap_future(later));
        } else {
            actix::spawn(later);
        }
        ActorResponse::reply(())
    }
}

/// Holds a range until virtual time has passed by a second, then gives it back; or never does.
struct Hold {
    range: Range,
    for_ever: bool,
}

impl Message for Hold {
    type Result = Option<Range>;
}

impl Handler<Hold> for Probe {
    type Result = ResponseActFuture<Self, Option<Range>>;

    fn handle(&mut self, Hold { range, for_ever }: Hold, _: &mut Self::Context) -> Self::Result {
        Box::pin(wrap_future(async move {
            if for_ever {
                pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some(range)
        }))
    }
}

/// Waits with the actor's whole attention (`ctx.wait`), as `AtomicResponse` does.
struct Deafen(Duration);

impl Message for Deafen {
    type Result = ();
}

impl Handler<Deafen> for Probe {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, Deafen(duration): Deafen, _: &mut Self::Context) -> Self::Result {
        AtomicResponse::new(Box::pin(wrap_future(tokio::time::sleep(duration))))
    }
}

/// Ends the actor's context.
struct Stop;

impl Message for Stop {
    type Result = ();
}

impl Handler<Stop> for Probe {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// The smallest guard that does what `Supervisor` doesn't: a panic restarts the actor in place.
struct Guard<A: Supervised + Actor<Context = Context<A>>> {
    actor: ContextFut<A, Context<A>>,
}

impl<A: Supervised + Actor<Context = Context<A>>> Guard<A> {
    fn start(actor: A) -> Addr<A> {
        let (sender, receiver) = channel::channel(16);
        let guard = Guard { actor: Context::with_receiver(receiver).into_future(actor) };
        actix::spawn(guard);
        Addr::new(sender)
    }
}

impl<A: Supervised + Actor<Context = Context<A>>> Future for Guard<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<()> {
        loop {
            match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.actor).poll(task))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) => return Poll::Ready(()),
                Err(_panic) if self.actor.restart() => {}
                Err(_panic) => return Poll::Ready(()),
            }
        }
    }
}

fn ids(count: i64, tally: &Arc<Tally>) -> Range {
    Range::hold(Span::new(1, count).expect("1 or more"), 1, Arc::clone(tally))
}

fn hold(count: i64, tally: &Arc<Tally>) -> Hold {
    Hold { range: ids(count, tally), for_ever: false }
}

#[test]
fn a_supervisor_restarts_an_actor_that_stops_and_keeps_its_address_and_state() {
    run(async {
        let trace = Trace::default();
        let probe = Supervisor::start({
            let probe = Probe::new(&trace);
            move |_| probe
        });
        probe.do_send(Stop);
        assert_eq!(probe.send(Note(1)).await.unwrap(), 1);
        assert_eq!((trace.restarts.get(), trace.starts.get()), (1, 2));
    });
}

#[test]
fn a_supervisor_lets_a_panic_end_the_actor_and_the_process_goes_on_deaf() {
    run(async {
        let trace = Trace::default();
        let probe = Supervisor::start({
            let probe = Probe::new(&trace);
            move |_| probe
        });
        assert!(matches!(probe.send(Panic).await, Err(MailboxError::Closed)));
        assert!(!probe.connected());
        assert!(matches!(probe.send(Note(1)).await, Err(MailboxError::Closed)));
        assert_eq!((trace.restarts.get(), trace.notes()), (0, vec![]));
    });
}

#[test]
fn a_guard_keeps_address_and_queued_messages_through_a_panic() {
    run(async {
        let trace = Trace::default();
        let probe = Guard::start(Probe::new(&trace));
        probe.do_send(Note(1));
        probe.do_send(Panic);
        probe.do_send(Note(2));
        probe.do_send(Panic);
        assert_eq!(probe.send(Note(3)).await.unwrap(), 3);
        assert_eq!(trace.notes(), [1, 2, 3]);
        assert_eq!((trace.restarts.get(), trace.starts.get()), (2, 3));
        assert!(
            matches!(probe.send(Panic).await, Err(MailboxError::Closed)),
            "the one that panicked is told"
        );
        assert!(probe.connected());
    });
}

#[test]
fn a_guard_sees_a_panic_in_the_actors_own_futures_and_cancels_the_others() {
    run(async {
        let (trace, tally) = (Trace::default(), Arc::new(Tally::default()));
        let probe = Guard::start(Probe::new(&trace));
        let held = probe.send(hold(7, &tally));
        probe.send(PanicLater { in_actor: true }).await.unwrap();
        assert!(matches!(held.await, Err(MailboxError::Closed)), "answers under way are lost with the panic");
        assert_eq!((trace.restarts.get(), tally.discarded(Cause::Dropped)), (1, 7));
        assert_eq!(probe.send(Note(1)).await.unwrap(), 1);
    });
}

#[test]
fn a_guard_does_not_see_a_panic_in_a_future_that_is_not_the_actors() {
    run(async {
        let trace = Trace::default();
        let probe = Guard::start(Probe::new(&trace));
        probe.send(PanicLater { in_actor: false }).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(trace.restarts.get(), 0);
        assert_eq!(probe.send(Note(1)).await.unwrap(), 1);
    });
}

#[test]
fn a_mailbox_is_bounded_for_try_send_only_and_for_each_clone_of_the_address() {
    run(async {
        let trace = Trace::default();
        let probe = Probe { capacity: Some(2), ..Probe::new(&trace) }.start();
        settle().await;

        let taken =
            |address: &Addr<Probe>| (0..100).take_while(|n| address.try_send(Note(*n)).is_ok()).count();
        assert_eq!(taken(&probe), 2);
        let other = probe.clone();
        assert_eq!(taken(&other), 1, "a clone has a place of its own");

        let requests: Vec<_> = (0..100).map(|n| probe.send(Note(n))).collect();
        (0..100).for_each(|n| probe.do_send(Note(n)));
        for (request, n) in requests.into_iter().zip(0..) {
            assert_eq!(request.await.unwrap(), n);
        }
        assert_eq!(trace.notes().len(), 2 + 1 + 100 + 100);
    });
}

#[test]
fn a_request_to_a_full_mailbox_is_not_queued_before_it_is_polled() {
    run(async {
        let trace = Trace::default();
        let probe = Probe { capacity: Some(1), ..Probe::new(&trace) }.start();
        settle().await;
        let (first, second) = (probe.send(Note(1)), probe.send(Note(2)));
        settle().await;
        assert_eq!(
            trace.notes(),
            [1],
            "order and arrival of requests hold only where somebody waits for them"
        );
        assert_eq!((second.await.unwrap(), first.await.unwrap()), (2, 1));
    });
}

#[test]
fn an_hour_of_ticks_passes_at_once_on_virtual_time() {
    struct Clock(Rc<Cell<u32>>);

    impl Actor for Clock {
        type Context = Context<Self>;

        fn started(&mut self, ctx: &mut Self::Context) {
            ctx.run_interval(Duration::from_secs(1), |clock, _| clock.0.set(clock.0.get() + 1));
        }
    }

    run(async {
        let (ticks, began) = (Rc::new(Cell::new(0)), Instant::now());
        let _clock = Clock(Rc::clone(&ticks)).start();
        tokio::time::sleep(Duration::from_millis(3_600_500)).await;
        assert_eq!((ticks.get(), began.elapsed().as_secs()), (3600, 3600));
    });
}

#[test]
fn dropping_a_local_set_is_a_crash_of_the_actors_in_it_and_of_nobody_else() {
    run(async {
        let (trace, tally) = (Trace::default(), Arc::new(Tally::default()));
        let survivor = Probe::new(&trace).start();
        let process = LocalSet::new();
        let victim = {
            let _inside = process.enter();
            Guard::start(Probe::new(&trace))
        };
        for _ in 0..100 {
            victim.do_send(Hold { range: ids(3, &tally), for_ever: true });
        }
        process.run_until(settle()).await;
        assert_eq!((tally.discarded_in_all(), victim.connected()), (0, true));

        drop(process);
        assert_eq!((tally.discarded(Cause::Dropped), victim.connected()), (300, false));
        assert!(matches!(victim.send(Note(1)).await, Err(MailboxError::Closed)));
        assert_eq!(survivor.send(Note(2)).await.unwrap(), 2);
    });
}

#[test]
fn messages_that_an_actor_never_reads_drop_what_they_carry() {
    run(async {
        let (trace, tally) = (Trace::default(), Arc::new(Tally::default()));
        let probe = Probe::new(&trace).start();
        probe.do_send(Stop);
        probe.do_send(hold(5, &tally));
        let asked = probe.send(hold(6, &tally));
        assert!(matches!(asked.await, Err(MailboxError::Closed)));
        assert_eq!(tally.discarded(Cause::Dropped), 11, "queued behind the stop");

        probe.do_send(hold(7, &tally));
        assert_eq!(tally.discarded(Cause::Dropped), 18, "sent to an actor that is gone");
    });
}

#[test]
fn a_request_dropped_before_its_turn_is_never_handled() {
    run(async {
        let (trace, tally) = (Trace::default(), Arc::new(Tally::default()));
        let probe = Probe::new(&trace).start();
        drop(probe.send(Note(1)));
        drop(probe.send(hold(9, &tally)));
        assert_eq!(probe.send(Note(2)).await.unwrap(), 2);
        assert_eq!((trace.notes(), tally.discarded(Cause::Dropped)), (vec![2], 9));
    });
}

#[test]
fn a_request_dropped_under_way_is_handled_to_its_end_and_its_answer_dropped() {
    run(async {
        let (trace, tally) = (Trace::default(), Arc::new(Tally::default()));
        let probe = Probe::new(&trace).start();
        let asked = probe.send(hold(4, &tally));
        settle().await;
        drop(asked);
        settle().await;
        assert_eq!(tally.discarded_in_all(), 0, "the handler goes on");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(tally.discarded(Cause::Dropped), 4);
    });
}

#[test]
fn an_answer_that_arrived_is_dropped_with_the_request_that_nobody_polled() {
    run(async {
        let (trace, tally) = (Trace::default(), Arc::new(Tally::default()));
        let probe = Probe::new(&trace).start();
        let asked = probe.send(hold(4, &tally));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(tally.discarded_in_all(), 0, "it lies in the channel");
        drop(asked);
        assert_eq!(tally.discarded(Cause::Dropped), 4);
    });
}

#[test]
fn an_actor_that_waits_in_its_context_is_deaf_meanwhile() {
    run(async {
        let trace = Trace::default();
        let (probe, began) = (Probe::new(&trace).start(), Instant::now());
        probe.do_send(Deafen(Duration::from_secs(60)));
        assert_eq!(probe.send(Note(1)).await.unwrap(), 1);
        assert_eq!(began.elapsed().as_secs(), 60);
    });
}
