//! What is told: an alert, what became of it, and a key by which a peer knows it again.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::detect::{Alert, AlertKind, AlertState, Severity, Subject, Time};

/// One thing to be told, as peers and programs read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Of this document.
    pub version: u32,
    /// The same for every attempt to tell this, and for nothing else.
    pub key: String,
    pub event: Event,
    /// The host.
    pub instance: String,
    pub alert: Alert,
}

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// New.
    Fired,
    /// Clearly worse.
    Changed,
    /// Over.
    Resolved,
    /// Somebody asked whether this arrives.
    Test,
}

impl Event {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Changed => "changed",
            Self::Resolved => "resolved",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl Notice {
    pub fn new(event: Event, instance: &str, now: Time, alert: Alert) -> Self {
        let mut hash = Sha256::new();
        for part in [instance, event.name(), alert.kind.name()] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.update(alert.id.to_le_bytes());
        hash.update(alert.started.to_le_bytes());
        hash.update(now.to_le_bytes());
        Self {
            version: 1,
            key: hex(&hash.finalize()[..16]),
            event,
            instance: instance.to_owned(),
            alert,
        }
    }

    /// What `palisade notify test` sends.
    pub fn test(instance: &str, now: Time) -> Self {
        let mut alert = sample(AlertKind::PortScan, Severity::Info);
        (alert.started, alert.detected, alert.ended) = (now, now, Some(now));
        alert.state = AlertState::Resolved;
        alert.why = "This is a test: somebody asked whether notifications arrive.".to_owned();
        Self::new(Event::Test, instance, now, alert)
    }
}

/// An alert that never was, for tests of peers and of templates. Its source is an address that nobody has.
pub(super) fn sample(kind: AlertKind, severity: Severity) -> Alert {
    Alert {
        id: 0,
        kind,
        subject: Subject::source([203, 0, 113, 7].into()),
        severity,
        state: AlertState::Firing,
        started: 1_700_000_000_000_000_000,
        detected: 1_700_000_001_000_000_000,
        ended: None,
        observed: 40.0,
        expected: 20.0,
        unit: "ports".to_owned(),
        why: "A sample with \"quotes\" and\na second line.".to_owned(),
        evidence: serde_json::Map::new(),
        response: Vec::new(),
        incident: None,
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Alerts that fired and are not over, by their number: tells what is new from what changed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Open(BTreeMap<u64, Alert>);

impl Open {
    /// What became of an alert; nothing if it was never told and is over.
    pub(super) fn take(&mut self, alert: &Alert) -> Option<Event> {
        if alert.state == AlertState::Resolved {
            return self.0.remove(&alert.id).map(|_| Event::Resolved);
        }
        match self.0.insert(alert.id, alert.clone()) {
            None => Some(Event::Fired),
            Some(_) => Some(Event::Changed),
        }
    }

    /// Ends all of them: the daemon that knew them is gone.
    pub(super) fn end(&mut self, now: Time) -> Vec<Alert> {
        let ended = std::mem::take(&mut self.0).into_values();
        ended
            .map(|mut alert| {
                alert.state = AlertState::Resolved;
                alert.ended = Some(now);
                alert
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_fires_changes_and_is_over_once() {
        let mut open = Open::default();
        let mut alert = sample(AlertKind::SynFlood, Severity::Critical);
        assert_eq!(open.take(&alert), Some(Event::Fired));
        assert_eq!(open.take(&alert), Some(Event::Changed));
        alert.state = AlertState::Resolved;
        assert_eq!(open.take(&alert), Some(Event::Resolved));
        assert_eq!(open.take(&alert), None);
    }

    #[test]
    fn two_notices_never_share_a_key_and_one_keeps_its_own_on_disk() {
        let alert = sample(AlertKind::SynFlood, Severity::Critical);
        let one = Notice::new(Event::Fired, "edge1", 1, alert.clone());
        let later = Notice::new(Event::Fired, "edge1", 2, alert.clone());
        let elsewhere = Notice::new(Event::Fired, "edge2", 1, alert);
        assert_ne!(one.key, later.key);
        assert_ne!(one.key, elsewhere.key);
        let text = serde_json::to_string(&one).expect("JSON");
        assert_eq!(serde_json::from_str::<Notice>(&text).expect("read"), one);
    }
}
