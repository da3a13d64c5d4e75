//! Groups alerts into incidents: what people have to look at once. A flood from 40,000 sources is one
//! incident, and so is a scan with the brute force that follows it.
//!
//! Pure and bounded, like the detector: it is driven by alerts and the time.

mod heavy;
mod kin;
mod record;
mod traffic;
mod witness;

use std::collections::{BTreeMap, BTreeSet};

pub use record::{Incident, IncidentSubject};
pub use witness::Frame;

use super::{Alert, AlertKind, AlertState, Sighting, Subject, Time};
use kin::{Kinship, Standing};
use record::Entry;
use witness::Witness;

/// For how long an incident that is over takes in what belongs to it: five minutes.
pub const REJOIN: Time = 300_000_000_000;
/// How often the evidence of incidents that last is brought up to date.
const DESCRIBED: Time = 1_000_000_000;
/// Incidents that can still take in alerts.
const MOST_OPEN: usize = 256;

/// The incidents that last or ended lately.
#[derive(Debug, Default)]
pub struct Incidents {
    entries: BTreeMap<u64, Entry>,
    /// Firing alerts by the incident that they are in.
    of_alert: BTreeMap<u64, u64>,
    witness: Witness,
    /// When the evidence was brought up to date.
    described: Time,
}

impl Incidents {
    /// Goes on with the incidents of an earlier run. No alert of theirs fires any more.
    ///
    /// `frame_bytes` of the packets of each are handed out by [`Self::frames`].
    pub fn resume(incidents: impl IntoIterator<Item = Incident>, frame_bytes: u64) -> Self {
        let entries = incidents
            .into_iter()
            .map(|incident| (incident.id, Entry::resume(incident)))
            .collect();
        Self {
            entries,
            of_alert: BTreeMap::new(),
            witness: Witness::with_frames(frame_bytes),
            described: 0,
        }
    }

    /// Takes in the packets of a tick, before its alerts.
    pub fn see(&mut self, now: Time, sightings: &[Sighting]) {
        self.witness.see(now, sightings);
    }

    /// The packets of incidents that came since the last time, by the incident's number.
    pub fn frames(&mut self) -> Vec<(u64, Vec<Frame>)> {
        self.witness.frames()
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
        let entry = self.entries.entry(id).or_insert_with(|| Entry::new(alert));
        entry.take_in(now, alert);
        if fires {
            self.witness.open(id, alert);
        } else if entry.incident.ended.is_some() {
            self.witness.close(id);
        }
        self.describe(id);
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

    /// Brings the evidence of those that last up to date, for whoever looks at them between alerts.
    pub fn refresh(&mut self, now: Time) {
        if now.saturating_sub(self.described) >= DESCRIBED && !self.of_alert.is_empty() {
            self.described = now;
            let last: Vec<u64> = self
                .iter()
                .filter(|incident| incident.ended.is_none())
                .map(|incident| incident.id)
                .collect();
            for id in last {
                self.describe(id);
            }
        }
    }

    /// Forgets those that have been over for so long that nothing belongs to them any more.
    pub fn settle(&mut self, now: Time) {
        let witness = &mut self.witness;
        self.entries.retain(|id, entry| {
            let stays = entry.takes_in(now);
            if !stays {
                witness.forget(*id);
            }
            stays
        });
    }

    /// Puts what is known of its packets into an incident's evidence.
    fn describe(&mut self, id: u64) {
        if let Some(entry) = self.entries.get_mut(&id)
            && let Some(traffic) = self.witness.describe(id)
        {
            entry
                .incident
                .evidence
                .insert("traffic".to_owned(), traffic);
        }
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
            self.witness.forget(id);
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
