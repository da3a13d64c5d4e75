use firewall_common::Verdict;
use firewall_common::packet::{Frame, NO_VLAN, flag, parse};
use proptest::prelude::*;

use super::*;
use crate::packet_build::PacketBuilder;

const NOW: Time = 1_700_000_000 * SECOND;
const HERE: &str = "2001:db8::1";

fn net(text: &str) -> Subject {
    text.parse().expect("a prefix")
}

/// Address `host` of the /64 that the tests are about.
fn of(host: u64) -> Ipv6Addr {
    address(0x2001_0db8_0007_0000, host)
}

const NETWORK: &str = "2001:db8:7::/64";

/// A SYN of an address to a port, `ago` before [`NOW`].
fn syn(from: Ipv6Addr, port: u16, ago: Time) -> Sighting {
    let to: IpAddr = HERE.parse().expect("an address");
    let packet = PacketBuilder::new(from.into(), to).expect("one family");
    let frame = packet.tcp(40_000, port, flag::SYN).build();
    let mut packet = Packet::default();
    parse(&mut Frame::new(&frame), NO_VLAN, &mut packet);
    Sighting::new(NOW - ago, packet, Class::Contact, &frame)
}

fn banned(sighting: Sighting) -> Sighting {
    Sighting {
        verdict: Verdict::Drop,
        reason: Reason::Ban,
        ..sighting
    }
}

fn shown(sightings: &[Sighting]) -> Addresses {
    let mut addresses = Addresses::default();
    addresses.see(NOW, sightings);
    addresses
}

fn look(addresses: &mut Addresses, kind: AlertKind) -> Option<Look> {
    addresses.look(NOW, kind, &net(NETWORK), Known::default())
}

proptest! {
    #[test]
    fn an_address_is_named_exactly_when_it_has_nearly_all(
        hosts in prop::collection::vec(prop_oneof![9 => Just(1_u64), 1 => 2..6_u64], 8..400),
    ) {
        let sightings: Vec<_> = hosts.iter().map(|host| syn(of(*host), 80, 0)).collect();
        let look = look(&mut shown(&sightings), AlertKind::SynFlood).expect("enough is shown");
        let share = hosts.iter().filter(|host| **host == 1).count() as f64 / hosts.len() as f64;
        match look.leader {
            Some((leader, told)) => {
                prop_assert_eq!(leader, of(1));
                prop_assert!((told - share).abs() < 1e-6 && share >= NEARLY_ALL - 1e-6);
            }
            None => prop_assert!(share < NEARLY_ALL + 1e-6),
        }
        prop_assert_eq!(look.banned, 0.0);
    }

    #[test]
    fn the_memory_stays_bounded_whatever_comes(
        networks in prop::collection::vec((any::<u64>(), any::<u64>()), 1..50),
    ) {
        let batch: Vec<_> = networks
            .iter()
            .cycle()
            .take(2_000)
            .map(|(network, host)| syn(address(*network, *host), 80, 0))
            .collect();
        let mut addresses = Addresses::default();
        for _ in 0..10 {
            addresses.see(NOW, &batch);
            for sighting in &batch {
                addresses.blame(NOW, AlertKind::BruteForce, sighting.sender());
            }
            prop_assert!(addresses.seen.len() <= SEEN && addresses.blamed.len() <= BLAMED);
        }
    }
}

#[test]
fn packets_that_speak_for_many_by_chance_do_not_decide() {
    // One good packet came behind a thousand that were not shown.
    let mut sightings: Vec<_> = (0..99).map(|_| syn(of(1), 80, 0)).collect();
    let mut good = syn(of(2), 80, 0);
    good.packets = 1_000;
    sightings.push(good);
    let look = look(&mut shown(&sightings), AlertKind::SynFlood).expect("enough is shown");
    assert_eq!(look.leader.map(|(leader, _)| leader), Some(of(1)));
}

