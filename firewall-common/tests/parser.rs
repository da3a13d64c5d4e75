//! The parser on known packets, cut packets, and bytes that mean nothing.

use firewall_common::Address;
use firewall_common::packet::{
    Fragment, Frame, Kind, NO_VLAN, Packet, flag, mark, parse, protocol,
};
use proptest::prelude::*;

const ANN: [u8; 4] = [198, 51, 100, 7];
const BOB: [u8; 4] = [203, 0, 113, 5];
const ANN6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const BOB6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];

fn parsed(frame: &[u8]) -> Packet {
    let mut packet = Packet::default();
    parse(&mut Frame::new(frame), NO_VLAN, &mut packet);
    packet
}

fn ethernet(types: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for word in types {
        frame.extend(word.to_be_bytes());
    }
    frame.extend(packet);
    frame
}

fn ipv4(protocol: u8, fragment: u16, options: &[u8], body: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let total = (header + body.len()) as u16;
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(ANN);
    packet.extend(BOB);
    packet.extend(options);
    packet.extend(body);
    packet
}

fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(ANN6);
    packet.extend(BOB6);
    packet.extend(body);
    packet
}

fn v4(protocol: u8, body: &[u8]) -> Vec<u8> {
    ethernet(&[0x0800], &ipv4(protocol, 0, &[], body))
}

fn v6(next: u8, body: &[u8]) -> Vec<u8> {
    ethernet(&[0x86dd], &ipv6(next, body))
}

fn tcp(flags: u8, data: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags];
    segment.extend([0; 6]);
    segment.extend(data);
    segment
}

