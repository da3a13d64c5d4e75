//! The metric families. The kernel and the daemon keep the counts; a scrape writes them down in a
//! registry of its own, so that nothing is counted twice and nothing goes stale.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use anyhow::Context;
use jiff::Timestamp;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::notify::NotifierDocument;
use super::ranges::Range;
use super::{REVISION, VERSION};
use crate::daemon::documents::{CookieReport, Count, RuleDocument};
use crate::daemon::stopwatch::Stopwatch;
use crate::datapath::{MapUse, Standing, Total};
use crate::detect::{AlertKind, Severity, Subject};
use crate::state::HealthReport;

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
    pub notifications: Vec<NotifierDocument>,
    /// Where the fence should stand, and whether it does.
    pub standing: Vec<Standing>,
    pub maps: Vec<MapUse>,
    pub generation: u64,
    pub applied: Timestamp,
    /// Whether the latest policy offered was taken.
    pub valid: bool,
    /// When the policy in force goes away unless it is confirmed.
    pub trial_deadline: Option<Timestamp>,
    /// Whether what should outlive the daemon is on the disk.
    pub state: HealthReport,
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
    super::notifications::notifications(registry, &reading.notifications)?;
    super::standing::standing(registry, &reading.standing)?;
    super::state::state(registry, &reading.state)?;
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
    from_zero(&alerts)?;
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
    from_zero(&incidents)?;
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

/// Has a family begin with a zero for each kind and severity: a counter that appears with its first event shows
/// no increase by it.
fn from_zero(family: &IntCounterVec) -> prometheus::Result<()> {
    for kind in AlertKind::ALL {
        for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
            family.get_metric_with_label_values(&[kind.name(), severity.name()])?;
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
