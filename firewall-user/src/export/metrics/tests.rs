use std::io::Write;
use std::process::{Command, Stdio};

use firewall_common::layout::Counter;
use firewall_common::{Direction, Reason, Verdict};

use super::*;
use crate::daemon::documents::{ArmedDocument, Observed, Standing};

fn reading() -> Reading {
    Reading {
        totals: vec![Total {
            interface: "eth0".to_owned(),
            direction: Direction::Inbound,
            verdict: Verdict::Drop,
            reason: Reason::Default,
            counter: Counter {
                packets: 3,
                bytes: 180,
            },
        }],
        rules: vec![RuleDocument {
            rule: "shop \"quoted\"".to_owned(),
            built_in: false,
            mode: "enforce".to_owned(),
            limited: Some(Count {
                packets: 1,
                bytes: 60,
            }),
            packets: 5,
            bytes: 300,
            observed: Some(Observed {
                count: Count {
                    packets: 3,
                    bytes: 180,
                },
                ..Observed::default()
            }),
            standing: Standing::default(),
        }],
        bans: [("manual", 1), ("automatic", 0)],
        sources_tracked: 7,
        round_seconds: [0.001, 0.004, 0.03],
        look_seconds: [0.0005, 0.002, 0.02],
        top_sources: vec![("203.0.113.7".parse().expect("an address"), 12.5)],
        alert_totals: vec![(AlertKind::PortScan, Severity::Warning, 4)],
        active_alerts: vec![(AlertKind::SynFlood, Severity::Critical, Subject::Host)],
        ranges: Vec::new(),
        incident_totals: vec![(AlertKind::PortScan, Severity::Warning, 2)],
        active_incidents: vec![(Some(AlertKind::SynFlood), Severity::Critical)],
        events_lost: 5,
        syn_cookies: CookieReport {
            setting: "auto".to_owned(),
            automatic: true,
            unavailable: None,
            problem: None,
            armed: vec![ArmedDocument {
                service: "shop".to_owned(),
                ports: vec!["443".to_owned()],
                why: "alert".to_owned(),
            }],
            orders: [].into(),
            sent: 900,
            accepted: 80,
            rejected: 7,
            bytes_received: 66_600,
            bytes_sent: 66_600,
        },
        notifications: Vec::new(),
        standing: Vec::new(),
        maps: vec![MapUse {
            map: "bans",
            entries: 1,
            capacity: 100,
        }],
        generation: 9,
        applied: Timestamp::from_second(1_700_000_000).expect("a time"),
        valid: true,
        trial_deadline: Timestamp::from_second(1_700_000_060).ok(),
        state: HealthReport {
            errors: 4,
            damaged: 1,
            ..HealthReport::default()
        },
    }
}

#[test]
fn every_family_is_there_with_its_type_and_value() {
    let text = render(&reading()).expect("rendered");
    for line in [
        "palisade_packets_total{direction=\"inbound\",interface=\"eth0\",reason=\"default\",verdict=\"drop\"} 3",
        "palisade_bytes_total{direction=\"inbound\",interface=\"eth0\",reason=\"default\",verdict=\"drop\"} 180",
        "palisade_rule_packets_total{mode=\"enforce\",rule=\"shop \\\"quoted\\\"\"} 2",
        "palisade_rule_bytes_total{mode=\"enforce\",rule=\"shop \\\"quoted\\\"\"} 120",
        "palisade_rule_packets_total{mode=\"observe\",rule=\"shop \\\"quoted\\\"\"} 3",
        "palisade_rule_limited_packets_total{rule=\"shop \\\"quoted\\\"\"} 1",
        "palisade_rule_limited_bytes_total{rule=\"shop \\\"quoted\\\"\"} 60",
        "palisade_bans{origin=\"manual\"} 1",
        "palisade_bans{origin=\"automatic\"} 0",
        "palisade_sources_tracked 7",
        "palisade_tick_seconds{share=\"0.99\"} 0.004",
        "palisade_snapshot_seconds{share=\"1\"} 0.02",
        "palisade_source_packets_per_second{source=\"203.0.113.7\"} 12.5",
        "palisade_alerts_total{kind=\"port_scan\",severity=\"warning\"} 4",
        "palisade_alerts_total{kind=\"syn_flood\",severity=\"info\"} 0",
        "palisade_alert_active{kind=\"syn_flood\",severity=\"critical\",subject=\"host\"} 1",
        "palisade_incidents_total{kind=\"port_scan\",severity=\"warning\"} 2",
        "palisade_incidents_active{kind=\"syn_flood\",severity=\"critical\"} 1",
        "palisade_events_lost_total 5",
        "palisade_syn_cookies_sent_total 900",
        "palisade_syn_cookies_accepted_total 80",
        "palisade_syn_cookies_rejected_total 7",
        "palisade_syn_cookies_armed{service=\"shop\"} 1",
        "palisade_map_entries{map=\"bans\"} 1",
        "palisade_map_capacity{map=\"bans\"} 100",
        "palisade_policy_generation 9",
        "palisade_policy_applied_timestamp_seconds 1700000000",
        "palisade_policy_valid 1",
        "palisade_trial_pending 1",
        "palisade_trial_deadline_timestamp_seconds 1700000060",
        "palisade_state_healthy 0",
        "palisade_state_errors_total 4",
        "palisade_state_damaged_total 1",
        "# TYPE palisade_packets_total counter",
        "# TYPE palisade_bans gauge",
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    assert!(text.contains(&format!("palisade_build_info{{revision=\"{REVISION}\"")));
}

#[test]
fn at_most_a_hundred_subjects_are_named_and_the_most_severe_first() {
    let mut reading = reading();
    for last in 0..=255 {
        let subject = Subject::source([203, 0, 113, last].into());
        reading
            .active_alerts
            .insert(0, (AlertKind::PortScan, Severity::Warning, subject));
    }
    let text = render(&reading).expect("rendered");
    let named = text
        .lines()
        .filter(|line| line.starts_with("palisade_alert_active{"))
        .count();
    assert_eq!(named, MOST_SUBJECTS);
    assert!(text.contains("subject=\"host\""));
}

#[test]
fn an_invalid_policy_shows_as_zero() {
    let mut reading = reading();
    reading.valid = false;
    let text = render(&reading).expect("rendered");
    assert!(text.lines().any(|line| line == "palisade_policy_valid 0"));
}

/// Runs promtool over `input`; `None`, with a word about it, where it is not installed.
fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let spawned = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        eprintln!("skipped: promtool is not installed");
        return None;
    };
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

#[test]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    let text = render(&reading()).expect("rendered");
    if let Some((good, said)) = promtool(&["check", "metrics"], &text) {
        assert!(good && said.trim().is_empty(), "{said}");
    }
}

#[test]
fn promtool_proves_the_alerting_rules() {
    let rules = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../packaging/prometheus/palisade.rules.test.yml"
    );
    if let Some((good, said)) = promtool(&["test", "rules", rules], "") {
        assert!(good, "{said}");
    }
}
