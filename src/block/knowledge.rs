//! What a process must know before it can serve, and whom it believes (S3, S5).

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::{Catalogue, Identity};

/// The ledger's identity and the catalogue, as one process knows them.
///
/// Pure: it is told what pods and ledger say and decides what to believe. Nothing is ever taken back: identity moves
/// forward by epoch, the catalogue by stamp.
#[derive(Debug, Clone)]
pub struct Knowledge {
    environment: Arc<str>,
    cluster: Arc<str>,
    pin: Option<Uuid>,
    identity: Option<Identity>,
    /// Whether the ledger itself, or the pin, vouches for `identity`.
    confirmed: bool,
    catalogue: Arc<Catalogue>,
    /// Whose word differs from `identity`, by where it came from.
    dissent: BTreeMap<Arc<str>, Uuid>,
}

/// Where a dissent comes from that isn't a pod.
const LEDGER: &str = "the ledger";

impl Knowledge {
    /// Knows nothing yet but what the configuration says.
    pub fn new(environment: Arc<str>, cluster: Arc<str>, pin: Option<Uuid>) -> Knowledge {
        Knowledge {
            environment,
            cluster,
            pin,
            identity: None,
            confirmed: false,
            catalogue: Arc::default(),
            dissent: BTreeMap::new(),
        }
    }

    /// Which ledger is followed; `None` until somebody said.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The sequences as of the newest stamp heard of.
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// Takes in what the pod at `address` says: its ledger and cluster (`None` = an empty pod), and its catalogue where it
    /// sent one. Gives whether anything new was learnt.
    ///
    /// # Errors
    /// Why the pod must not be used, for people.
    pub fn hear_pod(
        &mut self,
        address: &Arc<str>,
        identity: Option<&Identity>,
        cluster: Option<&str>,
        catalogue: Option<Catalogue>,
    ) -> Result<bool, String> {
        let Some(theirs) = identity else {
            self.dissent.remove(address);
            return Ok(false);
        };
        if theirs.environment != *self.environment {
            return Err(format!(
                "this pod was filled for environment '{}', but this process is configured for '{}': give each environment pods of its own",
                theirs.environment, self.environment
            ));
        }
        if let Some(cluster) = cluster.filter(|cluster| **cluster != *self.cluster) {
            return Err(format!(
                "this pod belongs to cluster '{cluster}', but this process is of cluster '{}': give each cluster pods of its own",
                self.cluster
            ));
        }
        if let Some(pin) = self.pin.filter(|pin| *pin != theirs.ledger) {
            return Err(format!(
                "this pod was filled from ledger {}, but ledger.id pins {pin}: restart that Redis empty",
                theirs.ledger
            ));
        }
        if let Some(Err(why)) = catalogue.as_ref().map(Catalogue::check) {
            return Err(format!(
                "its catalogue was written by somebody else ({why}): restart that Redis empty"
            ));
        }
        self.believe(address, theirs)?;
        let mut learnt = self.advance(theirs, self.pin.is_some())?;
        if let Some(catalogue) = catalogue {
            learnt |= self.take_catalogue(catalogue);
        }
        Ok(learnt)
    }

    /// Takes in what the ledger says of itself. Environment and pin were checked where it was read.
    /// `descends` says whether the life known here led to the one it is in. Nothing is learnt from one that is closed: it may have lost
    /// what was known of it before, and nobody knows yet whether the life it is in will ever be open.
    ///
    /// # Errors
    /// Why the ledger must not be used, for people.
    pub fn hear_ledger(
        &mut self,
        theirs: &Identity,
        descends: bool,
        open: bool,
        catalogue: Catalogue,
    ) -> Result<bool, String> {
        self.believe(&Arc::from(LEDGER), theirs)?;
        if let Some(ours) = self.identity.as_ref().filter(|_| !descends) {
            return Err(format!(
                "the ledger is in life {} of another line of history than life {}, which this process follows: it may be an old primary or a restored copy",
                theirs.life.epoch, ours.life.epoch
            ));
        }
        if !open {
            return Ok(false);
        }
        let mut learnt = self.advance(theirs, true)?;
        learnt |= self.take_catalogue(catalogue);
        Ok(learnt)
    }

    /// A pod is no longer among the pods.
    pub fn forget_pod(&mut self, address: &str) {
        self.dissent.remove(address);
    }

    /// Why nothing may be taken from tier 3: somebody names another ledger, and no pin says who is right (S5).
    pub fn conflict(&self) -> Option<String> {
        let ours = self.identity.as_ref()?.ledger;
        let (who, theirs) = self.dissent.first_key_value()?;
        Some(format!("{who} names ledger {theirs}, others name {ours}"))
    }

