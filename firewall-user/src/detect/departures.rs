//! Feeds what is learned from snapshots, and raises what departs from it: `traffic_spike`, `traffic_loss` and
//! `new_source_surge` of services and of the host. What usual traffic looks like to the other detectors is learned here as
//! well, so that their thresholds give way on hosts on which they would be reached every day.

use std::net::IpAddr;

use firewall_common::layout::TrafficKind;
use firewall_common::sampling::Class;
use firewall_common::{Direction, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::book::{Book, Details, Sign};
use super::crowd::Crowd;
use super::hashed::{HashMap, HashSet};
use super::learned::{
    Counts, Departure, Finding, Kept, Learned, Measure, Owner, Reading, Sensitivity, Side,
};
use super::relaxed::{Peaks, Rate, Relaxed};
use super::sources::Interval;
use super::{AlertKind, HostCounts, ServiceCounts, ServiceName, Snapshot, Subject, Time};

/// New sources that are looked at one by one in a tick; the rest is counted.
const MOST_NEWCOMERS: usize = 65_536;

/// The host and its services beside what was learned of them.
#[derive(Debug)]
pub(super) struct Departures {
    learned: Learned,
    host: HostCounts,
    /// By name, with the name under which they are learned.
    services: HashMap<String, (Owner, ServiceCounts)>,
    clock: u64,
    crowd: Crowd,
    relaxed: Relaxed,
}

/// What is kept across restarts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptRanges {
    learned: Kept,
    peaks: Vec<(Rate, Peaks)>,
}

/// A departure of a subject.
struct Found {
    subject: Subject,
    finding: Finding,
}

impl Departures {
    /// Learns by spans of the length `span`.
    pub fn new(sensitivity: Sensitivity, span: Time) -> Self {
        Self {
            learned: Learned::new(sensitivity, span),
            host: HostCounts::default(),
            services: HashMap::default(),
            clock: 0,
            crowd: Crowd::default(),
            relaxed: Relaxed::default(),
        }
    }

    /// Takes the counts as they are for history. What was learned stays.
    pub fn rebase(&mut self, snapshot: &Snapshot) {
        self.remember(snapshot);
        self.crowd = Crowd::default();
        self.learned.forget_lately();
    }

    /// Takes a snapshot, and notes what stands out.
    pub fn judge(&mut self, book: &mut Book, interval: Interval, snapshot: &Snapshot) {
        let span = (interval.from, interval.now);
        let newcomers = self.newcomers(snapshot);
        let mut by_rule = self.contacted(snapshot, &newcomers);
        let host = host_counts(&self.host, &snapshot.host, newcomers.len());
        let on_host = self.learned.add(&Owner::Host, span, &host);
        let mut found = Vec::new();
        for service in &snapshot.services {
            let Some((owner, before)) = self.services.get(&service.name) else {
                continue;
            };
            let newcomers = by_rule.remove(&service.rule).unwrap_or_default();
            let counts = service_counts(before, service, newcomers);
            let findings = self.learned.add(owner, span, &counts);
            if findings.is_empty() {
                continue;
            }
            let Some(name) = ServiceName::new(&service.name) else {
                continue;
            };
            let subject = Subject::Service(name);
            found.extend(
                findings
                    .into_iter()
                    .map(|finding| Found { subject, finding }),
            );
        }
        // Where a service stands out, the host does so because of it.
        let named: Vec<AlertKind> = found.iter().map(|found| kind(&found.finding)).collect();
        let on_host = on_host
            .into_iter()
            .filter(|finding| !named.contains(&kind(finding)));
        found.extend(on_host.map(|finding| Found {
            subject: Subject::Host,
            finding,
        }));
        self.raise(book, interval.now, found);
        let heard = book.take_heard();
        book.relax(self.relaxed.hear(interval.now, &heard));
        self.remember(snapshot);
    }

    /// What is to be kept across restarts.
    pub fn kept(&self) -> KeptRanges {
        KeptRanges {
            learned: self.learned.kept(),
            peaks: self.relaxed.kept(),
        }
    }

    /// Takes up what was kept.
    pub fn restore(&mut self, kept: KeptRanges) -> Result<(), String> {
        self.learned.restore(kept.learned)?;
        self.relaxed.restore(kept.peaks);
        Ok(())
    }

    /// The last whole minutes beside what was expected of them.
    pub fn readings(&self) -> impl Iterator<Item = (&Owner, Reading)> {
        self.learned.readings()
    }

    /// One alert for each kind and subject: about the measure that departs most.
    fn raise(&self, book: &mut Book, now: Time, mut found: Vec<Found>) {
        found.sort_by(|one, other| extent(&other.finding).total_cmp(&extent(&one.finding)));
        let mut said: Vec<(AlertKind, Subject)> = Vec::new();
        for Found { subject, finding } in found {
            let kind = kind(&finding);
            // Floods say more than that there is much traffic.
            let is_flood =
                kind == AlertKind::TrafficSpike && book.alerts().any(|it| it.kind.is_flood());
            let is_new = !book.fires(kind, subject);
            if said.contains(&(kind, subject)) || (is_flood && is_new) {
                continue;
            }
            said.push((kind, subject));
            let sign = sign(kind, subject, &finding);
            book.hold(now, sign, || self.details(subject, &finding));
        }
    }

