//! The metric families. The kernel and the daemon keep the counts; a scrape writes them down in a
//! registry of its own, so that nothing is counted twice and nothing goes stale.

use std::net::IpAddr;

use anyhow::Context;
use jiff::Timestamp;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::ranges::Range;
use super::{REVISION, VERSION};
use crate::daemon::documents::{CookieReport, Count, RuleDocument};
use crate::daemon::stopwatch::Stopwatch;
use crate::datapath::{MapUse, Total};
use crate::detect::{AlertKind, Severity, Subject};

/// Subjects of active alerts that are named; the rest only counts in the totals.
const MOST_SUBJECTS: usize = 100;

/// Everything that a scrape shows, read at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    pub totals: Vec<Total>,
    pub rules: Vec<RuleDocument>,
    /// Bans in force by origin.
    pub bans: [(&'static str, usize); 2],
    pub sources_tracked: usize,
    /// How long the latest rounds took, and the look at all sources in each, at [`Stopwatch::SHARES`].
    pub round_seconds: [f64; 3],
    pub look_seconds: [f64; 3],
    /// The heaviest sources with their packets per second.
    pub top_sources: Vec<(IpAddr, f64)>,
    pub alert_totals: Vec<(AlertKind, Severity, u64)>,
    pub active_alerts: Vec<(AlertKind, Severity, Subject)>,
    /// What was learned to expect of the last minute.
    pub ranges: Vec<Range>,
    /// Incidents begun, by the kind and severity with which they began.
    pub incident_totals: Vec<(AlertKind, Severity, u64)>,
    /// Those that last, by their first kind.
    pub active_incidents: Vec<(Option<AlertKind>, Severity)>,
    pub events_lost: u64,
    pub syn_cookies: CookieReport,
    pub maps: Vec<MapUse>,
    pub generation: u64,
    pub applied: Timestamp,
    /// Whether the latest policy offered was taken.
    pub valid: bool,
    /// When the policy in force goes away unless it is confirmed.
    pub trial_deadline: Option<Timestamp>,
}

/// The text of a scrape.
pub fn render(reading: &Reading) -> anyhow::Result<String> {
    let registry = Registry::new();
    fill(&registry, reading).context("the metrics contradict themselves")?;
    TextEncoder::new()
        .encode_to_string(&registry.gather())
        .context("the metrics cannot be written")
}

fn fill(registry: &Registry, reading: &Reading) -> prometheus::Result<()> {
    registry.register(Box::new(ProcessCollector::for_self()))?;
    traffic(registry, reading)?;
    responses(registry, reading)?;
    super::ranges::ranges(registry, &reading.ranges)?;
    super::cookies::cookies(registry, &reading.syn_cookies)?;
    policy(registry, reading)?;
    machinery(registry, reading)
}

fn traffic(registry: &Registry, reading: &Reading) -> prometheus::Result<()> {
    let labels = ["interface", "direction", "verdict", "reason"];
    let packets = counters(
        registry,
        "palisade_packets_total",
        "Packets judged, by verdict and reason.",
        &labels,
    )?;
    let bytes = counters(
        registry,
        "palisade_bytes_total",
        "Bytes of the packets judged, by verdict and reason.",
        &labels,
    )?;
    for total in &reading.totals {
        let values = [
            total.interface.as_str(),
            total.direction.name(),
            total.verdict.name(),
            total.reason.name(),
        ];
        packets
            .get_metric_with_label_values(&values)?
            .inc_by(total.counter.packets);
        bytes
            .get_metric_with_label_values(&values)?
            .inc_by(total.counter.bytes);
    }
    let packets = counters(
        registry,
        "palisade_rule_packets_total",
        "Packets that a rule matched.",
        &["rule", "mode"],
    )?;
    let bytes = counters(
        registry,
        "palisade_rule_bytes_total",
        "Bytes of the packets that a rule matched.",
        &["rule", "mode"],
    )?;
    let limited_packets = counters(
        registry,
        "palisade_rule_limited_packets_total",
        "Packets over a rule's limit: dropped, or counted only where the rule or the policy observes.",
        &["rule"],
    )?;
    let limited_bytes = counters(
        registry,
        "palisade_rule_limited_bytes_total",
        "Bytes of the packets over a rule's limit.",
        &["rule"],
    )?;
    for rule in &reading.rules {
        if let Some(limited) = rule.limited {
            let values = [rule.rule.as_str()];
            limited_packets
                .get_metric_with_label_values(&values)?
                .inc_by(limited.packets);
            limited_bytes
                .get_metric_with_label_values(&values)?
                .inc_by(limited.bytes);
        }
        if rule.built_in {
            let values = [rule.rule.as_str(), rule.mode.as_str()];
            packets
                .get_metric_with_label_values(&values)?
                .inc_by(rule.packets);
            bytes
                .get_metric_with_label_values(&values)?
                .inc_by(rule.bytes);
            continue;
        }
        let all = Count {
            packets: rule.packets,
            bytes: rule.bytes,
        };
        let observed = rule.observed.map(|observed| observed.count);
        let enforced = all.minus(observed.unwrap_or_default());
        for (mode, count) in [
            ("observe", observed.unwrap_or_default()),
            ("enforce", enforced),
        ] {
            // Each mode that the rule is in or was in.
            if count.packets > 0 || rule.mode == mode {
                let values = [rule.rule.as_str(), mode];
                packets
                    .get_metric_with_label_values(&values)?
                    .inc_by(count.packets);
                bytes
                    .get_metric_with_label_values(&values)?
                    .inc_by(count.bytes);
            }
        }
    }
    gauge(
        registry,
        "palisade_sources_tracked",
        "Sources that are accounted at the moment.",
        count(reading.sources_tracked),
    )?;
    let rates = GaugeVec::new(
        Opts::new(
            "palisade_source_packets_per_second",
            "Packets per second of the heaviest sources, averaged over about ten seconds.",
        ),
        &["source"],
    )?;
    registry.register(Box::new(rates.clone()))?;
    for (source, rate) in &reading.top_sources {
        rates
            .get_metric_with_label_values(&[source.to_string()])?
            .set(*rate);
    }
    Ok(())
}

fn responses(registry: &Registry, reading: &Reading) -> prometheus::Result<()> {
    let bans = gauges(
        registry,
        "palisade_bans",
        "Bans in force, by who asked for them.",
        &["origin"],
    )?;
    for (origin, number) in reading.bans {
        bans.get_metric_with_label_values(&[origin])?
            .set(count(number));
    }
    let alerts = counters(
        registry,
        "palisade_alerts_total",
        "Alerts that fired.",
        &["kind", "severity"],
    )?;
    for (kind, severity, number) in &reading.alert_totals {
        alerts
            .get_metric_with_label_values(&[kind.name(), severity.name()])?
            .inc_by(*number);
    }
    let active = gauges(
        registry,
        "palisade_alert_active",
        "1 for each alert that fires now; at most 100 are named, the most severe first.",
        &["kind", "severity", "subject"],
    )?;
    let mut named = reading.active_alerts.clone();
    named.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.cmp(right)));
    for (kind, severity, subject) in named.iter().take(MOST_SUBJECTS) {
        let subject = subject.to_string();
        active
            .get_metric_with_label_values(&[kind.name(), severity.name(), &subject])?
            .set(1);
    }
    let incidents = counters(
        registry,
        "palisade_incidents_total",
        "Incidents that began: alerts that belong together, by the kind and severity of the first.",
        &["kind", "severity"],
    )?;
    for (kind, severity, number) in &reading.incident_totals {
        incidents
            .get_metric_with_label_values(&[kind.name(), severity.name()])?
            .inc_by(*number);
    }
    let active = gauges(
        registry,
        "palisade_incidents_active",
        "Incidents that last, by their first kind and their severity.",
        &["kind", "severity"],
    )?;
    for (kind, severity) in &reading.active_incidents {
        if let Some(kind) = kind {
            active
                .get_metric_with_label_values(&[kind.name(), severity.name()])?
                .inc();
        }
    }
    Ok(())
}

