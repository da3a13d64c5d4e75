//! The latest sampled packets, in a ring in memory: enough to see what is going on, bounded
//! whatever happens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::watch::Watchers;
use crate::detect::Sighting;

/// The ring, shared between the fence thread that fills it and those who ask.
#[derive(Clone, Debug)]
pub struct EventRing {
    keep: usize,
    sightings: Arc<Mutex<VecDeque<Sighting>>>,
    /// Those who are shown samples as they come.
    pub watchers: Watchers,
}

impl EventRing {
    /// A ring of the latest `keep`.
    pub fn new(keep: usize) -> Self {
        Self {
            keep,
            sightings: Arc::default(),
            watchers: Watchers::default(),
        }
    }

    /// Takes in what was seen, in its order.
    pub fn extend(&self, seen: &[Sighting]) {
        let seen = &seen[seen.len().saturating_sub(self.keep)..];
        // A panic elsewhere leaves the queue as whole as it was.
        let mut kept = self
            .sightings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let over = (kept.len() + seen.len()).saturating_sub(self.keep);
        kept.drain(..over);
        kept.extend(seen);
    }

    /// The latest `limit`, the latest first.
    pub fn latest(&self, limit: usize) -> Vec<Sighting> {
        let kept = self
            .sightings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().take(limit).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use firewall_common::packet::Packet;
    use firewall_common::sampling::Class;

    use super::*;

    fn seen(lengths: std::ops::RangeInclusive<u32>) -> Vec<Sighting> {
        lengths
            .map(|length| {
                let packet = Packet {
                    length,
                    ..Packet::default()
                };
                Sighting::new(0, packet, Class::Drop, &[])
            })
            .collect()
    }

    #[test]
    fn the_ring_keeps_the_latest_and_shows_them_latest_first() {
        let ring = EventRing::new(3);
        let lengths = |limit| -> Vec<u32> {
            let latest = ring.latest(limit);
            latest.iter().map(|seen| seen.packet.length).collect()
        };
        ring.extend(&seen(1..=2));
        assert_eq!(lengths(10), [2, 1]);
        ring.extend(&seen(3..=5));
        assert_eq!(lengths(10), [5, 4, 3]);
        ring.extend(&seen(6..=6));
        assert_eq!(lengths(2), [6, 5]);
    }

    #[test]
    fn a_ring_of_nothing_keeps_nothing() {
        let ring = EventRing::new(0);
        ring.extend(&seen(1..=1));
        assert!(ring.latest(1).is_empty());
    }
}
