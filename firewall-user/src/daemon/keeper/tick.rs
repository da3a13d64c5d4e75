//! The heartbeat: counts are read, the detector looks at them, and what it finds is answered.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::{info, warn};

use super::Keeper;
use crate::detect::{AlertChange, AlertState, ServiceCounts, Snapshot, Time};

/// So many services are counted in each round.
const FEW_SERVICES: usize = 64;
const SECOND: Duration = Duration::from_secs(1);

impl Keeper {
    /// One round.
    pub fn tick(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        let round = self.round();
        self.rounds.note(started.elapsed());
        round
    }

    fn round(&mut self) -> anyhow::Result<()> {
        self.look_after_trial()?;
        if !self.ranges.take_up(&mut self.detector, &mut self.watch) {
            // What is usual is not known yet: all else goes on.
            self.warden.expire();
            self.do_chores()?;
            return self.look_after();
        }
        let time = now();
        let sightings = self.datapath.sightings();
        self.events.extend(&sightings);
        self.show(&sightings);
        let host = self.datapath.host_counts()?;
        let looked = Instant::now();
        let (clock, sources) = self.datapath.sources();
        self.looks.note(looked.elapsed());
        let sockets = self.sockets.take();
        // Whoever is banned sends nothing more, but what it holds is still there.
        let holders = sockets.iter().flatten().map(|socket| socket.client.ip());
        let present = sources.iter().map(|sample| sample.source).chain(holders);
        let snapshot = Snapshot {
            time,
            clock,
            host,
            banned: self.warden.banned_among(present),
            sources,
            services: self.services(),
            sightings,
            sockets,
        };
        self.rates.update(time, &snapshot.sources);
        self.incidents.see(time, &snapshot.sightings);
        self.cookies.watch(&snapshot);
        self.watch.take(time, &snapshot.sightings);
        self.regulars.see(time, &snapshot.sightings);
        self.tell_of_withheld(time);
        for change in self.detector.tick(&snapshot) {
            self.take_in(time, change);
        }
        self.look_for_signatures(time);
        self.incidents.settle(time);
        for (incident, frames) in self.incidents.frames() {
            self.chronicle.note_frames(incident, frames);
        }
        self.look_after_cookies(&snapshot);
        self.warden.expire();
        self.do_chores()?;
        self.look_after()
    }

    /// Whether packets of a kind rise as in a flood, so that the next round should come soon. What
    /// cannot be read is left to the round, which says so.
    pub fn glance(&mut self) -> bool {
        // A device that has come is open until it is fenced.
        self.fence_arrived(false);
        match self.datapath.inbound_kinds() {
            Ok(kinds) => self.glance.look(now(), &kinds, &self.settings.detect.host),
            Err(_) => false,
        }
    }

    /// The use of the services; with many, no more often than once a second.
    fn services(&mut self) -> Vec<ServiceCounts> {
        let (read, services) = &self.services;
        if services.len() <= FEW_SERVICES || read.elapsed() >= SECOND {
            self.services = (Instant::now(), self.datapath.services(&self.policy));
        }
        self.services.1.clone()
    }

    fn take_in(&mut self, now: Time, change: AlertChange) {
        let mut alert = match change {
            AlertChange::Fired(alert) => {
                warn!(
                    kind = %alert.kind,
                    subject = %alert.subject,
                    severity = %alert.severity,
                    "{}",
                    alert.why
                );
                alert
            }
            AlertChange::Updated(alert) => alert,
            AlertChange::Resolved(alert) => {
                info!(kind = %alert.kind, subject = %alert.subject, "alert resolved");
                alert
            }
        };
        let incident = self.incidents.take_in(now, &alert);
        alert.incident = Some(incident);
        // An attacker that goes on after its ban ended, or while it lasts, stays out.
        let said = match alert.state {
            AlertState::Firing => self.answer(&alert),
            AlertState::Resolved => self.stand_down(&alert),
        };
        for what in said {
            if !alert.response.contains(&what) {
                // An alert that is over is no longer the detector's.
                self.detector.record_response(alert.id, what.clone());
                self.incidents.note_response(incident, &what);
                alert.response.push(what);
            }
        }
        self.add_signature(&mut alert);
        if let Some(incident) = self.incidents.get(incident) {
            alert.take_evidence(incident);
            self.chronicle.note_incident(incident);
        }
        self.chronicle.note_alert(&alert);
        self.alerts.record(alert);
    }
}

/// The wall clock as detection counts it.
pub(super) fn now() -> Time {
    Time::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default()
}
