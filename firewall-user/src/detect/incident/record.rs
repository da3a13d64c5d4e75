//! An incident as people see it, and what is remembered to keep it up to date.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::kin::neighbourhood;
use crate::detect::alert::{optional_unix_seconds, unix_seconds};
use crate::detect::{Alert, AlertKind, AlertState, Severity, Subject, Time};

/// Subjects that an incident names; the others are counted.
const NAMED: usize = 16;
/// Subjects and neighbourhoods by which it knows what belongs to it.
const KNOWN: usize = 1024;
/// Alerts whose numbers it lists, the first.
const LISTED: usize = 64;
/// Responses that it tells of, the latest.
const TOLD: usize = 32;

/// Alerts that belong together.
///
/// As JSON, times are Unix seconds with a fraction and `ended` is null while an alert of it fires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// That of its first alert.
    pub id: u64,
    /// In the order in which they came.
    pub kinds: Vec<AlertKind>,
    /// The highest of its alerts.
    pub severity: Severity,
    pub state: AlertState,
    #[serde(with = "unix_seconds")]
    pub started: Time,
    /// When its first alert fired.
    #[serde(with = "unix_seconds")]
    pub detected: Time,
    #[serde(with = "optional_unix_seconds")]
    pub ended: Option<Time>,
    /// The incident in one sentence.
    pub why: String,
    /// Those who stand out most.
    pub subjects: Vec<IncidentSubject>,
    /// How many there are in all; beyond 1,024, some may be counted twice.
    pub subject_count: u64,
    /// The numbers of its first alerts.
    pub alerts: Vec<u64>,
    pub alert_count: u64,
    /// What its alerts have seen, by kind; and what its traffic looks like.
    pub evidence: Map<String, Value>,
    /// What was done, in order.
    pub response: Vec<String>,
}

/// One of those that an incident is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentSubject {
    pub subject: Subject,
    /// How many times what was tolerated it has come to.
    pub times_expected: f64,
}

/// An incident, and what tells what belongs to it.
#[derive(Debug)]
pub(super) struct Entry {
    pub incident: Incident,
    pub neighbourhoods: BTreeSet<IpNet>,
    /// When its latest alert fired.
    pub latest_alert: Time,
    subjects: BTreeMap<Subject, f64>,
    firing: BTreeSet<u64>,
    kinds: BTreeMap<AlertKind, Sum>,
    /// What the worst alert says: (severity, times expected) and its sentence.
    worst: (Severity, f64),
    worst_why: String,
}

/// What the alerts of one kind have come to.
#[derive(Clone, Debug, Default)]
struct Sum {
    alerts: u64,
    observed: f64,
    expected: f64,
    unit: String,
    evidence: Map<String, Value>,
}

impl Entry {
    pub fn new(alert: &Alert) -> Self {
        Self::resume(Incident {
            id: alert.id,
            kinds: Vec::new(),
            severity: alert.severity,
            state: alert.state,
            started: alert.started,
            detected: alert.detected,
            ended: None,
            why: String::new(),
            subjects: Vec::new(),
            subject_count: 0,
            alerts: Vec::new(),
            alert_count: 0,
            evidence: Map::new(),
            response: Vec::new(),
        })
    }

    pub fn resume(incident: Incident) -> Self {
        let mut entry = Self {
            neighbourhoods: BTreeSet::new(),
            latest_alert: incident.ended.unwrap_or(incident.detected),
            subjects: BTreeMap::new(),
            firing: BTreeSet::new(),
            kinds: BTreeMap::new(),
            worst: (Severity::Info, 0.0),
            worst_why: String::new(),
            incident,
        };
        for known in entry.incident.subjects.clone() {
            entry.remember(known.subject, known.times_expected);
        }
        entry
    }

    pub fn names(&self, subject: &Subject) -> bool {
        self.subjects.contains_key(subject)
    }

