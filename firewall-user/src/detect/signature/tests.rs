//! Synthetic mixtures: is the true signature found, and is ordinary traffic spared?

use std::path::Path;

use firewall_common::packet::{self, Frame, NO_VLAN, Packet, flag, mark, protocol};
use firewall_common::sampling::Class;
use firewall_common::{Address, Direction, Reason, Verdict};
use proptest::prelude::*;

use super::condition::{conditions, exact_flags};
use super::*;
use crate::detect::Sighting;
use crate::engine::HostEngine;
use crate::packet_build::PacketBuilder;
use crate::policy::{Environment, Policy};

const LIMITS: Limits = Limits { collateral: 0.01 };

/// Numbers that only look like chance.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }

    fn source(&mut self) -> Address {
        // The ordinary Internet is not spread evenly.
        let network =
            [0x0b00_0000_u32, 0x5d00_0000, 0xb900_0000, 0xc600_0000][self.below(4) as usize];
        Address::v4(network | self.below(1 << 22) as u32)
    }
}

fn tcp(dice: &mut Dice, port: u16, flags: u8, length: u32, ttl: u8, window: u16) -> Packet {
    Packet {
        source: dice.source(),
        ip_length: length,
        protocol: protocol::TCP,
        tcp_flags: flags,
        tcp_window: window,
        ttl,
        source_port: 1_024 + dice.below(64_000) as u16,
        destination_port: port,
        marks: mark::PORTS,
        ..Packet::default()
    }
}

/// A datagram.
fn udp(dice: &mut Dice, ports: (u16, u16), ttl: u8, payload: &[u8], length: u32) -> Specimen {
    let packet = Packet {
        source: dice.source(),
        ip_length: 28 + length,
        payload: 8 + length,
        transport: 0,
        protocol: protocol::UDP,
        ttl,
        source_port: ports.0,
        destination_port: ports.1,
        marks: mark::PORTS,
        ..Packet::default()
    };
    Specimen::new(0, 1.0, &packet, payload)
}

fn of(packet: &Packet) -> Specimen {
    Specimen::new(0, 1.0, packet, &[])
}

/// One visitor: mostly the shop, some DNS, some mail, a little administration.
fn visitor(dice: &mut Dice) -> Specimen {
    let ttl = dice.of(&[44, 47, 49, 50, 51, 52, 53, 54, 56, 108, 113, 115, 117, 240]);
    match dice.below(100) {
        0..70 => {
            let length = dice.of(&[60, 60, 60, 52, 52, 64, 48]);
            let window = dice.of(&[64_240, 65_535, 29_200, 64_240, 8_192]);
            let port = dice.of(&[443, 443, 443, 80]);
            of(&tcp(dice, port, flag::SYN, length, ttl, window))
        }
        70..95 => {
            let name = 20 + dice.below(40) as u32;
            let id = dice.below(65_536) as u16;
            let [high, low] = id.to_be_bytes();
            let query = [high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 3, b'w', b'w', b'w'];
            let port = 1_024 + dice.below(64_000) as u16;
            udp(dice, (port, 53), ttl, &query, 16 + name)
        }
        95..99 => of(&tcp(dice, 25, flag::SYN, 60, ttl, 64_240)),
        _ => of(&tcp(dice, 22, flag::SYN, 60, ttl, 64_240)),
    }
}

fn visitors(number: usize, seed: u64) -> Vec<Specimen> {
    let mut dice = Dice(seed);
    (0..number).map(|_| visitor(&mut dice)).collect()
}

/// `flood` with one visitor among nine of its packets.
fn mixed(number: usize, mut flood: impl FnMut(&mut Dice) -> Specimen) -> Vec<Specimen> {
    let mut dice = Dice(77);
    let flooded = (0..number).map(|_| flood(&mut dice)).collect::<Vec<_>>();
    let mut all = visitors(number / 9, 99);
    all.extend(flooded);
    all
}

fn found(attack: &[Specimen], ordinary: &[Specimen]) -> Signature {
    let material = Material {
        attack,
        ordinary,
        expected: attack.len() as f64 / 10.0,
        among: attack.len() as f64 / 10.0,
    };
    match search(material, LIMITS) {
        Search::Found(signature) => signature,
        Search::Alike(best) => panic!("nothing found; the best is {best:?}"),
    }
}

