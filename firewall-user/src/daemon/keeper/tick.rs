//! The heartbeat: counts are read, the detector looks at them, and what it finds is answered.

use jiff::Timestamp;
use tracing::{info, warn};

use super::Keeper;
use crate::detect::{Alert, AlertChange, Snapshot, Time};

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
        let alert = match change {
            AlertChange::Resolved(alert) => {
                info!(kind = %alert.kind, subject = %alert.subject, "alert resolved");
                alert
            }
            AlertChange::Fired(mut alert) => {
                warn!(
                    kind = %alert.kind,
                    subject = %alert.subject,
                    severity = %alert.severity,
                    "{}",
                    alert.why
                );
                self.respond(&mut alert);
                alert
            }
            AlertChange::Updated(mut alert) => {
                // An attacker that goes on after its ban ended, or while it lasts, stays out.
                self.respond(&mut alert);
                alert
            }
        };
        self.alerts.record(alert);
    }

    /// Does what the settings ask for and notes it in the alert.
    fn respond(&mut self, alert: &mut Alert) {
        let Some(source) = alert.subject.prefix() else {
            return;
        };
        let respond = &self.settings.respond;
        let Some(what) = self.warden.respond(respond, alert.kind, source) else {
            return;
        };
        if alert.response.last() != Some(&what) {
            self.detector.record_response(alert.id, what.clone());
            alert.response.push(what);
        }
    }
}

/// The wall clock as detection counts it.
fn now() -> Time {
    Time::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default()
}
