//! Which of the policy's payload patterns a packet shows.
//!
//! They are looked for once for each packet that comes as far as the rules, into a set of bits; to the
//! rules that set is a field like any other.

use super::Tables;
use crate::Direction;
use crate::image::{ANY_PAYLOAD, MAX_PATTERNS, Pattern, constant};
use crate::packet::{Fragment, Packet, UNSEEN, mark, protocol};

/// Headers of this length stand before the payload.
const UDP: u32 = 8;
const ICMP: u32 = 8;
/// Where the length of a TCP header stands in it.
const TCP_DATA_OFFSET: u32 = 12;

/// Whether a packet is the one in hand, or one that is only known by another. The frame of the latter
/// is not looked at, which the kernel program must know beforehand: the bytes at hand are those of
/// another kind of program.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Packets {
    Seen = 0,
    Unseen = 1,
}

/// A bit for each pattern that the packet shows, or [`ANY_PAYLOAD`].
#[inline(always)]
pub(super) fn patterns<T: Tables>(
    packet: &Packet,
    packets: Packets,
    direction: Direction,
    tables: &mut T,
) -> u32 {
    let count = tables.constant(direction, constant::PATTERN_COUNT);
    if count == 0 {
        return 0;
    }
    if packet.payload == UNSEEN {
        return ANY_PAYLOAD;
    }
    if packets as u32 == Packets::Unseen as u32 {
        return 0;
    }
    let Some(header) = header(packet, direction, tables) else {
        return 0;
    };
    let base = tables.constant(direction, constant::PATTERNS);
    let mut shown = 0_u64;
    for index in 0..MAX_PATTERNS {
        if index >= count {
            break;
        }
        shown = tables.opaque(shown);
        let (offset, length) = Pattern::place(tables, base, index);
        // What stands behind the packet's end, as padding does, is no payload.
        if header + offset + length > packet.payload {
            continue;
        }
        if let Some(bytes) = tables.bytes(direction, packet.transport + header + offset, length)
            && Pattern::shows(tables, base, index, bytes)
        {
            shown |= 1 << index;
        }
    }
    tables.opaque(shown) as u32 & (ANY_PAYLOAD - 1)
}

/// Bytes of the transport's header; `None` where no payload begins, as in a later fragment. An ICMP
/// error is judged by what it quotes, and shows nothing of that.
#[inline(always)]
pub(super) fn header<T: Tables>(
    packet: &Packet,
    direction: Direction,
    tables: &mut T,
) -> Option<u32> {
    if packet.payload == 0
        || packet.fragment as u8 == Fragment::Later as u8
        || packet.is(mark::ICMP_ERROR)
    {
        return None;
    }
    let own_icmp = if packet.is(mark::V6) {
        protocol::ICMPV6
    } else {
        protocol::ICMP
    };
    match packet.protocol {
        protocol::TCP => {
            let [head, _] = tables.bytes(direction, packet.transport + TCP_DATA_OFFSET, 1)?;
            Some((head >> 60) as u32 * 4)
        }
        protocol::UDP | protocol::UDPLITE => Some(UDP),
        kind if kind == own_icmp => Some(ICMP),
        _ => Some(0),
    }
}
