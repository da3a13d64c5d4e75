//! Fragments: the later ones of a datagram carry no ports, so they follow the first.
//!
//! A first fragment that was let through is remembered for as long as a receiver waits for the rest
//! (RFC 791 leaves that open, and Linux waits 30 s; 60 s by RFC 8200 4.5), by what its receiver puts datagrams
//! together by. Only those enter, in a small table of fixed size, where the oldest of its set gives way: forged
//! first fragments displace nothing unless a rule lets them in. A later fragment that begins before
//! the end of the first overlaps it, which no sender does (RFC 1858, RFC 5722).

use crate::layout::NO_RULE;
use crate::packet::{Fragment, Packet, mark};
use crate::sources::mix;
use crate::{Address, Direction};

const SECOND: u64 = 1_000_000_000;
/// How long later fragments of IPv4 are let through after the first.
pub const TIMEOUT_V4: u64 = 30 * SECOND;
/// And of IPv6.
pub const TIMEOUT_V6: u64 = 60 * SECOND;

/// Sets of the table, a power of two: 1 MiB, 16,384 datagrams.
pub const FRAGMENT_SETS: u32 = 1 << 12;
/// Datagrams of a set.
pub const FRAGMENT_WAYS: usize = 4;

/// A datagram of which the first fragment was let through: a cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagram {
    pub key: DatagramKey,
    /// CLOCK_MONOTONIC nanoseconds of the first fragment; 0 is an empty place.
    pub seen: u64,
    /// Counter of the rule that let it through, or [`NO_RULE`].
    pub rule: u32,
    /// Where the first fragment ended in the datagram, in bytes.
    pub end: u32,
}

/// Datagrams with one hash.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DatagramSet {
    pub ways: [Datagram; FRAGMENT_WAYS],
}

/// By what fragments belong together: addresses and identification, in IPv4 also the protocol (RFC
/// 791 3.2, RFC 8200 4.5); and which way they go.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramKey {
    pub source: Address,
    pub destination: Address,
    pub identification: u32,
    pub protocol: u16,
    pub direction: u16,
}

/// What a later fragment is to the datagrams whose first fragment was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// It belongs to none of them.
    None,
    /// It belongs to one that a rule ([`NO_RULE`] for none) let through.
    Rule(u32),
    /// It would overwrite the first fragment of one.
    Overlaps,
}

impl DatagramKey {
    #[inline(always)]
    pub const fn of(packet: &Packet, direction: Direction) -> Self {
        let v6 = packet.is(mark::V6);
        Self {
            source: packet.source,
            destination: packet.destination,
            identification: packet.identification,
            protocol: if v6 { 0 } else { packet.protocol as u16 },
            direction: direction as u16,
        }
    }

    /// The set in which the datagram is looked for.
    #[inline(always)]
    pub const fn set(&self, seed: u32) -> u32 {
        let rest = (self.identification as u64) << 32
            | (self.protocol as u64) << 16
            | self.direction as u64;
        let mut hash = mix(self.source.high ^ seed as u64);
        hash = mix(hash ^ self.source.low);
        hash = mix(hash ^ self.destination.high ^ self.destination.low.rotate_left(32));
        (mix(hash ^ rest) >> 40) as u32 & (FRAGMENT_SETS - 1)
    }
}

/// Whether a packet is a fragment that others may follow.
#[inline(always)]
pub const fn leads(packet: &Packet) -> bool {
    packet.fragment as u8 == Fragment::First as u8 && !packet.is(mark::ICMP_ERROR)
}

/// Whether a packet is a fragment that may follow another. What an error quotes is neither.
#[inline(always)]
pub const fn may_follow(packet: &Packet) -> bool {
    packet.fragment as u8 == Fragment::Later as u8 && !packet.is(mark::ICMP_ERROR)
}

/// What a later fragment is to the datagrams of its set.
#[inline(always)]
pub fn follows(set: &DatagramSet, key: &DatagramKey, packet: &Packet, now: u64) -> Follows {
    let timeout = if packet.is(mark::V6) {
        TIMEOUT_V6
    } else {
        TIMEOUT_V4
    };
    for datagram in &set.ways {
        if datagram.seen != 0 && datagram.key == *key {
            if now.saturating_sub(datagram.seen) > timeout {
                return Follows::None;
            }
            if packet.fragment_at < datagram.end {
                return Follows::Overlaps;
            }
            return Follows::Rule(datagram.rule);
        }
    }
    Follows::None
}

