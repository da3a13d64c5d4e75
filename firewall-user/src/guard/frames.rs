//! The packets that lifelines need.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use firewall_common::packet::{ether_type, flag};

use crate::packet_build::PacketBuilder;

/// A port that a client may choose (RFC 6335).
const EPHEMERAL: u16 = 50_022;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// An address of this host on the link; which one does not matter to the link's rules.
const OWN_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);
const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The opening of a further connection from `peer`'s host, and its answer.
pub(super) fn opening(peer: SocketAddr, local: SocketAddr) -> [Vec<u8>; 2] {
    let (there, here) = (peer.ip(), local.ip());
    let syn = PacketBuilder::new(there, here)
        .map(|packet| packet.tcp(EPHEMERAL, local.port(), flag::SYN).build());
    let answer = PacketBuilder::new(here, there).map(|packet| {
        let flags = flag::SYN | flag::ACK;
        packet.tcp(local.port(), EPHEMERAL, flags).build()
    });
    // Both ends of a connection have the same family.
    [syn.unwrap_or_default(), answer.unwrap_or_default()]
}

/// A query for the root's name servers, and an answer; `None` between families.
pub(super) fn name_query(from: IpAddr, server: IpAddr) -> Option<[Vec<u8>; 2]> {
    // RFC 1035 4.1: identifier, flags, one question; the root's name, type NS, class IN.
    let message = |flags: u16| {
        let mut message = vec![0x4a, 0x11];
        message.extend(flags.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1]);
        message
    };
    const DNS: u16 = 53;
    let question = PacketBuilder::new(from, server)?
        .udp(EPHEMERAL, DNS)
        .payload(&message(0x0100))
        .build();
    let answer = PacketBuilder::new(server, from)?
        .udp(DNS, EPHEMERAL)
        .payload(&message(0x8180))
        .build();
    Some([question, answer])
}

/// An ARP request for the gateway, and its reply (RFC 826).
pub(super) fn address_resolution(gateway: Ipv4Addr) -> [Vec<u8>; 2] {
    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const EVERYBODY: [u8; 6] = [0xff; 6];
    let frame = |operation: u8, to: [u8; 6], sender: ([u8; 6], Ipv4Addr), target: Ipv4Addr| {
        let mut frame = to.to_vec();
        frame.extend(sender.0);
        frame.extend(ether_type::ARP.to_be_bytes());
        // Ethernet and IPv4 addresses, of 6 and 4 bytes.
        frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
        frame.extend(sender.0);
        frame.extend(sender.1.octets());
        frame.extend(if operation == 1 { [0; 6] } else { to });
        frame.extend(target.octets());
        frame
    };
    [
        frame(1, EVERYBODY, (OWN, OWN_V4), gateway),
        frame(2, OWN, (GATEWAY, gateway), OWN_V4),
    ]
}

/// A neighbour solicitation for the gateway, and its advertisement (RFC 4861).
pub(super) fn neighbour_discovery(gateway: Ipv6Addr) -> [Vec<u8>; 2] {
    let message = |from: Ipv6Addr, to: Ipv6Addr, kind: u8| {
        let packet = PacketBuilder::new(from.into(), to.into());
        let packet = packet.map(|packet| {
            packet
                .icmp(kind, 0, [0; 4])
                .ttl(255)
                .payload(&gateway.octets())
                .build()
        });
        packet.unwrap_or_default()
    };
    let [.., a, b, c] = gateway.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    [
        message(OWN_V6, group, NEIGHBOUR_SOLICITATION),
        message(gateway, OWN_V6, NEIGHBOUR_ADVERTISEMENT),
    ]
}
