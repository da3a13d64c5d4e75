//! Shows samples to those who watch.

use super::Keeper;
use crate::detect::Sighting;

impl Keeper {
    /// Hands what was seen to all who watch. Costs nothing while nobody does.
    pub(super) fn show(&self, sightings: &[Sighting]) {
        let watchers = &self.events.watchers;
        if watchers.is_empty() {
            return;
        }
        // Where it cannot be read, the next round's reading holds what was lost meanwhile.
        let lost = self.datapath.health().map(|health| health.events_lost).ok();
        watchers.show(sightings, lost, |sighting| self.name_event(sighting));
    }
}
