//! Keeps alerts from first sign to last: each fires once, is updated when it gets worse, and is
//! resolved when it has been quiet for long enough.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::addresses::{Addresses, Known, Look};
use super::learned::Sensitivity;
use super::relaxed::{Rate, Whose};
use super::{Alert, AlertChange, AlertKind, AlertState, Severity, Sighting, Subject, Time};

/// An alert ends below this share of the threshold that raised it, so that a rate that hovers
/// around the threshold is one alert.
pub(super) const RELEASE: f64 = 0.5;
/// How many times the threshold makes a flood critical.
const CRITICAL: f64 = 10.0;
/// A loss that leaves no more than this is critical.
const ALL_BUT_NOTHING: f64 = 0.05;
/// How much worse it must have become to be reported again.
const WORSE: f64 = 1.5;

/// How often it is asked again which address inside an IPv6 /64 an alert is about.
const ASKED_AGAIN: Time = 1_000_000_000;

/// A beacon that was silent for as long is over.
const BEACON_QUIET: Time = 2 * 3_600 * 1_000_000_000;

/// A measurement that reached the release level of its detector.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sign {
    pub kind: AlertKind,
    pub subject: Subject,
    pub observed: f64,
    pub expected: f64,
    pub unit: &'static str,
    pub started: Time,
}

impl Sign {
    fn rate(&self) -> Rate {
        Rate {
            kind: self.kind,
            of: match self.subject {
                Subject::Host | Subject::Service(_) => Whose::Host,
                Subject::Source(prefix) if self.subject == Subject::source(prefix.addr()) => {
                    Whose::Source
                }
                Subject::Source(_) => Whose::Prefix,
            },
        }
    }
}

/// The words and counts of a sign; made only when they are needed.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub why: String,
    pub evidence: Map<String, Value>,
}

/// For how long nothing must be seen until an alert is resolved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quiet {
    pub floods: Time,
    /// Scanners pause.
    pub scans: Time,
}

/// All alerts that fire.
#[derive(Debug)]
pub(super) struct Book {
    capacity: usize,
    quiet: Quiet,
    sensitivity: Sensitivity,
    entries: BTreeMap<(AlertKind, Subject), Entry>,
    changes: Vec<AlertChange>,
    next_id: u64,
    suppressed: u64,
    /// Sources that are banned now.
    banned: HashSet<Subject>,
    /// The highest rate behind each kind of alert since it was asked for last.
    heard: BTreeMap<Rate, f64>,
    /// Thresholds that are usual here, where they are above the set ones.
    relaxed: BTreeMap<Rate, f64>,
    /// Who it is inside an IPv6 /64.
    addresses: Addresses,
}

/// An alert that fires. Detectors know it by the source that they judge; the alert itself may name a single address of it.
#[derive(Debug)]
struct Entry {
    alert: Alert,
    /// The address of an IPv6 /64 that it is about, and its share.
    named: Option<(Ipv6Addr, f64)>,
    /// When that was asked last.
    asked: Time,
    last_sign: Time,
    reported: f64,
    /// It is not over before.
    kept_until: Time,
}

impl Book {
    pub fn new(capacity: usize, quiet: Quiet) -> Self {
        Self {
            capacity,
            quiet,
            sensitivity: Sensitivity::default(),
            entries: BTreeMap::new(),
            changes: Vec::new(),
            next_id: 1,
            suppressed: 0,
            heard: BTreeMap::new(),
            relaxed: BTreeMap::new(),
            banned: HashSet::new(),
            addresses: Addresses::default(),
        }
    }

    /// Judges what is noted by this.
    pub fn with_sensitivity(mut self, sensitivity: Sensitivity) -> Self {
        self.sensitivity = sensitivity;
        self
    }

    pub fn sensitivity(&self) -> Sensitivity {
        self.sensitivity
    }

    /// Takes in which sources are banned. What a banned source goes on to send keeps its alerts alive, but
    /// raises none: its own connections and their retries look like a flood that nothing follows.
    pub fn ban(&mut self, sources: &HashSet<IpAddr>) {
        // An address that is banned alone says nothing of its /64.
        let single = |source: &IpAddr| match source {
            IpAddr::V6(address) if !is_network(*address) => Some(*address),
            _ => None,
        };
        self.addresses.begin(sources.iter().filter_map(single));
        let whole = sources.iter().filter(|source| single(source).is_none());
        self.banned = whole.map(|source| Subject::source(*source)).collect();
    }

    /// Takes in the packets of a tick, by which the addresses of a /64 are told apart.
    pub fn see(&mut self, now: Time, sightings: &[Sighting]) {
        self.addresses.see(now, sightings);
    }

    /// Notes that an address did what alerts of a kind are about: a try in vain, a failed login, a connection that it holds.
    pub fn blame(&mut self, at: Time, kind: AlertKind, address: IpAddr) {
        self.addresses.blame(at, kind, address);
    }