    pub fn take_in(&mut self, now: Time, alert: &Alert) {
        let incident = &mut self.incident;
        incident.started = incident.started.min(alert.started);
        incident.severity = incident.severity.max(alert.severity);
        if !incident.kinds.contains(&alert.kind) {
            incident.kinds.push(alert.kind);
        }
        // An alert that is over was counted while it fired.
        let is_new = if alert.state == AlertState::Firing {
            self.firing.insert(alert.id)
        } else {
            !self.firing.remove(&alert.id)
        };
        if is_new {
            incident.alert_count += 1;
            if incident.alerts.len() < LISTED {
                incident.alerts.push(alert.id);
            }
            self.latest_alert = now;
        }
        if self.firing.is_empty() {
            incident.state = AlertState::Resolved;
            incident.ended = incident.ended.max(alert.ended).or(Some(now));
        } else {
            incident.state = AlertState::Firing;
            incident.ended = None;
        }
        for what in &alert.response {
            self.note_response(what);
        }
        let times = times_expected(alert);
        self.know(alert.subject, times);
        if self.worst_why.is_empty() || (alert.severity, times) > self.worst {
            self.worst = (alert.severity, times);
            self.worst_why.clone_from(&alert.why);
        }
        self.sum(alert, is_new);
        self.describe();
    }

    pub fn note_response(&mut self, what: &str) {
        let told = &mut self.incident.response;
        if !told.iter().any(|known| known == what) {
            told.push(what.to_owned());
            if told.len() > TOLD {
                told.remove(0);
            }
        }
    }

    /// Notes whom it is about.
    fn know(&mut self, subject: Subject, times: f64) {
        if let Some(known) = self.subjects.get_mut(&subject) {
            *known = known.max(times);
            return;
        }
        self.incident.subject_count += 1;
        if self.subjects.len() < KNOWN {
            self.remember(subject, times);
        }
    }

    fn remember(&mut self, subject: Subject, times: f64) {
        self.subjects.insert(subject, times);
        if let Some(near) = subject.prefix().and_then(neighbourhood) {
            self.neighbourhoods.insert(near);
        }
    }

    /// Adds an alert to what its kind has come to; the counts are those of the strongest.
    fn sum(&mut self, alert: &Alert, is_new: bool) {
        let sum = self.kinds.entry(alert.kind).or_default();
        sum.alerts += u64::from(is_new);
        if alert.observed >= sum.observed {
            sum.observed = alert.observed;
            sum.expected = alert.expected;
            sum.unit.clone_from(&alert.unit);
            sum.evidence.clone_from(&alert.evidence);
        }
    }

    /// Says it all anew.
    fn describe(&mut self) {
        let mut subjects: Vec<IncidentSubject> = self
            .subjects
            .iter()
            .map(|(subject, times)| IncidentSubject {
                subject: *subject,
                times_expected: (times * 10.0).round() / 10.0,
            })
            .collect();
        subjects.sort_by(|left, right| right.times_expected.total_cmp(&left.times_expected));
        subjects.truncate(NAMED);
        let incident = &mut self.incident;
        incident.subjects = subjects;
        for (kind, sum) in &self.kinds {
            incident.evidence.insert(
                kind.name().to_owned(),
                json!({
                    "alerts": sum.alerts,
                    "observed": sum.observed,
                    "expected": sum.expected,
                    "unit": sum.unit,
                    "evidence": sum.evidence,
                }),
            );
        }
        incident.why = if incident.alert_count <= 1 {
            self.worst_why.clone()
        } else {
            sentence(incident, &self.worst_why)
        };
    }
}

/// How many times what was tolerated an alert has seen.
fn times_expected(alert: &Alert) -> f64 {
    if alert.expected > 0.0 && alert.observed.is_finite() {
        alert.observed / alert.expected
    } else {
        0.0
    }
}

/// What several alerts say together.
fn sentence(incident: &Incident, worst: &str) -> String {
    let kinds: Vec<&str> = incident.kinds.iter().map(|kind| kind.name()).collect();
    let who = match (incident.subject_count, incident.subjects.first()) {
        (0 | 1, Some(only)) => format!("about {}", only.subject),
        (count, _) => format!("about {count} subjects"),
    };
    format!(
        "{} alerts ({}) {who}; the strongest: {worst}",
        incident.alert_count,
        kinds.join(", ")
    )
}