    /// Whether pods may be popped: with nobody but the pods to ask, all of them must agree (S5).
    pub fn pods_usable(&self) -> bool {
        self.identity.is_some() && (self.confirmed || self.dissent.is_empty())
    }

    fn believe(&mut self, who: &Arc<str>, theirs: &Identity) -> Result<(), String> {
        match &self.identity {
            Some(ours) if ours.ledger != theirs.ledger => {
                self.dissent.insert(Arc::clone(who), theirs.ledger);
                Err(format!(
                    "it names ledger {}, but this process follows {}: set ledger.id to the right one, or restart that Redis empty",
                    theirs.ledger, ours.ledger
                ))
            }
            _ => {
                self.dissent.remove(who);
                Ok(())
            }
        }
    }

    fn advance(&mut self, theirs: &Identity, confirmed: bool) -> Result<bool, String> {
        self.confirmed |= confirmed;
        match &self.identity {
            Some(ours) if ours.life.epoch > theirs.life.epoch || ours.life == theirs.life => Ok(false),
            Some(ours) if ours.life.epoch == theirs.life.epoch => Err(format!(
                "it is in life {} of another line of history: it was filled from an old primary or a restored copy",
                ours.life.epoch
            )),
            _ => {
                self.identity = Some(theirs.clone());
                Ok(true)
            }
        }
    }

    /// A newer catalogue takes the place of an older one. No generation is ever lowered: a ledger that lost an advance, and a pod
    /// that was told by such a ledger, are behind whoever knows of it.
    fn take_catalogue(&mut self, mut catalogue: Catalogue) -> bool {
        let newer = catalogue.stamp > self.catalogue.stamp;
        if newer {
            raise_generations(&mut catalogue, &self.catalogue);
            self.catalogue = Arc::new(catalogue);
            return true;
        }
        let mut raised = (*self.catalogue).clone();
        let behind = raise_generations(&mut raised, &catalogue);
        if behind {
            self.catalogue = Arc::new(raised);
        }
        behind
    }
}