    /// Notes a sign: fires at the threshold, sustains above the release level. The threshold is that of
    /// medium sensitivity.
    pub fn note(&mut self, now: Time, mut sign: Sign, details: impl FnOnce() -> Details) {
        sign.expected *= self.sensitivity.scale();
        self.note_exactly(now, sign, details);
    }

    /// As [`Self::note`], with a threshold in which the sensitivity is already.
    pub fn note_exactly(&mut self, now: Time, mut sign: Sign, details: impl FnOnce() -> Details) {
        let rate = sign.rate();
        if sign.observed > 0.0 && rate.is_learned() {
            let heard = self.heard.entry(rate).or_default();
            *heard = heard.max(sign.observed);
        }
        if let Some(usual) = self.relaxed.get(&rate) {
            sign.expected = sign.expected.max(*usual);
        }
        if sign.observed < sign.expected * RELEASE {
            return;
        }
        let is_banned = self.banned.contains(&sign.subject);
        let is_another = sign.observed >= sign.expected && self.is_another(now, &sign, is_banned);
        if is_another {
            self.resolve(|key, _| *key == (sign.kind, sign.subject));
        }
        if let Some(entry) = self.entries.get_mut(&(sign.kind, sign.subject)) {
            entry.last_sign = now;
            if sign.observed > entry.alert.observed
                && let Some(change) = entry.worsen(sign, details())
            {
                self.changes.push(change);
            }
        } else if sign.observed >= sign.expected && (is_another || !is_banned) {
            if self.entries.len() >= self.capacity {
                self.suppressed += 1;
            } else {
                self.fire(now, sign, details());
            }
        }
    }

    /// Keeps an alert, if it fires, at least until then: what is slow pauses for long.
    pub fn keep(&mut self, kind: AlertKind, subject: Subject, until: Time) {
        if let Some(entry) = self.entries.get_mut(&(kind, subject)) {
            entry.kept_until = entry.kept_until.max(until);
        }
    }

    /// Fires, or keeps up, an alert whose detector has decided that it fires.
    pub fn hold(&mut self, now: Time, sign: Sign, details: impl FnOnce() -> Details) {
        if let Some(entry) = self.entries.get_mut(&(sign.kind, sign.subject)) {
            entry.last_sign = now;
            if sign.observed > entry.alert.observed
                && sign.observed > sign.expected
                && let Some(change) = entry.worsen(sign, details())
            {
                self.changes.push(change);
            }
        } else if self.entries.len() >= self.capacity {
            self.suppressed += 1;
        } else {
            self.fire(now, sign, details());
        }
    }

    /// The highest rates behind the kinds of alerts since it was asked last.
    pub fn take_heard(&mut self) -> BTreeMap<Rate, f64> {
        std::mem::take(&mut self.heard)
    }

    /// Raises thresholds to what is usual here.
    pub fn relax(&mut self, thresholds: impl IntoIterator<Item = (Rate, f64)>) {
        self.relaxed.extend(thresholds);
    }

    /// Whether an alert of this kind and subject fires.
    pub fn fires(&self, kind: AlertKind, subject: Subject) -> bool {
        self.entries.contains_key(&(kind, subject))
    }

    /// Resolves what has been quiet for long enough, and gives all changes since the last time.
    pub fn settle(&mut self, now: Time) -> Vec<AlertChange> {
        let quiet = self.quiet;
        self.resolve(|_, entry| {
            now >= entry.kept_until
                && now.saturating_sub(entry.last_sign) >= quiet.of(entry.alert.kind)
        });
        std::mem::take(&mut self.changes)
    }