/// Remembers a first fragment that was let through. It takes the place of an earlier one with its
/// key, an empty one, or the oldest of the set.
#[inline(always)]
pub fn remember(set: &mut DatagramSet, key: &DatagramKey, end: u32, rule: u32, now: u64) {
    let mut place = 0;
    let mut oldest = u64::MAX;
    for way in 0..FRAGMENT_WAYS {
        let datagram = &set.ways[way];
        if datagram.seen != 0 && datagram.key == *key {
            place = way;
            break;
        }
        if datagram.seen < oldest {
            oldest = datagram.seen;
            place = way;
        }
    }
    // Two processors may write one place at a time. What they mix has the key of neither: fragments
    // that it lets through belong to no datagram, and no receiver completes one of them.
    set.ways[place & (FRAGMENT_WAYS - 1)] = Datagram {
        key: *key,
        seen: if now == 0 { 1 } else { now },
        rule,
        end,
    };
}

const _: () = {
    assert!(size_of::<Datagram>() == 64);
    assert!(NO_RULE == u32::MAX);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::protocol;

    fn packet(identification: u32, fragment: Fragment, at: u32) -> Packet {
        Packet {
            source: Address::v4(0xcb00_7107),
            destination: Address::v4(0xc633_6401),
            protocol: protocol::UDP,
            identification,
            fragment,
            fragment_at: at,
            ..Packet::default()
        }
    }

    fn key(packet: &Packet) -> DatagramKey {
        DatagramKey::of(packet, Direction::Inbound)
    }

    #[test]
    fn later_fragments_follow_the_first_until_its_time_is_over() {
        let mut set = DatagramSet::default();
        let first = packet(7, Fragment::First, 1_480);
        remember(&mut set, &key(&first), first.fragment_at, 40, SECOND);
        let later = packet(7, Fragment::Later, 1_480);
        let at = |now| follows(&set, &key(&later), &later, now);
        assert_eq!(at(SECOND), Follows::Rule(40));
        assert_eq!(at(SECOND + TIMEOUT_V4), Follows::Rule(40));
        assert_eq!(at(SECOND + TIMEOUT_V4 + 1), Follows::None);
        let other = packet(8, Fragment::Later, 1_480);
        assert_eq!(follows(&set, &key(&other), &other, SECOND), Follows::None);
        let out = DatagramKey::of(&later, Direction::Outbound);
        assert_eq!(follows(&set, &out, &later, SECOND), Follows::None);
    }

    #[test]
    fn a_fragment_that_begins_within_the_first_overlaps_it() {
        let mut set = DatagramSet::default();
        let first = packet(7, Fragment::First, 1_480);
        remember(&mut set, &key(&first), first.fragment_at, NO_RULE, SECOND);
        for (at, expected) in [
            (8, Follows::Overlaps),
            (1_472, Follows::Overlaps),
            (1_480, Follows::Rule(NO_RULE)),
            (2_960, Follows::Rule(NO_RULE)),
        ] {
            let later = packet(7, Fragment::Later, at);
            assert_eq!(
                follows(&set, &key(&later), &later, SECOND),
                expected,
                "{at}"
            );
        }
    }

    #[test]
    fn in_a_full_set_the_oldest_gives_way() {
        let mut set = DatagramSet::default();
        for number in 0..=FRAGMENT_WAYS as u32 {
            let first = packet(number, Fragment::First, 8);
            let now = u64::from(number + 1) * SECOND;
            remember(&mut set, &key(&first), 8, number, now);
        }
        for number in 0..=FRAGMENT_WAYS as u32 {
            let later = packet(number, Fragment::Later, 8);
            let expected = if number == 0 {
                Follows::None
            } else {
                Follows::Rule(number)
            };
            assert_eq!(follows(&set, &key(&later), &later, 9 * SECOND), expected);
        }
        // One that is seen again keeps its place and takes none of another.
        let again = packet(2, Fragment::First, 16);
        remember(&mut set, &key(&again), 16, 77, 9 * SECOND);
        let later = packet(2, Fragment::Later, 16);
        assert_eq!(
            follows(&set, &key(&later), &later, 9 * SECOND),
            Follows::Rule(77)
        );
        let oldest = packet(1, Fragment::Later, 8);
        assert_eq!(
            follows(&set, &key(&oldest), &oldest, 9 * SECOND),
            Follows::Rule(1)
        );
    }
}
