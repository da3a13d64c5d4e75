//! What the link itself needs: let through before anything else, shown to people as built-in rules.

use crate::packet::{Fragment, Kind, Packet, ether_type, mark, protocol};
use crate::{Address, Direction};

/// A built-in rule; its number is its counter.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkRule {
    /// Address resolution (RFC 826).
    Arp = 0,
    /// Router and neighbour discovery and redirects (RFC 4861): ICMPv6 133 to 137 with hop limit
    /// 255, which no router lets pass.
    NeighbourDiscovery = 1,
    /// Multicast listener discovery (RFC 2710, RFC 3810): hop limit 1, which a stranger can arrange to
    /// arrive with, and from a link-local address or `::`, which no router lets pass.
    MulticastListener = 2,
    /// Group membership, IPv4's equal of it (RFC 2236, RFC 3376): IGMP to a multicast group, TTL 1.
    GroupMembership = 3,
    /// DHCP replies, from port 67 to 68 (RFC 2131).
    Dhcp = 4,
    /// DHCPv6 replies, from port 547 to 546 (RFC 8415), from a link-local address.
    Dhcpv6 = 5,
    /// Link aggregation (IEEE 802.1AX).
    Lacp = 6,
    /// Link layer discovery (IEEE 802.1AB).
    Lldp = 7,
    /// Port access control (IEEE 802.1X).
    Eapol = 8,
}

impl LinkRule {
    /// Every built-in rule, in the order of its counter.
    pub const ALL: [Self; 9] = [
        Self::Arp,
        Self::NeighbourDiscovery,
        Self::MulticastListener,
        Self::GroupMembership,
        Self::Dhcp,
        Self::Dhcpv6,
        Self::Lacp,
        Self::Lldp,
        Self::Eapol,
    ];

    /// The name people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arp => "link:arp",
            Self::NeighbourDiscovery => "link:neighbour-discovery",
            Self::MulticastListener => "link:multicast-listener",
            Self::GroupMembership => "link:group-membership",
            Self::Dhcp => "link:dhcp",
            Self::Dhcpv6 => "link:dhcpv6",
            Self::Lacp => "link:lacp",
            Self::Lldp => "link:lldp",
            Self::Eapol => "link:eapol",
        }
    }

    /// What it lets through, in words.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Arp => "ARP",
            Self::NeighbourDiscovery => "ICMPv6 types 133 to 137, code 0, hop limit 255",
            Self::MulticastListener => {
                "ICMPv6 types 130, 131, 132 and 143 from a link-local address or ::, hop limit 1"
            }
            Self::GroupMembership => "IGMP to a multicast group, TTL 1",
            Self::Dhcp => "UDP from port 67 to port 68; outbound also from 68 to 67",
            Self::Dhcpv6 => {
                "UDP from a link-local address, port 547 to 546; outbound also from 546 to 547"
            }
            Self::Lacp => "EtherType 0x8809 (slow protocols)",
            Self::Lldp => "EtherType 0x88cc",
            Self::Eapol => "EtherType 0x888e",
        }
    }
}

/// The built-in rule that lets a packet through, if one does.
#[inline(always)]
pub(super) fn matching(packet: &Packet, direction: Direction) -> Option<LinkRule> {
    match packet.kind {
        Kind::Malformed => None,
        Kind::Other => match packet.ether_type {
            ether_type::ARP => Some(LinkRule::Arp),
            ether_type::SLOW_PROTOCOLS => Some(LinkRule::Lacp),
            ether_type::LLDP => Some(LinkRule::Lldp),
            ether_type::EAPOL => Some(LinkRule::Eapol),
            _ => None,
        },
        Kind::Ip => ip(packet, direction),
    }
}

#[inline(always)]
fn ip(packet: &Packet, direction: Direction) -> Option<LinkRule> {
    if packet.fragment as u8 != Fragment::Whole as u8 || packet.is(mark::ICMP_ERROR) {
        return None;
    }
    match packet.protocol {
        protocol::ICMPV6 if packet.is(mark::V6) => match packet.icmp_type {
            133..=137 if packet.ttl == 255 && packet.icmp_code == 0 => {
                Some(LinkRule::NeighbourDiscovery)
            }
            130..=132 | 143
                if packet.ttl == 1
                    && (is_link_local(packet.source) || packet.source == Address::v6(0, 0)) =>
            {
                Some(LinkRule::MulticastListener)
            }
            _ => None,
        },
        protocol::IGMP
            if packet.ttl == 1
                && packet.destination.is_v4()
                && packet.destination.as_v4() >> 28 == 0xe =>
        {
            Some(LinkRule::GroupMembership)
        }
        protocol::UDP => address_assignment(packet, direction),
        _ => None,
    }
}

/// Answers from a server on the way in; on the way out this host's questions as well, without
/// which it would lose its address under an outbound default of drop.
#[inline(always)]
fn address_assignment(packet: &Packet, direction: Direction) -> Option<LinkRule> {
    let out = direction as u32 == Direction::Outbound as u32;
    match (packet.source_port, packet.destination_port) {
        (67, 68) if !packet.is(mark::V6) => Some(LinkRule::Dhcp),
        (68, 67) if out && !packet.is(mark::V6) => Some(LinkRule::Dhcp),
        (547, 546) if is_link_local(packet.source) => Some(LinkRule::Dhcpv6),
        (546, 547) if out && is_link_local(packet.source) => Some(LinkRule::Dhcpv6),
        _ => None,
    }
}

#[inline(always)]
const fn is_link_local(address: Address) -> bool {
    address.high >> 54 == 0xfe80 >> 6
}
