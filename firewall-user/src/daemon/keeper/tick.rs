//! The heartbeat: counts are read, the detector looks at them, and what it finds is answered.

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::Keeper;
use crate::detect::{Alert, AlertChange, Snapshot, Time};
use crate::respond::Response;

impl Keeper {
    /// One round.
    pub fn tick(&mut self) -> anyhow::Result<()> {
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
        self.expire_bans();
        Ok(())
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
        let answer = self.settings.respond.answer(
            &self.policy,
            &self.bans,
            source,
            alert.kind.name(),
            Timestamp::now(),
        );
        let duration = self.settings.respond.ban_for;
        let what = match answer {
            Response::Nothing => return,
            Response::Spared(why) => format!("not banned: {why}"),
            Response::Ban(record) => {
                let prefix = record.prefix;
                match self.enforce(record, duration) {
                    Ok(()) => format!("banned {prefix} for {duration}"),
                    Err(failure) => {
                        error!(%prefix, "an automatic ban failed: {failure}");
                        format!("ban failed: {failure}")
                    }
                }
            }
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
