//! Floods other than of SYNs, and busy services that are not flooded.

use firewall_common::Direction;
use firewall_common::layout::TrafficKind;

use super::scene::*;
use super::wire::{Wire, host};
use crate::detect::*;
use crate::packet_build::PacketBuilder;

#[test]
fn a_udp_flood_from_one_place_names_it_and_from_many_the_host() {
    for (senders, subject) in [(1, "198.51.100.0"), (1_000, "host")] {
        let mut scene = Scene::new();
        scene.play(5.0, |scene, seconds| {
            for sender in 0..senders {
                let count = (200_000.0 * seconds) as u64 / u64::from(senders);
                scene.packets(client(sender), count, &[TrafficKind::Udp]);
            }
        });
        scene.rest(30.0);
        let alert = scene.expect_one(AlertKind::UdpFlood, subject);
        assert!(alert.detected - START <= SECOND);
    }
}

#[test]
fn a_service_that_answers_its_datagrams_is_not_flooded() {
    let mut scene = Scene::new();
    scene.play(10.0, |scene, seconds| {
        for sender in 0..500 {
            let count = (40_000.0 * seconds) as u64 / 500;
            scene.packets(client(sender), count, &[TrafficKind::Udp]);
            scene.host.kinds_outbound[TrafficKind::Udp as usize] += count / 2;
        }
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn a_flood_of_pings_is_an_icmp_flood_and_not_one_of_requests() {
    let mut scene = Scene::new();
    scene.play(5.0, |scene, seconds| {
        let count = (5_000.0 * seconds) as u64;
        let kinds = [TrafficKind::Echo, TrafficKind::Request];
        scene.packets(client(3), count, &kinds).requests += count as u32;
    });
    scene.rest(30.0);
    scene.expect_one(AlertKind::IcmpFlood, "198.51.100.3");
}

#[test]
fn a_flood_of_requests_over_open_connections_names_the_client() {
    let mut scene = Scene::new();
    scene.play(5.0, |scene, seconds| {
        let count = (4_000.0 * seconds) as u64;
        scene.packets(client(3), count, &[TrafficKind::Tcp]);
        let kinds = [TrafficKind::Tcp, TrafficKind::Request];
        scene.packets(client(3), count, &kinds).requests += count as u32;
    });
    scene.rest(30.0);
    let alert = scene.expect_one(AlertKind::RequestFlood, "198.51.100.3");
    assert!(alert.detected - START <= SECOND);
}

#[test]
fn hundreds_of_users_behind_one_address_are_no_flood_of_requests() {
    let mut scene = Scene::new();
    scene.play(60.0, |scene, seconds| {
        let count = (300.0 * seconds) as u64;
        scene.packets(client(3), 3 * count, &[TrafficKind::Tcp]);
        let kinds = [TrafficKind::Tcp, TrafficKind::Request];
        scene.packets(client(3), count, &kinds).requests += count as u32;
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn who_cannot_be_there_is_not_blamed_for_a_flood() {
    let mut scene = Scene::new();
    scene.play(5.0, |scene, seconds| {
        let count = (2_000.0 * seconds) as u64;
        let kinds = [TrafficKind::Tcp, TrafficKind::Syn];
        scene
            .packets("127.0.0.1".parse().expect("an address"), count, &kinds)
            .syns += count as u32;
    });
    scene.rest(30.0);
    assert_eq!(scene.fired(), []);
}

#[test]
fn what_a_banned_source_goes_on_to_send_raises_no_alert() {
    let mut scene = Scene::new();
    scene.banned.insert(client(3));
    scene.play(30.0, |scene, seconds| {
        let count = (900.0 * seconds) as u64;
        scene
            .packets(client(3), count, &[TrafficKind::Tcp, TrafficKind::Syn])
            .syns += count as u32;
    });
    scene.rest(30.0);
    assert_eq!(scene.fired(), []);
}

#[test]
fn a_source_that_sends_far_more_packets_than_any_should_is_named() {
    let mut scene = Scene::new();
    scene.play(5.0, |scene, seconds| {
        let count = (200_000.0 * seconds) as u64;
        scene.packets(client(3), count, &[TrafficKind::Tcp]);
    });
    scene.rest(30.0);
    let alert = scene.expect_one(AlertKind::TrafficSpike, "198.51.100.3");
    assert!(alert.detected - START <= SECOND);
}

#[test]
fn replies_that_nobody_asked_for_are_amplification() {
    let mut scene = Scene::new();
    scene.play(3.0, |scene, seconds| {
        for reflector in 0..1_000 {
            let kinds = [TrafficKind::Udp, TrafficKind::AmplifierReply];
            let count = (8_000.0 * seconds / 1_000.0) as u64;
            scene.packets(client(reflector), count, &kinds);
        }
    });
    scene.rest(30.0);
    scene.expect_one(AlertKind::Amplification, "host");
}

#[test]
fn replies_of_each_service_that_is_abused_for_it_are_amplification_alone() {
    let services = [
        53, 123, 161, 500, 389, 1_900, 11_211, 19, 111, 137, 520, 1_434,
    ];
    for port in services {
        let mut wire = Wire::new("accept");
        wire.run(1.0);
        for number in 0..2_000_u16 {
            let reflector = [203, 0, 113, (number % 200) as u8].into();
            let packet = PacketBuilder::new(reflector, host()).unwrap();
            let frame = packet.udp(port, 30_000 + number).payload(&[0x81; 400]);
            let after = u64::from(number) * SECOND / 1_000;
            wire.send(after, Direction::Inbound, frame.build());
        }
        wire.run(3.0);
        wire.expect_one(AlertKind::Amplification, "host");
    }
}

#[test]
fn replies_to_ones_own_queries_are_not_amplification() {
    let mut scene = Scene::new();
    scene.play(10.0, |scene, seconds| {
        let count = (3_000.0 * seconds) as u64;
        let kinds = [TrafficKind::Udp, TrafficKind::AmplifierReply];
        scene.packets(client(53), count, &kinds);
        for kind in [TrafficKind::Udp, TrafficKind::Request] {
            scene.host.kinds_outbound[kind as usize] += count;
        }
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn syn_acks_that_nobody_asked_for_are_reflection() {
    let mut scene = Scene::new();
    scene.play(3.0, |scene, seconds| {
        for reflector in 0..500 {
            let kinds = [TrafficKind::Tcp, TrafficKind::SynAck];
            let count = (8_000.0 * seconds / 500.0) as u64;
            scene.packets(client(reflector), count, &kinds);
        }
    });
    scene.rest(30.0);
    scene.expect_one(AlertKind::Reflection, "host");
}

#[test]
fn many_strangers_of_one_network_at_once_are_a_surge_of_it() {
    let mut scene = Scene::new();
    scene.play(20.0, |scene, seconds| {
        for visitor in 0..(40.0 * seconds) as u32 {
            scene.connections(client(visitor), 1, 443);
        }
        if (10 * SECOND..12 * SECOND).contains(&(scene.now - START)) {
            for last in 100..250 {
                scene.connections([203, 0, 113, last].into(), 1, 443);
            }
        }
    });
    scene.rest(30.0);
    scene.expect_one(AlertKind::NewSourceSurge, "203.0.113.0/24");
}

#[test]
fn strangers_of_one_network_who_come_at_once_and_say_no_more_are_a_surge_of_it_within_a_second() {
    for tick in [SECOND / 10, SECOND / 4, SECOND] {
        let mut scene = Scene::ticking(tick);
        scene.play(10.0, |scene, seconds| {
            for visitor in 0..(40.0 * seconds) as u32 {
                scene.connections(client(visitor), 1, 443);
            }
        });
        let began = scene.now;
        for last in 100..170 {
            scene.connections([203, 0, 113, last].into(), 1, 443);
        }
        scene.rest(40.0);
        let alert = scene.expect_one(AlertKind::NewSourceSurge, "203.0.113.0/24");
        assert!(alert.detected - began <= SECOND.max(2 * tick), "at {tick}");
    }
}

#[test]
fn new_sources_that_a_flood_brings_are_no_surge_of_their_own() {
    let mut scene = Scene::new();
    let mut next = 0_u32;
    scene.play(25.0, |scene, seconds| {
        for visitor in 0..(40.0 * seconds) as u32 {
            scene.connections(client(visitor), 1, 443);
        }
        if scene.now - START >= 10 * SECOND {
            for _ in 0..(5_000.0 * seconds) as u64 {
                next += 1;
                scene.syns([203, 0, 113, (next * 7 % 200) as u8].into(), 1, 443);
            }
        }
    });
    scene.rest(30.0);
    let fired = scene.fired();
    assert!(
        fired.iter().all(|(kind, _)| *kind == AlertKind::SynFlood) && !fired.is_empty(),
        "{fired:?}"
    );
}

#[test]
fn new_sources_of_a_network_are_a_surge_whatever_another_network_floods() {
    let mut scene = Scene::new();
    scene.play(20.0, |scene, seconds| {
        for visitor in 0..(40.0 * seconds) as u32 {
            scene.connections(client(visitor), 1, 443);
        }
        // One stranger of its own network, who is named.
        scene.syns([192, 168, 9, 9].into(), (3_000.0 * seconds) as u64, 443);
        if (10 * SECOND..12 * SECOND).contains(&(scene.now - START)) {
            for last in 100..250 {
                scene.connections([203, 0, 113, last].into(), 1, 443);
            }
        }
    });
    let fired = scene.fired();
    let surge = (AlertKind::NewSourceSurge, "203.0.113.0/24".to_owned());
    let flood = (AlertKind::SynFlood, "192.168.9.9".to_owned());
    assert_eq!(fired, [flood, surge]);
}

#[test]
fn the_names_of_a_flood_of_datagrams_to_many_ports_are_no_scanners_and_one_scanner_is() {
    let fired = |sources: u8| {
        let mut scene = Scene::new();
        scene.rest(5.0);
        let mut port = 0_u64;
        scene.play(3.0, |scene, _| {
            for last in 0..sources {
                for _ in 0..12 {
                    port += 1;
                    let source = [203, 0, 113, last].into();
                    let counters = scene.packets(source, 1, &[TrafficKind::Udp]);
                    counters.ports |= bit(port);
                    counters.hosts |= bit(1);
                    counters.failed += 1;
                }
            }
        });
        scene.rest(90.0);
        let fired = scene.fired().into_iter();
        fired
            .filter(|(kind, _)| *kind == AlertKind::PortScan)
            .count()
    };
    assert_eq!(fired(1), 1);
    assert_eq!(fired(40), 0);
}
