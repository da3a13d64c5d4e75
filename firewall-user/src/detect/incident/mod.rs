//! Groups alerts into incidents: what people have to look at once. A flood from 40,000 sources is one
//! incident, and so is a scan with the brute force that follows it.
//!
//! Pure and bounded, like the detector: it is driven by alerts and the time.

mod kin;
mod record;

use std::collections::{BTreeMap, BTreeSet};

pub use record::{Incident, IncidentSubject};

use super::{Alert, AlertKind, AlertState, Subject, Time};
use kin::{Kinship, Standing};
use record::Entry;

/// For how long an incident that is over takes in what belongs to it: five minutes.
pub const REJOIN: Time = 300_000_000_000;
/// Incidents that can still take in alerts.
const MOST_OPEN: usize = 256;

/// The incidents that last or ended lately.
#[derive(Debug, Default)]
pub struct Incidents {
    entries: BTreeMap<u64, Entry>,
    /// Firing alerts by the incident that they are in.
    of_alert: BTreeMap<u64, u64>,
}

impl Incidents {
    /// Goes on with the incidents of an earlier run. No alert of theirs fires any more.
    pub fn resume(incidents: impl IntoIterator<Item = Incident>) -> Self {
        let entries = incidents
            .into_iter()
            .map(|incident| (incident.id, Entry::resume(incident)))
            .collect();
        Self {
            entries,
            of_alert: BTreeMap::new(),
        }
    }

    /// Takes in an alert that fired, grew or ended; gives the number of its incident.
    pub fn take_in(&mut self, now: Time, alert: &Alert) -> u64 {
        let id = match self.of_alert.get(&alert.id) {
            Some(id) => *id,
            None => self.place(now, alert),
        };
        let fires = alert.state == AlertState::Firing;
        if fires {
            self.of_alert.insert(alert.id, id);
        } else {
            self.of_alert.remove(&alert.id);
        }
        self.entries
            .entry(id)
            .or_insert_with(|| Entry::new(alert))
            .take_in(now, alert);
        id
    }

    /// Notes what was done.
    pub fn note_response(&mut self, id: u64, what: &str) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.note_response(what);
        }
    }

    /// An incident that lasts or ended lately.
    pub fn get(&self, id: u64) -> Option<&Incident> {
        self.entries.get(&id).map(|entry| &entry.incident)
    }

    /// Those that last or ended lately, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.entries.values().map(|entry| &entry.incident)
    }

    /// Forgets those that have been over for so long that nothing belongs to them any more.
    pub fn settle(&mut self, now: Time) {
        self.entries.retain(|_, entry| {
            let ended = entry.incident.ended;
            ended.is_none_or(|ended| now.saturating_sub(ended) <= REJOIN)
        });
    }

    /// The incident that a new alert belongs to, or a new number: the alert's own.
    fn place(&mut self, now: Time, alert: &Alert) -> u64 {
        let closest = self
            .entries
            .values()
            .filter(|entry| entry.takes_in(now))
            .filter_map(|entry| Some((entry.kinship(now, alert)?, entry.incident.id)))
            .max();
        if let Some((_, id)) = closest {
            return id;
        }
        self.make_room();
        alert.id
    }

    /// At the cap, the incident that has been over longest is let go; else the oldest.
    fn make_room(&mut self) {
        while self.entries.len() >= MOST_OPEN {
            let first = self
                .entries
                .values()
                .min_by_key(|entry| (entry.incident.ended.unwrap_or(Time::MAX), entry.incident.id))
                .map(|entry| entry.incident.id);
            let Some(id) = first else { return };
            self.entries.remove(&id);
            self.of_alert.retain(|_, of| *of != id);
        }
    }
}

impl Entry {
    /// Whether alerts may still join.
    fn takes_in(&self, now: Time) -> bool {
        let ended = self.incident.ended;
        ended.is_none_or(|ended| now.saturating_sub(ended) <= REJOIN)
    }

    /// How an alert belongs to it, if it does.
    fn kinship(&self, now: Time, alert: &Alert) -> Option<Kinship> {
        kin::of(
            alert,
            &Standing {
                kinds: &self.kinds(),
                names: &|subject: &Subject| self.names(subject),
                near: &|neighbourhood| self.neighbourhoods.contains(neighbourhood),
                since_last: now.saturating_sub(self.latest_alert),
                age: now.saturating_sub(self.incident.detected),
            },
        )
    }

    fn kinds(&self) -> BTreeSet<AlertKind> {
        self.incident.kinds.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests;