/// Raises generations in `to` that lie below those in `from`; gives whether there was any.
fn raise_generations(to: &mut Catalogue, from: &Catalogue) -> bool {
    let mut raised = false;
    for (name, facts) in &mut to.sequences {
        let known = from.sequences.get(name).map_or(0, |known| known.generation);
        raised |= known > facts.generation;
        facts.generation = facts.generation.max(known);
    }
    raised
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Life, SequenceFacts, Stamp};

    fn identity(ledger: u128, epoch: i64, token: u128) -> Identity {
        Identity {
            ledger: Uuid::from_u128(ledger),
            environment: "test".into(),
            life: Life { epoch, token: Uuid::from_u128(token) },
        }
    }

    fn knowledge(pin: Option<u128>) -> Knowledge {
        Knowledge::new("test".into(), "here".into(), pin.map(Uuid::from_u128))
    }

    fn catalogue(epoch: i64, version: i64) -> Catalogue {
        Catalogue { stamp: Stamp { epoch, version }, ..Catalogue::default() }
    }

    #[test]
    fn an_empty_pod_teaches_nothing_and_is_welcome() {
        let mut known = knowledge(None);
        assert_eq!(known.hear_pod(&"a".into(), None, None, None), Ok(false));
        assert!(known.identity().is_none() && !known.pods_usable());
    }

    #[test]
    fn pods_alone_must_agree() {
        let mut known = knowledge(None);
        known.hear_pod(&"a".into(), Some(&identity(1, 1, 1)), Some("here"), None).unwrap();
        assert!(known.pods_usable());
        known.hear_pod(&"b".into(), Some(&identity(2, 1, 1)), Some("here"), None).unwrap_err();
        assert!(!known.pods_usable());
        assert!(known.conflict().unwrap().contains("names ledger"));
        known.hear_pod(&"b".into(), None, None, None).unwrap();
        assert!(known.pods_usable() && known.conflict().is_none());
    }

    #[test]
    fn the_ledger_makes_a_dissenting_pod_stop_tier_3_only() {
        let mut known = knowledge(None);
        known.hear_ledger(&identity(1, 1, 1), true, true, catalogue(1, 1)).unwrap();
        known.hear_pod(&"b".into(), Some(&identity(2, 1, 1)), Some("here"), None).unwrap_err();
        assert!(known.pods_usable() && known.conflict().is_some());
        known.forget_pod("b");
        assert!(known.conflict().is_none());
    }

    #[test]
    fn with_a_pin_a_dissenting_pod_is_refused_and_nothing_stops() {
        let mut known = knowledge(Some(1));
        known.hear_pod(&"b".into(), Some(&identity(2, 1, 1)), Some("here"), None).unwrap_err();
        known.hear_pod(&"a".into(), Some(&identity(1, 1, 1)), Some("here"), None).unwrap();
        assert!(known.pods_usable() && known.conflict().is_none());
    }

    #[test]
    fn another_environment_or_cluster_is_refused() {
        let mut known = knowledge(None);
        let mut beta = identity(1, 1, 1);
        beta.environment = "beta".into();
        assert!(known.hear_pod(&"a".into(), Some(&beta), Some("here"), None).unwrap_err().contains("beta"));
        let error = known.hear_pod(&"a".into(), Some(&identity(1, 1, 1)), Some("there"), None).unwrap_err();
        assert!(error.contains("there"));
        assert!(known.identity().is_none());
    }

    /// One sequence, whose end tells the version.
    fn of(epoch: i64, version: i64, generation: i64) -> Catalogue {
        let facts = SequenceFacts {
            name: "tasks".into(),
            generation,
            first: 1,
            last: 1000 * version,
            block_size: 10,
            buffer_seconds: None,
            failover_gap: 0,
            halted: None,
            retired: false,
        };
        let sequences = BTreeMap::from([("tasks".into(), facts)]);
        Catalogue { stamp: Stamp { epoch, version }, sequences, ..Catalogue::default() }
    }

    #[test]
    fn a_pod_with_a_catalogue_that_no_ledger_wrote_teaches_nothing() {
        let mut known = knowledge(None);
        let told = known.hear_pod(&"a".into(), Some(&identity(1, 1, 1)), Some("here"), Some(of(1, 0, 1)));
        assert!(told.unwrap_err().contains("\"tasks\""));
        assert!(known.identity().is_none() && known.catalogue().sequences.is_empty());
    }

    #[test]
    fn a_generation_is_never_lowered_whoever_says_so() {
        let mut known = knowledge(None);
        let tasks = |known: &Knowledge| {
            let facts = &known.catalogue().sequences["tasks"];
            (facts.generation, facts.last)
        };
        known.hear_ledger(&identity(1, 1, 1), true, true, of(1, 5, 4)).unwrap();
        // A failover lost the advance, and something else was changed since.
        known.hear_ledger(&identity(1, 2, 2), true, true, of(2, 6, 3)).unwrap();
        assert_eq!(tasks(&known), (4, 6000));
        // A pod that heard of another advance before the failover.
        assert_eq!(known.hear_pod(&"a".into(), Some(&identity(1, 1, 1)), None, Some(of(1, 7, 5))), Ok(true));
        assert_eq!((tasks(&known), known.catalogue().stamp), ((5, 6000), Stamp { epoch: 2, version: 6 }));
        assert_eq!(known.hear_pod(&"b".into(), Some(&identity(1, 1, 1)), None, Some(of(1, 1, 2))), Ok(false));
        assert_eq!(tasks(&known), (5, 6000));
    }

    #[test]
    fn who_meets_a_closed_ledger_first_follows_whichever_opens() {
        let mut known = knowledge(None);
        // One of two that were promoted from the same ancestor; the other one is accepted.
        assert_eq!(known.hear_ledger(&identity(1, 2, 2), true, false, catalogue(2, 1)), Ok(false));
        assert!(known.identity().is_none());
        assert_eq!(known.hear_ledger(&identity(1, 3, 3), true, true, catalogue(3, 1)), Ok(true));
    }

    #[test]
    fn lives_and_catalogues_only_move_forward() {
        let mut known = knowledge(None);
        known.hear_ledger(&identity(1, 3, 3), true, true, catalogue(3, 7)).unwrap();
        assert_eq!(
            known.hear_pod(&"a".into(), Some(&identity(1, 2, 2)), None, Some(catalogue(2, 9))),
            Ok(false)
        );
        assert_eq!(known.catalogue().stamp, Stamp { epoch: 3, version: 7 });
        known.hear_pod(&"a".into(), Some(&identity(1, 3, 4)), None, None).unwrap_err();
        assert_eq!(known.hear_ledger(&identity(1, 4, 4), true, true, catalogue(4, 7)), Ok(true));
        known.hear_ledger(&identity(1, 5, 5), false, true, catalogue(5, 8)).unwrap_err();
        assert_eq!(known.identity().unwrap().life.epoch, 4);
    }
}
