//! Tier 2 of one worker: its connections to the pods.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Supervised, WrapFuture};
use tokio::sync::oneshot;

use super::guard;
use super::known::Sequence;
use super::mailbox::{Mailbox, Panic};
use super::pod_set::{Blocks, PodSet};
use super::process::{Part, Process};
use crate::pods::discovery::Roster;

/// Between two heartbeats of a pod.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// A worker that heard nothing for so long asks before it answers: a process that was stopped, say.
pub const SILENCE: Duration = Duration::from_secs(3);

/// The worker's router, as its allocator sees it.
#[derive(Clone)]
pub struct RouterHandle {
    mailbox: Mailbox<Router>,
    heard: Arc<AtomicU64>,
}

struct Router {
    pods: Rc<PodSet>,
    part: Arc<Part>,
    process: Arc<Process>,
    /// Those who wait for the heartbeat under way.
    asked: Vec<oneshot::Sender<()>>,
    beating: bool,
    /// When the newest heartbeat that is over began, in milliseconds since the process started.
    heard: Arc<AtomicU64>,
}

/// Takes blocks of one sequence.
struct Pop {
    sequence: Arc<Sequence>,
    blocks: usize,
    reply: oneshot::Sender<Popped>,
}

/// What a pop brought.
pub struct Popped {
    /// The IDs, and whether the pods have no more.
    pub blocks: Blocks,
    /// Pods that can be asked at present.
    pub usable: usize,
}

/// Hears what the pods know, now.
struct Listen {
    reply: oneshot::Sender<()>,
}

impl Message for Pop {
    type Result = ();
}

impl Message for Listen {
    type Result = ();
}

/// Starts the router of `worker` on the present thread.
pub fn start(process: &Arc<Process>, worker: usize, roster: Roster, rng: fastrand::Rng) -> RouterHandle {
    let part = process.part("router", Some(worker));
    let pods = Rc::new(PodSet::new(Arc::clone(process), roster, rng, false));
    let of_actor = Arc::clone(&part);
    let heard = Arc::new(AtomicU64::new(ms(process.now())));
    let heard_by_actor = Arc::clone(&heard);
    let mailbox = guard::start(process, &part, |_| Router {
        pods,
        part: of_actor,
        process: Arc::clone(process),
        asked: Vec::new(),
        beating: false,
        heard: heard_by_actor,
    });
    RouterHandle { mailbox, heard }
}

impl RouterHandle {
    /// Takes up to `blocks` blocks, asking one pod after the other until every pod was tried.
    /// `None` if the router is being restarted.
    ///
    /// # Cancel safety
    /// What a dropped call had popped is discarded and counted.
    pub async fn pop(&self, sequence: Arc<Sequence>, blocks: usize) -> Option<Popped> {
        self.mailbox.ask(|reply| Pop { sequence, blocks, reply }).await
    }

    /// When this worker last asked the pods what they know, since the process started. A thread that doesn't run hears nothing.
    pub fn heard(&self) -> Duration {
        Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }

    /// What the pods would have said was asked elsewhere.
    pub fn heard_elsewhere(&self, at: Duration) {
        self.heard.fetch_max(ms(at), Ordering::Relaxed);
    }

    /// Hears what the pods know now; those who ask meanwhile share the answer. Bounded by the pods' time-outs.
    pub async fn listen(&self) {
        let _ = self.mailbox.ask(|reply| Listen { reply }).await;
    }

    /// Makes the actor panic, for drills.
    pub fn panic(&self) {
        self.mailbox.send(Panic);
    }
}

fn ms(since: Duration) -> u64 {
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Router {
    fn beat(&mut self, ctx: &mut Context<Self>) {
        self.part.beat(self.process.now());
        if self.beating {
            return;
        }
        self.beating = true;
        let asked = std::mem::take(&mut self.asked);
        let (pods, began) = (Rc::clone(&self.pods), self.process.now());
        let beat = async move { pods.heartbeat().await }.into_actor(self).map(move |(), act, ctx| {
            act.beating = false;
            // Where no pod answers there is nothing to hear: a thread that was stopped meanwhile asks elsewhere.
            let heard = Duration::from_millis(act.heard.load(Ordering::Relaxed));
            if act.pods.usable_count() > 0 || began.saturating_sub(heard) <= SILENCE {
                act.heard.store(ms(began), Ordering::Relaxed);
            }
            asked.into_iter().for_each(|reply| _ = reply.send(()));
            if !act.asked.is_empty() {
                act.beat(ctx);
            }
        });
        ctx.spawn(beat);
    }
}

impl Actor for Router {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.beat(ctx);
        ctx.run_interval(HEARTBEAT, Router::beat);
    }
}

impl Supervised for Router {
    /// `started` runs again after this.
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.beating = false;
    }
}

impl Handler<Pop> for Router {
    type Result = ();

    fn handle(&mut self, pop: Pop, ctx: &mut Context<Self>) {
        self.part.handled();
        let pods = Rc::clone(&self.pods);
        let work = async move {
            let blocks = pods.pop(&pop.sequence, pop.blocks).await;
            let usable = pods.usable_count();
            // An allocator that is gone drops the ranges, which counts them as discarded.
            let _ = pop.reply.send(Popped { blocks, usable });
        };
        ctx.spawn(work.into_actor(self));
    }
}

impl Handler<Listen> for Router {
    type Result = ();

    fn handle(&mut self, listen: Listen, ctx: &mut Context<Self>) {
        self.part.handled();
        self.asked.push(listen.reply);
        self.beat(ctx);
    }
}

impl Handler<Panic> for Router {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        self.part.handled();
        panic!("asked to");
    }
}
