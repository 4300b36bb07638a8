//! The network: each call goes there and comes back on its own, whatever becomes of the one who made it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::{BoxFuture, pending};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::journal::Journal;

/// Who can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Server {
    Ledger,
    /// By its number in the whole run.
    Pod(usize),
}

/// One process's way to one server. A process is known by its slot, and by its number: each start gets another.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub slot: usize,
    pub process: u32,
    pub server: Server,
}

/// Several ways at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// `None`: from everywhere.
    pub slot: Option<usize>,
    /// Of one cluster only.
    pub cluster: Option<usize>,
    /// To which servers.
    pub to: To,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Ledger,
    Pods,
    Pod(usize),
    Anything,
}

/// What happens to calls on a way: chances in a thousand, and how late.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// Refused at once: certainly not carried out.
    pub refuses: u16,
    /// Lost on the way there.
    pub loses: u16,
    /// The answer is lost.
    pub loses_reply: u16,
    /// Late, there or back, by up to `late_by`.
    pub late: u16,
    pub late_by: Duration,
    /// An earlier answer comes again, in the place of this one.
    pub repeats: u16,
}

/// Where in a call a process crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It was sent, and has not arrived.
    Sent,
    /// It was carried out, and nobody knows.
    Done,
    /// The answer is there, and was not read.
    Answered,
}

/// A process crashes at this moment of its next such call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    pub slot: usize,
    pub call: &'static str,
    pub moment: Moment,
}

/// The network of a run.
pub struct Net {
    pub journal: Journal,
    state: Mutex<State>,
    /// Carries calls outside of every process.
    post: mpsc::UnboundedSender<BoxFuture<'static, ()>>,
    /// Slots whose process is to crash now.
    sprung: mpsc::UnboundedSender<usize>,
}

struct State {
    rng: fastrand::Rng,
    /// Milliseconds that a call takes to a pod, and to the ledger, at most.
    latency: (u64, u64),
    weathers: Vec<(usize, Ways, Weather)>,
    traps: Vec<Trap>,
    /// Of each slot.
    clusters: Vec<usize>,
}

/// What becomes of one call; `None` = lost.
struct Fate {
    refused: bool,
    there: Option<Duration>,
    back: Option<Duration>,
}

impl Ways {
    fn hold(&self, way: Way, cluster: usize) -> bool {
        let to = match self.to {
            To::Anything => true,
            To::Ledger => way.server == Server::Ledger,
            To::Pods => way.server != Server::Ledger,
            To::Pod(number) => way.server == Server::Pod(number),
        };
        to && self.slot.is_none_or(|slot| slot == way.slot) && self.cluster.is_none_or(|only| only == cluster)
    }
}

impl Net {
    /// Gives the network, and where it says which slots are to crash. `clusters` names the cluster of each slot.
    pub fn new(
        journal: Journal,
        rng: fastrand::Rng,
        latency: (u64, u64),
        clusters: Vec<usize>,
    ) -> (Arc<Net>, mpsc::UnboundedReceiver<usize>) {
        let (post, mut posted) = mpsc::unbounded_channel();
        let (sprung, springs) = mpsc::unbounded_channel();
        tokio::task::spawn_local(async move {
            while let Some(call) = posted.recv().await {
                tokio::task::spawn_local(call);
            }
        });
        let state = State { rng, latency, weathers: Vec::new(), traps: Vec::new(), clusters };
        (Arc::new(Net { journal, state: Mutex::new(state), post, sprung }), springs)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it in hand")
    }

    /// From now on, until it clears.
    pub fn weather(&self, number: usize, ways: Ways, weather: Weather) {
        self.state().weathers.push((number, ways, weather));
    }

    pub fn clear(&self, number: usize) {
        self.state().weathers.retain(|(of, ..)| *of != number);
    }

    pub fn set_trap(&self, trap: Trap) {
        self.state().traps.push(trap);
    }