fn policy(registry: &Registry, reading: &Reading) -> prometheus::Result<()> {
    gauge(
        registry,
        "palisade_policy_generation",
        "Number of the policy in force; grows with each policy applied.",
        i64::try_from(reading.generation).unwrap_or(i64::MAX),
    )?;
    gauge(
        registry,
        "palisade_policy_applied_timestamp_seconds",
        "When the policy in force was applied, in Unix time.",
        reading.applied.as_second(),
    )?;
    gauge(
        registry,
        "palisade_policy_valid",
        "1 if the daemon's policy file is in force as it was read last, 0 if it was refused or given back.",
        i64::from(reading.valid),
    )?;
    gauge(
        registry,
        "palisade_trial_pending",
        "1 while the policy in force is on trial, 0 otherwise.",
        i64::from(reading.trial_deadline.is_some()),
    )?;
    gauge(
        registry,
        "palisade_trial_deadline_timestamp_seconds",
        "When the policy on trial goes away unless it is confirmed, in Unix time; 0 without a trial.",
        reading.trial_deadline.map_or(0, Timestamp::as_second),
    )
}

fn machinery(registry: &Registry, reading: &Reading) -> prometheus::Result<()> {
    for (name, help, seconds) in [
        (
            "palisade_tick_seconds",
            "How long a share of the last minute's rounds took at most.",
            reading.round_seconds,
        ),
        (
            "palisade_snapshot_seconds",
            "How long the look at all sources took at most, in a share of the last minute's rounds.",
            reading.look_seconds,
        ),
    ] {
        let family = GaugeVec::new(Opts::new(name, help), &["share"])?;
        registry.register(Box::new(family.clone()))?;
        for (share, seconds) in Stopwatch::SHARES.iter().zip(seconds) {
            let share = share.to_string();
            family
                .get_metric_with_label_values(&[share.as_str()])?
                .set(seconds);
        }
    }
    let lost = IntCounter::new(
        "palisade_events_lost_total",
        "Sampled packets for which the ring buffer had no room.",
    )?;
    registry.register(Box::new(lost.clone()))?;
    lost.inc_by(reading.events_lost);
    let entries = gauges(
        registry,
        "palisade_map_entries",
        "Entries of a kernel map.",
        &["map"],
    )?;
    let capacity = gauges(
        registry,
        "palisade_map_capacity",
        "Entries that a kernel map has room for.",
        &["map"],
    )?;
    for map in &reading.maps {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        entries
            .get_metric_with_label_values(&[map.map])?
            .set(number(map.entries));
        capacity
            .get_metric_with_label_values(&[map.map])?
            .set(number(map.capacity));
    }
    gauges(
        registry,
        "palisade_build_info",
        "Always 1; the labels say what is running.",
        &["version", "revision"],
    )?
    .get_metric_with_label_values(&[VERSION, REVISION])?
    .set(1);
    Ok(())
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    let family = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
    let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn gauge(registry: &Registry, name: &str, help: &str, value: i64) -> prometheus::Result<()> {
    let gauge = IntGauge::new(name, help)?;
    gauge.set(value);
    registry.register(Box::new(gauge))
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use firewall_common::layout::Counter;
    use firewall_common::{Direction, Reason, Verdict};

    use super::*;
    use crate::daemon::documents::{ArmedDocument, Observed};

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
            maps: vec![MapUse {
                map: "bans",
                entries: 1,
                capacity: 100,
            }],
            generation: 9,
            applied: Timestamp::from_second(1_700_000_000).expect("a time"),
            valid: true,
            trial_deadline: Timestamp::from_second(1_700_000_060).ok(),
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
}
