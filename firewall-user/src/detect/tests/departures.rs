//! Traffic that departs from what was learned, through the whole detector.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;

use firewall_common::layout::SourceCounters;
use firewall_common::packet::Packet;
use firewall_common::sampling::Class;

use crate::detect::*;

const SECOND: Time = 1_000_000_000;
const START: u64 = 1_800_000_000;
const HOUR: u64 = 3_600;
const DAYS: u64 = 3 * 24 * HOUR;
const RULE: u32 = 7;

/// A host with one service, that gets ten connections a second.
struct Host {
    detector: Detector,
    snapshot: Snapshot,
    strangers: u32,
}

impl Host {
    /// One that is three days old.
    fn new() -> Self {
        static KEPT: OnceLock<KeptRanges> = OnceLock::new();
        let kept = KEPT.get_or_init(|| {
            let mut host = Self::newborn();
            for second in (0..DAYS).step_by(20) {
                let changes = host.tick(second * SECOND, 20.0, 10.0, 1);
                assert!(changes.is_empty(), "{changes:?}");
            }
            host.detector.kept_ranges()
        });
        let mut host = Self::newborn();
        host.detector.restore_ranges(kept.clone()).unwrap();
        host
    }

    fn newborn() -> Self {
        let service = ServiceCounts {
            name: "shop".to_owned(),
            rule: RULE,
            packets: 0,
            bytes: 0,
            connections: 0,
            requests: 0,
        };
        Self {
            detector: Detector::new(Config::default()),
            snapshot: Snapshot {
                services: vec![service],
                ..Snapshot::default()
            },
            strangers: 0,
        }
    }

    /// Lets `seconds` go by until `time` after the start, with so many connections a second and new sources.
    fn tick(&mut self, time: Time, seconds: f64, rate: f64, strangers: u32) -> Vec<AlertChange> {
        let time = START * SECOND + time;
        // Not quite the same every time.
        let wobble = 1.0 + 0.1 * ((time / SECOND) as f64 * 0.37).sin();
        let connections = (rate * seconds * wobble) as u64;
        let snapshot = &mut self.snapshot;
        snapshot.time = time;
        snapshot.clock = time / 1_000_000;
        let service = &mut snapshot.services[0];
        service.connections += connections;
        service.packets += connections * 30;
        service.bytes += connections * 20_000;
        service.requests += connections * 2;
        snapshot.host.packets += connections * 30;
        snapshot.host.bytes += connections * 20_000;
        snapshot.sources.clear();
        snapshot.sightings.clear();
        for _ in 0..strangers {
            self.strangers += 1;
            // From all over the address space.
            let address = Ipv4Addr::from(self.strangers.wrapping_mul(2_654_435_761));
            snapshot.sources.push(SourceSample {
                source: address.into(),
                counters: SourceCounters {
                    packets: 1,
                    ..SourceCounters::default()
                },
                entered: snapshot.clock,
                last_seen: time,
            });
            snapshot.sightings.push(first_contact(time, address.into()));
        }
        self.detector.tick(&self.snapshot)
    }

    /// The alerts that fire within so many seconds after `second`, looked at every second.
    fn live(&mut self, second: u64, seconds: u64, rate: f64, strangers: u32) -> Vec<Alert> {
        let mut fired = Vec::new();
        for second in second..second + seconds {
            for change in self.tick(second * SECOND, 1.0, rate, strangers) {
                if let AlertChange::Fired(alert) = change {
                    fired.push(alert);
                }
            }
        }
        fired
    }
}

fn first_contact(time: Time, source: IpAddr) -> Sighting {
    let address = crate::engine::address(source);
    let packet = Packet {
        sender: address,
        source: address,
        destination_port: 443,
        ..Packet::default()
    };
    Sighting {
        rule: RULE,
        ..Sighting::new(time, packet, Class::Contact, &[])
    }
}