    fn details(&self, subject: Subject, finding: &Finding) -> Details {
        let Finding { measure, departure } = finding;
        let Departure {
            observed, expected, ..
        } = departure;
        let who = match subject {
            Subject::Host => "The host".to_owned(),
            subject => format!("{subject}"),
        };
        let usual = format!("{} to {}", figure(expected.low), figure(expected.high));
        let (observed_text, unit) = (figure(*observed), measure.unit());
        let why = match (departure.side, measure) {
            (Side::Below, _) => format!(
                "{who} gets only {observed_text} {unit}; {} are usual at this time.",
                figure(expected.middle)
            ),
            (Side::Above, Measure::NewSources) => {
                format!("{observed_text} {unit} come to {who}; {usual} are usual at this time.")
            }
            (Side::Above, _) => {
                format!("{who} gets {observed_text} {unit}; {usual} are usual at this time.")
            }
        };
        let mut evidence = Map::new();
        let mut put = |name: &str, value: Value| evidence.insert(name.to_owned(), value);
        put("measure", json!(measure));
        put("observed", json!(rounded(*observed)));
        put("expected_low", json!(rounded(expected.low)));
        put("expected_middle", json!(rounded(expected.middle)));
        put("expected_high", json!(rounded(expected.high)));
        if departure.side == Side::Above {
            evidence.extend(self.crowd.evidence());
        }
        Details { why, evidence }
    }

    /// The sources that the table took in since the last snapshot.
    fn newcomers(&self, snapshot: &Snapshot) -> HashSet<IpAddr> {
        let entered = snapshot
            .sources
            .iter()
            .filter(|sample| sample.entered > self.clock);
        entered
            .map(|sample| sample.source)
            .take(MOST_NEWCOMERS)
            .collect()
    }

    /// By rule, how many of them came to it. Of a sample of packets, so a very large crowd is counted low.
    fn contacted(&mut self, snapshot: &Snapshot, newcomers: &HashSet<IpAddr>) -> HashMap<u32, u64> {
        let mut by_rule = HashMap::default();
        if newcomers.is_empty() {
            return by_rule;
        }
        let mut seen = HashSet::default();
        let contacts = snapshot.sightings.iter().filter(|sighting| {
            sighting.class == Class::Contact
                && sighting.direction == Direction::Inbound
                && sighting.verdict == Verdict::Pass
        });
        for sighting in contacts {
            let Some(source) = Subject::source(sighting.sender()).prefix() else {
                continue;
            };
            let source = source.network();
            if newcomers.contains(&source) && seen.insert(source) {
                *by_rule.entry(sighting.rule).or_default() += 1;
                self.crowd
                    .add(sighting.time, source, sighting.packet.destination_port);
            }
        }
        by_rule
    }

    fn remember(&mut self, snapshot: &Snapshot) {
        self.host = snapshot.host;
        self.clock = snapshot.clock;
        if self.services.len() > 2 * snapshot.services.len() {
            self.services.clear();
        }
        for service in &snapshot.services {
            match self.services.get_mut(&service.name) {
                Some((_, before)) => before.clone_from(service),
                None => {
                    let owner = Owner::Service(service.name.clone());
                    self.services
                        .insert(service.name.clone(), (owner, service.clone()));
                    let there = &snapshot.services;
                    self.learned
                        .retain(|name| there.iter().any(|service| service.name == name));
                }
            }
        }
    }
}

/// What was added to the host's counts; counters that went back say nothing this time.
fn host_counts(before: &HostCounts, after: &HostCounts, newcomers: usize) -> Counts {
    let kind = |kind: TrafficKind| added(before.kinds[kind as usize], after.kinds[kind as usize]);
    [
        added(before.packets, after.packets),
        added(before.bytes, after.bytes),
        kind(TrafficKind::Syn),
        kind(TrafficKind::Request),
        Some(newcomers as f64),
    ]
}

fn service_counts(before: &ServiceCounts, after: &ServiceCounts, newcomers: u64) -> Counts {
    [
        added(before.packets, after.packets),
        added(before.bytes, after.bytes),
        added(before.connections, after.connections),
        added(before.requests, after.requests),
        Some(newcomers as f64),
    ]
}

fn added(before: u64, after: u64) -> Option<f64> {
    after.checked_sub(before).map(|added| added as f64)
}

fn kind(finding: &Finding) -> AlertKind {
    match (finding.departure.side, finding.measure) {
        (Side::Below, _) => AlertKind::TrafficLoss,
        (Side::Above, Measure::NewSources) => AlertKind::NewSourceSurge,
        (Side::Above, _) => AlertKind::TrafficSpike,
    }
}

/// How many times what is usual, or what share of it is missing.
fn extent(finding: &Finding) -> f64 {
    let Departure {
        side,
        observed,
        expected,
        ..
    } = finding.departure;
    match side {
        Side::Above => observed / expected.high.max(f64::MIN_POSITIVE),
        Side::Below => 1.0 - observed / expected.middle.max(f64::MIN_POSITIVE),
    }
}

fn sign(kind: AlertKind, subject: Subject, finding: &Finding) -> Sign {
    let departure = &finding.departure;
    Sign {
        kind,
        subject,
        observed: rounded(departure.observed),
        expected: rounded(match departure.side {
            Side::Above => departure.expected.high,
            Side::Below => departure.expected.middle,
        }),
        unit: finding.measure.unit(),
        started: departure.started,
    }
}

/// With as many digits as mean something.
fn rounded(rate: f64) -> f64 {
    if rate >= 10.0 {
        rate.round()
    } else {
        (rate * 100.0).round() / 100.0
    }
}

fn figure(rate: f64) -> String {
    rounded(rate).to_string()
}
