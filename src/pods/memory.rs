//! In-process pods: for `dev`, tests and simulation. They keep the rules that [`super::redis`] keeps.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{Answer, End, Heartbeat, Inspection, List, Notice, Pod, PodError, Popped, Scope, Seen, Target};
use crate::block::chunk::CHUNK;
use crate::block::witness::{FORGOTTEN_AFTER, Present};
use crate::block::{Catalogue, Identity, Span, Stamp};
use crate::config::settings;

/// One in-process pod, shared by all threads of the process; a clone is the same pod. What it holds ends with the process.
#[derive(Clone)]
pub struct Server {
    address: Arc<str>,
    state: Arc<Mutex<State>>,
}

/// What a Redis server would hold.
#[derive(Debug, Default)]
struct State {
    run_id: Arc<str>,
    token: Arc<str>,
    owner: Option<Scope>,
    identity: Option<Identity>,
    catalogue: Catalogue,
    lists: BTreeMap<(Arc<str>, i64), VecDeque<Span>>,
    high_waters: BTreeMap<Arc<str>, i64>,
    raised: u64,
    read_at_us: Option<i64>,
    popped: BTreeMap<Arc<str>, u64>,
    /// Who was heard last with which catalogue, and when.
    present: BTreeMap<Arc<str>, (Stamp, Instant)>,
}