#[test]
fn a_scan_is_told_by_what_is_tried_and_not_by_how_often() {
    // An office goes to one web server all the time; one address tries a hundred ports.
    let office = (0..500).map(|number| syn(of(10 + number % 5), 443, 0));
    let scan = (1..=100).map(|port| syn(of(1), port, 0));
    let sightings: Vec<_> = office.chain(scan).collect();
    let mut addresses = shown(&sightings);
    let leader = look(&mut addresses, AlertKind::PortScan).and_then(|look| look.leader);
    assert_eq!(leader.map(|(leader, _)| leader), Some(of(1)));
    let flood = look(&mut addresses, AlertKind::SynFlood).expect("enough is shown");
    assert_eq!(flood.leader, None);
}

#[test]
fn tries_in_vain_say_more_than_packets() {
    let office: Vec<_> = (0..500).map(|n| syn(of(10 + n % 5), n as u16, 0)).collect();
    let mut addresses = shown(&office);
    for _ in 0..FEW_TRIES {
        addresses.blame(NOW, AlertKind::PortScan, of(1).into());
    }
    for kind in [AlertKind::PortScan, AlertKind::HostSweep] {
        let look = look(&mut addresses, kind).expect("enough is known");
        assert_eq!(look.leader, Some((of(1), 1.0)));
    }
    assert_eq!(look(&mut addresses, AlertKind::BruteForce), None);
}

#[test]
fn what_is_banned_already_is_told_apart_from_what_is_not() {
    let first = (0..60).map(|_| banned(syn(of(1), 80, 0)));
    let second = (0..40).map(|_| syn(of(2), 80, 0));
    let sightings: Vec<_> = first.chain(second).collect();
    let mut addresses = shown(&sightings);
    let look = addresses
        .look(
            NOW,
            AlertKind::SynFlood,
            &net(NETWORK),
            Known {
                address: Some(of(1)),
                is_banned: false,
            },
        )
        .expect("enough is shown");
    assert_eq!(look.leader, Some((of(2), 1.0)));
    assert!((look.banned - 0.6).abs() < 1e-6 && look.passed, "{look:?}");
}

#[test]
fn a_64_that_is_banned_as_a_whole_still_shows_who_it_is() {
    let dropped = (0..60).map(|_| banned(syn(of(1), 80, 0)));
    let others = (0..4).map(|_| banned(syn(of(2), 80, 0)));
    let mut addresses = shown(&dropped.chain(others).collect::<Vec<_>>());
    for (is_banned, leader) in [(true, Some(of(1))), (false, None)] {
        let known = Known {
            address: None,
            is_banned,
        };
        let look = addresses.look(NOW, AlertKind::SynFlood, &net(NETWORK), known);
        let told = look.and_then(|look| look.leader);
        assert_eq!(told.map(|(address, _)| address), leader);
    }
}

#[test]
fn a_few_packets_and_old_ones_name_nobody() {
    let few: Vec<_> = (1..FEW_PACKETS).map(|_| syn(of(1), 80, 0)).collect();
    assert_eq!(look(&mut shown(&few), AlertKind::SynFlood), None);
    let old: Vec<_> = (0..100).map(|_| syn(of(1), 80, 10 * SECOND)).collect();
    assert_eq!(look(&mut shown(&old), AlertKind::SynFlood), None);
    assert!(look(&mut shown(&old), AlertKind::TrafficSpike).is_none());
}

#[test]
fn only_a_whole_64_is_looked_into() {
    let sightings: Vec<_> = (0..100).map(|_| syn(of(1), 80, 0)).collect();
    let mut addresses = shown(&sightings);
    for other in ["host", "203.0.113.7", "2001:db8:7::/48", "2001:db8:8::/64"] {
        let look = addresses.look(NOW, AlertKind::SynFlood, &net(other), Known::default());
        assert_eq!(look, None, "{other}");
    }
    assert!(look(&mut addresses, AlertKind::SynFlood).is_some());
}
