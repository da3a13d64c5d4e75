//! Samples packets as the kernel programs do, for detection in a replay.

use firewall_common::Direction;
use firewall_common::decide::{Circumstances, Judgement};
use firewall_common::layout::{NO_RULE, RULE_COUNTERS, Thinning, Uses};
use firewall_common::packet::Packet;
use firewall_common::sampling;

use crate::detect::{Sighting, Time};

/// A recording is of one CPU of a few: its share of the sampled packets.
const UNIT: u32 = sampling::UNITS / 4;
/// Sampled packets that are kept until somebody takes them.
const KEPT: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct Watch {
    thinning: Thinning,
    uses: Vec<Uses>,
    /// Their time is the engine's.
    sightings: Vec<Sighting>,
    /// Room for the next.
    spare: Vec<Sighting>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            thinning: Thinning::default(),
            uses: vec![Uses::default(); RULE_COUNTERS as usize],
            sightings: Vec::new(),
            spare: Vec::new(),
        }
    }
}

impl Watch {
    #[inline]
    pub(super) fn see(
        &mut self,
        frame: &[u8],
        packet: &Packet,
        judgement: Judgement,
        direction: Direction,
        at: Circumstances,
    ) {
        if direction == Direction::Inbound && judgement.rule != NO_RULE {
            let uses = sampling::uses(packet, judgement);
            if let Some(sum) = self.uses.get_mut(judgement.rule as usize) {
                sum.connections += uses.connections;
                sum.requests += uses.requests;
            }
        }
        let class = sampling::class(packet, judgement);
        let (now, length) = (at.now, packet.length);
        let spoken = sampling::offer(&mut self.thinning, class, direction, 1, length, UNIT, now);
        if let Some(spoken) = spoken
            && self.sightings.len() < KEPT
        {
            self.sightings.push(Sighting {
                direction,
                verdict: judgement.verdict,
                reason: judgement.reason,
                rule: judgement.rule,
                interface: at.interface,
                packets: spoken.packets,
                bytes: spoken.bytes,
                ..Sighting::new(now, *packet, class, frame)
            });
        }
    }

    pub(super) fn uses(&self, rule: u32) -> Uses {
        self.uses.get(rule as usize).copied().unwrap_or_default()
    }

    pub(super) fn take(&mut self, now: u64, time: Time) -> Vec<Sighting> {
        let room = std::mem::take(&mut self.spare);
        let mut sightings = std::mem::replace(&mut self.sightings, room);
        for sighting in &mut sightings {
            sighting.time = time.saturating_sub(now.saturating_sub(sighting.time));
        }
        sightings
    }

    /// Takes back what [`Self::take`] gave, for its room.
    pub(super) fn give_back(&mut self, mut sightings: Vec<Sighting>) {
        sightings.clear();
        self.spare = sightings;
    }
}
