//! Signatures of a flood: a few conditions on header fields that its packets share.
//!
//! They stand in a small table of their own, ahead of the policy's rules, and not among them: putting
//! a policy in force loads programs, which takes tenths of a second and longest when a flood keeps the
//! processors busy; here it is a write to shared memory. The conditions mean what the keys of a
//! rule mean, so a signature can be kept as one.
//!
//! Each packet is compared with all of a signature's conditions in arithmetic, without a branch between
//! them: the verifier follows one path, and no mispredicted branch adds to what a flood costs.

use crate::Address;
use crate::image::{NO_FLAGS, NO_ICMP, NO_PORT, NO_WINDOW};
use crate::packet::{Fragment, Packet, UNSEEN, flag, mark, protocol};

/// How many signatures can be in force at once.
pub const SLOTS: usize = 4;

/// The numbers of a packet that a signature can bound.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Number {
    /// IP protocol; [`WRONG_FAMILY`] is added to ICMP over IPv6 and ICMPv6 over IPv4.
    Protocol = 0,
    DestinationPort = 1,
    SourcePort = 2,
    /// Of the IP packet, header included.
    Length = 3,
    Ttl = 4,
    TcpWindow = 5,
    IcmpType = 6,
    /// 0 for a whole packet, 1 for a fragment.
    Fragment = 7,
    /// Bytes of payload at hand, at most [`PAYLOAD`].
    Payload = 8,
}

/// How many there are.
pub const NUMBERS: usize = 9;
/// Bytes of payload that a signature looks at.
pub const PAYLOAD: u32 = 16;
/// No packet has a number as large.
pub const ANY: u32 = 0xf_ffff;
/// See [`Number::Protocol`].
pub const WRONG_FAMILY: u32 = 0x100;
/// The flags of TCP that a signature looks at.
pub const FLAGS: u32 =
    (flag::FIN | flag::SYN | flag::RST | flag::PSH | flag::ACK | flag::URG) as u32;

/// What a packet shows of what signatures look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Indexed by [`Number`].
    pub numbers: [u32; NUMBERS],
    /// TCP flags, or [`NO_FLAGS`].
    pub flags: u32,
    pub source: Address,
    /// The first bytes of the payload, the very first uppermost.
    pub payload: [u64; 2],
}

/// A conjunction of conditions.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Inclusive bounds, indexed by [`Number`].
    pub low: [u32; NUMBERS],
    pub high: [u32; NUMBERS],
    /// Which of the flags matter, and what they have to be; [`NO_FLAGS`] is one of them.
    pub flags: u32,
    pub flags_mask: u32,
    pub source: Address,
    pub source_mask: Address,
    pub payload: [u64; 2],
    pub payload_mask: [u64; 2],
}

/// A signature in its place.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Until when it is in force, in CLOCK_MONOTONIC nanoseconds: it ends also when nobody is left
    /// who would end it. 0 for an empty place.
    pub until: u64,
    /// Tells one use of a place from the next; the kernel does not look at it.
    pub id: u64,
    pub conditions: Conditions,
}

/// All places.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureTable {
    /// What there is to look at: see [`IN_USE`] and [`PAYLOADS`]. 0 spares packets the rest.
    pub state: u64,
    pub slots: [Signature; SLOTS],
}

/// In [`SignatureTable::state`]: a place is in use.
pub const IN_USE: u64 = 1;
/// In [`SignatureTable::state`]: a signature looks at payloads.
pub const PAYLOADS: u64 = 2;

impl Conditions {
    /// No condition: every packet fits.
    pub const EVERYTHING: Self = Self {
        low: [0; NUMBERS],
        high: [ANY; NUMBERS],
        flags: 0,
        flags_mask: 0,
        source: Address { high: 0, low: 0 },
        source_mask: Address { high: 0, low: 0 },
        payload: [0; 2],
        payload_mask: [0; 2],
    };

