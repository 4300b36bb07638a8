//! A connection to a pod: what every call on it carries, and what every answer is held against (S3, S5). Pure.

use std::sync::{Arc, Mutex};

use super::counter::{Counter, Counters, Known, lock};
use super::proof::{Life, Proof};
use super::{PodError, Scope};

/// A connection, bound to the life of the server that it began in.
#[derive(Debug, Default)]
pub struct Session {
    /// Empty until the server has said hello.
    life: Arc<Life>,
    counter: Arc<Mutex<Counter>>,
}

/// What a call carries, whatever it asks for.
#[derive(Debug, Clone)]
pub struct Head {
    /// Comes back with the answer.
    pub nonce: String,
    /// That the connection is bound to; empty: not yet.
    pub life: Arc<Life>,
    /// Of the pop counter, when the call was sent.
    pub known: Known,
    /// Whose entries it touches, where it touches any.
    pub scope: Option<Scope>,
    /// For a server that has no counter: it names one, never 0. Fits in 63 bits, because Redis counts on from it.
    pub token: u64,
}

impl Session {
    /// A connection that nobody has answered on yet.
    pub fn unbound() -> Session {
        Session::default()
    }

    /// The connection that `proof` was the hello of.
    pub fn bound(proof: &Proof, counters: &Counters) -> Session {
        Session { life: Arc::new(proof.life.clone()), counter: counters.of(&proof.life) }
    }

    /// The life it is bound to.
    pub fn life(&self) -> &Life {
        &self.life
    }

    /// The head of one call.
    pub fn head(&self, scope: Option<&Scope>, rng: &mut fastrand::Rng) -> Head {
        Head {
            nonce: rng.u64(..).to_string(),
            life: Arc::clone(&self.life),
            known: lock(&self.counter).known(),
            scope: scope.cloned(),
            token: rng.u64(1..1 << 62),
        }
    }

    /// Whether the answer that `proof` came with may be used: it is the answer to the call that carried `head`, from the same life of
    /// the server, from a memory that did not go back.
    ///
    /// # Errors
    /// [`PodError::Refused`] where the server declined, and did nothing; [`PodError::InDoubt`] where it did what it must not have
    /// done, or answered somebody else: what that brought is worth nothing.
    pub fn judge(&self, head: &Head, proof: &Proof) -> Result<(), PodError> {
        if proof.nonce != head.nonce {
            return Err(PodError::InDoubt("another call's answer".to_owned()));
        }
        let bound = !self.life.run_id.is_empty();
        let mut refusal = proof.refusal(bound.then_some(&*self.life), head.scope.as_ref());
        if refusal.is_none() || proof.restored {
            let mut counter = lock(&self.counter);
            if proof.restored {
                counter.condemn(proof.token);
            } else if bound && counter.observe(head.known, proof.token, proof.popped).is_err() {
                refusal = Some("its memory was replaced by an older copy of itself".to_owned());
            }
        }
        match (refusal, proof.done) {
            (None, true) => Ok(()),
            (Some(why), false) => Err(PodError::Refused(why)),
            (None, false) => Err(PodError::Refused("it declined and didn't say why".to_owned())),
            (Some(why), true) => Err(PodError::InDoubt(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn hello(run_id: &str, replid: &str) -> Proof {
        Proof {
            nonce: String::new(),
            done: true,
            life: Life { run_id: run_id.to_owned(), replid: replid.to_owned() },
            role: "master".to_owned(),
            replicas: 0,
            cluster_node: false,
            owner: (String::new(), String::new()),
            token: 5,
            popped: 0,
            restored: false,
        }
    }

    /// A session on a server's first life, and what answers a call on it.
    fn session() -> (Session, Counters, Head, Proof) {
        let counters = Counters::default();
        let session = Session::bound(&hello("a", "b"), &counters);
        let scope = Scope { ledger: Uuid::nil(), cluster: "eu".into() };
        let head = session.head(Some(&scope), &mut fastrand::Rng::with_seed(1));
        let proof = Proof { nonce: head.nonce.clone(), popped: 3, ..hello("a", "b") };
        (session, counters, head, proof)
    }

    #[test]
    fn an_answer_counts_only_for_the_call_that_it_answers() {
        let (session, _, head, proof) = session();
        assert_eq!(session.judge(&head, &proof), Ok(()));
        let other = Proof { nonce: "1".to_owned(), ..proof };
        assert!(matches!(session.judge(&head, &other), Err(PodError::InDoubt(_))));
    }

    #[test]
    fn what_was_done_in_another_life_is_in_doubt_and_what_was_declined_did_not_happen() {
        let (session, _, head, proof) = session();
        for life in [hello("a", "c").life, hello("c", "b").life] {
            let done = Proof { life, ..proof.clone() };
            assert!(matches!(session.judge(&head, &done), Err(PodError::InDoubt(_))));
            let declined = Proof { done: false, ..done };
            assert!(matches!(session.judge(&head, &declined), Err(PodError::Refused(_))));
        }
    }

    #[test]
    fn a_memory_that_went_back_is_refused_by_every_connection_of_the_process() {
        let (session, counters, head, proof) = session();
        session.judge(&head, &proof).unwrap();
        let other = Session::bound(&hello("a", "b"), &counters);
        let head = other.head(None, &mut fastrand::Rng::with_seed(2));
        assert_eq!((head.known.token, head.known.popped), (5, 3));
        let back = Proof { nonce: head.nonce.clone(), popped: 2, ..proof };
        assert!(matches!(other.judge(&head, &back), Err(PodError::InDoubt(_))));
        let head = session.head(None, &mut fastrand::Rng::with_seed(3));
        assert_eq!(head.known.popped, u64::MAX, "from now on the server itself declines");
    }
}
