//! Alerts and incidents as rows of the state: the latest of each, and only as many as a daemon remembers.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::daemon::{alerts, incidents};
use crate::detect::{Alert, AlertState, Incident, Time};
use crate::state::{Kind, Store, number};

/// What earlier daemons told, the oldest first. Nothing of it fires any more: whether it still does is
/// for the detector to say anew.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    pub alerts: Vec<Alert>,
    pub incidents: Vec<Incident>,
}

/// What is kept of both.
#[derive(Debug)]
pub(super) struct Journal {
    store: Store,
    alerts: Numbers,
    incidents: Numbers,
}

/// The numbers of the rows of a kind.
#[derive(Debug)]
struct Numbers {
    kind: Kind,
    keep: usize,
    known: BTreeSet<u64>,
}

impl Journal {
    /// Reads what is kept.
    pub fn open(store: Store) -> (Self, Told) {
        let mut told = Told {
            alerts: read(&store, Kind::Alert),
            incidents: read(&store, Kind::Incident),
        };
        told.end();
        let of_alerts = told.alerts.iter().map(|alert| alert.id);
        let of_incidents = told.incidents.iter().map(|incident| incident.id);
        let mut journal = Self {
            alerts: Numbers::new(Kind::Alert, alerts::KEEP, of_alerts),
            incidents: Numbers::new(Kind::Incident, incidents::KEEP, of_incidents),
            store,
        };
        let beyond = |length: usize, keep: usize| length.saturating_sub(keep);
        told.alerts.drain(..beyond(told.alerts.len(), alerts::KEEP));
        told.incidents
            .drain(..beyond(told.incidents.len(), incidents::KEEP));
        journal.alerts.trim(&journal.store);
        journal.incidents.trim(&journal.store);
        (journal, told)
    }

    pub fn alert(&mut self, alert: &Alert) {
        self.alerts.put(&self.store, alert.id, alert);
    }

    pub fn incident(&mut self, incident: &Incident) {
        self.incidents.put(&self.store, incident.id, incident);
    }
}

impl Numbers {
    fn new(kind: Kind, keep: usize, known: impl Iterator<Item = u64>) -> Self {
        Self {
            kind,
            keep,
            known: known.collect(),
        }
    }

    fn put(&mut self, store: &Store, id: u64, row: &impl Serialize) {
        store.put_soon(self.kind, &number(id), row);
        if self.known.insert(id) {
            self.trim(store);
        }
    }

    /// Lets the oldest go.
    fn trim(&mut self, store: &Store) {
        while self.known.len() > self.keep
            && let Some(oldest) = self.known.pop_first()
        {
            store.change_soon([(self.kind, number(oldest), None)]);
        }
    }
}

impl Told {
    /// As the next daemon takes it: over, since the latest that is known.
    fn end(&mut self) {
        let of_alerts = self
            .alerts
            .iter()
            .map(|alert| (alert.detected, alert.ended));
        let of_incidents = self
            .incidents
            .iter()
            .map(|incident| (incident.detected, incident.ended));
        let end: Time = of_alerts
            .chain(of_incidents)
            .map(|(detected, ended)| detected.max(ended.unwrap_or(0)))
            .max()
            .unwrap_or(0);
        for alert in &mut self.alerts {
            if alert.state == AlertState::Firing {
                alert.state = AlertState::Resolved;
                alert.ended = Some(end.max(alert.detected));
            }
        }
        for incident in &mut self.incidents {
            if incident.state == AlertState::Firing {
                incident.state = AlertState::Resolved;
                incident.ended = Some(end.max(incident.detected));
            }
        }
    }
}

/// All rows of a kind; those that make no sense are left out.
fn read<T: DeserializeOwned>(store: &Store, kind: Kind) -> Vec<T> {
    let rows = store.load(kind).into_iter();
    rows.filter_map(|(key, text)| {
        serde_json::from_slice(&text)
            .inspect_err(|error| {
                warn!(
                    kind = kind.name(),
                    key, "what cannot be read is left out: {error}"
                );
            })
            .ok()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::daemon::alerts::tests::alert;
    use crate::detect::Incidents;
    use crate::state::Health;

    fn open(folder: &Path) -> (Journal, Told) {
        Journal::open(Store::open(folder, Health::default()).unwrap())
    }

    fn incident(of: &Alert) -> Incident {
        let mut incidents = Incidents::default();
        incidents.take_in(of.detected, of);
        incidents.get(of.id).unwrap().clone()
    }

    #[test]
    fn alerts_and_incidents_outlive_the_daemon_and_fire_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, told) = open(folder.path());
        assert_eq!(told, Told::default());
        journal.alert(&alert(1, false));
        journal.incident(&incident(&alert(1, false)));
        journal.alert(&alert(1, true));
        journal.alert(&alert(2, false));
        let nonsense = b"{\"id\":3".to_vec();
        journal.store.put(Kind::Alert, &number(3), nonsense);
        journal.store.close();
        let (_, told) = open(folder.path());
        let states: Vec<_> = told
            .alerts
            .iter()
            .map(|alert| (alert.id, alert.state, alert.ended.is_some()))
            .collect();
        let over = AlertState::Resolved;
        assert_eq!(states, [(1, over, true), (2, over, true)]);
        assert_eq!(told.incidents.len(), 1);
        assert_eq!(told.incidents[0].state, over);
    }

    #[test]
    fn no_more_are_kept_than_a_daemon_remembers() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(folder.path());
        let last = alerts::KEEP as u64 + 20;
        for id in 0..=last {
            journal.alert(&alert(id, true));
        }
        journal.store.close();
        let (journal, told) = open(folder.path());
        assert_eq!(told.alerts.len(), alerts::KEEP);
        assert_eq!(told.alerts.last().unwrap().id, last);
        assert_eq!(journal.store.load(Kind::Alert).len(), alerts::KEEP);
    }
}
