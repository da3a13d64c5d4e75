//! Scans and sweeps, and what only looks like them.

use firewall_common::layout::TrafficKind;

use super::scene::*;
use crate::detect::*;

#[test]
fn a_port_scan_names_the_scanner_and_fires_once_however_long_it_takes() {
    for per_second in [4.0_f64, 40.0, 4_000.0] {
        let mut scene = Scene::new();
        let (mut port, mut owed) = (0_u16, 0.0);
        scene.play(40.0, |scene, seconds| {
            owed += per_second * seconds;
            while owed >= 1.0 {
                owed -= 1.0;
                port = port.wrapping_add(1);
                scene.syns(client(7), 1, port).failed += 1;
            }
        });
        scene.rest(90.0);
        let fired = scene.fired();
        let scans: Vec<_> = fired
            .iter()
            .filter(|(kind, _)| *kind == AlertKind::PortScan)
            .collect();
        assert_eq!(scans, [&(AlertKind::PortScan, "198.51.100.7".to_owned())]);
        assert!(fired.iter().all(|(_, subject)| subject == "198.51.100.7"));
        assert_eq!(scene.detector.active().count(), 0);
    }
}

#[test]
fn a_scan_that_is_over_before_the_first_tick_is_found() {
    let mut scene = Scene::new();
    for port in 0..1_000 {
        scene.syns(client(7), 1, port).failed += 1;
    }
    scene.tick();
    assert_eq!(
        scene.fired(),
        [(AlertKind::PortScan, "198.51.100.7".to_owned())]
    );
}

#[test]
fn a_scan_that_nobody_answers_is_found_too() {
    let mut scene = Scene::new();
    scene.play(8.0, |scene, _| {
        let port = (scene.now / (SECOND / 4)) as u16;
        scene.syns(client(7), 1, port);
    });
    assert_eq!(
        scene.fired(),
        [(AlertKind::PortScan, "198.51.100.7".to_owned())]
    );
}

#[test]
fn refusals_that_answer_what_others_sent_in_ones_name_are_no_scan() {
    let mut scene = Scene::new();
    scene.packets(client(7), 1, &[TrafficKind::Tcp]);
    scene.play(20.0, |scene, _| {
        let port = scene.now / (SECOND / 4);
        let counters = scene.packets(client(7), 0, &[]);
        counters.failed += 1;
        counters.ports |= bit(port);
        counters.hosts |= bit(1);
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn transfers_over_many_ports_that_succeed_are_no_scan() {
    let mut scene = Scene::new();
    scene.play(60.0, |scene, _| {
        // Passive FTP: each file over a port of its own.
        let port = 40_000 + (scene.now / SECOND % 10_000) as u16;
        scene.syns(client(7), 1, port);
        scene.packets(client(7), 30, &[TrafficKind::Tcp]);
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn a_peer_with_many_hosts_and_a_port_on_each_is_no_scan() {
    let mut scene = Scene::new();
    let mut peer = 0;
    scene.play(60.0, |scene, _| {
        for _ in 0..3 {
            peer += 1;
            let counters = scene.syns(client(7), 1, (peer * 7 % 60_000) as u16);
            counters.hosts |= bit(peer + 1_000);
            scene.packets(client(7), 5, &[TrafficKind::Tcp]);
        }
    });
    assert_eq!(scene.fired(), []);
}

#[test]
fn a_sweep_over_many_hosts_in_vain_names_the_sweeper() {
    let mut scene = Scene::new();
    let mut target = 0;
    scene.play(20.0, |scene, _| {
        for _ in 0..5 {
            target += 1;
            let counters = scene.packets(client(7), 1, &[TrafficKind::Tcp, TrafficKind::Syn]);
            counters.syns += 1;
            counters.failed += 1;
            counters.ports |= bit(22);
            counters.hosts |= bit(target);
        }
    });
    scene.rest(90.0);
    scene.expect_one(AlertKind::HostSweep, "198.51.100.7");
}
