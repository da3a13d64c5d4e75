use firewall_common::packet::{self, NO_VLAN, Packet};
use firewall_common::sampling::Class;

use super::*;
use crate::detect::{AlertState, Severity};
use crate::packet_build::PacketBuilder;

const SECOND: Time = 1_000_000_000;

fn seen(time: Time, frame: &[u8], speaks_for: u64) -> Sighting {
    let mut parsed = Packet::default();
    packet::parse(&mut packet::Frame::new(frame), NO_VLAN, &mut parsed);
    let mut sighting = Sighting::new(time, parsed, Class::Contact, frame);
    sighting.packets = speaks_for;
    sighting.bytes = speaks_for * frame.len() as u64;
    sighting
}

fn syn(time: Time, from: &str, port: u16) -> Sighting {
    let to = if from.contains(':') {
        "2001:db8::1"
    } else {
        "198.51.100.1"
    };
    let frame = PacketBuilder::new(from.parse().unwrap(), to.parse().unwrap())
        .unwrap()
        .tcp(40_000, port, flag::SYN)
        .build();
    seen(time, &frame, 10)
}

fn alert(kind: AlertKind, subject: &str, started: Time, detected: Time) -> Alert {
    Alert {
        id: 1,
        kind,
        subject: subject.parse().unwrap(),
        severity: Severity::Warning,
        state: AlertState::Firing,
        started,
        detected,
        ended: None,
        observed: 1.0,
        expected: 1.0,
        unit: String::new(),
        why: String::new(),
        evidence: Map::new(),
        response: Vec::new(),
        incident: None,
    }
}

#[test]
fn a_scan_is_told_by_its_ports_from_before_it_was_noticed_on() {
    for (scanner, subject) in [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:7::9", "2001:db8:7::/64"),
    ] {
        let mut witness = Witness::with_frames(1 << 20);
        let mut packets = vec![syn(SECOND, scanner, 443)];
        packets.extend((0..20).map(|port| syn(11 * SECOND, scanner, 1_000 + port)));
        packets.push(syn(11 * SECOND, "203.0.113.99", 80));
        witness.see(12 * SECOND, &packets);
        let scan = alert(AlertKind::PortScan, subject, 11 * SECOND, 12 * SECOND);
        witness.open(5, &scan);
        witness.see(13 * SECOND, &[syn(13 * SECOND, scanner, 2_000)]);
        let evidence = witness.describe(5).unwrap();
        assert_eq!(evidence["sampled"], 21);
        assert_eq!(evidence["packets"], 210);
        assert_eq!(evidence["top_sources"][0]["share"], 1.0);
        assert_eq!(evidence["ports"].as_array().unwrap().len(), 10);
        assert_eq!(evidence["flags"][0]["flags"], "syn");
        assert_eq!(
            evidence["before"]["packets_per_second"], 1.0,
            "{evidence:#}"
        );
        assert_eq!(evidence["before"]["seconds"], 10.0);
        assert_eq!(evidence["during"]["packets_per_second"], 105.0);
        let frames = witness.frames();
        assert_eq!((frames.len(), frames[0].1.len()), (1, 22), "{scanner}");
        assert!(witness.frames().is_empty(), "each is handed out once");
    }
}

#[test]
fn a_flood_on_the_host_is_told_by_its_sources_and_nothing_else_of_the_host() {
    let mut witness = Witness::default();
    witness.open(5, &alert(AlertKind::SynFlood, "host", 0, SECOND));
    let mut packets: Vec<_> = (0..200_u8)
        .map(|last| syn(SECOND, &format!("203.0.113.{last}"), 443))
        .collect();
    packets.extend((0..50).map(|_| syn(SECOND, "198.51.100.66", 443)));
    let answer = PacketBuilder::new(
        "203.0.113.1".parse().unwrap(),
        "198.51.100.1".parse().unwrap(),
    )
    .unwrap()
    .tcp(443, 40_000, flag::ACK)
    .build();
    packets.push(seen(SECOND, &answer, 1_000));
    witness.see(SECOND, &packets);
    let evidence = witness.describe(5).unwrap();
    assert_eq!(evidence["packets"], 2_500);
    assert_eq!(evidence["top_sources"][0]["source"], "198.51.100.66");
    assert_eq!(evidence["ports"][0]["port"], 443);
    assert!(witness.frames().is_empty(), "nobody asked for packets");
}

#[test]
fn an_alert_about_a_prefix_is_told_by_the_packets_of_all_of_it() {
    for (prefix, inside, outside) in [
        ("203.0.113.0/24", "203.0.113.200", "203.0.112.200"),
        ("2001:db8:7::/48", "2001:db8:7:9::1", "2001:db8:8:9::1"),
    ] {
        let mut witness = Witness::default();
        witness.open(5, &alert(AlertKind::BruteForce, prefix, 0, SECOND));
        witness.see(SECOND, &[syn(SECOND, inside, 22), syn(SECOND, outside, 22)]);
        let evidence = witness.describe(5).unwrap();
        assert_eq!(evidence["packets"], 10, "{prefix}: {evidence:#}");
    }
}

#[test]
fn packets_that_are_handed_out_stay_within_the_cap() {
    let mut witness = Witness::with_frames(1_000);
    witness.open(5, &alert(AlertKind::PortScan, "203.0.113.7", 0, SECOND));
    for second in 1..100 {
        witness.see(second * SECOND, &[syn(second * SECOND, "203.0.113.7", 80)]);
    }
    let bytes: usize = witness
        .frames()
        .iter()
        .flat_map(|(_, frames)| frames)
        .map(|frame| frame.bytes.len() + 16)
        .sum();
    assert!((900..=1_000).contains(&bytes), "{bytes}");
}

#[test]
fn an_incident_that_is_over_gathers_no_more() {
    let mut witness = Witness::default();
    witness.open(5, &alert(AlertKind::PortScan, "203.0.113.7", 0, SECOND));
    witness.see(SECOND, &[syn(SECOND, "203.0.113.7", 80)]);
    witness.close(5);
    witness.see(2 * SECOND, &[syn(2 * SECOND, "203.0.113.7", 81)]);
    assert_eq!(witness.describe(5).unwrap()["sampled"], 1);
    witness.forget(5);
    assert_eq!(witness.describe(5), None);
}

#[test]
fn memory_stays_bounded() {
    let mut witness = Witness::default();
    for round in 0..20_u64 {
        let now = round * SECOND;
        let packets: Vec<_> = (0..1_000)
            .map(|n| syn(now, &format!("203.0.{}.{}", n / 250, n % 250), 80))
            .collect();
        witness.see(now, &packets);
    }
    assert_eq!(witness.recent.len(), MOST_REMEMBERED);
    witness.see(1_000 * SECOND, &[]);
    assert!(witness.recent.is_empty(), "what is old is forgotten");
}
