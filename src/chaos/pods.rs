//! The pods behind a line.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::line::{Carried, Line, late};
use crate::block::Span;
use crate::config::settings;
use crate::pods::discovery::Roster;
use crate::pods::{
    Answer, Change, End, Heartbeat, Inspection, List, Notice, Pod, PodError, Popped, Scope, Seen, Target,
};

type Targets = Arc<[Arc<dyn Target>]>;

/// The same pods, each behind the line, now and whenever they change.
pub(super) fn lined(mut roster: Roster, line: Line) -> Roster {
    let behind = move |targets: &Targets| -> Targets {
        let lined = |target: &Arc<dyn Target>| Lined { target: Arc::clone(target), line: line.clone() };
        targets.iter().map(|target| Arc::new(lined(target)) as Arc<dyn Target>).collect()
    };
    let first = behind(&roster.borrow_and_update());
    let (sender, receiver) = watch::channel(first);
    tokio::task::spawn_local(async move {
        loop {
            tokio::select! {
                biased;
                () = sender.closed() => return,
                changed = roster.changed() => if changed.is_err() { return },
            }
            sender.send_replace(behind(&roster.borrow_and_update()));
        }
    });
    receiver
}

struct Lined {
    target: Arc<dyn Target>,
    line: Line,
}

impl Target for Lined {
    fn address(&self) -> &Arc<str> {
        self.target.address()
    }

    fn shared(&self) -> bool {
        self.target.shared()
    }

    fn open(&self, settings: &settings::Redis, log: &slog::Logger) -> Rc<dyn Pod> {
        let pod = self.target.open(settings, log);
        Rc::new(LinedPod { pod, line: self.line.clone(), timeout: settings.timeout })
    }

    fn log_in_with(&self, settings: &settings::Redis) -> Result<Change, String> {
        self.target.log_in_with(settings)
    }
}

struct LinedPod {
    pod: Rc<dyn Pod>,
    line: Line,
    timeout: Duration,
}

impl LinedPod {
    /// What isn't sent certainly was not carried out; what was and comes too late is in doubt, as when a network is slow (S2).
    fn carry<'a, T: 'a>(&'a self, call: impl FnOnce() -> Answer<'a, T> + 'a) -> Answer<'a, T> {
        Box::pin(async move {
            match self.line.pass(Some(self.pod.address()), self.timeout).await {
                Carried::Through(by) => {
                    let answer = call().await;
                    late(by.min(self.timeout)).await;
                    if by < self.timeout {
                        return answer;
                    }
                    Err(PodError::InDoubt(format!("no answer within {:?} (a drill)", self.timeout)))
                }
                Carried::Refused => Err(PodError::Failed("connection refused (a drill)".to_owned())),
                Carried::Lost(after) => {
                    Err(PodError::Failed(format!("no connection within {after:.1?} (a drill)")))
                }
            }
        })
    }
}

impl Pod for LinedPod {
    fn address(&self) -> &Arc<str> {
        self.pod.address()
    }

    fn heartbeat<'a>(&'a self, seen: &'a Seen) -> Answer<'a, Heartbeat> {
        self.carry(|| self.pod.heartbeat(seen))
    }

    fn pop<'a>(&'a self, list: &'a List, blocks: u32) -> Answer<'a, Popped> {
        self.carry(move || self.pod.pop(list, blocks))
    }

    fn push<'a>(&'a self, list: &'a List, entries: &'a [Span], end: End, high_water: i64) -> Answer<'a, ()> {
        self.carry(move || self.pod.push(list, entries, end, high_water))
    }

    fn inspect<'a>(&'a self, scope: &'a Scope, lists: &'a [(Arc<str>, i64)]) -> Answer<'a, Inspection> {
        self.carry(|| self.pod.inspect(scope, lists))
    }

    fn publish<'a>(&'a self, notice: &'a Notice) -> Answer<'a, ()> {
        self.carry(|| self.pod.publish(notice))
    }

    fn raise<'a>(&'a self, scope: &'a Scope, sequence: &'a str, high_water: i64) -> Answer<'a, ()> {
        self.carry(move || self.pod.raise(scope, sequence, high_water))
    }

    fn sweep<'a>(&'a self, scope: &'a Scope, keep: &'a [(Arc<str>, i64)]) -> Answer<'a, u64> {
        self.carry(|| self.pod.sweep(scope, keep))
    }
}
