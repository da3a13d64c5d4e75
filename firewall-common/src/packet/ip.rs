//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers down to the transport.

use super::transport::TCP;
use super::{Bytes, Fragment, Kind, Packet, Window, mark, protocol};
use crate::Address;

pub(super) const V4: usize = 20;
pub(super) const V6: usize = 40;

/// Extension headers that are followed; a longer chain is malformed.
pub(super) const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

#[inline(always)]
pub(super) fn parse_v4<B: Bytes>(bytes: &mut B, packet: &mut Packet) {
    let offset = packet.transport as usize;
    packet.kind = Kind::Malformed;
    let Some(header) = bytes.window::<V4>(offset) else {
        return;
    };
    let header_length = (header.u8(0) & 0x0f) as usize * 4;
    let total = header.u16(2) as usize;
    packet.sender = Address::v4(header.u32(12));
    packet.source = packet.sender;
    packet.destination = Address::v4(header.u32(16));
    packet.ttl = header.u8(8);
    packet.protocol = header.u8(9);
    packet.ip_length = total as u32;
    if offset + total > packet.length as usize {
        packet.length = bytes.whole() as u32;
    }
    if header.u8(0) >> 4 != 4
        || header_length < V4
        || total < header_length
        || offset + total > packet.length as usize
    {
        return;
    }
    let fragment = header.u16(6);
    let position = (fragment & 0x1fff) as usize * 8;
    let payload = total - header_length;
    if position + payload > 0xffff {
        return;
    }
    let more = fragment & 0x2000 != 0;
    packet.identification = header.u16(4) as u32;
    if (more || position != 0) && !is_possible(position, payload, more, packet) {
        return;
    }
    packet.transport = (offset + header_length) as u32;
    packet.payload = payload as u32;
    packet.kind = Kind::Ip;
}

#[inline(always)]
pub(super) fn parse_v6<B: Bytes>(bytes: &mut B, packet: &mut Packet) {
    let offset = packet.transport as usize;
    packet.kind = Kind::Malformed;
    let Some(header) = bytes.window::<V6>(offset) else {
        return;
    };
    packet.marks |= mark::V6;
    packet.sender = Address::v6(header.u64(8), header.u64(16));
    packet.source = packet.sender;
    packet.destination = Address::v6(header.u64(24), header.u64(32));
    packet.ttl = header.u8(7);
    let mut payload = header.u16(4) as usize;
    let next = header.u8(6);
    // A jumbogram, or a packet merged by GRO, says 0 and means all there is (RFC 2675).
    if payload == 0 && next == HOP_BY_HOP {
        packet.length = bytes.whole() as u32;
        payload = packet.length as usize - offset - V6;
    } else if offset + V6 + payload > packet.length as usize {
        packet.length = bytes.whole() as u32;
    }
    packet.ip_length = (V6 + payload) as u32;
    packet.protocol = next;
    if header.u8(0) >> 4 != 6 || offset + V6 + payload > packet.length as usize {
        return;
    }
    // An IPv4-mapped address never stands in a packet on the wire (RFC 4291 2.5.5.2); let through,
    // it would be taken for the IPv4 address.
    if packet.source.is_v4() || packet.destination.is_v4() {
        return;
    }
    let end = offset + V6 + payload;
    packet.transport = (offset + V6) as u32;
    // The loop keeps its place in the packet, not in variables, so that each turn looks the same to
    // the verifier whatever the turns before it met.
    for followed in 0..=MAX_EXTENSIONS {
        bytes.forget(packet);
        let next = packet.protocol;
        let at = packet.transport as usize;
        if !is_extension(next) {
            packet.payload = (end - at) as u32;
            packet.kind = Kind::Ip;
            return;
        }
        if followed == MAX_EXTENSIONS {
            return;
        }
        let Some(extension) = bytes.window::<8>(at) else {
            return;
        };
        packet.protocol = extension.u8(0);
        if next == FRAGMENT {
            let field = extension.u16(2);
            let (position, more) = ((field & 0xfff8) as usize, field & 1 != 0);
            let payload = (end - at).saturating_sub(8);
            if position + payload > 0xffff {
                return;
            }
            if more || position != 0 {
                packet.identification = extension.u32(4);
                if !is_possible(position, payload, more, packet) {
                    return;
                }
            }
            if position != 0 {
                // What follows is the middle of something: only the protocol is known.
                packet.kind = Kind::Ip;
                return;
            }
        }
        let length = extension_length(next, extension.u8(1));
        if at + length > end {
            return;
        }
        packet.transport = (at + length) as u32;
    }
}

/// Notes what a fragment is; whether a sender can have cut it. All but the last are cut at a multiple
/// of 8 bytes, and none is empty (RFC 791 3.2, RFC 8200 4.5). The first holds the whole TCP header, so
/// what begins within that would overwrite it (RFC 1858, RFC 3128, RFC 7112).
#[inline(always)]
fn is_possible(position: usize, payload: usize, more: bool, packet: &mut Packet) -> bool {
    let overwrites = packet.protocol == protocol::TCP && position != 0 && position < TCP;
    if payload == 0 || (more && !payload.is_multiple_of(8)) || overwrites {
        return false;
    }
    (packet.fragment, packet.fragment_at) = if position == 0 {
        (Fragment::First, payload as u32)
    } else {
        (Fragment::Later, position as u32)
    };
    true
}

/// Bytes of an extension header whose length field holds `units`.
#[inline(always)]
pub(super) const fn extension_length(next: u8, units: u8) -> usize {
    match next {
        FRAGMENT => 8,
        AUTHENTICATION => (units as usize + 2) * 4,
        _ => (units as usize + 1) * 8,
    }
}

#[inline(always)]
pub(super) const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        HOP_BY_HOP
            | ROUTING
            | FRAGMENT
            | AUTHENTICATION
            | DESTINATION_OPTIONS
            | MOBILITY
            | HIP
            | SHIM6
    )
}