impl Server {
    /// An empty pod named `memory:NUMBER`, with a random run_id drawn from `rng`.
    pub fn new(number: usize, rng: &mut fastrand::Rng) -> Server {
        let state = State {
            run_id: format!("{:032x}", rng.u128(..)).into(),
            token: rng.u64(1..).to_string().into(),
            // Begins anywhere, so that a reader never takes another pod's count for this one's; never at 0.
            raised: rng.u64(1..1 << 62),
            ..State::default()
        };
        Server { address: format!("memory:{number}").into(), state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for Server {
    fn address(&self) -> &Arc<str> {
        &self.address
    }

    fn shared(&self) -> bool {
        false
    }

    fn open(&self, _: &settings::Redis, _: &slog::Logger) -> Rc<dyn Pod> {
        Rc::new(self.clone())
    }
}

impl State {
    fn admit(&self, scope: &Scope) -> Result<(), PodError> {
        match &self.owner {
            Some(owner) if owner.ledger != scope.ledger => Err(PodError::Refused(format!(
                "it holds blocks of ledger {}, not of ledger {}",
                owner.ledger, scope.ledger
            ))),
            Some(owner) if owner.cluster != scope.cluster => Err(PodError::Refused(format!(
                "two clusters on one pod: it belongs to cluster '{}', not to '{}'",
                owner.cluster, scope.cluster
            ))),
            _ => Ok(()),
        }
    }

    /// The first that writes decides whose pod it is.
    fn claim(&mut self, scope: &Scope) -> Result<(), PodError> {
        self.admit(scope)?;
        self.owner.get_or_insert_with(|| scope.clone());
        Ok(())
    }

    fn raise(&mut self, sequence: &str, high_water: i64) {
        if high_water > self.high_waters.get(sequence).copied().unwrap_or(0) {
            self.high_waters.insert(sequence.into(), high_water);
            self.raised += 1;
        }
    }

    fn heartbeat(&mut self, seen: &Seen) -> Heartbeat {
        if let Some((instance, stamp)) = &seen.by {
            self.present.insert(instance.clone(), (*stamp, Instant::now()));
        }
        let stamp = self.catalogue.stamp;
        let published = self.identity.is_some();
        Heartbeat {
            run_id: self.run_id.clone(),
            identity: self.identity.clone(),
            cluster: self.owner.as_ref().map(|owner| owner.cluster.clone()),
            stamp,
            catalogue: (published && stamp != seen.stamp).then(|| self.catalogue.clone()),
            high_waters_seen: self.raised,
            high_waters: (self.raised != seen.high_waters).then(|| self.high_waters.clone()),
            read_at_us: self.read_at_us,
        }
    }

    fn pop(&mut self, list: &List, blocks: u32) -> Result<Popped, PodError> {
        self.admit(&list.scope)?;
        let high_water = self.high_waters.get(&list.sequence).copied().unwrap_or(0);
        let Some(spans) = self.lists.get_mut(&(list.sequence.clone(), list.generation)) else {
            return Ok(Popped { entries: Vec::new(), high_water });
        };
        let some = spans.len().min(blocks as usize);
        let entries = spans.drain(..some).map(|span| span.to_string()).collect();
        *self.popped.entry(list.sequence.clone()).or_default() += some as u64;
        Ok(Popped { entries, high_water })
    }

    fn push(&mut self, list: &List, entries: &[Span], end: End, high_water: i64) -> Result<(), PodError> {
        assert!(entries.len() <= CHUNK, "a push of more than one chunk");
        if entries.is_empty() {
            return Ok(());
        }
        self.claim(&list.scope)?;
        self.raise(&list.sequence, high_water);
        let spans = self.lists.entry((list.sequence.clone(), list.generation)).or_default();
        match end {
            End::Back => spans.extend(entries),
            End::Front => entries.iter().rev().for_each(|span| spans.push_front(*span)),
        }
        Ok(())
    }

    fn inspect(&mut self, scope: &Scope, lists: &[(Arc<str>, i64)]) -> Result<Inspection, PodError> {
        self.admit(scope)?;
        let entries: usize = self.lists.values().map(VecDeque::len).sum();
        Ok(Inspection {
            blocks: lists
                .iter()
                .map(|list| self.lists.get(list).map_or(0, |spans| spans.len() as u64))
                .collect(),
            used_memory: (entries * size_of::<Span>()) as u64,
            max_memory: 0,
            counter_token: self.token.clone(),
            popped_blocks: self.popped.clone(),
            present: self.present(),
        })
    }

    fn present(&mut self) -> Vec<Present> {
        self.present.retain(|_, (_, at)| at.elapsed() <= FORGOTTEN_AFTER);
        let present = self.present.iter();
        present
            .map(|(instance, (stamp, at))| Present {
                instance: instance.clone(),
                stamp: *stamp,
                ago: at.elapsed(),
            })
            .collect()
    }

    fn publish(&mut self, notice: &Notice) -> Result<(), PodError> {
        let scope = Scope { ledger: notice.identity.ledger, cluster: notice.cluster.clone() };
        self.admit(&scope)?;
        let (ours, theirs) = (&notice.identity, self.identity.as_ref());
        match theirs {
            Some(theirs) if theirs.environment != ours.environment => {
                return Err(PodError::Refused(format!(
                    "it belongs to environment '{}', not to '{}'",
                    theirs.environment, ours.environment
                )));
            }
            Some(theirs) if theirs.life.epoch == ours.life.epoch && theirs.life != ours.life => {
                return Err(PodError::Refused(format!(
                    "it knows life {} of the ledger as {}, and this ledger as {}: two lines of history",
                    theirs.life.epoch, theirs.life.token, ours.life.token
                )));
            }
            _ => {}
        }
        if theirs.is_none_or(|theirs| ours.life.epoch > theirs.life.epoch) {
            self.identity = Some(ours.clone());
        }
        self.claim(&scope)?;
        if notice.catalogue.stamp > self.catalogue.stamp {
            self.catalogue = (*notice.catalogue).clone();
        }
        for (sequence, high_water) in &notice.high_waters {
            self.raise(sequence, *high_water);
        }
        self.read_at_us = self.read_at_us.max(Some(notice.read_at_us));
        Ok(())
    }

    fn sweep(&mut self, scope: &Scope, keep: &[(Arc<str>, i64)]) -> Result<u64, PodError> {
        self.admit(scope)?;
        let before = self.lists.len();
        self.lists.retain(|(sequence, generation), _| {
            !keep.iter().any(|(kept, present)| kept == sequence && generation < present)
        });
        Ok((before - self.lists.len()) as u64)
    }
}

/// Nothing happens before the first poll, and all of it then: a call that is dropped was either not made or is over.
fn answer<'a, T: 'a>(call: impl FnOnce() -> Result<T, PodError> + 'a) -> Answer<'a, T> {
    async move { call() }.boxed_local()
}

impl Pod for Server {
    fn address(&self) -> &Arc<str> {
        &self.address
    }

    fn heartbeat<'a>(&'a self, seen: &'a Seen) -> Answer<'a, Heartbeat> {
        answer(move || Ok(self.state().heartbeat(seen)))
    }

    fn pop<'a>(&'a self, list: &'a List, blocks: u32) -> Answer<'a, Popped> {
        answer(move || self.state().pop(list, blocks))
    }

    fn push<'a>(&'a self, list: &'a List, entries: &'a [Span], end: End, high_water: i64) -> Answer<'a, ()> {
        answer(move || self.state().push(list, entries, end, high_water))
    }

    fn inspect<'a>(&'a self, scope: &'a Scope, lists: &'a [(Arc<str>, i64)]) -> Answer<'a, Inspection> {
        answer(move || self.state().inspect(scope, lists))
    }

    fn publish<'a>(&'a self, notice: &'a Notice) -> Answer<'a, ()> {
        answer(move || self.state().publish(notice))
    }

