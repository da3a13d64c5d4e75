//! The watch over time: floods among visitors.

use firewall_common::packet::{Packet, flag, mark, protocol};
use firewall_common::signature::Number;
use firewall_common::{Address, Reason, Verdict};

use super::*;
use crate::detect::{AlertState, Severity, Subject};

const LIMITS: Limits = Limits { collateral: 0.02 };

/// A SYN to the shop: of a visitor, or of the flood.
fn syn(time: Time, number: u64, flood: bool) -> Sighting {
    let source = Address::v4(0x5d00_0000 | (number.wrapping_mul(2_654_435_761) & 0x3f_ffff) as u32);
    let packet = Packet {
        source,
        sender: source,
        ip_length: if flood { 40 } else { 60 },
        protocol: protocol::TCP,
        tcp_flags: flag::SYN,
        tcp_window: if flood { 512 } else { 64_240 },
        ttl: 40 + (number % 20) as u8,
        source_port: 1_024 + (number.wrapping_mul(40_503) % 60_000) as u16,
        destination_port: 443,
        marks: mark::PORTS,
        ..Packet::default()
    };
    Sighting {
        reason: Reason::Rule,
        ..Sighting::new(time, packet, Class::Contact, &[])
    }
}

fn alert(id: u64, detected: Time) -> Alert {
    Alert {
        id,
        kind: AlertKind::SynFlood,
        subject: Subject::Host,
        severity: Severity::Critical,
        state: AlertState::Firing,
        started: detected,
        detected,
        ended: None,
        observed: 1.0,
        expected: 1.0,
        unit: String::new(),
        why: String::new(),
        evidence: serde_json::Map::new(),
        response: Vec::new(),
        incident: None,
    }
}

/// Ticks of a tenth of a second with so many visitors each, and a flood of so many.
fn run(watch: &mut Watch, from: Time, ticks: u64, visitors: u64, flood: u64) -> Time {
    let mut now = from;
    for _ in 0..ticks {
        let at = |number: u64, of: u64| now + number * PIECE / of;
        let seed = now / PIECE * 1_000;
        let mut seen: Vec<_> = (0..visitors)
            .map(|number| syn(at(number, visitors), seed + number, false))
            .collect();
        seen.extend((0..flood).map(|number| syn(at(number, flood), seed * 7 + number, true)));
        now += PIECE;
        watch.take(now, &seen);
    }
    now
}

fn found(findings: &[(u64, Finding)]) -> &super::super::Signature {
    let [(_, Finding::Looked(searches))] = findings else {
        panic!("{findings:?}");
    };
    let Some(Search::Found(signature)) = searches.first() else {
        panic!("{searches:?}");
    };
    signature
}

#[test]
fn a_flood_has_its_signature_in_the_tick_in_which_the_alert_fires() {
    let mut watch = Watch::new(LIMITS);
    let now = run(&mut watch, 1_000 * SECOND, 300, 5, 0);
    let now = run(&mut watch, now, 2, 5, 200);
    watch.fired(&alert(1, now));
    let findings = watch.look(now);
    let signature = found(&findings);
    assert!(signature.harmless, "{signature:?}");
    assert!(signature.coverage > 0.97, "{signature:?}");
    assert!(watch.look(now + PIECE).is_empty(), "it is told of once");
}

#[test]
fn a_flood_does_not_become_ordinary_however_long_it_lasts() {
    let mut watch = Watch::new(LIMITS);
    let now = run(&mut watch, 1_000 * SECOND, 300, 5, 0);
    let start = now;
    let now = run(&mut watch, now, 3, 5, 200);
    watch.fired(&alert(1, now));
    let now = run(&mut watch, now, 600, 5, 200);
    let lengths = watch.ordinary.specimens(now);
    let flood = lengths
        .iter()
        .filter(|specimen| specimen.number(Number::Length) == 40);
    assert_eq!(flood.count(), 0, "since {start}");
    watch.resolved(1);
    let now = run(&mut watch, now, 100, 5, 0);
    watch.fired(&alert(2, now));
    run(&mut watch, now, 2, 5, 200);
    assert!(found(&watch.look(now + 2 * PIECE)).harmless);
}

#[test]
fn a_rush_of_visitors_has_no_signature_and_that_is_said_in_the_end() {
    let mut watch = Watch::new(LIMITS);
    let now = run(&mut watch, 1_000 * SECOND, 300, 5, 0);
    watch.fired(&alert(1, now));
    let now = run(&mut watch, now, 10, 200, 0);
    assert!(watch.look(now).is_empty());
    let now = run(&mut watch, now, 25, 200, 0);
    let findings = watch.look(now);
    let [(1, Finding::Looked(searches))] = &findings[..] else {
        panic!("{findings:?}");
    };
    assert!(matches!(searches[..], [Search::Alike(_)]), "{searches:?}");
}

#[test]
fn what_the_policy_drops_anyway_needs_no_signature() {
    let mut watch = Watch::new(LIMITS);
    let now = 1_000 * SECOND;
    let dropped = (0..500).map(|number| Sighting {
        reason: Reason::Default,
        verdict: Verdict::Drop,
        ..syn(now, number, true)
    });
    watch.take(now, &dropped.collect::<Vec<_>>());
    watch.fired(&alert(1, now));
    assert_eq!(watch.look(now), [(1, Finding::Dropped)]);
}

#[test]
fn an_alert_about_a_source_is_not_answered_but_keeps_its_packets_from_the_ordinary() {
    let mut watch = Watch::new(LIMITS);
    let now = 1_000 * SECOND;
    watch.fired(&Alert {
        subject: Subject::source([203, 0, 113, 7].into()),
        ..alert(1, now)
    });
    let now = run(&mut watch, now, 100, 0, 50);
    assert!(watch.look(now).is_empty());
    assert!(watch.ordinary.is_empty());
}

#[test]
fn time_that_jumps_does_no_harm() {
    let mut watch = Watch::new(LIMITS);
    let now = run(&mut watch, 1_000 * SECOND, 20, 5, 0);
    let back = run(&mut watch, now - 500 * SECOND, 20, 5, 0);
    assert!(watch.pieces.iter().all(|piece| piece.start < back));
    run(&mut watch, now + 1_000_000 * SECOND, 20, 5, 0);
    assert!(watch.pieces.len() <= 51);
}

#[test]
fn what_is_ordinary_outlives_a_restart() {
    let mut before = Watch::new(LIMITS);
    let now = run(&mut before, 1_000 * SECOND, 300, 5, 0);
    let text = serde_json::to_string(&before.kept(now)).expect("text");
    let mut after = Watch::new(LIMITS);
    after.restore(serde_json::from_str(&text).expect("what was written"));
    let now = run(&mut after, now, 2, 5, 200);
    after.fired(&alert(1, now));
    let findings = after.look(now);
    let signature = found(&findings);
    assert!(signature.harmless, "{signature:?}");
}
