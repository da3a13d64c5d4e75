//! What the daemon remembers of alerts: those that fire, the latest that ended, and totals.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::broadcast;

use crate::detect::{Alert, AlertKind, Severity};

/// Ended alerts that are remembered.
pub const KEEP: usize = 1000;
/// Changes that a slow follower may lag behind before it loses some.
const FOLLOW: usize = 1024;

/// Alerts by their number.
#[derive(Debug)]
pub struct AlertLog {
    active: BTreeMap<u64, Alert>,
    ended: VecDeque<Alert>,
    /// Alerts fired so far.
    totals: BTreeMap<(AlertKind, Severity), u64>,
    changes: broadcast::Sender<Alert>,
}

impl Default for AlertLog {
    fn default() -> Self {
        Self {
            active: BTreeMap::new(),
            ended: VecDeque::new(),
            totals: BTreeMap::new(),
            changes: broadcast::channel(FOLLOW).0,
        }
    }
}

impl AlertLog {
    /// Goes on with the alerts of earlier daemons, the oldest first; they are over.
    pub fn resume(ended: Vec<Alert>) -> Self {
        Self {
            ended: ended.into(),
            ..Self::default()
        }
    }

    /// Takes in an alert that began, changed or ended.
    pub fn record(&mut self, alert: Alert) {
        let known = self.active.contains_key(&alert.id);
        if !known {
            *self.totals.entry((alert.kind, alert.severity)).or_default() += 1;
        }
        if alert.ended.is_some() {
            self.active.remove(&alert.id);
            self.ended.push_back(alert.clone());
            if self.ended.len() > KEEP {
                self.ended.pop_front();
            }
        } else {
            self.active.insert(alert.id, alert.clone());
        }
        // Nobody follows: nothing is lost.
        let _ = self.changes.send(alert);
    }

    /// Changes from now on.
    pub fn follow(&self) -> broadcast::Receiver<Alert> {
        self.changes.subscribe()
    }

    /// One alert.
    pub fn get(&self, id: u64) -> Option<&Alert> {
        self.active
            .get(&id)
            .or_else(|| self.ended.iter().rev().find(|alert| alert.id == id))
    }

    pub fn active(&self) -> impl ExactSizeIterator<Item = &Alert> {
        self.active.values()
    }

    /// Those that fire, then those that ended, each with the latest first.
    pub fn all(&self) -> Vec<Alert> {
        let active = self.active.values().rev();
        active.chain(self.ended.iter().rev()).cloned().collect()
    }

    /// Alerts fired so far, by the severity with which they began.
    pub fn totals(&self) -> impl Iterator<Item = (AlertKind, Severity, u64)> {
        self.totals
            .iter()
            .map(|((kind, severity), count)| (*kind, *severity, *count))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::detect::{AlertState, Subject};

    pub(crate) fn alert(id: u64, ended: bool) -> Alert {
        Alert {
            id,
            kind: AlertKind::PortScan,
            subject: Subject::source([203, 0, 113, 7].into()),
            severity: Severity::Warning,
            state: if ended {
                AlertState::Resolved
            } else {
                AlertState::Firing
            },
            started: 1,
            detected: 2,
            ended: ended.then_some(3),
            observed: 40.0,
            expected: 20.0,
            unit: "ports".to_owned(),
            why: "many ports".to_owned(),
            evidence: serde_json::Map::new(),
            response: Vec::new(),
            incident: None,
        }
    }

    #[test]
    fn an_alert_counts_once_however_often_it_changes_and_moves_when_it_ends() {
        let mut log = AlertLog::default();
        log.record(alert(1, false));
        log.record(alert(1, false));
        log.record(alert(2, false));
        assert_eq!(
            log.totals().collect::<Vec<_>>(),
            [(AlertKind::PortScan, Severity::Warning, 2)]
        );
        assert_eq!(log.active().len(), 2);
        log.record(alert(2, true));
        let states: Vec<_> = log
            .all()
            .into_iter()
            .map(|alert| (alert.id, alert.state))
            .collect();
        assert_eq!(states, [(1, AlertState::Firing), (2, AlertState::Resolved)]);
        assert_eq!(log.totals().next().map(|(_, _, count)| count), Some(2));
    }

    #[test]
    fn ended_alerts_do_not_pile_up() {
        let mut log = AlertLog::default();
        let last = KEEP as u64 + 10;
        for id in 0..=last {
            log.record(alert(id, true));
        }
        assert_eq!(log.all().len(), KEEP);
        assert_eq!(log.all()[0].id, last);
    }

    #[test]
    fn a_follower_sees_changes_from_then_on() {
        let mut log = AlertLog::default();
        log.record(alert(1, false));
        let mut follower = log.follow();
        log.record(alert(2, false));
        assert_eq!(follower.try_recv().expect("a change").id, 2);
        assert!(follower.try_recv().is_err());
    }
}