fn kinds(alerts: &[Alert]) -> Vec<(AlertKind, String)> {
    let kinds = alerts
        .iter()
        .map(|alert| (alert.kind, alert.subject.to_string()));
    kinds.collect()
}

#[test]
fn a_shop_that_stops_receiving_orders_is_an_incident() {
    let mut host = Host::new();
    assert!(host.live(DAYS, 900, 10.0, 0).is_empty());
    let fired = host.live(DAYS + 900, 420, 0.0, 0);
    assert_eq!(
        kinds(&fired),
        [(AlertKind::TrafficLoss, "service:shop".to_owned())]
    );
    let alert = &fired[0];
    assert_eq!(alert.severity, Severity::Critical);
    assert!(alert.observed < 1.0 && alert.expected > 5.0, "{alert:?}");
    assert!(alert.why.contains("gets only 0"), "{}", alert.why);
    let began = START * SECOND + (DAYS + 900) * SECOND;
    assert!(alert.started.abs_diff(began) <= 60 * SECOND, "{alert:?}");
    let after = host.live(DAYS + 1_320, 300, 10.0, 0);
    assert!(after.is_empty(), "{after:?}");
    assert_eq!(host.detector.active().count(), 0);
}

#[test]
fn a_flood_of_connections_is_a_spike_of_the_service_within_a_second() {
    let mut host = Host::new();
    assert!(host.live(DAYS, 120, 10.0, 0).is_empty());
    let mut fired = None;
    for quarter in 1..=4 {
        let time = (DAYS + 120) * SECOND + quarter * SECOND / 4;
        let changes = host.tick(time, 0.25, 2_000.0, 0);
        if let Some(change) = changes.first() {
            fired.get_or_insert((quarter, change.alert().clone()));
        }
    }
    let (_, alert) = fired.expect("seen within a second");
    assert_eq!(alert.kind, AlertKind::TrafficSpike);
    assert_eq!(alert.subject.to_string(), "service:shop");
    assert!(alert.evidence["expected_high"].as_f64() < Some(alert.observed));
}

#[test]
fn new_sources_from_everywhere_are_a_surge_with_their_entropy() {
    let mut host = Host::new();
    assert!(host.live(DAYS, 120, 10.0, 0).is_empty());
    let fired = host.live(DAYS + 120, 5, 10.0, 500);
    assert_eq!(
        kinds(&fired),
        [(AlertKind::NewSourceSurge, "service:shop".to_owned())]
    );
    let entropy = fired[0].evidence["source_entropy"].as_f64().unwrap();
    assert!(entropy > 7.0, "{fired:?}");
    assert_eq!(fired[0].evidence["port_entropy"], 0.0);
}

#[test]
fn counters_that_reset_gaps_and_clocks_that_jump_raise_nothing() {
    let mut host = Host::new();
    assert!(host.live(DAYS, 900, 10.0, 0).is_empty());
    host.snapshot.services[0].packets = 0;
    host.snapshot.services[0].bytes = 0;
    host.snapshot.host.packets = 3;
    assert!(host.live(DAYS + 900, 120, 10.0, 0).is_empty());
    // An hour is missing, and all that came in it comes at once.
    assert!(
        host.tick((DAYS + 5_000) * SECOND, 4_000.0, 10.0, 0)
            .is_empty()
    );
    assert!(host.live(DAYS + 5_001, 120, 10.0, 0).is_empty());
    for back in [1, 600, DAYS] {
        assert!(host.live(DAYS + 5_121 - back, 120, 10.0, 0).is_empty());
    }
}

#[test]
fn a_young_host_has_nothing_to_compare_with() {
    let mut host = Host::newborn();
    assert!(host.live(0, 600, 10.0, 0).is_empty());
    let fired = host.live(600, 60, 2_000.0, 100);
    assert!(
        fired.iter().all(|alert| alert.subject == Subject::Host),
        "{fired:?}"
    );
    assert!(host.live(660, 600, 0.0, 0).is_empty());
}
