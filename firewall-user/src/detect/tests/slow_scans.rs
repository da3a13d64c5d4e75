//! Scans that take their time, told from clients that fail: the threshold random walk.

use firewall_common::Direction;
use firewall_common::packet::flag;

use super::scene::SECOND;
use super::wire::*;
use crate::detect::*;
use crate::packet_build::PacketBuilder;

const MINUTE: Time = 60 * SECOND;

#[test]
fn a_scan_of_a_port_a_minute_is_found_at_its_fifth_failure_and_is_one_alert() {
    for inbound in ["accept", "drop"] {
        let mut wire = Wire::new(inbound);
        let began = wire.now;
        for port in 0..20 {
            if inbound == "accept" {
                wire.knock(visitor(7), host(), 1_000 + port * 7);
            } else {
                wire.knock_in_vain(visitor(7), host(), 1_000 + port * 7);
            }
            wire.run(60.0);
        }
        let alert = wire.expect_one(AlertKind::PortScan, "203.0.113.7");
        assert!(alert.detected - began <= 4 * MINUTE + 10 * SECOND);
        wire.run(1_000.0);
        assert_eq!(wire.detector.active().count(), 0);
    }
}

#[test]
fn a_slow_sweep_of_neighbouring_hosts_is_found() {
    for (client, prefix) in [
        ("203.0.113.7", "198.51.100."),
        ("2001:db8:7::7", "2001:db8::"),
    ] {
        let mut wire = Wire::new("drop");
        for last in 1..9 {
            let target = format!("{prefix}{last}").parse().unwrap();
            wire.knock_in_vain(client.parse().unwrap(), target, 22);
            wire.run(30.0);
        }
        wire.expect_one(AlertKind::HostSweep, client);
    }
}

#[test]
fn a_peer_that_tries_scattered_hosts_in_vain_is_no_sweeper() {
    let mut wire = Wire::new("accept");
    for peer in 0..60_u8 {
        let target = [100 + peer / 2, peer.wrapping_mul(37), peer, 9].into();
        wire.knock(visitor(7), target, 6_346);
        wire.run(1.0);
    }
    assert_eq!(wire.fired(), []);
}

#[test]
fn segments_that_no_connection_has_are_a_scan_also_when_nobody_answers() {
    for flags in [0, flag::FIN, flag::FIN | flag::PSH | flag::URG] {
        let mut wire = Wire::new("accept");
        for port in 0..6 {
            let source = (visitor(7), 51_000);
            let ends = [source, (host(), 3_000 + port)];
            let probe = Wire::segment(ends, flags, [1, 0], 50);
            wire.send(0, Direction::Inbound, probe);
            wire.run(45.0);
        }
        wire.expect_one(AlertKind::PortScan, "203.0.113.7");
    }
}

#[test]
fn a_slow_scan_with_acks_is_found_by_what_the_host_refuses() {
    let mut wire = Wire::new("accept");
    for port in 0..30 {
        let (source, target) = ((visitor(7), 51_000), (host(), 3_000 + port));
        let probe = Wire::segment([source, target], flag::ACK, [1, 900], 50);
        let refusal = Wire::segment([target, source], flag::RST, [900, 0], 64);
        wire.send(0, Direction::Inbound, probe);
        wire.send(1_000, Direction::Outbound, refusal);
        wire.run(60.0);
    }
    wire.expect_one(AlertKind::PortScan, "203.0.113.7");
}

#[test]
fn a_slow_scan_of_datagrams_and_protocols_is_found() {
    let probe = |number: u8, udp: bool| {
        let packet = PacketBuilder::new(visitor(7), host()).unwrap();
        if udp {
            packet.udp(51_000, 100 + u16::from(number)).payload(b"?")
        } else {
            packet.protocol(180 + number).payload(b"?")
        }
    };
    for udp in [true, false] {
        let mut wire = Wire::new("drop");
        // Protocols say less: a tunnel that is not let in is no scan.
        for number in 0..if udp { 8 } else { 20 } {
            let frame = probe(number, udp).build();
            wire.send(0, Direction::Inbound, frame);
            wire.run(60.0);
        }
        wire.expect_one(AlertKind::PortScan, "203.0.113.7");
    }
}

#[test]
fn a_client_that_goes_on_trying_what_is_down_is_no_scanner() {
    let mut wire = Wire::new("accept");
    for _ in 0..200 {
        for port in [80, 443, 8_080] {
            wire.knock(visitor(7), host(), port);
        }
        wire.run(5.0);
    }
    assert_eq!(wire.fired(), []);
}