    /// Resolves everything, because time has been lost.
    pub fn close(&mut self) {
        self.resolve(|_, _| true);
        self.addresses.clear();
    }

    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.entries.values().map(|entry| &entry.alert)
    }

    pub fn alert_mut(&mut self, id: u64) -> Option<&mut Alert> {
        self.entries
            .values_mut()
            .map(|entry| &mut entry.alert)
            .find(|alert| alert.id == id)
    }

    /// Signs that would have fired, had there been room.
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Whether the alert that fires about a source should be about another address of it, or about all of it: somebody else
    /// does the same now, and enough of it. Of what is banned as a whole it can only become known which address it was.
    fn is_another(&mut self, now: Time, sign: &Sign, is_banned: bool) -> bool {
        let Some(entry) = self.entries.get_mut(&(sign.kind, sign.subject)) else {
            return false;
        };
        if now.saturating_sub(entry.asked) < ASKED_AGAIN {
            return false;
        }
        entry.asked = now;
        let named = entry.named.map(|(address, _)| address);
        let known = Known {
            address: named,
            is_banned,
        };
        let look = self.addresses.look(now, sign.kind, &sign.subject, known);
        let Some(look) = look else { return false };
        let leader = look.leader.map(|(address, _)| address);
        let is_another = match named {
            Some(_) => look.passed && !is_banned,
            None => leader.is_some(),
        };
        is_another && sign.observed * (1.0 - look.banned) >= sign.expected
    }

    fn fire(&mut self, now: Time, sign: Sign, details: Details) {
        let known = Known {
            address: None,
            is_banned: self.banned.contains(&sign.subject),
        };
        let look = self.addresses.look(now, sign.kind, &sign.subject, known);
        let Look { leader, banned, .. } = look.unwrap_or_default();
        // What banned addresses of it go on to send raises no alert.
        if banned > 0.0 && sign.observed * (1.0 - banned) < sign.expected {
            return;
        }
        let details = details.about(&sign, leader);
        let id = self.next_id.max(now / 1_000);
        self.next_id = id.saturating_add(1);
        let alert = Alert {
            id,
            kind: sign.kind,
            subject: leader.map_or(sign.subject, |(address, _)| {
                Subject::Source(IpNet::from(IpAddr::V6(address)))
            }),
            severity: severity(&sign),
            state: AlertState::Firing,
            started: sign.started.min(now),
            detected: now,
            ended: None,
            observed: sign.observed,
            expected: sign.expected,
            unit: sign.unit.to_owned(),
            why: details.why,
            evidence: details.evidence,
            response: Vec::new(),
            incident: None,
        };
        self.changes.push(AlertChange::Fired(alert.clone()));
        let entry = Entry {
            reported: alert.observed,
            alert,
            named: leader,
            asked: now,
            last_sign: now,
            kept_until: 0,
        };
        self.entries.insert((sign.kind, sign.subject), entry);
    }

    fn resolve(&mut self, over: impl Fn(&(AlertKind, Subject), &Entry) -> bool) {
        let ended: Vec<_> = self
            .entries
            .iter()
            .filter(|(key, entry)| over(key, entry))
            .map(|(key, _)| *key)
            .collect();
        for key in ended {
            if let Some(Entry {
                mut alert,
                last_sign,
                ..
            }) = self.entries.remove(&key)
            {
                alert.state = AlertState::Resolved;
                alert.ended = Some(last_sign);
                self.changes.push(AlertChange::Resolved(alert));
            }
        }
    }
}

impl Quiet {
    fn of(self, kind: AlertKind) -> Time {
        match kind {
            AlertKind::PortScan | AlertKind::HostSweep => self.scans,
            // Its signs are as far apart as its contacts.
            AlertKind::Beaconing => BEACON_QUIET,
            _ => self.floods,
        }
    }
}

impl Entry {
    /// Takes on a new maximum; the change to report, if it is much worse or more severe.
    fn worsen(&mut self, sign: Sign, details: Details) -> Option<AlertChange> {
        let details = details.about(&sign, self.named);
        let severity = severity(&sign).max(self.alert.severity);
        let report = severity > self.alert.severity || sign.observed >= self.reported * WORSE;
        self.alert.severity = severity;
        self.alert.observed = sign.observed;
        self.alert.expected = sign.expected;
        self.alert.why = details.why;
        self.alert.evidence = details.evidence;
        report.then(|| {
            self.reported = sign.observed;
            AlertChange::Updated(self.alert.clone())
        })
    }
}

impl Details {
    /// Adds whom of the source it is about.
    fn about(mut self, sign: &Sign, named: Option<(Ipv6Addr, f64)>) -> Self {
        if let Some((address, share)) = named {
            let percent = (share * 100.0).floor();
            self.why = format!("{} {percent:.0} % of it came from {address}.", self.why);
            let network = sign.subject.to_string();
            self.evidence.insert("network".into(), network.into());
            let share = (share * 1_000.0).floor() / 1_000.0;
            self.evidence
                .insert("share_of_network".into(), share.into());
        }
        self
    }
}

/// Whether an address is the first of its /64, which stands for all of it.
fn is_network(address: Ipv6Addr) -> bool {
    address.to_bits() as u64 == 0
}

/// Scans warn; floods become critical by their size.
fn severity(sign: &Sign) -> Severity {
    match sign.kind {
        // What protects the host is off.
        AlertKind::ResponseWithheld => Severity::Critical,
        // Most of what asks by the clock may do so; somebody should know what it is.
        AlertKind::Beaconing => Severity::Info,
        AlertKind::PortScan | AlertKind::HostSweep | AlertKind::TrafficSpike => Severity::Warning,
        // Hardly anybody comes through any more.
        AlertKind::TrafficLoss if sign.observed <= sign.expected * ALL_BUT_NOTHING => {
            Severity::Critical
        }
        _ if sign.observed >= sign.expected * CRITICAL => Severity::Critical,
        _ => Severity::Warning,
    }
}

#[cfg(test)]
mod tests;
