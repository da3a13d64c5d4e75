//! SYN cookies, as far as the fence thread has to do with them.

use super::Keeper;
use super::tick::now;
use crate::daemon::documents::{CookieReport, CookieRequest};
use crate::daemon::failure::Failure;
use crate::detect::{Alert, AlertKind, Snapshot};

impl Keeper {
    /// `palisade cookies`.
    pub fn cookies(&self) -> Result<CookieReport, Failure> {
        Ok(self.cookies.report(&self.policy, &self.datapath)?)
    }

    /// `palisade cookies on`, `off` and `auto`; in force on return.
    pub fn order_cookies(&mut self, request: &CookieRequest) -> Result<CookieReport, Failure> {
        self.cookies.command(request, &self.policy)?;
        self.cookies
            .look_after(now(), &mut self.datapath, &self.policy);
        self.cookies()
    }

    /// One round.
    pub(super) fn look_after_cookies(&mut self, snapshot: &Snapshot) {
        let firing = self.alerts.active();
        let floods = firing.filter(|alert| alert.kind == AlertKind::SynFlood);
        self.cookies.follow(floods.map(|alert| alert.id));
        self.cookies
            .look_after(snapshot.time, &mut self.datapath, &self.policy);
    }

    /// Cookies, where nobody can be banned for SYNs.
    pub(super) fn answer_with_cookies(&mut self, alert: &Alert) -> Option<String> {
        self.cookies
            .answer(alert, now(), &mut self.datapath, &self.policy)
    }
}
