//! What the daemon remembers of incidents: those that last, the latest that ended, and totals.

use std::collections::{BTreeMap, VecDeque};

use crate::detect::{
    Alert, AlertKind, AlertState, Frame, Incident, Incidents, Severity, Sighting, Time,
};

/// Ended incidents that are remembered.
pub const KEEP: usize = 500;

/// Incidents by their number.
#[derive(Debug, Default)]
pub struct IncidentLog {
    current: Incidents,
    past: VecDeque<Incident>,
    /// Incidents begun so far, by their first kind and the severity with which they began.
    totals: BTreeMap<(AlertKind, Severity), u64>,
}

impl IncidentLog {
    /// Goes on with what an earlier daemon knew; `known` has the oldest first.
    ///
    /// See [`Incidents::resume`].
    pub fn resume(known: Vec<Incident>, frame_bytes: u64) -> Self {
        let mut log = Self {
            current: Incidents::resume(known.iter().cloned(), frame_bytes),
            past: known.into(),
            totals: BTreeMap::new(),
        };
        log.trim();
        log
    }

    /// As [`Incidents::see`].
    pub fn see(&mut self, now: Time, sightings: &[Sighting]) {
        self.current.see(now, sightings);
    }

    /// As [`Incidents::frames`].
    pub fn frames(&mut self) -> Vec<(u64, Vec<Frame>)> {
        self.current.frames()
    }

    /// Takes in an alert that fired, grew or ended; gives the number of its incident.
    pub fn take_in(&mut self, now: Time, alert: &Alert) -> u64 {
        let id = self.current.take_in(now, alert);
        let known = self.past.iter().position(|past| past.id == id);
        if let Some(index) = known {
            // It goes on.
            self.past.remove(index);
        } else if id == alert.id && self.current.get(id).is_some_and(|own| own.alert_count == 1) {
            let begun = alert.state == AlertState::Firing && alert.detected == now;
            if begun {
                *self.totals.entry((alert.kind, alert.severity)).or_default() += 1;
            }
        }
        id
    }

    /// As [`Incidents::note_response`].
    pub fn note_response(&mut self, id: u64, what: &str) {
        self.current.note_response(id, what);
    }

    /// Puts those away that nothing belongs to any more.
    pub fn settle(&mut self, now: Time) {
        self.current.refresh(now);
        let ended: Vec<Incident> = self
            .current
            .iter()
            .filter(|incident| incident.ended.is_some())
            .cloned()
            .collect();
        self.current.settle(now);
        for incident in ended {
            if self.current.get(incident.id).is_none() {
                self.past.retain(|past| past.id != incident.id);
                self.past.push_back(incident);
            }
        }
        self.trim();
    }

    pub fn get(&self, id: u64) -> Option<&Incident> {
        self.current
            .get(id)
            .or_else(|| self.past.iter().find(|past| past.id == id))
    }

    /// Those that last.
    pub fn active(&self) -> impl Iterator<Item = &Incident> {
        self.current
            .iter()
            .filter(|incident| incident.state == AlertState::Firing)
    }

    /// Those that last, then those that ended, each with the latest first.
    pub fn all(&self) -> Vec<Incident> {
        let mut ended: Vec<&Incident> = self
            .current
            .iter()
            .filter(|incident| incident.state == AlertState::Resolved)
            .collect();
        let current = |past: &&Incident| self.current.get(past.id).is_none();
        ended.extend(self.past.iter().filter(current));
        ended.sort_by_key(|incident| std::cmp::Reverse((incident.ended, incident.id)));
        let mut all: Vec<&Incident> = self.active().collect();
        all.reverse();
        all.into_iter().chain(ended).cloned().collect()
    }

    /// Incidents begun so far, by the kind and severity with which they began.
    pub fn totals(&self) -> impl Iterator<Item = (AlertKind, Severity, u64)> {
        self.totals
            .iter()
            .map(|((kind, severity), count)| (*kind, *severity, *count))
    }

    fn trim(&mut self) {
        while self.past.len() > KEEP {
            self.past.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::alerts::tests::alert;

    /// An alert of `source` that fired at `id`.
    fn scan(id: u64, source: [u8; 4]) -> Alert {
        let mut alert = alert(id, false);
        alert.detected = id;
        alert.subject = crate::detect::Subject::source(source.into());
        alert
    }

    fn ended(mut alert: Alert, at: Time) -> Alert {
        alert.state = AlertState::Resolved;
        alert.ended = Some(at);
        alert
    }

    const HOUR: Time = 3_600_000_000_000;

    #[test]
    fn an_incident_counts_once_and_stays_known_after_it_is_over() {
        let mut log = IncidentLog::default();
        let first = scan(1, [203, 0, 113, 7]);
        let id = log.take_in(1, &first);
        log.take_in(2, &first);
        log.take_in(3, &scan(3, [203, 0, 113, 8]));
        assert_eq!(log.active().count(), 1);
        log.take_in(4, &ended(first, 4));
        log.take_in(5, &ended(scan(3, [203, 0, 113, 8]), 5));
        assert_eq!(log.active().count(), 0);
        log.settle(HOUR);
        assert_eq!(log.all().len(), 1);
        assert_eq!(log.get(id).map(|incident| incident.alert_count), Some(2));
        assert_eq!(
            log.totals().collect::<Vec<_>>(),
            [(AlertKind::PortScan, Severity::Warning, 1)]
        );
    }

    #[test]
    fn one_that_a_restart_came_across_goes_on_and_is_not_shown_twice() {
        let mut log = IncidentLog::default();
        let first = scan(1, [203, 0, 113, 7]);
        let id = log.take_in(1, &first);
        log.take_in(2, &ended(first, 2));
        let mut log = IncidentLog::resume(log.all(), 0);
        assert_eq!(log.all().len(), 1);
        assert_eq!(log.take_in(9, &scan(9, [203, 0, 113, 7])), id);
        assert_eq!(log.all().len(), 1);
        assert_eq!(log.active().count(), 1);
        assert_eq!(log.totals().count(), 0, "it was counted when it began");
    }

    #[test]
    fn ended_incidents_do_not_pile_up() {
        let mut log = IncidentLog::default();
        for number in 0..(KEEP as u64 + 50) {
            let now = (number + 1) * HOUR;
            let source = (0x0a00_0000 + number as u32 * 4096).to_be_bytes();
            let scan = scan(now, source);
            log.take_in(now, &scan);
            log.take_in(now, &ended(scan, now));
            log.settle(now);
        }
        log.settle(10_000 * HOUR);
        assert_eq!(log.all().len(), KEEP);
    }
}
