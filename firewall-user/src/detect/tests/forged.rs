//! Packets that cannot come from where they say.

use std::net::{IpAddr, Ipv4Addr};

use firewall_common::Direction;
use firewall_common::packet::flag;

use super::scene::SECOND;
use super::wire::*;
use crate::detect::*;

#[test]
fn packets_from_addresses_that_nobody_has_are_forged() {
    for inbound in ["accept", "drop"] {
        let mut wire = Wire::new(inbound);
        for number in 0..12_u32 {
            let from: IpAddr = Ipv4Addr::from(0xf500_0000 + number * 7_777).into();
            let ends = [(from, 1_000), (host(), 80)];
            let syn = Wire::segment(ends, flag::SYN, [1, 0], 60);
            wire.send(u64::from(number), Direction::Inbound, syn);
        }
        wire.run(3.0);
        wire.expect_one(AlertKind::SpoofedSource, "host");
    }
}

#[test]
fn one_host_with_a_wrong_address_is_no_attack() {
    let mut wire = Wire::new("accept");
    for number in 0..500 {
        let ends = [([240, 1, 2, 3].into(), 1_000 + number), (host(), 80)];
        let syn = Wire::segment(ends, flag::SYN, [1, 0], 60);
        wire.send(u64::from(number) * SECOND / 50, Direction::Inbound, syn);
    }
    wire.run(12.0);
    assert_eq!(wire.fired(), []);
}

/// Clients that were here, and then contacts in their name.
fn in_the_name_of_clients(ttl: u8) -> Wire {
    let mut wire = Wire::new("accept");
    for client in 0..30 {
        let after = u64::from(client) * SECOND / 20;
        wire.talk(after, &Talk::new(visitor(client), 80, 300, 9_000, SECOND));
    }
    wire.run(5.0);
    for client in 0..30 {
        let ends = [(visitor(client), 2_000), (host(), 80)];
        let syn = Wire::segment(ends, flag::SYN, [1, 0], ttl);
        wire.send(u64::from(client) * SECOND / 20, Direction::Inbound, syn);
    }
    wire.run(6.0);
    wire
}

#[test]
fn contacts_that_took_another_way_than_their_senders_packets_are_forged() {
    in_the_name_of_clients(49).expect_one(AlertKind::SpoofedSource, "host");
}

#[test]
fn clients_that_come_back_by_about_the_same_way_or_from_another_system_are_who_they_say() {
    // 57 was 64 less 7 hops: 121 is 128 less 7.
    for ttl in [57, 56, 59, 121] {
        assert_eq!(in_the_name_of_clients(ttl).fired(), [], "TTL {ttl}");
    }
}

#[test]
fn a_few_tries_in_the_name_of_a_known_client_are_not_held_against_it_but_a_scan_is() {
    let mut wire = Wire::new("drop");
    let mut talk = Talk::new(visitor(7), 80, 300, 9_000, SECOND);
    talk.ttl = 110;
    wire.talk(0, &talk);
    wire.run(5.0);
    for port in 0..30 {
        wire.knock_in_vain(visitor(7), host(), 3_000 + port);
        wire.run(10.0);
        if port == 10 {
            assert_eq!(wire.fired(), []);
        }
    }
    wire.expect_one(AlertKind::PortScan, "203.0.113.7");
}