/// The shares of fresh flood and fresh visitors that a signature hits.
fn hits(signature: &Signature, flood: &[Specimen], visitors: &[Specimen]) -> (f64, f64) {
    let share = |set: &[Specimen]| {
        let fit = set.iter().filter(|specimen| signature.fits(specimen));
        fit.count() as f64 / set.len() as f64
    };
    (share(flood), share(visitors))
}

fn forged_syn(dice: &mut Dice) -> Specimen {
    let ttl = 30 + dice.below(200) as u8;
    of(&tcp(dice, 443, flag::SYN, 40, ttl, 512))
}

#[test]
fn a_syn_flood_on_the_shop_is_told_from_the_shop_s_visitors() {
    let signature = found(&mixed(900, forged_syn), &visitors(3_000, 5));
    assert!(signature.harmless, "{signature:?}");
    let mut dice = Dice(123);
    let flood: Vec<_> = (0..1_000).map(|_| forged_syn(&mut dice)).collect();
    let (flood, visitors) = hits(&signature, &flood, &visitors(5_000, 6));
    assert_eq!(flood, 1.0, "{}", signature.in_words());
    assert_eq!(visitors, 0.0, "{}", signature.in_words());
    assert!(signature.coverage > 0.97, "{signature:?}");
    assert!(signature.conditions.len() <= 3, "{}", signature.in_words());
}

#[test]
fn a_flood_of_queries_is_told_by_its_payload_or_length_and_other_queries_are_spared() {
    let query = |dice: &mut Dice| {
        let port = 1_024 + dice.below(64_000) as u16;
        let ttl = 30 + dice.below(200) as u8;
        udp(
            dice,
            (port, 53),
            ttl,
            b"\xde\xad\x01\x00\x00\x01\x00\x00",
            37,
        )
    };
    let signature = found(&mixed(900, query), &visitors(3_000, 5));
    assert!(signature.harmless, "{signature:?}");
    let (_, visitors) = hits(&signature, &[], &visitors(5_000, 6));
    assert!(visitors < 0.01, "{visitors}: {}", signature.in_words());
}

#[test]
fn replies_of_time_servers_are_told_by_the_port_they_come_from() {
    let reply = |dice: &mut Dice| {
        let port = dice.below(65_536) as u16;
        let ttl = 40 + dice.below(80) as u8;
        udp(dice, (123, port), ttl, b"\xd7\x00\x03\x2a", 440)
    };
    let signature = found(&mixed(900, reply), &visitors(3_000, 5));
    assert!(
        signature.harmless && signature.coverage > 0.97,
        "{signature:?}"
    );
    assert!(signature.conditions.len() <= 3, "{}", signature.in_words());
}

#[test]
fn a_flood_that_looks_like_visitors_has_no_signature() {
    let material = Material {
        attack: &visitors(2_000, 31),
        ordinary: &visitors(3_000, 5),
        expected: 200.0,
        among: 200.0,
    };
    let outcome = search(material, LIMITS);
    assert!(matches!(outcome, Search::Alike(_)), "{outcome:?}");
}

/// Visitors whose ports of today are none of yesterday's, and hardly more of them than are expected.
#[test]
fn what_fits_far_more_than_was_too_much_is_not_harmless() {
    let visits = |ports: std::ops::Range<u64>, seed: u64| {
        let mut dice = Dice(seed);
        let visit = |_| {
            let mut packet = tcp(&mut dice, 443, flag::SYN, 60, 52, 64_240);
            packet.source_port = (ports.start + dice.below(ports.end - ports.start)) as u16;
            of(&packet)
        };
        (0..600).map(visit).collect::<Vec<_>>()
    };
    let (attack, ordinary) = (visits(38_000..47_000, 3), visits(20_000..37_000, 4));
    for expected in [540.0, 590.0, 700.0] {
        let material = Material {
            attack: &attack,
            ordinary: &ordinary,
            expected,
            among: expected,
        };
        let searches = search_all(material, LIMITS, 3);
        assert!(!searches.is_empty());
        for search in searches {
            if let Search::Found(signature) = search {
                assert!(signature.excessive && !signature.harmless, "{signature:?}");
                assert!(signature.coverage <= 1.0, "{signature:?}");
            }
        }
    }
}

