//! SYN floods, and the crowds that are none.

use firewall_common::layout::TrafficKind;

use super::scene::*;
use crate::detect::*;

#[test]
fn a_syn_flood_from_forged_sources_is_the_hosts_and_ends_with_the_flood() {
    for tick in [SECOND / 10, SECOND / 4, SECOND / 2, SECOND] {
        let mut scene = Scene::ticking(tick);
        scene.rest(5.0);
        let began = scene.now;
        let mut next = 0;
        scene.play(10.0, |scene, seconds| {
            for _ in 0..(2_000.0 * seconds) as u64 {
                scene.syns(forged(next), 1, 443);
                next += 1;
            }
        });
        let last = scene.now;
        scene.rest(30.0);
        let alert = scene.expect_one(AlertKind::SynFlood, "host");
        let delay = alert.detected - began;
        assert!(delay <= SECOND.max(2 * tick), "{delay} ns at {tick}");
        assert!(alert.ended.unwrap().abs_diff(last) <= 4 * SECOND);
    }
}

#[test]
fn a_syn_flood_is_found_beside_ordinary_visitors() {
    let mut scene = Scene::new();
    let mut next = 0;
    let mut visitor = 0;
    scene.play(20.0, |scene, seconds| {
        for _ in 0..(300.0 * seconds) as u64 {
            scene.connections(client(visitor % 50_000), 1, 443);
            visitor += 1;
        }
        if (5 * SECOND..10 * SECOND).contains(&(scene.now - START)) {
            for _ in 0..(2_000.0 * seconds) as u64 {
                scene.syns(forged(next), 1, 443);
                next += 1;
            }
        }
    });
    scene.rest(30.0);
    scene.expect_one(AlertKind::SynFlood, "host");
}

#[test]
fn forged_sources_that_answer_with_a_reset_do_not_look_like_visitors() {
    let mut scene = Scene::new();
    let mut next = 0;
    scene.play(3.0, |scene, seconds| {
        for _ in 0..(2_000.0 * seconds) as u64 {
            scene.syns(forged(next), 1, 443);
            scene.packets(forged(next), 1, &[TrafficKind::Tcp, TrafficKind::Reset]);
            next += 1;
        }
    });
    assert_eq!(scene.fired(), [(AlertKind::SynFlood, "host".to_owned())]);
}

#[test]
fn a_sudden_crowd_of_visitors_is_no_flood() {
    let mut scene = Scene::new();
    scene.rest(5.0);
    let mut visitor = 0;
    let mut waiting = Vec::new();
    scene.play(30.0, |scene, seconds| {
        // The rest of each handshake comes a tick later than its SYN.
        for source in waiting.drain(..) {
            scene.packets(source, 3, &[TrafficKind::Tcp]);
        }
        for _ in 0..(2_000.0 * seconds) as u64 {
            scene.syns(client(visitor), 1, 443);
            waiting.push(client(visitor));
            visitor += 1;
        }
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn a_syn_flood_from_one_place_names_it() {
    let mut scene = Scene::new();
    scene.play(5.0, |scene, seconds| {
        scene.syns(client(9), (3_000.0 * seconds) as u64, 80);
    });
    scene.rest(30.0);
    let alert = scene.expect_one(AlertKind::SynFlood, "198.51.100.9");
    assert_eq!(alert.severity, Severity::Critical);
    assert!(alert.detected - alert.started <= SECOND);
}

#[test]
fn a_proxy_with_thousands_of_connections_a_second_is_no_flood() {
    let mut scene = Scene::new();
    scene.play(20.0, |scene, seconds| {
        scene.connections(client(1), (3_000.0 * seconds) as u64, 443);
    });
    assert_eq!(scene.fired(), []);
}

/// Packets of a visitor for whom the kernel's table has no place.
fn untold_visit(scene: &mut Scene, count: u64) {
    scene.host.packets += count * 4;
    scene.host.kinds[TrafficKind::Tcp as usize] += count * 4;
    scene.host.kinds[TrafficKind::Syn as usize] += count;
}

#[test]
fn a_crowd_of_more_visitors_than_the_table_has_places_is_no_flood() {
    let mut scene = Scene::new();
    let mut number = 0;
    scene.play(20.0, |scene, _| {
        for _ in 0..100 {
            number += 1;
            scene.connections(forged(number), 1, 443);
        }
        untold_visit(scene, 900);
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn a_flood_of_forged_sources_that_the_table_has_no_place_for_is_one_among_told_visitors() {
    let mut scene = Scene::new();
    let mut number = 0;
    scene.play(10.0, |scene, _| {
        for _ in 0..100 {
            number += 1;
            scene.connections(client(number % 50), 1, 443);
        }
        for _ in 0..50 {
            number += 1;
            scene.syns(forged(u64::from(number) * 999), 1, 443);
        }
        scene.host.packets += 900;
        scene.host.kinds[TrafficKind::Tcp as usize] += 900;
        scene.host.kinds[TrafficKind::Syn as usize] += 900;
    });
    assert_eq!(scene.fired(), [(AlertKind::SynFlood, "host".to_owned())]);
}
