//! The detector: takes snapshots, hands out changes of alerts.

use super::{Alert, AlertChange, Config, Snapshot, Time};

/// All detectors over one host's counts.
///
/// Deterministic: the same snapshots give the same alerts.
#[derive(Debug)]
pub struct Detector {
    config: Config,
    active: Vec<Alert>,
}

impl Detector {
    /// A detector to which the counts of its first snapshot are history: it judges what is added
    /// to them. The daemon starts so, because its counters outlive it.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            active: Vec::new(),
        }
    }

    /// A detector for counts that all started from zero at `time`, such as a replay's.
    pub fn from_zero(config: Config, time: Time) -> Self {
        let mut detector = Self::new(config);
        detector.tick(&Snapshot {
            time,
            ..Snapshot::default()
        });
        detector
    }

    /// Takes the next snapshot; a tick every 100 ms to 1 s is meant.
    pub fn tick(&mut self, snapshot: &Snapshot) -> Vec<AlertChange> {
        let _ = (snapshot, &self.config);
        Vec::new()
    }

    /// The alerts that fire now.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.active.iter()
    }

    /// Notes what was done about an active alert; whether there is one with this id.
    pub fn record_response(&mut self, id: u64, what: impl Into<String>) -> bool {
        match self.active.iter_mut().find(|alert| alert.id == id) {
            Some(alert) => {
                alert.response.push(what.into());
                true
            }
            None => false,
        }
    }

    /// Alerts that were not raised because [`Config::active_alerts`] were active already.
    pub fn suppressed(&self) -> u64 {
        0
    }
}
