//! The stream of sampled packets.
#![expect(unsafe_code, reason = "an event is read from the ring buffer's bytes")]

use std::mem::offset_of;

use aya::maps::{MapData, RingBuf};
use firewall_common::layout::{EVENT_BYTES, Event};
use firewall_common::packet::{Fragment, Kind, Packet};
use firewall_common::sampling::Class;
use firewall_common::{Direction, Reason, Verdict};

use super::object::open_map;
use super::pins::Pins;
use crate::detect::{Sighting, Time};

/// The reading end; one at a time.
pub(super) struct Events {
    ring: RingBuf<MapData>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub(super) fn open(pins: &Pins) -> anyhow::Result<Self> {
        Ok(Self {
            ring: RingBuf::try_from(open_map(pins, "EVENTS")?)?,
        })
    }

    /// What has come since the last time, at most `most`. `now` on the packet clock is `time`.
    pub(super) fn take(&mut self, most: usize, now: u64, time: Time) -> Vec<Sighting> {
        let mut sightings = Vec::new();
        while sightings.len() < most {
            let Some(item) = self.ring.next() else {
                break;
            };
            sightings.extend(sighting(&item, now, time));
        }
        sightings
    }
}

/// An event's bytes, if they are one.
fn sighting(bytes: &[u8], now: u64, time: Time) -> Option<Sighting> {
    if bytes.len() != size_of::<Event>() {
        return None;
    }
    // Numbers that stand for something are looked at before they are believed.
    let kind = bytes[offset_of!(Event, packet) + offset_of!(Packet, kind)];
    let fragment = bytes[offset_of!(Event, packet) + offset_of!(Packet, fragment)];
    if kind > Kind::Malformed as u8 || fragment > Fragment::Later as u8 {
        return None;
    }
    // SAFETY: the bytes are as long as an event; all its fields take any bytes but the two above,
    // which are numbers of a kind and of a fragment.
    let event = unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() };
    let captured = usize::from(event.captured).min(EVENT_BYTES);
    let age = now.saturating_sub(event.time);
    Some(Sighting {
        direction: Direction::from_index(event.direction.into())?,
        verdict: Verdict::from_index(event.verdict.into())?,
        reason: Reason::from_index(event.reason.into())?,
        rule: event.rule,
        interface: event.interface,
        packets: event.packets,
        bytes: event.bytes,
        ..Sighting::new(
            time.saturating_sub(age),
            event.packet,
            Class::from_index(event.class)?,
            &event.frame[..captured],
        )
    })
}

#[cfg(test)]
mod tests {
    use firewall_common::layout::NO_RULE;

    use super::*;

    #[test]
    fn bytes_that_are_no_event_are_refused_and_others_are_stamped_by_the_calendar() {
        let event = Event {
            time: 1_000,
            packets: 5,
            bytes: 300,
            packet: Packet {
                kind: Kind::Ip,
                length: 60,
                ..Packet::default()
            },
            rule: NO_RULE,
            interface: 2,
            direction: 1,
            verdict: 1,
            reason: 1,
            class: Class::Contact as u8,
            captured: 14,
            reserved: [0; 3],
            frame: [7; EVENT_BYTES],
        };
        // SAFETY: an event has no padding but within the packet, which was copied from a whole one.
        let bytes = unsafe {
            std::slice::from_raw_parts((&raw const event).cast::<u8>(), size_of::<Event>())
        };
        let seen = sighting(bytes, 3_000, 10_000).expect("an event");
        assert_eq!((seen.time, seen.packets, seen.interface), (8_000, 5, 2));
        assert_eq!(
            (seen.direction, seen.verdict),
            (Direction::Outbound, Verdict::Drop)
        );
        assert_eq!(seen.frame(), [7; 14]);
        assert!(sighting(&bytes[1..], 3_000, 10_000).is_none());
        for (offset, value) in [
            (offset_of!(Event, packet) + offset_of!(Packet, kind), 9),
            (offset_of!(Event, packet) + offset_of!(Packet, fragment), 3),
            (offset_of!(Event, class), 6),
            (offset_of!(Event, reason), 8),
        ] {
            let mut wrong = bytes.to_vec();
            wrong[offset] = value;
            assert!(sighting(&wrong, 3_000, 10_000).is_none(), "at {offset}");
        }
    }
}
