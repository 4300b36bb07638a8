//! What a hydrator does that doesn't lead: it looks whether who does is of its own cluster.

use std::sync::Arc;

use super::Hydration;
use crate::block::witness::FORGOTTEN_AFTER;

impl Hydration {
    /// Two clusters of one name share a lead, and the one whose hydrator stands by is never filled. Its pods hear of all its processes,
    /// so a leader that none of them has heard of for a minute is another cluster's, or reaches none of them.
    pub(super) async fn look_for(&mut self, leader: &Arc<str>) {
        let known = Arc::clone(&self.process.known.load());
        let measured = self.measure(&known).await;
        if measured.is_empty() {
            return;
        }
        let now = self.process.now();
        self.roll.hear(measured.into_iter().flat_map(|pod| pod.inspection.present), now);
        if self.roll.has_heard(leader) {
            self.stranger = None;
        } else if self.stranger.as_ref().is_none_or(|(name, _)| name != leader) {
            self.stranger = Some((Arc::clone(leader), now));
        }
        let stranger =
            self.stranger.as_ref().filter(|(_, since)| now.saturating_sub(*since) > FORGOTTEN_AFTER);
        let stranger = stranger.map(|(name, _)| Arc::clone(name));
        self.process.supply(|supply| supply.stranger = stranger);
    }
}
