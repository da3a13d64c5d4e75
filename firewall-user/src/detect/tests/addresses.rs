//! Single addresses inside an IPv6 /64: a bad one among good ones, and an attack by all of them.

use std::net::IpAddr;

use super::wire::{Talk, Wire};
use crate::detect::*;

const SECOND: Time = 1_000_000_000;

fn server() -> IpAddr {
    "2001:db8::1".parse().unwrap()
}

/// An address of the /64 of an office.
fn desk(number: u16) -> IpAddr {
    format!("2001:db8:7::{number:x}").parse().unwrap()
}

/// Visits of a desk to the web server, a page each.
fn visit(wire: &mut Wire, desk: IpAddr, times: u64) {
    for time in 0..times {
        let talk = Talk {
            server: server(),
            ..Talk::new(desk, 443, 1_500, 40_000, SECOND / 4)
        };
        wire.talk(time * SECOND / 2, &talk);
    }
}

#[test]
fn one_scanner_in_an_office_is_named_and_not_the_office() {
    let mut wire = Wire::new("accept");
    for number in 10..20 {
        visit(&mut wire, desk(number), 10);
    }
    wire.run(2.0);
    for port in 1..=60 {
        wire.knock(desk(0xbad), server(), port);
    }
    wire.run(5.0);
    let alert = wire.expect_one(AlertKind::PortScan, "2001:db8:7::bad");
    assert_eq!(alert.evidence["network"], "2001:db8:7::/64");
    assert!(alert.why.contains("2001:db8:7::bad"), "{}", alert.why);
}

#[test]
fn a_slow_scan_by_one_of_an_office_is_named_too() {
    let mut wire = Wire::new("accept");
    for number in 10..20 {
        visit(&mut wire, desk(number), 100);
    }
    for port in 1..=12 {
        wire.knock(desk(0xbad), server(), port * 7);
        wire.run(4.0);
    }
    wire.expect_one(AlertKind::PortScan, "2001:db8:7::bad");
}

#[test]
fn a_scan_by_many_addresses_of_a_64_is_that_of_the_64() {
    let mut wire = Wire::new("accept");
    for port in 1..=60 {
        wire.knock(desk(port % 6), server(), port);
    }
    wire.run(5.0);
    wire.expect_one(AlertKind::PortScan, "2001:db8:7::/64");
}

#[test]
fn a_flood_of_one_address_is_told_from_one_of_many() {
    for (addresses, subject) in [(1, "2001:db8:7::bad"), (50, "2001:db8:7::/64")] {
        let mut wire = Wire::new("accept");
        for number in 10..20 {
            visit(&mut wire, desk(number), 10);
        }
        for _ in 0..20 {
            for number in 0..300 {
                wire.knock_in_vain(desk(0xbad + number % addresses), server(), 443);
            }
            wire.run(0.25);
        }
        wire.expect_one(AlertKind::SynFlood, subject);
    }
}

#[test]
fn whoever_tries_passwords_in_an_office_is_named() {
    let mut wire = Wire::new("accept");
    for number in 10..20 {
        visit(&mut wire, desk(number), 60);
        // People of the office use the same service, and are let in.
        let talk = Talk {
            server: server(),
            ..Talk::new(desk(number), 22, 90_000, 200_000, 20 * SECOND)
        };
        wire.talk(u64::from(number) * SECOND / 10, &talk);
    }
    for attempt in 0..40_u64 {
        let talk = Talk {
            server: server(),
            ..Talk::new(desk(0xbad), 22, 2_000, 2_500, SECOND)
        };
        // Not by the clock.
        wire.talk(attempt * SECOND / 2 + attempt % 3 * SECOND / 7, &talk);
    }
    wire.run(30.0);
    wire.expect_one(AlertKind::BruteForce, "2001:db8:7::bad");
}