#[test]
fn what_would_cut_a_whole_service_off_is_not_harmless_however_small_the_service() {
    // Administration is 1 % of all visits: few enough for the share, but all of that service.
    let login = |dice: &mut Dice| {
        let ttl = dice.of(&[44, 47, 49, 50, 51, 52, 53, 54, 56, 108, 113, 115, 117, 240]);
        of(&tcp(dice, 22, flag::SYN, 60, ttl, 64_240))
    };
    let material = Material {
        attack: &mixed(900, login),
        ordinary: &visitors(4_000, 5),
        expected: 100.0,
        among: 100.0,
    };
    let outcome = search(material, Limits { collateral: 0.05 });
    let (Search::Found(signature) | Search::Alike(Some(signature))) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(!signature.harmless, "{signature:?}");
    let (service, share) = signature.worst.expect("a service that suffers");
    assert_eq!(service.port, Some(22));
    assert!(share.share > 0.9, "{share:?}");
}

#[test]
fn few_ordinary_packets_promise_nothing() {
    let signature = found(&mixed(900, forged_syn), &visitors(20, 5));
    assert!(!signature.harmless, "{signature:?}");
    assert!(signature.collateral.at_most > 0.05);
    let unknown = found(&mixed(900, forged_syn), &[]);
    assert!(!unknown.harmless && unknown.collateral.at_most == 1.0);
}

#[test]
fn a_flood_of_two_kinds_has_two_signatures() {
    let both = |dice: &mut Dice| {
        if dice.below(10) < 6 {
            forged_syn(dice)
        } else {
            let ttl = 40 + dice.below(80) as u8;
            let port = dice.below(65_536) as u16;
            udp(dice, (1_900, port), ttl, b"HTTP/1.1 200 OK\r", 300)
        }
    };
    let attack = mixed(1_200, both);
    let material = Material {
        attack: &attack,
        ordinary: &visitors(3_000, 5),
        expected: 120.0,
        among: 120.0,
    };
    let outcomes = search_all(material, LIMITS, 3);
    let signatures: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Search::Found(signature) => Some(signature),
            Search::Alike(_) => None,
        })
        .collect();
    assert_eq!(signatures.len(), 2, "{outcomes:#?}");
    let covered: f64 = signatures.iter().map(|signature| signature.coverage).sum();
    assert!(covered > 0.95, "{signatures:?}");
    assert!(signatures.iter().all(|signature| signature.harmless));
}

#[test]
fn a_flood_from_one_network_may_be_told_by_it() {
    let inside = |dice: &mut Dice| {
        let mut packet = tcp(dice, 443, flag::SYN, 60, 53, 64_240);
        packet.source = Address::v4(0x5d_77_08_00 | dice.below(256) as u32);
        packet.ttl = dice.of(&[49, 50, 51, 52, 53, 54, 56]);
        packet.ip_length = dice.of(&[60, 52, 64]);
        packet.tcp_window = dice.of(&[64_240, 65_535, 29_200]);
        of(&packet)
    };
    let signature = found(&mixed(900, inside), &visitors(3_000, 5));
    let network: ipnet::IpNet = "93.119.8.0/24".parse().unwrap();
    assert!(
        signature.conditions.contains(&Condition::From(network)),
        "{}",
        signature.in_words()
    );
    assert!(signature.harmless);
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        (0_u16..4, 0_u16..4).prop_map(|(a, b)| Condition::Port(50 + a.min(b), 50 + a.max(b))),
        (0_u16..4, 0_u16..4).prop_map(|(a, b)| Condition::FromPort(50 + a.min(b), 50 + a.max(b))),
        (38_u16..50, 38_u16..50).prop_map(|(a, b)| Condition::Length(a.min(b), a.max(b))),
        (62_u8..66, 62_u8..66).prop_map(|(a, b)| Condition::Ttl(a.min(b), a.max(b))),
        any::<bool>().prop_map(Condition::Fragment),
        prop::sample::select(vec!["198.51.100.0/25", "0.0.0.0/0", "2001:db8::/32"])
            .prop_map(|prefix| Condition::From(prefix.parse().unwrap())),
        prop::collection::vec(prop::option::of(0x41_u8..0x43), 1..4)
            .prop_filter("some byte", |bytes| bytes.iter().any(Option::is_some))
            .prop_map(Condition::Payload),
    ]
}

