use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, json};

use super::*;
use crate::detect::Severity;

const SECOND: Time = 1_000_000_000;
const MINUTE: Time = 60 * SECOND;

fn alert(id: u64, kind: AlertKind, subject: Subject) -> Alert {
    Alert {
        id,
        kind,
        subject,
        severity: Severity::Warning,
        state: AlertState::Firing,
        started: id,
        detected: id,
        ended: None,
        observed: 400.0,
        expected: 200.0,
        unit: "packets/s".into(),
        why: format!("{kind} by {subject}."),
        evidence: Map::new(),
        response: Vec::new(),
        incident: None,
    }
}

fn source(text: &str) -> Subject {
    Subject::source(text.parse::<IpAddr>().unwrap())
}

fn over(mut alert: Alert, at: Time) -> Alert {
    alert.state = AlertState::Resolved;
    alert.ended = Some(at);
    alert
}

#[test]
fn a_flood_from_forty_thousand_sources_is_one_incident() {
    let mut incidents = Incidents::default();
    let first = incidents.take_in(0, &alert(1, AlertKind::SynFlood, Subject::Host));
    for n in 0..40_000_u32 {
        let from = Ipv4Addr::from_bits(0x0a00_0000 + n * 977);
        let kind = [AlertKind::SynFlood, AlertKind::TrafficSpike][n as usize % 2];
        let flooder = alert(u64::from(n) + 2, kind, Subject::source(from.into()));
        assert_eq!(incidents.take_in(SECOND, &flooder), first);
    }
    assert_eq!(incidents.iter().count(), 1);
    let incident = incidents.get(first).unwrap();
    assert_eq!(incident.subject_count, 40_001);
    assert_eq!(incident.alert_count, 40_001);
    assert_eq!(incident.subjects.len(), 16);
    assert_eq!(incident.alerts.len(), 64);
    assert_eq!(
        incident.kinds,
        [AlertKind::SynFlood, AlertKind::TrafficSpike]
    );
    assert_eq!(incident.evidence["syn_flood"]["alerts"], 20_001);
}

#[test]
fn a_scan_and_the_brute_force_that_follows_it_are_one_incident() {
    let mut incidents = Incidents::default();
    for attacker in ["203.0.113.7", "2001:db8:7::1"] {
        let scan = alert(MINUTE, AlertKind::PortScan, source(attacker));
        let first = incidents.take_in(MINUTE, &scan);
        incidents.take_in(2 * MINUTE, &over(scan, 2 * MINUTE));
        assert_eq!(incidents.get(first).unwrap().state, AlertState::Resolved);
        let force = alert(6 * MINUTE, AlertKind::BruteForce, source(attacker));
        assert_eq!(incidents.take_in(6 * MINUTE, &force), first, "{attacker}");
        let incident = incidents.get(first).unwrap();
        assert_eq!((incident.state, incident.ended), (AlertState::Firing, None));
        assert_eq!(incident.subject_count, 1);
        incidents = Incidents::default();
    }
}

#[test]
fn neighbours_are_one_incident_and_strangers_of_another_kind_are_not() {
    let mut incidents = Incidents::default();
    for (id, kind, from, joins) in [
        (1, AlertKind::PortScan, "203.0.113.7", 1),
        (2, AlertKind::BruteForce, "203.0.113.99", 1),
        (3, AlertKind::BruteForce, "2001:db8:7:1::1", 1),
        (4, AlertKind::Beaconing, "198.51.100.1", 4),
        (5, AlertKind::Beaconing, "198.51.101.1", 5),
        (6, AlertKind::PortScan, "2001:db8:7:ff::1", 1),
        (7, AlertKind::SynFlood, "10.9.9.9", 7),
        (8, AlertKind::UdpFlood, "10.8.8.8", 7),
    ] {
        let now = id * SECOND;
        let number = incidents.take_in(now, &alert(id, kind, source(from)));
        assert_eq!(number, joins, "{kind} by {from}");
    }
}