    /// Whether a packet meets all conditions.
    #[inline(always)]
    pub fn meet(&self, shown: &Shown) -> bool {
        let mut outside = 0_u64;
        let mut index = 0;
        // Differences of such small numbers have their uppermost bit set only when they are negative.
        while index < NUMBERS {
            let number = shown.numbers[index] as u64;
            outside |= number.wrapping_sub(self.low[index] as u64);
            outside |= (self.high[index] as u64).wrapping_sub(number);
            index += 1;
        }
        let differs = ((shown.flags ^ self.flags) & self.flags_mask) as u64
            | (shown.source.high ^ self.source.high) & self.source_mask.high
            | (shown.source.low ^ self.source.low) & self.source_mask.low
            | (shown.payload[0] ^ self.payload[0]) & self.payload_mask[0]
            | (shown.payload[1] ^ self.payload[1]) & self.payload_mask[1];
        (outside >> 63) | differs == 0
    }

    /// Whether the payload matters.
    pub fn look_at_payload(&self) -> bool {
        self.payload_mask != [0; 2]
    }
}

impl Signature {
    /// An empty place.
    pub const EMPTY: Self = Self {
        until: 0,
        id: 0,
        conditions: Conditions::EVERYTHING,
    };

    /// Whether it is in force and a packet fits.
    #[inline(always)]
    pub fn hits(&self, shown: &Shown, now: u64) -> bool {
        self.until > now && self.conditions.meet(shown)
    }
}

impl SignatureTable {
    /// No signature.
    pub const EMPTY: Self = Self {
        state: 0,
        slots: [Signature::EMPTY; SLOTS],
    };

    /// What [`Self::state`] has to be for what stands in the places.
    pub fn needed_state(&self) -> u64 {
        let mut state = 0;
        for slot in self.slots.iter().filter(|slot| slot.until != 0) {
            state |= IN_USE;
            if slot.conditions.look_at_payload() {
                state |= PAYLOADS;
            }
        }
        state
    }

    /// The place of the first signature that a packet fits, or [`SLOTS`]. Spelled out: older kernels
    /// do not take a loop in a function of its own.
    #[inline(always)]
    pub fn find(&self, shown: &Shown, now: u64) -> u32 {
        const { assert!(SLOTS == 4) }
        if self.slots[0].hits(shown, now) {
            0
        } else if self.slots[1].hits(shown, now) {
            1
        } else if self.slots[2].hits(shown, now) {
            2
        } else if self.slots[3].hits(shown, now) {
            3
        } else {
            SLOTS as u32
        }
    }
}

impl Shown {
    /// What a packet shows. `payload` are its first bytes, of which `length` are there.
    #[inline(always)]
    pub fn of(packet: &Packet, payload: [u64; 2], length: u32) -> Self {
        let v6 = packet.is(mark::V6);
        let ports = packet.is(mark::PORTS);
        let tcp = ports && packet.protocol == protocol::TCP;
        let quoted = packet.is(mark::ICMP_ERROR);
        let other_icmp = if v6 { protocol::ICMP } else { protocol::ICMPV6 };
        let own_icmp = if v6 { protocol::ICMPV6 } else { protocol::ICMP };
        let wrong = if packet.protocol == other_icmp {
            WRONG_FAMILY
        } else {
            0
        };
        let whole = packet.fragment as u8 == Fragment::Whole as u8;
        let later = packet.fragment as u8 == Fragment::Later as u8;
        let icmp = packet.protocol == own_icmp && !later && !quoted;
        let window = tcp && !quoted && packet.payload != UNSEEN;
        Self {
            numbers: [
                packet.protocol as u32 | wrong,
                if ports {
                    packet.destination_port as u32
                } else {
                    NO_PORT
                },
                if ports {
                    packet.source_port as u32
                } else {
                    NO_PORT
                },
                if packet.ip_length > 0xffff {
                    0xffff
                } else {
                    packet.ip_length
                },
                packet.ttl as u32,
                if window {
                    packet.tcp_window as u32
                } else {
                    NO_WINDOW
                },
                if icmp {
                    packet.icmp_type as u32
                } else {
                    NO_ICMP
                },
                if whole { 0 } else { 1 },
                length,
            ],
            flags: if tcp {
                packet.tcp_flags as u32
            } else {
                NO_FLAGS
            },
            source: packet.source,
            payload,
        }
    }
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: repr(C), made of integers only, without padding; any bit pattern is valid.
    unsafe impl aya::Pod for super::SignatureTable {}
}

