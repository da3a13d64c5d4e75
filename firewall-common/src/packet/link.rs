//! Ethernet and its tags: the entry of the parser.

use super::{Bytes, Kind, NO_VLAN, Packet, Window, ether_type, ip, transport};

const ETHERNET: usize = 14;
const TAG: usize = 4;

/// Parses a frame that begins with its Ethernet header. `tag` is a VLAN identifier that the
/// hardware took off ([`NO_VLAN`] for none).
#[inline(always)]
pub fn parse<B: Bytes>(bytes: &mut B, tag: u16, packet: &mut Packet) {
    packet.length = bytes.length() as u32;
    packet.vlan = tag;
    let Some(ethernet) = bytes.window::<ETHERNET>(0) else {
        packet.kind = Kind::Malformed;
        return;
    };
    let mut kind = ethernet.u16(12);
    let mut offset = ETHERNET;
    // The tag that was taken off was the outermost; at most two in all are looked through.
    if is_tag(kind) {
        let Some(header) = bytes.window::<TAG>(offset) else {
            packet.kind = Kind::Malformed;
            return;
        };
        if packet.vlan == NO_VLAN {
            packet.vlan = header.u16(0) & 0xfff;
        }
        kind = header.u16(2);
        offset += TAG;
        if is_tag(kind) && tag == NO_VLAN {
            let Some(header) = bytes.window::<TAG>(offset) else {
                packet.kind = Kind::Malformed;
                return;
            };
            kind = header.u16(2);
            offset += TAG;
        }
    }
    packet.ether_type = kind;
    packet.transport = offset as u32;
    bytes.forget(packet);
    if packet.ether_type == ether_type::IPV4 {
        ip::parse_v4(bytes, packet);
    } else if packet.ether_type == ether_type::IPV6 {
        ip::parse_v6(bytes, packet);
    } else {
        packet.length = bytes.whole() as u32;
    }
    bytes.forget(packet);
    if packet.kind as u8 == Kind::Ip as u8 {
        transport::parse(bytes, packet);
    }
}

#[inline(always)]
const fn is_tag(kind: u16) -> bool {
    kind == ether_type::VLAN || kind == ether_type::PROVIDER_BRIDGE
}
