//! Floods of which only the prefix stands out.

use std::net::{IpAddr, Ipv6Addr};

use firewall_common::layout::TrafficKind;

use super::scene::*;
use crate::detect::*;

/// Requests of a kept connection.
fn requests(scene: &mut Scene, source: IpAddr, count: u64) {
    let kinds = [TrafficKind::Tcp, TrafficKind::Request];
    let counters = scene.packets(source, count * 2, &kinds[..1]);
    counters.requests += count as u32;
    scene.host.kinds[TrafficKind::Request as usize] += count;
}

fn networks(number: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 7, number, 0, 0, 0, 0).into()
}

#[test]
fn requests_of_two_hundred_addresses_of_a_prefix_are_one_flood_of_the_prefix() {
    for (source, subject) in [
        (client as fn(u32) -> IpAddr, "198.51.100.0/24"),
        (|number| networks(number as u16), "2001:db8:7::/48"),
    ] {
        let mut scene = Scene::new();
        scene.play(10.0, |scene, _| {
            for number in 0..200 {
                requests(scene, source(number), 3);
            }
        });
        scene.rest(30.0);
        let alert = scene.expect_one(AlertKind::RequestFlood, subject);
        assert!(
            (alert.observed - 2_400.0).abs() < 400.0,
            "{}",
            alert.observed
        );
        assert!(alert.evidence["sources"].as_f64().unwrap() >= 100.0);
    }
}

#[test]
fn syns_of_a_prefix_are_its_flood_and_not_the_hosts() {
    let mut scene = Scene::new();
    scene.play(10.0, |scene, _| {
        for number in 0..200 {
            scene.syns(client(number), 1, 443);
        }
    });
    scene.rest(30.0);
    scene.expect_one(AlertKind::SynFlood, "198.51.100.0/24");
}

#[test]
fn visitors_of_one_prefix_are_no_flood() {
    let mut scene = Scene::new();
    scene.play(20.0, |scene, _| {
        // An office or a provider's translators: 400 connections and requests a second.
        for number in 0..100 {
            scene.connections(client(number), 1, 443);
            requests(scene, client(number), 1);
        }
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn a_source_that_stands_out_is_named_itself_and_its_prefix_is_not() {
    let mut scene = Scene::new();
    scene.play(10.0, |scene, _| {
        for number in 0..20 {
            requests(scene, client(number), 1);
        }
        requests(scene, client(9), 500);
    });
    scene.rest(30.0);
    scene.expect_one(AlertKind::RequestFlood, "198.51.100.9");
}