const _: () = {
    assert!(size_of::<Conditions>() == 144);
    assert!(size_of::<SignatureTable>() == 8 + SLOTS * 160);
};

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Shown {
        let packet = Packet {
            source: Address::v4(0xc633_6407),
            ip_length: 40,
            ttl: 64,
            protocol: protocol::TCP,
            tcp_flags: flag::SYN,
            tcp_window: 512,
            source_port: 1234,
            destination_port: 443,
            marks: mark::PORTS,
            ..Packet::default()
        };
        Shown::of(&packet, [0x4745_5420_0000_0000, 0], 4)
    }

    fn bounded(number: Number, low: u32, high: u32) -> Conditions {
        let mut conditions = Conditions::EVERYTHING;
        conditions.low[number as usize] = low;
        conditions.high[number as usize] = high;
        conditions
    }

    #[test]
    fn every_packet_meets_no_condition() {
        assert!(Conditions::EVERYTHING.meet(&shown()));
        let other = Shown::of(&Packet::default(), [0; 2], 0);
        assert!(Conditions::EVERYTHING.meet(&other));
    }

    #[test]
    fn bounds_are_inclusive_on_both_sides() {
        for (low, high, met) in [
            (40, 40, true),
            (0, 40, true),
            (40, 65_535, true),
            (41, 65_535, false),
            (0, 39, false),
        ] {
            let conditions = bounded(Number::Length, low, high);
            assert_eq!(conditions.meet(&shown()), met, "{low} to {high}");
        }
    }

    #[test]
    fn a_packet_without_ports_meets_no_condition_on_ports() {
        let conditions = bounded(Number::DestinationPort, 0, 65_535);
        assert!(conditions.meet(&shown()));
        assert!(!conditions.meet(&Shown::of(&Packet::default(), [0; 2], 0)));
    }

    #[test]
    fn flags_source_and_payload_are_compared_where_they_matter() {
        let mut conditions = Conditions::EVERYTHING;
        conditions.flags = flag::SYN as u32;
        conditions.flags_mask = (flag::SYN | flag::ACK) as u32 | NO_FLAGS;
        conditions.source = Address::v4(0xc633_6400);
        conditions.source_mask = Address::v6(u64::MAX, u64::MAX << 8);
        conditions.payload = [0x4745_5420_0000_0000, 0];
        conditions.payload_mask = [0xffff_ffff_0000_0000, 0];
        assert!(conditions.meet(&shown()));
        for change in [
            |shown: &mut Shown| shown.flags |= flag::ACK as u32,
            |shown: &mut Shown| shown.flags = NO_FLAGS,
            |shown: &mut Shown| shown.source.low ^= 0x100,
            |shown: &mut Shown| shown.payload[0] ^= 1 << 40,
        ] {
            let mut other = shown();
            change(&mut other);
            assert!(!conditions.meet(&other), "{other:?}");
        }
    }

    #[test]
    fn a_signature_is_in_force_until_its_time() {
        let mut table = SignatureTable::EMPTY;
        assert_eq!(table.find(&shown(), 0), SLOTS as u32);
        table.slots[2].until = 100;
        assert_eq!(table.find(&shown(), 99), 2);
        assert_eq!(table.find(&shown(), 100), SLOTS as u32);
    }
}