    /// Whether the answer that came last on this way comes again in the place of the present one.
    pub fn repeats(&self, way: Way) -> bool {
        let state = &mut *self.state();
        let cluster = state.clusters[way.slot];
        let weathers = state.weathers.iter().filter(|(_, ways, _)| ways.hold(way, cluster));
        let mut chances = weathers.map(|(_, _, weather)| weather.repeats).filter(|chance| *chance > 0);
        chances.any(|chance| state.rng.u16(..1000) < chance)
    }

    /// Ends all faults.
    pub fn heal(&self) {
        let mut state = self.state();
        state.weathers.clear();
        state.traps.clear();
    }

    /// Whether nothing disturbs this way at present.
    pub fn is_clear(&self, way: Way) -> bool {
        let state = self.state();
        let cluster = state.clusters[way.slot];
        !state.weathers.iter().any(|(_, ways, _)| ways.hold(way, cluster))
    }

    /// One call: `work` is done at the server's. Nobody waits for it any more once the future is dropped; it goes on all the same.
    pub async fn carry<T, E>(
        &self,
        way: Way,
        call: &'static str,
        refused: E,
        work: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let Fate { refused: refuses, there, back } = self.state().draw(way);
        self.log(way, call, if refuses { "refused" } else { "sent" });
        self.springs(way, call, Moment::Sent).await;
        let there = match there {
            Some(there) => there,
            None => pending().await,
        };
        if refuses {
            sleep(there).await;
            return Err(refused);
        }
        let (reply, answer) = oneshot::channel();
        let travel = async move {
            sleep(there).await;
            let result = work();
            if let Some(back) = back {
                sleep(back).await;
                let _ = reply.send(result);
            }
        };
        let _ = self.post.send(Box::pin(travel));
        let Ok(result) = answer.await else { pending().await };
        self.springs(way, call, Moment::Answered).await;
        self.log(way, call, if result.is_ok() { "answered" } else { "answered with an error" });
        result
    }

    /// For the server's side of a call: whether the process is to crash before it hears.
    pub fn done(&self, way: Way, call: &'static str) {
        if self.state().take_trap(way, call, Moment::Done) {
            let _ = self.sprung.send(way.slot);
        }
    }

    async fn springs(&self, way: Way, call: &'static str, moment: Moment) {
        let springs = self.state().take_trap(way, call, moment);
        if springs {
            let _ = self.sprung.send(way.slot);
            pending().await
        }
    }

    fn log(&self, way: Way, call: &'static str, what: &str) {
        self.journal.note(format_args!("#{} {call} {:?}: {what}", way.process, way.server));
    }
}

impl State {
    fn draw(&mut self, way: Way) -> Fate {
        let most = if way.server == Server::Ledger { self.latency.1 } else { self.latency.0 };
        let mut fate = Fate {
            refused: false,
            there: Some(Duration::from_millis(self.rng.u64(..=most))),
            back: Some(Duration::from_millis(self.rng.u64(..=most))),
        };
        let cluster = self.clusters[way.slot];
        for (_, _, weather) in self.weathers.iter().filter(|(_, ways, _)| ways.hold(way, cluster)) {
            let mut happens = |chance: u16| self.rng.u16(..1000) < chance;
            fate.refused |= happens(weather.refuses);
            if happens(weather.loses) {
                fate.there = None;
            }
            if happens(weather.loses_reply) {
                fate.back = None;
            }
            if happens(weather.late) {
                let by = u64::try_from(weather.late_by.as_millis()).unwrap_or(u64::MAX);
                let by = Duration::from_millis(self.rng.u64(..=by));
                let later = |leg: Option<Duration>| leg.map(|leg| leg + by);
                if self.rng.bool() { fate.there = later(fate.there) } else { fate.back = later(fate.back) }
            }
        }
        fate
    }

    fn take_trap(&mut self, way: Way, call: &str, moment: Moment) -> bool {
        let at = self
            .traps
            .iter()
            .position(|trap| trap.slot == way.slot && trap.call == call && trap.moment == moment);
        at.map(|at| self.traps.remove(at)).is_some()
    }
}