fn protocol_conditions() -> impl Strategy<Value = Vec<Condition>> {
    prop_oneof![
        Just(vec![Condition::Protocol(protocol::UDP)]),
        Just(vec![Condition::Protocol(protocol::TCP)]),
        Just(vec![
            Condition::Protocol(protocol::TCP),
            exact_flags(flag::SYN)
        ]),
        (500_u16..600).prop_map(|low| vec![
            Condition::Protocol(protocol::TCP),
            Condition::TcpWindow(low, 600)
        ]),
        Just(vec![
            Condition::Protocol(protocol::ICMP),
            Condition::IcmpType(8)
        ]),
        Just(vec![
            Condition::Protocol(protocol::ICMPV6),
            Condition::IcmpType(128)
        ]),
    ]
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let what = (0..5_u8, any::<bool>(), 50_u16..54, 50_u16..54, 62_u8..66);
    let more = (
        prop::collection::vec(0x41_u8..0x43, 0..20),
        0..2_u8,
        0_u8..8,
        590_u16..610,
    );
    (what, more).prop_map(
        |((kind, v6, from, to, ttl), (payload, fragment, low, window))| {
            let (source, us) = if v6 {
                (format!("2001:db8::{low}"), "2001:db8:1::1")
            } else {
                (format!("198.51.100.{}", 124 + low), "203.0.113.5")
            };
            let mut builder = PacketBuilder::new(source.parse().unwrap(), us.parse().unwrap())
                .unwrap()
                .ttl(ttl)
                .payload(&payload);
            builder = match kind {
                0 => builder.udp(from, to),
                1 => builder.tcp(from, to, flag::SYN).tcp_window(window),
                2 => builder.tcp(from, to, flag::SYN | flag::ACK),
                3 => builder.icmp(if v6 { 128 } else { 8 }, 0, [0, 1, 0, 1]),
                _ => builder.icmp(if v6 { 8 } else { 128 }, 0, [0, 1, 0, 1]),
            };
            if fragment == 1 {
                builder = builder.fragment(0, false);
            }
            builder.build()
        },
    )
}

fn engine(rules: &str) -> HostEngine {
    let text = format!(
        "version = 1\n[defaults]\ninbound = \"accept\"\n[protect]\nnever_block = [\"198.51.100.126\"]\n{rules}"
    );
    let policy = Policy::parse(&text, "policy.toml", Path::new("/"))
        .expect("a policy")
        .0;
    HostEngine::new(policy.compile(&Environment::default()).expect("compiles"))
}

proptest! {
    #[test]
    fn a_signature_in_force_drops_what_the_rule_that_it_is_told_as_would(
        protocol in protocol_conditions(),
        more in prop::collection::vec(condition(), 0..3),
        frames in prop::collection::vec(frame(), 1..40),
    ) {
        let mut all = protocol;
        for condition in more {
            let icmp = matches!(
                all[0],
                Condition::Protocol(protocol::ICMP | protocol::ICMPV6)
            );
            let ports = matches!(condition, Condition::Port(..) | Condition::FromPort(..));
            let v6 = all[0] == Condition::Protocol(protocol::ICMPV6);
            let other_family = match &condition {
                Condition::From(prefix) => icmp && (prefix.addr().is_ipv6() != v6),
                _ => false,
            };
            if all.iter().all(|known| known.field() != condition.field())
                && !(icmp && ports)
                && !other_family
            {
                all.push(condition);
            }
        }
        let mut by_rule = engine(&rule_text("told", &all, "a flood", None));
        let mut by_signature = engine("");
        let mut table = firewall_common::signature::SignatureTable::EMPTY;
        table.slots[1].until = u64::MAX;
        table.slots[1].conditions = conditions(&all);
        by_signature.set_signatures(table);
        for frame in frames {
            let rule = by_rule.judge(&frame, Direction::Inbound, 1).judgement;
            let judged = by_signature.judge(&frame, Direction::Inbound, 1);
            let signature = judged.judgement;
            prop_assert_eq!(rule.verdict, signature.verdict, "{:?} {:?}", all, judged.packet);
            if signature.verdict == Verdict::Drop && rule.reason == Reason::Rule {
                prop_assert_eq!(signature.reason, Reason::Signature);
            }
            // And the search counts it as the kernel does.
            let mut parsed = Packet::default();
            packet::parse(&mut Frame::new(&frame), NO_VLAN, &mut parsed);
            let sighting = Sighting::new(0, parsed, Class::Contact, &frame);
            let specimen = Specimen::sighted(&sighting, 1.0);
            if signature.reason == Reason::Signature {
                prop_assert!(conditions(&all).meet(&specimen.shown));
            }
        }
    }
}
