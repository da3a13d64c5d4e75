//! Requests to a service from sources that each send few.

use super::scene::{SECOND, START};
use crate::detect::*;

/// A service that is asked so often each second, for a while each.
fn asked(phases: &[(u64, u64)]) -> Vec<(AlertKind, String)> {
    let mut detector = Detector::from_zero(Config::default(), START);
    let (mut now, mut requests) = (START, 0);
    let mut fired = Vec::new();
    for (seconds, rate) in phases {
        for _ in 0..seconds * 4 {
            now += SECOND / 4;
            requests += rate / 4;
            let snapshot = Snapshot {
                time: now,
                clock: now / 1_000_000,
                services: vec![ServiceCounts {
                    name: "shop".to_owned(),
                    rule: 40,
                    packets: requests * 5,
                    bytes: requests * 900,
                    connections: requests,
                    requests,
                }],
                ..Snapshot::default()
            };
            let changes = detector.tick(&snapshot);
            fired.extend(changes.iter().filter_map(|change| match change {
                AlertChange::Fired(alert) if alert.kind == AlertKind::RequestFlood => {
                    Some((alert.kind, alert.subject.to_string()))
                }
                _ => None,
            }));
        }
    }
    fired
}

#[test]
fn a_service_that_everybody_asks_far_more_often_than_usual_is_flooded() {
    let host = [(AlertKind::RequestFlood, "host".to_owned())];
    assert_eq!(asked(&[(300, 200), (10, 8_000)]), host);
    assert_eq!(asked(&[(10, 100), (10, 20_000)]), host);
    // However often it is, it is one alert, and what is usual stays.
    assert_eq!(asked(&[(300, 1_000), (300, 9_000)]), host);
}

#[test]
fn more_visitors_than_usual_are_no_flood() {
    assert_eq!(asked(&[(300, 200), (60, 1_500)]), []);
    assert_eq!(asked(&[(300, 3_000), (60, 12_000)]), []);
    assert_eq!(asked(&[(5, 3_000), (60, 3_000)]), []);
}

#[test]
fn counts_that_begin_anew_are_no_flood() {
    let mut detector = Detector::from_zero(Config::default(), START);
    let mut now = START;
    for requests in [5_000_000, 5_000_100, 0, 100, 4_000_000_u64] {
        now += 3_600 * SECOND;
        let changes = detector.tick(&Snapshot {
            time: now,
            services: vec![ServiceCounts {
                name: "shop".to_owned(),
                rule: 40,
                packets: requests,
                bytes: requests,
                connections: requests,
                requests,
            }],
            ..Snapshot::default()
        });
        assert!(changes.is_empty(), "{changes:?}");
    }
}