    fn raise<'a>(&'a self, scope: &'a Scope, sequence: &'a str, high_water: i64) -> Answer<'a, ()> {
        answer(move || {
            let mut state = self.state();
            state.claim(scope)?;
            state.raise(sequence, high_water);
            Ok(())
        })
    }

    fn sweep<'a>(&'a self, scope: &'a Scope, keep: &'a [(Arc<str>, i64)]) -> Answer<'a, u64> {
        answer(move || self.state().sweep(scope, keep))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::block::Life;

    fn scope() -> Scope {
        Scope { ledger: Uuid::nil(), cluster: "eu".into() }
    }

    fn list(generation: i64) -> List {
        List { scope: scope(), sequence: "tasks".into(), generation }
    }

    fn spans(firsts: &[i64]) -> Vec<Span> {
        firsts.iter().map(|first| Span::new(*first, 10).unwrap()).collect()
    }

    fn notice(epoch: i64, version: i64, high_water: i64) -> Notice {
        let life = Life { epoch, token: Uuid::from_u128(epoch as u128) };
        let stamp = Stamp { epoch, version };
        Notice {
            identity: Identity { ledger: Uuid::nil(), environment: "test".to_owned(), life },
            cluster: "eu".into(),
            catalogue: Arc::new(Catalogue { stamp, ..Catalogue::default() }),
            high_waters: vec![("tasks".into(), high_water)],
            read_at_us: high_water,
        }
    }

    /// The calls never wait, so one poll is enough.
    fn now<T>(answer: Answer<'_, T>) -> Result<T, PodError> {
        answer.now_or_never().expect("an in-process pod never waits")
    }

    fn pod() -> Server {
        Server::new(0, &mut fastrand::Rng::with_seed(1))
    }

    #[test]
    fn entries_are_popped_in_the_order_of_pushes_and_rests_come_first() {
        let pod = pod();
        now(pod.push(&list(1), &spans(&[11, 21]), End::Back, 40)).unwrap();
        now(pod.clone().push(&list(1), &spans(&[1, 5]), End::Front, 20)).unwrap();
        let popped = now(pod.pop(&list(1), 3)).unwrap();
        assert_eq!(
            popped,
            Popped { entries: ["1:10", "5:10", "11:10"].map(str::to_owned).into(), high_water: 40 }
        );
        let inspection = now(pod.inspect(&scope(), &[("tasks".into(), 1), ("tasks".into(), 2)])).unwrap();
        assert_eq!(inspection.blocks, [1, 0]);
        assert_eq!(inspection.popped_blocks[&Arc::from("tasks")], 3);
    }

    #[test]
    fn a_call_that_is_never_polled_does_nothing() {
        let pod = pod();
        drop(pod.push(&list(1), &spans(&[1]), End::Back, 10));
        assert_eq!(now(pod.pop(&list(1), 1)).unwrap(), Popped::default());
    }

    #[test]
    fn what_is_older_is_not_written() {
        let pod = pod();
        now(pod.publish(&notice(2, 5, 100))).unwrap();
        now(pod.publish(&notice(1, 9, 90))).unwrap();
        let all = now(pod.heartbeat(&Seen::default())).unwrap();
        assert_eq!((all.stamp, all.identity.unwrap().life.epoch), (Stamp { epoch: 2, version: 5 }, 2));
        assert_eq!(all.high_waters.unwrap()[&Arc::from("tasks")], 100);
        let seen = Seen { stamp: all.stamp, high_waters: all.high_waters_seen, by: None };
        let news = now(pod.heartbeat(&seen)).unwrap();
        assert_eq!((news.catalogue, news.high_waters), (None, None));
    }

    #[test]
    fn another_cluster_ledger_environment_or_line_of_history_is_refused() {
        let pod = pod();
        now(pod.publish(&notice(1, 1, 1))).unwrap();
        let mut others = [notice(1, 1, 1), notice(1, 1, 1), notice(1, 1, 1), notice(1, 1, 1)];
        others[0].cluster = "us".into();
        others[1].identity.ledger = Uuid::max();
        others[2].identity.environment = "beta".to_owned();
        others[3].identity.life.token = Uuid::max();
        for other in others {
            assert!(matches!(now(pod.publish(&other)), Err(PodError::Refused(_))), "{other:?}");
        }
        let other = Scope { cluster: "us".into(), ..scope() };
        assert!(matches!(now(pod.raise(&other, "tasks", 1)), Err(PodError::Refused(_))));
    }

    #[test]
    fn a_sweep_deletes_lower_generations_only() {
        let pod = pod();
        for generation in 1..=3 {
            now(pod.push(&list(generation), &spans(&[1]), End::Back, 10)).unwrap();
        }
        assert_eq!(now(pod.sweep(&scope(), &[("tasks".into(), 2)])).unwrap(), 1);
        assert_eq!(now(pod.pop(&list(1), 1)).unwrap().entries, Vec::<String>::new());
        assert_eq!(now(pod.pop(&list(3), 1)).unwrap().entries, ["1:10"]);
    }
}