fn udp(data: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x9c, 0x40, 0, 53];
    datagram.extend((8 + data.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    datagram
}

/// An IPv4 packet from BOB to ANN, as a router on ANN's way would quote it to BOB.
fn quoted_by_router(protocol: u8, transport: &[u8]) -> Vec<u8> {
    let mut quote = ipv4(protocol, 0, &[], transport);
    quote[12..16].copy_from_slice(&BOB);
    quote[16..20].copy_from_slice(&ANN);
    quote
}

fn unreachable(quote: &[u8]) -> Vec<u8> {
    v4(protocol::ICMP, &[&[3, 1, 0, 0, 0, 0, 0, 0], quote].concat())
}

#[test]
fn known_frames_are_what_they_should_be() {
    const V6: u8 = mark::V6;
    const PORTS: u8 = mark::PORTS;
    const TAGGED: [u16; 3] = [0x8100, 7, 0x0800];
    let hop_by_hop = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let fragment = |next: u8, low: u8| [next, 0, 0, low, 0, 0, 0, 1];
    let chain = |count: usize| {
        let mut body = [60, 0, 0, 0, 0, 0, 0, 0].repeat(count - 1);
        body.extend([17, 0, 0, 0, 0, 0, 0, 0]);
        body.extend(udp(&[]));
        v6(60, &body)
    };
    // What it is; the frame; kind, protocol, fragment, marks, tag.
    type Known = (Kind, u8, Fragment, u8, u16);
    let table: &[(&str, Vec<u8>, Known)] = &[
        (
            "a SYN has ports",
            v4(6, &tcp(flag::SYN, &[])),
            (Kind::Ip, 6, Fragment::Whole, PORTS, NO_VLAN),
        ),
        (
            "a datagram over IPv6 has ports",
            v6(17, &udp(&[0; 3])),
            (Kind::Ip, 17, Fragment::Whole, V6 | PORTS, NO_VLAN),
        ),
        (
            "a tag's identifier is read",
            ethernet(&TAGGED, &ipv4(17, 0, &[], &udp(&[]))),
            (Kind::Ip, 17, Fragment::Whole, PORTS, 7),
        ),
        (
            "of two tags the outer one counts",
            ethernet(
                &[0x88a8, 100, 0x8100, 7, 0x0800],
                &ipv4(17, 0, &[], &udp(&[])),
            ),
            (Kind::Ip, 17, Fragment::Whole, PORTS, 100),
        ),
        (
            "a priority is no part of the identifier",
            ethernet(&[0x8100, 0xe007, 0x0800], &ipv4(17, 0, &[], &udp(&[]))),
            (Kind::Ip, 17, Fragment::Whole, PORTS, 7),
        ),
        (
            "a third tag is not looked through",
            ethernet(&[0x8100, 1, 0x8100, 2, 0x8100, 3, 0x0800], &[0; 40]),
            (Kind::Other, 0, Fragment::Whole, 0, 1),
        ),
        (
            "options are passed over",
            ethernet(&[0x0800], &ipv4(6, 0, &[1; 40], &tcp(flag::ACK, &[]))),
            (Kind::Ip, 6, Fragment::Whole, PORTS, NO_VLAN),
        ),
        (
            "extension headers are passed over",
            v6(0, &[&hop_by_hop(6)[..], &tcp(2, &[])].concat()),
            (Kind::Ip, 6, Fragment::Whole, V6 | PORTS, NO_VLAN),
        ),
        (
            "eight extension headers are followed",
            chain(8),
            (Kind::Ip, 17, Fragment::Whole, V6 | PORTS, NO_VLAN),
        ),
        (
            "nine are not",
            chain(9),
            (Kind::Malformed, 60, Fragment::Whole, V6, NO_VLAN),
        ),
        (
            "a first fragment has ports",
            ethernet(&[0x0800], &ipv4(17, 0x2000, &[], &udp(&[0x80; 8]))),
            (Kind::Ip, 17, Fragment::First, PORTS, NO_VLAN),
        ),
        (
            "a later fragment has none",
            ethernet(&[0x0800], &ipv4(17, 0x2010, &[], &udp(&[0x80; 8]))),
            (Kind::Ip, 17, Fragment::Later, 0, NO_VLAN),
        ),
        (
            "a first IPv6 fragment has ports",
            v6(44, &[&fragment(17, 1)[..], &udp(&[])].concat()),
            (Kind::Ip, 17, Fragment::First, V6 | PORTS, NO_VLAN),
        ),
        (
            "a later IPv6 fragment has none",
            v6(44, &[&fragment(17, 9)[..], &udp(&[])].concat()),
            (Kind::Ip, 17, Fragment::Later, V6, NO_VLAN),
        ),
        (
            "an atomic fragment is whole",
            v6(44, &[&fragment(17, 0)[..], &udp(&[])].concat()),
            (Kind::Ip, 17, Fragment::Whole, V6 | PORTS, NO_VLAN),
        ),
        (
            "a fragment that could overwrite TCP flags is malformed",
            ethernet(&[0x0800], &ipv4(6, 1, &[], &[0; 16])),
            (Kind::Malformed, 6, Fragment::Whole, 0, NO_VLAN),
        ),
        (
            "a first fragment that hides TCP flags is malformed",
            ethernet(&[0x0800], &ipv4(6, 0x2000, &[], &[0; 16])),
            (Kind::Malformed, 6, Fragment::First, 0, NO_VLAN),
        ),
        (
            "a fragment past 65,535 bytes is malformed",
            ethernet(&[0x0800], &ipv4(17, 0x1fff, &[], &[0; 16])),
            (Kind::Malformed, 17, Fragment::Whole, 0, NO_VLAN),
        ),
        (
            "a datagram that says it is longer than it is, is malformed",
            v4(17, &[0, 1, 0, 2, 0, 9, 0, 0]),
            (Kind::Malformed, 17, Fragment::Whole, PORTS, NO_VLAN),
        ),
        (
            "a TCP header of four words is malformed",
            v4(6, &[&[0; 12][..], &[0x40], &[0; 7]].concat()),
            (Kind::Malformed, 6, Fragment::Whole, PORTS, NO_VLAN),
        ),
        (
            "SCTP has ports",
            v4(132, &[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]),
            (Kind::Ip, 132, Fragment::Whole, PORTS, NO_VLAN),
        ),
        (
            "GRE has none",
            v4(47, &[0; 8]),
            (Kind::Ip, 47, Fragment::Whole, 0, NO_VLAN),
        ),
        (
            "an echo request is a request",
            v4(1, &[8, 0, 0, 0, 0, 9, 0, 1]),
            (
                Kind::Ip,
                1,
                Fragment::Whole,
                mark::ECHO_REQUEST | mark::REQUEST,
                NO_VLAN,
            ),
        ),
        (
            "an ICMPv6 type over IPv4 is nothing",
            v4(58, &[128, 0, 0, 0, 0, 9, 0, 1]),
            (Kind::Ip, 58, Fragment::Whole, 0, NO_VLAN),
        ),
        (
            "ARP is not IP",
            ethernet(&[0x0806], &[0; 28]),
            (Kind::Other, 0, Fragment::Whole, 0, NO_VLAN),
        ),
        (
            "an HTTP request is a request",
            v4(6, &tcp(flag::ACK, b"GET / HTTP/1.1")),
            (Kind::Ip, 6, Fragment::Whole, PORTS | mark::REQUEST, NO_VLAN),
        ),
        (
            "an HTTP answer is none",
            v4(6, &tcp(flag::ACK, b"HTTP/1.1 200 OK")),
            (Kind::Ip, 6, Fragment::Whole, PORTS, NO_VLAN),
        ),
        (
            "a DNS query is a request",
            v4(17, &udp(&[0, 1, 1, 0, 0, 1])),
            (
                Kind::Ip,
                17,
                Fragment::Whole,
                PORTS | mark::REQUEST,
                NO_VLAN,
            ),
        ),
        (
            "an error about TCP is judged as an answer to it",
            unreachable(&quoted_by_router(6, &tcp(2, &[]))),
            (
                Kind::Ip,
                6,
                Fragment::Whole,
                PORTS | mark::ICMP_ERROR,
                NO_VLAN,
            ),
        ),
        (
            "an error about an echo request is judged as a reply",
            unreachable(&quoted_by_router(1, &[8, 0, 0, 0, 0, 9, 0, 1])),
            (
                Kind::Ip,
                1,
                Fragment::Whole,
                mark::ICMP_ERROR | mark::ECHO_REPLY,
                NO_VLAN,
            ),
        ),
        (
            "an error about what its receiver did not send is malformed",
            unreachable(&ipv4(6, 0, &[], &tcp(2, &[]))),
            (Kind::Malformed, 1, Fragment::Whole, 0, NO_VLAN),
        ),
        (
            "an error whose quote is too short is an ICMP message",
            unreachable(&quoted_by_router(6, &tcp(2, &[]))[..27]),
            (Kind::Ip, 1, Fragment::Whole, 0, NO_VLAN),
        ),
        (
            "padding is no quote",
            [unreachable(&[]), vec![0x45; 40]].concat(),
            (Kind::Ip, 1, Fragment::Whole, 0, NO_VLAN),
        ),
        (
            "a quote with an impossible header is malformed",
            unreachable(&[&[0x44], &quoted_by_router(17, &udp(&[]))[1..]].concat()),
            (Kind::Malformed, 1, Fragment::Whole, 0, NO_VLAN),
        ),
    ];
    for (what, frame, (kind, protocol, fragment, marks, vlan)) in table {
        let packet = parsed(frame);
        let found = (
            packet.kind,
            packet.protocol,
            packet.fragment,
            packet.marks,
            packet.vlan,
        );
        assert_eq!(
            found,
            (*kind, *protocol, *fragment, *marks, *vlan),
            "{what}"
        );
    }
}

#[test]
fn addresses_ports_and_lengths_are_the_frames() {
    let packet = parsed(&v4(6, &tcp(flag::SYN | flag::ACK, &[])));
    assert_eq!(packet.source, Address::v4(u32::from_be_bytes(ANN)));
    assert_eq!(packet.destination, Address::v4(u32::from_be_bytes(BOB)));
    assert_eq!((packet.source_port, packet.destination_port), (40_000, 443));
    assert_eq!((packet.length, packet.ip_length, packet.ttl), (54, 40, 64));
    assert_eq!(packet.tcp_flags, flag::SYN | flag::ACK);
}

#[test]
fn an_errors_sender_is_its_own_and_all_else_the_quotes_turned_round() {
    let mut frame = unreachable(&quoted_by_router(17, &udp(&[])));
    frame[26..30].copy_from_slice(&[192, 0, 2, 1]);
    let packet = parsed(&frame);
    assert_eq!(
        packet.sender,
        Address::v4(u32::from_be_bytes([192, 0, 2, 1]))
    );
    assert_eq!(packet.source, Address::v4(u32::from_be_bytes(ANN)));
    assert_eq!((packet.source_port, packet.destination_port), (53, 40_000));
}

/// Frames that look like packets more often than chance would have it.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let types = prop::sample::select(vec![
        vec![0x0800],
        vec![0x86dd],
        vec![0x8100, 5, 0x0800],
        vec![0x88a8, 5, 0x8100, 6, 0x86dd],
        vec![0x0806],
    ]);
    let protocols = prop::sample::select(vec![0_u8, 1, 6, 17, 33, 43, 44, 51, 58, 60, 132, 136]);
    let body = prop::collection::vec(any::<u8>(), 0..160);
    (types, protocols, body, any::<bool>(), 0_u16..0x4000).prop_map(
        |(types, protocol, body, regular, fragment)| {
            let fragment = if regular { 0 } else { fragment };
            let packet = if types.contains(&0x86dd) {
                ipv6(protocol, &body)
            } else {
                ipv4(protocol, fragment, &[], &body)
            };
            ethernet(&types, &packet)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 20 } else { 4_000 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_parsed_without_a_panic(frame in prop::collection::vec(any::<u8>(), 0..200), tag in 0_u16..=NO_VLAN) {
        let mut packet = Packet::default();
        parse(&mut Frame::new(&frame), tag, &mut packet);
        prop_assert_eq!(packet.length as usize, frame.len());
    }

    #[test]
    fn a_cut_frame_never_has_ports_that_it_does_not_carry(frame in frames(), cut in any::<prop::sample::Index>()) {
        let cut = &frame[..cut.index(frame.len() + 1)];
        let packet = parsed(cut);
        if packet.kind == Kind::Ip && packet.is(mark::PORTS) && !packet.is(mark::ICMP_ERROR) {
            let at = packet.transport as usize;
            prop_assert!(at + 4 <= cut.len());
            prop_assert_eq!(packet.source_port.to_be_bytes(), [cut[at], cut[at + 1]]);
            prop_assert_eq!(packet.destination_port.to_be_bytes(), [cut[at + 2], cut[at + 3]]);
        }
        if cut.len() < frame.len() && !frame.is_empty() && packet.kind == Kind::Ip {
            // Less is there than the headers say: only a jumbogram takes what there is.
            prop_assert!(packet.is(mark::V6) && packet.ip_length as usize <= cut.len());
        }
    }

    #[test]
    fn a_later_fragment_never_has_ports_or_flags(frame in frames()) {
        let packet = parsed(&frame);
        if packet.fragment == Fragment::Later {
            prop_assert!(!packet.is(mark::PORTS));
            prop_assert_eq!(packet.tcp_flags, 0);
            prop_assert_eq!((packet.source_port, packet.destination_port), (0, 0));
        }
    }

    #[test]
    fn what_stands_behind_the_ip_packet_changes_nothing(frame in frames(), padding in prop::collection::vec(any::<u8>(), 1..60)) {
        let plain = parsed(&frame);
        let length = frame.len();
        let padded = parsed(&[frame, padding].concat());
        let jumbo = plain.is(mark::V6) && plain.ip_length == 40;
        if plain.kind == Kind::Ip && !jumbo {
            prop_assert_eq!(Packet { length: length as u32, ..padded }, plain);
        }
    }
}
