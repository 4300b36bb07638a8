//! What a process knows of a pod's pop counter (S3): pure, shared by the process's threads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::proof::Life;

/// Lives of one server that are remembered. An earlier one never comes back.
const LIVES_MAX: usize = 16;
/// Emptied more often than this within one life of the server, the oldest token is forgotten.
const RETIRED_MAX: usize = 256;

/// The pop counter of one life of a server, as the process knows it.
///
/// The server draws a random token when it has none, and counts every entry popped since. Memory that went back
/// in time shows as the same token with a lower count, or as a token that had given way to another. Both stick until
/// the server shows a token that is new: somebody emptied or restarted it.
#[derive(Debug, Default)]
pub struct Counter {
    token: u64,
    popped: u64,
    /// How many tokens were taken on so far, and those that gave way, each with the number of that change.
    changes: u64,
    retired: VecDeque<(u64, u64)>,
}

/// What was known when a request was sent: an answer is judged by this and by nothing learnt meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// 0 = none yet.
    pub token: u64,
    /// Entries popped. `u64::MAX` once the memory was found restored, so that every script refuses.
    pub popped: u64,
    changes: u64,
}

/// The server's memory is an older copy of itself: entries that were popped are back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored;

impl Counter {
    /// To be sent along.
    pub fn known(&self) -> Known {
        Known { token: self.token, popped: self.popped, changes: self.changes }
    }

    /// Judges what came back on a request that was sent along with `sent`. Answers to several threads may come in any order.
    pub fn observe(&mut self, sent: Known, token: u64, popped: u64) -> Result<(), Restored> {
        let lower = token == sent.token && popped < sent.popped;
        let returned =
            self.retired.iter().any(|(change, retired)| *change < sent.changes && *retired == token);
        if lower || returned {
            self.condemn(token);
            return Err(Restored);
        }
        if token == self.token {
            self.popped = self.popped.max(popped);
        } else if self.changes == sent.changes {
            self.adopt(token, popped);
        }
        // Else another thread learnt of another token meanwhile, and this answer may be from before: the next one tells.
        Ok(())
    }

    /// Refuses `token` from now on.
    pub fn condemn(&mut self, token: u64) {
        if token != self.token {
            self.adopt(token, 0);
        }
        self.popped = u64::MAX;
    }

    fn adopt(&mut self, token: u64, popped: u64) {
        if self.token != 0 {
            self.retired.push_back((self.changes, self.token));
            if self.retired.len() > RETIRED_MAX {
                self.retired.pop_front();
            }
        }
        self.changes += 1;
        self.token = token;
        self.popped = popped;
    }
}

/// What a process knows of one server: a counter for each life, the latest last. What one thread learnt protects the others.
#[derive(Debug, Default)]
pub struct Counters(Mutex<VecDeque<(Life, Arc<Mutex<Counter>>)>>);

impl Counters {
    /// The counter of a life, which every caller shares.
    pub fn of(&self, life: &Life) -> Arc<Mutex<Counter>> {
        let mut counters = lock(&self.0);
        if let Some((_, counter)) = counters.iter().find(|(known, _)| known == life) {
            return Arc::clone(counter);
        }
        if counters.len() == LIVES_MAX {
            counters.pop_front();
        }
        let counter: Arc<Mutex<Counter>> = Arc::default();
        counters.push_back((life.clone(), Arc::clone(&counter)));
        counter
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lower_count_under_the_same_token_is_a_restored_memory_and_sticks() {
        let mut counter = Counter::default();
        counter.observe(counter.known(), 7, 10).unwrap();
        assert_eq!(counter.observe(counter.known(), 7, 9), Err(Restored));
        assert_eq!(counter.observe(counter.known(), 7, 11), Err(Restored));
        counter.observe(counter.known(), 8, 0).unwrap();
        counter.observe(counter.known(), 8, 1).unwrap();
    }

    #[test]
    fn only_what_was_known_when_the_request_was_sent_counts() {
        let mut counter = Counter::default();
        counter.observe(counter.known(), 7, 10).unwrap();
        let early = counter.known();
        counter.observe(counter.known(), 7, 12).unwrap();
        counter.observe(early, 7, 11).unwrap();
        assert_eq!(counter.known().popped, 12);
    }

    #[test]
    fn a_token_that_gave_way_to_another_must_not_come_back() {
        let mut counter = Counter::default();
        counter.observe(counter.known(), 7, 10).unwrap();
        let early = counter.known();
        counter.observe(counter.known(), 8, 0).unwrap();
        counter.observe(early, 7, 11).expect("an answer from before the change");
        assert_eq!(counter.known().token, 8);
        assert_eq!(counter.observe(counter.known(), 7, 12), Err(Restored));
        assert_eq!(counter.observe(counter.known(), 7, 13), Err(Restored));
        counter.observe(counter.known(), 9, 0).unwrap();
    }

    proptest! {
        /// Four threads ask a server that counts and is emptied, and never goes back; answers come late and in any order.
        #[test]
        fn a_server_that_only_goes_forward_is_never_condemned(
            steps in prop::collection::vec((0u8..4, 0u8..8), 1..200),
        ) {
            let (mut token, mut popped) = (1u64, 0u64);
            let mut counter = Counter::default();
            let mut in_flight: [Option<(Known, u64, u64)>; 4] = [None; 4];
            for (thread, dice) in steps {
                match in_flight[thread as usize].take() {
                    Some((sent, token, popped)) => prop_assert_eq!(counter.observe(sent, token, popped), Ok(())),
                    None => {
                        match dice {
                            0 => (token, popped) = (token + 1, 0),
                            1..=4 => popped += u64::from(dice),
                            _ => {}
                        }
                        in_flight[thread as usize] = Some((counter.known(), token, popped));
                    }
                }
            }
        }

        /// Whatever happened before: a server that shows a state it had before the request was sent is found out.
        #[test]
        fn a_server_that_goes_back_is_condemned(
            steps in prop::collection::vec(0u8..8, 1..60), back in any::<prop::sample::Index>(),
        ) {
            let mut counter = Counter::default();
            let mut history = vec![(1u64, 0u64)];
            for dice in steps {
                let (token, popped) = *history.last().unwrap();
                let now = if dice == 0 { (token + 1, 0) } else { (token, popped + u64::from(dice)) };
                history.push(now);
                prop_assert_eq!(counter.observe(counter.known(), now.0, now.1), Ok(()));
            }
            // The state before the first answer is one that nobody here has seen.
            let at = 1 + back.index(history.len() - 1);
            let (token, popped) = history[at];
            let expected = if at == history.len() - 1 { Ok(()) } else { Err(Restored) };
            prop_assert_eq!(counter.observe(counter.known(), token, popped), expected);
        }
    }
}