#[test]
fn a_surge_of_new_sources_and_the_flood_that_brings_them_are_one_incident_whichever_is_told_first()
{
    let network: Subject = "203.0.113.0/24".parse().unwrap();
    for first in [
        (AlertKind::NewSourceSurge, network),
        (AlertKind::SynFlood, Subject::Host),
        (AlertKind::UdpFlood, network),
    ] {
        let mut incidents = Incidents::default();
        incidents.take_in(0, &alert(1, first.0, first.1));
        for (id, kind, subject) in [
            (2, AlertKind::SynFlood, Subject::Host),
            (3, AlertKind::NewSourceSurge, network),
            (4, AlertKind::RequestFlood, network),
        ] {
            assert_eq!(incidents.take_in(id * SECOND, &alert(id, kind, subject)), 1);
        }
        assert_eq!(incidents.iter().count(), 1);
    }
}

#[test]
fn what_comes_minutes_after_the_end_is_an_incident_of_its_own() {
    let mut incidents = Incidents::default();
    let scan = alert(1, AlertKind::PortScan, source("203.0.113.7"));
    incidents.take_in(0, &scan);
    incidents.take_in(MINUTE, &over(scan, MINUTE));
    incidents.settle(6 * MINUTE);
    assert_eq!(incidents.iter().count(), 1);
    let again = alert(2, AlertKind::PortScan, source("203.0.113.7"));
    assert_eq!(incidents.take_in(MINUTE + REJOIN + 1, &again), 2);
    incidents.settle(MINUTE + REJOIN + 1);
    assert_eq!(incidents.iter().count(), 1, "the first is forgotten");
}

#[test]
fn the_noise_of_the_internet_is_not_one_incident_for_ever() {
    let mut incidents = Incidents::default();
    let mut numbers = BTreeSet::new();
    for minute in 0..180_u64 {
        let from = Subject::source(Ipv4Addr::from_bits(0x0a00_0000 + minute as u32 * 4096).into());
        let mut scan = alert(minute + 1, AlertKind::PortScan, from);
        scan.detected = minute * MINUTE;
        numbers.insert(incidents.take_in(minute * MINUTE, &scan));
        incidents.take_in(minute * MINUTE, &over(scan, minute * MINUTE));
    }
    assert_eq!(numbers.len(), 3, "{numbers:?}");
}

#[test]
fn an_update_changes_the_incident_and_not_its_counts() {
    let mut incidents = Incidents::default();
    let mut flood = alert(1, AlertKind::UdpFlood, Subject::Host);
    let id = incidents.take_in(0, &flood);
    flood.observed = 9_000.0;
    flood.severity = Severity::Critical;
    flood.response.push("nothing can be banned".into());
    incidents.take_in(SECOND, &flood);
    incidents.take_in(2 * SECOND, &over(flood, 2 * SECOND));
    let incident = incidents.get(id).unwrap();
    assert_eq!((incident.alert_count, incident.subject_count), (1, 1));
    assert_eq!(incident.severity, Severity::Critical);
    assert_eq!(incident.evidence["udp_flood"]["observed"], 9_000.0);
    assert_eq!(incident.response, ["nothing can be banned"]);
    assert_eq!(incident.ended, Some(2 * SECOND));
    assert_eq!(incident.why, "udp_flood by host.");
}

#[test]
fn an_incident_of_an_earlier_run_goes_on() {
    let mut before = Incidents::default();
    let scan = alert(1, AlertKind::PortScan, source("203.0.113.7"));
    before.take_in(SECOND, &scan);
    before.take_in(2 * SECOND, &over(scan, 2 * SECOND));
    let kept: Vec<Incident> = before.iter().cloned().collect();
    let json = serde_json::to_value(&kept).unwrap();
    assert_eq!(json[0]["started"], json!(0.0));
    assert_eq!(json[0]["ended"], json!(2.0));
    let kept: Vec<Incident> = serde_json::from_value(json).unwrap();
    let mut after = Incidents::resume(kept, 0);
    let again = alert(9, AlertKind::PortScan, source("203.0.113.7"));
    assert_eq!(after.take_in(MINUTE, &again), 1);
    let incident = after.get(1).unwrap();
    assert_eq!((incident.alert_count, incident.subject_count), (2, 1));
}

#[test]
fn memory_stays_bounded() {
    let mut incidents = Incidents::default();
    for n in 0..2_000_u64 {
        let from = Subject::source(Ipv4Addr::from_bits(0x0a00_0000 + n as u32 * 4096).into());
        incidents.take_in(n, &alert(n + 1, AlertKind::Beaconing, from));
    }
    assert!(incidents.iter().count() <= MOST_OPEN);
    assert!(incidents.of_alert.len() <= MOST_OPEN);
    assert!(incidents.get(2_000).is_some(), "the latest is kept");
}
