//! What the link needs, as the built-in rules describe it to people.

use std::net::{IpAddr, Ipv6Addr};

use firewall_common::Direction;

use super::parse::{Body, Fragment, Frame, ICMPV6, Packet, UDP};

/// The name of the built-in rule that lets a frame through.
pub fn built_in(frame: &Frame, direction: Direction) -> Option<&'static str> {
    match frame {
        Frame::Broken => None,
        Frame::Other(0x0806) => Some("link:arp"),
        Frame::Other(0x8809) => Some("link:lacp"),
        Frame::Other(0x88cc) => Some("link:lldp"),
        Frame::Other(0x888e) => Some("link:eapol"),
        Frame::Other(_) => None,
        Frame::Ip(packet) if packet.is_error || packet.fragment != Fragment::Whole => None,
        Frame::Ip(packet) => ip(packet, direction),
    }
}

fn ip(packet: &Packet, direction: Direction) -> Option<&'static str> {
    let out = direction == Direction::Outbound;
    match (
        packet.protocol,
        packet.body,
        packet.source,
        packet.destination,
    ) {
        (
            ICMPV6,
            Body::Icmp {
                kind: 133..=137,
                code: 0,
                ..
            },
            ..,
        ) if packet.ttl == 255 => Some("link:neighbour-discovery"),
        (
            ICMPV6,
            Body::Icmp {
                kind: 130..=132 | 143,
                ..
            },
            IpAddr::V6(source),
            _,
        ) if packet.ttl == 1 && (is_link_local(source) || source.is_unspecified()) => {
            Some("link:multicast-listener")
        }
        (2, _, _, IpAddr::V4(group)) if packet.ttl == 1 && group.is_multicast() => {
            Some("link:group-membership")
        }
        (UDP, Body::Ports { from, to }, IpAddr::V4(_), _) => match (from, to) {
            (67, 68) => Some("link:dhcp"),
            (68, 67) if out => Some("link:dhcp"),
            _ => None,
        },
        (UDP, Body::Ports { from, to }, IpAddr::V6(source), _) if is_link_local(source) => {
            match (from, to) {
                (547, 546) => Some("link:dhcpv6"),
                (546, 547) if out => Some("link:dhcpv6"),
                _ => None,
            }
        }
        _ => None,
    }
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}
