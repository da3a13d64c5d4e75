//! The heartbeat: counts are read, the detector looks at them, and what it finds is answered.

use jiff::Timestamp;
use tracing::{info, warn};

use super::Keeper;
use crate::detect::{AlertChange, AlertState, Snapshot, Time};

impl Keeper {
    /// One round.
    pub fn tick(&mut self) -> anyhow::Result<()> {
        self.look_after_trial()?;
        let time = now();
        let snapshot = Snapshot {
            time,
            host: self.datapath.host_counts()?,
            sources: self.datapath.sources(true)?,
        };
        self.rates.update(time, &snapshot.sources);
        for change in self.detector.tick(&snapshot) {
            self.take_in(change);
        }
        self.warden.expire();
        self.do_chores()?;
        self.look_after()
    }

    fn take_in(&mut self, change: AlertChange) {
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
        // An attacker that goes on after its ban ended, or while it lasts, stays out.
        let said = match alert.state {
            AlertState::Firing => self.answer(&alert),
            AlertState::Resolved => self.stand_down(&alert),
        };
        for what in said {
            if !alert.response.contains(&what) {
                // An alert that is over is no longer the detector's.
                self.detector.record_response(alert.id, what.clone());
                alert.response.push(what);
            }
        }
        self.alerts.record(alert);
    }
}

/// The wall clock as detection counts it.
fn now() -> Time {
    Time::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default()
}
