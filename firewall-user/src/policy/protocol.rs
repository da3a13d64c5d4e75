//! Names of IP protocols, ICMP message types and TCP flags.

/// Protocol numbers that rules ask about.
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const DCCP: u8 = 33;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;
pub const UDPLITE: u8 = 136;

/// Protocols whose packets have ports.
pub const WITH_PORTS: [u8; 5] = [TCP, UDP, DCCP, SCTP, UDPLITE];

/// Names from IANA's registry of protocol numbers, the first of a number being the one printed.
const PROTOCOLS: &[(&str, u8)] = &[
    ("tcp", TCP),
    ("udp", UDP),
    ("icmp", ICMP),
    ("icmpv6", ICMPV6),
    ("ipv6-icmp", ICMPV6),
    ("sctp", SCTP),
    ("dccp", DCCP),
    ("udplite", UDPLITE),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("igmp", 2),
    ("ipip", 4),
    ("ipv6", 41),
    ("rsvp", 46),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("ipcomp", 108),
    ("vrrp", 112),
    ("l2tp", 115),
    ("isis", 124),
    ("mpls-in-ip", 137),
];

/// ICMP types by name (RFC 792, RFC 950, RFC 1256).
const ICMP_TYPES: &[(&str, u8)] = &[
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
    ("address-mask-request", 17),
    ("address-mask-reply", 18),
];

/// ICMPv6 types by name (RFC 4443, RFC 2710, RFC 3810, RFC 4861).
const ICMPV6_TYPES: &[(&str, u8)] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("listener-query", 130),
    ("listener-report", 131),
    ("listener-done", 132),
    ("router-solicitation", 133),
    ("router-advertisement", 134),
    ("neighbour-solicitation", 135),
    ("neighbor-solicitation", 135),
    ("neighbour-advertisement", 136),
    ("neighbor-advertisement", 136),
    ("redirect", 137),
    ("listener-report-v2", 143),
];

/// TCP flags by name, with their bit in the flags byte (RFC 9293, RFC 3168).
const TCP_FLAGS: &[(&str, u8)] = &[
    ("fin", 1),
    ("syn", 2),
    ("rst", 4),
    ("psh", 8),
    ("ack", 16),
    ("urg", 32),
    ("ece", 64),
    ("cwr", 128),
];

/// The number of a protocol's name.
pub fn protocol_number(name: &str) -> Option<u8> {
    number(PROTOCOLS, name)
}

/// The name of a protocol's number, or the number itself.
pub fn protocol_name(protocol: u8) -> String {
    name(PROTOCOLS, protocol).map_or_else(|| protocol.to_string(), str::to_owned)
}

/// Every protocol that has a name.
pub fn protocol_names() -> impl Iterator<Item = &'static str> {
    PROTOCOLS.iter().map(|(name, _)| *name)
}

/// The names of ICMP message types for `protocol`, which is [`ICMP`] or [`ICMPV6`].
pub fn icmp_types(protocol: u8) -> &'static [(&'static str, u8)] {
    if protocol == ICMPV6 {
        ICMPV6_TYPES
    } else {
        ICMP_TYPES
    }
}

/// The name of an ICMP message type, or its number.
pub fn icmp_type_name(protocol: u8, kind: u8) -> String {
    name(icmp_types(protocol), kind).map_or_else(|| kind.to_string(), str::to_owned)
}

/// The bit of a TCP flag.
pub fn tcp_flag(name: &str) -> Option<u8> {
    number(TCP_FLAGS, name)
}

/// The names of the flags in `bits`, in the order of their bits.
pub fn tcp_flag_names(bits: u8) -> impl Iterator<Item = &'static str> {
    TCP_FLAGS
        .iter()
        .filter(move |(_, bit)| bits & bit != 0)
        .map(|(name, _)| *name)
}

/// The number of a name in one of the tables above.
pub fn number(table: &[(&str, u8)], wanted: &str) -> Option<u8> {
    let found = table.iter().find(|(name, _)| *name == wanted)?;
    Some(found.1)
}

fn name(table: &[(&'static str, u8)], wanted: u8) -> Option<&'static str> {
    let found = table.iter().find(|(_, number)| *number == wanted)?;
    Some(found.0)
}
