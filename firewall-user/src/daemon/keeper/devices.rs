//! Sees to it that the fence stands wherever the settings want one, while devices come and go.

use std::time::{Duration, Instant};

use anyhow::Context;
use tracing::{error, info, warn};

use super::{Keeper, listed, report};
use crate::datapath::others;
use crate::policy::Policy;

/// How often the attachments are looked at. Whether a device has come is looked at with every glance.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is said that there is nothing to fence: a name may be misspelled.
const REMIND: Duration = Duration::from_secs(60);

impl Keeper {
    /// Fences the devices that came, lets go of those that went, and puts up again what was lost.
    pub(super) fn look_after(&mut self) -> anyhow::Result<()> {
        let due = self.looked.elapsed() >= LOOK;
        self.fence_arrived(due);
        if !due {
            return Ok(());
        }
        self.looked = Instant::now();
        self.let_go()?;
        if self.reminded.elapsed() >= REMIND {
            self.remind();
        }
        self.put_up_lost()
    }

    /// Says at the start which interfaces have no device.
    pub(super) fn tell_of_waiting(&mut self) {
        for waiting in self.datapath.waiting() {
            warn!(
                interface = waiting.interface,
                "no such device: it is fenced as soon as it comes (there are {})",
                others()
            );
        }
        self.remind();
    }

    /// Whether this interface gets its fence once it has a device.
    pub(super) fn waits_for(&self, name: &str) -> bool {
        let mut waiting = self.datapath.waiting().iter();
        waiting.any(|waiting| waiting.interface == name)
    }

    fn remind(&mut self) {
        self.reminded = Instant::now();
        let waiting = self.datapath.waiting().iter();
        let waiting: Vec<String> = waiting.map(|one| one.interface.clone()).collect();
        if self.attached() == 0 && !waiting.is_empty() {
            error!(
                interfaces = listed(&waiting),
                "NOTHING IS PROTECTED: no interface of {} can be fenced; there are {}",
                self.settings.file.display(),
                others()
            );
        }
    }

    /// Fences what has a device by now; what could not be fenced before is tried only if `again`.
    pub(super) fn fence_arrived(&mut self, again: bool) {
        if self.datapath.waiting().is_empty() {
            return;
        }
        let looks_at_vlans =
            |policy: &Policy| policy.rules.iter().any(|rule| !rule.vlans.is_empty());
        let behind = self.behind.as_ref();
        let vlans = looks_at_vlans(&self.policy)
            || behind.is_some_and(|behind| looks_at_vlans(&behind.policy));
        let fenced = self.datapath.fence_arrived(vlans, again);
        if fenced.is_empty() {
            return;
        }
        self.pulse.attached(self.attached());
        let attachments = self.datapath.attachments().iter();
        for attachment in attachments.filter(|one| fenced.contains(&one.interface)) {
            info!(
                interface = attachment.interface,
                mode = report::mode_name(attachment.mode),
                egress = attachment.egress,
                "the device has come: protecting"
            );
        }
    }

    fn let_go(&mut self) -> anyhow::Result<()> {
        let gone = self.datapath.let_go();
        if gone.is_empty() {
            return Ok(());
        }
        let interfaces = listed(&gone);
        self.pulse.attached(self.attached());
        error!(
            interfaces,
            "the device is gone; the fence is put up as soon as it comes back"
        );
        // As where one was made anew: what was tried was tried on another host.
        self.end_trial(&format!("the device of {interfaces} went"))?;
        self.remind();
        Ok(())
    }

    /// A device that was deleted and made anew has no fence until it is put up again.
    fn put_up_lost(&mut self) -> anyhow::Result<()> {
        let lost = self.datapath.lost();
        self.pulse
            .attached(self.attached().saturating_sub(lost.len()));
        if lost.is_empty() {
            return Ok(());
        }
        let interfaces = listed(&lost);
        error!(interfaces, "the fence is gone there; putting it up again");
        let trial = self.datapath.trial();
        // A trial's gates cannot be put up again; what is, is what was in force before it.
        let policy = match &self.behind {
            Some(behind) if trial.is_some() => &behind.policy,
            _ => &self.policy,
        };
        let applied = self
            .datapath
            .apply(policy)
            .with_context(|| format!("{interfaces}: no fence"))?;
        if let Some(trial) = trial {
            let why = format!("the fence was gone on {interfaces}");
            error!(
                generation = trial.generation,
                "the policy on trial was given back: {why}"
            );
            self.given_back(trial.generation, &why)?;
        }
        self.restore_state(&applied)?;
        self.pulse.attached(self.attached());
        warn!(interfaces, "the fence stands again");
        Ok(())
    }
}