#[test]
fn monitoring_of_services_that_all_stop_is_no_scan() {
    let mut wire = Wire::new("accept");
    let ports = [21, 22, 25, 80, 110, 143, 443, 3_306];
    for port in ports {
        wire.talk(0, &Talk::new(visitor(7), port, 100, 200, SECOND / 10));
    }
    wire.run(60.0);
    for _ in 0..20 {
        for port in ports {
            wire.knock(visitor(7), host(), port);
        }
        wire.run(30.0);
    }
    assert_eq!(wire.fired(), []);
}

#[test]
fn an_ftp_client_whose_data_connections_fail_is_no_scanner() {
    let mut wire = Wire::new("accept");
    let mut control = Talk::new(visitor(7), 21, 300, 900, SECOND);
    control.lasts = None;
    wire.talk(0, &control);
    wire.run(5.0);
    for port in 0..12 {
        wire.knock(visitor(7), host(), 50_000 + port * 3);
        wire.run(20.0);
    }
    assert_eq!(wire.fired(), []);
}

#[test]
fn a_traceroute_is_no_scan() {
    let mut wire = Wire::new("drop");
    for port in 33_434..33_449 {
        let packet = PacketBuilder::new(visitor(7), host()).unwrap();
        let frame = packet.udp(51_000, port).payload(&[0; 32]).build();
        wire.send(0, Direction::Inbound, frame);
        wire.run(0.25);
    }
    wire.run(10.0);
    assert_eq!(wire.fired(), []);
}

#[test]
fn open_ports_that_are_only_looked_at_do_not_excuse_a_scan() {
    let mut wire = Wire::new("accept");
    for port in [80, 443, 22, 25] {
        let ends = [(visitor(7), wire.fresh_port()), (host(), port)];
        let back = [ends[1], ends[0]];
        let frames = [
            (
                Direction::Inbound,
                Wire::segment(ends, flag::SYN, [9, 0], 50),
            ),
            (
                Direction::Outbound,
                Wire::segment(back, flag::SYN | flag::ACK, [70, 10], 64),
            ),
            (
                Direction::Inbound,
                Wire::segment(ends, flag::RST, [10, 0], 50),
            ),
        ];
        for (step, (direction, frame)) in frames.into_iter().enumerate() {
            wire.send(step as Time * 1_000_000, direction, frame);
        }
        wire.run(20.0);
    }
    for port in [3_389, 445, 5_900, 1_433, 6_379] {
        wire.knock(visitor(7), host(), port);
        wire.run(20.0);
    }
    wire.expect_one(AlertKind::PortScan, "203.0.113.7");
}

#[test]
fn a_flood_of_forged_contacts_does_not_hide_a_slow_scan_that_was_under_way() {
    let mut wire = Wire::new("drop");
    for port in 0..3 {
        wire.knock_in_vain(visitor(7), host(), 2_000 + port);
        wire.run(30.0);
    }
    for flood in 0..40_000_u32 {
        let forged = std::net::Ipv4Addr::from(0x0b00_0000 + flood.wrapping_mul(7_919) % 9_000);
        wire.knock_in_vain(forged.into(), host(), 443 + (flood % 5) as u16);
        if flood % 250 == 0 {
            wire.run(0.25);
        }
    }
    wire.run(60.0);
    for port in 0..4 {
        wire.knock_in_vain(visitor(7), host(), 5_000 + port);
        wire.run(30.0);
    }
    let scans: Vec<_> = wire
        .fired()
        .into_iter()
        .filter(|(kind, subject)| *kind == AlertKind::PortScan && subject == "203.0.113.7")
        .collect();
    assert_eq!(scans.len(), 1);
}

#[test]
fn a_gap_and_a_clock_set_back_make_no_scan_of_contacts_that_were_never_answered() {
    let mut wire = Wire::new("accept");
    wire.talk(0, &Talk::new(visitor(9), 80, 100, 100, SECOND));
    wire.run(5.0);
    for port in 0..30 {
        wire.knock_in_vain(visitor(7), host(), 8_000 + port);
    }
    // Their answers would have come, had anybody looked.
    wire.run(0.25);
    assert_eq!(wire.fired().len(), 1, "the ports of a moment are a scan");
    wire.changes.clear();
    wire.now -= 1_000 * SECOND;
    wire.look();
    wire.run(20.0);
    assert_eq!(wire.fired(), []);
}
