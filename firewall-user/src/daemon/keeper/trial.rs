//! A policy on trial, from the daemon's side: the kernel goes back by itself, and this makes the
//! rest agree with it.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tracing::{error, info, warn};

use super::Keeper;
use crate::audit::Channel;
use crate::daemon::documents::{ConfirmReport, GivenBackStatus, RollbackReport, TrialStatus};
use crate::daemon::failure::Failure;
use crate::daemon::history::{By, How, Trial};
use crate::daemon::memory::{Remembered, went_back};
use crate::daemon::offer::Offer;
use crate::daemon::reload::Orders;
use crate::guard::Threat;
use crate::policy::{Changes, Policy};

/// The policy that is in force again when a trial fails.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) policy: Policy,
    pub(super) source: String,
    pub(super) applied: Timestamp,
    /// What it was compiled with.
    pub(super) clock_offset: i128,
    pub(super) cuts: Vec<Threat>,
}

impl Keeper {
    /// Keeps the policy on trial.
    pub fn confirm(&mut self, by: &By) -> Result<ConfirmReport, Failure> {
        let Some(trial) = self.datapath.trial() else {
            return Err(Failure::Refused(self.no_trial()));
        };
        if let Err(error) = self.datapath.confirm() {
            // Past the deadline the kernel has gone back already.
            self.look_after_trial()?;
            return Err(Failure::Refused(format!("{error:#}")));
        }
        self.behind = None;
        if let Some(entry) = self.memory.keep(trial.previous) {
            let given = self.memory.given_back.as_ref();
            if given.is_some_and(|given| given.policy.own) {
                let (previous, why) = (trial.previous, went_back(entry));
                self.policy_error = Some(format!("generation {previous} was given back: {why}"));
            }
        }
        self.history.note_trial(Trial::Confirmed);
        if by.from == Channel::Daemon {
            let generation = json!({ "generation": trial.generation });
            self.note_deed(by, "policy.confirm", Some(self.source.clone()), generation);
        }
        info!(
            generation = trial.generation,
            policy = self.source,
            "confirmed"
        );
        Ok(ConfirmReport {
            generation: trial.generation,
            source: self.source.clone(),
        })
    }

    /// Goes back: from a trial to what was in force before it, without one to the policy before.
    pub fn roll_back(&mut self, by: &By) -> Result<RollbackReport, Failure> {
        let from_generation = self.datapath.generation();
        if self.datapath.trial().is_some() {
            self.end_trial("it was rolled back")?;
        } else {
            self.put_before_in_force(by)?;
        }
        Ok(RollbackReport {
            from_generation,
            generation: self.datapath.generation(),
            source: self.source.clone(),
            text: self.memory.given_back_file(),
            attached: self.attached_names(),
            entry: None,
            changes: Changes::default(),
            lists_changed: Vec::new(),
            trial: None,
        })
    }

    /// Notices that a deadline has passed.
    pub(super) fn look_after_trial(&mut self) -> anyhow::Result<()> {
        match self.datapath.trial() {
            Some(trial) if trial.remaining.is_zero() => {
                self.end_trial("it was not confirmed in time")
            }
            _ => Ok(()),
        }
    }

    /// Ends a trial that fails: the links run the generation before directly, and what is said of
    /// the policy is true of that one.
    pub(super) fn end_trial(&mut self, why: &str) -> anyhow::Result<()> {
        let Some(trial) = self.datapath.trial() else {
            return Ok(());
        };
        self.datapath.go_back()?;
        self.pulse.attached(self.attached());
        error!(
            generation = trial.generation,
            policy = self.source,
            in_force = trial.previous,
            "the policy on trial was given back: {why}"
        );
        self.given_back(trial.generation, why)
    }

    /// Takes in that the policy before a trial is in force again.
    pub(super) fn given_back(&mut self, generation: u64, why: &str) -> anyhow::Result<()> {
        // What goes back in the history is not what the file holds.
        let offered = self.memory.trial.as_ref().filter(|trial| trial.own);
        let own = offered.is_some() && self.memory.back_to.is_none();
        self.memory.give_back_trial(generation, why);
        if own {
            self.policy_error = Some(format!("generation {generation} was given back: {why}"));
        }
        if let Some(behind) = self.behind.take() {
            self.policy = behind.policy;
            self.source = behind.source;
            self.applied = behind.applied;
            self.chores.clock_offset = behind.clock_offset;
            self.cuts = behind.cuts;
        }
        self.settle_counts();
        self.history_gives_back(why);
        self.warden.protect(self.policy.never_block.clone())?;
        Ok(())
    }

    /// Without a trial: compiles the policy before anew.
    fn put_before_in_force(&mut self, by: &By) -> Result<(), Failure> {
        let Some(before) = self.memory.before.clone() else {
            return Err(Failure::Refused(
                "no policy is on trial, and none before the one in force is remembered".to_owned(),
            ));
        };
        let offer = before.offer().map_err(|error| {
            Failure::Refused(format!(
                "the policy before ({}) cannot be read any more: {error}",
                before.source
            ))
        })?;
        let generation = self.datapath.generation();
        let changes = Changes::between(&self.policy, &offer.policy);
        let applied = self.datapath.apply(&offer.policy)?;
        self.pulse.attached(self.attached());
        let own = self
            .memory
            .in_force
            .as_ref()
            .is_some_and(|policy| policy.own);
        self.memory.give_back(generation, "it was rolled back");
        self.policy_error =
            own.then(|| format!("generation {generation} was given back: it was rolled back"));
        warn!(
            from = generation,
            generation = applied.generation,
            policy = offer.source,
            "rolled back to the policy before"
        );
        self.policy = offer.policy;
        self.source = offer.source;
        self.applied = Timestamp::now();
        self.cuts = Vec::new();
        self.compiled_now();
        self.enter_history(How::Rollback, by.clone(), changes);
        self.warden.protect(self.policy.never_block.clone())?;
        self.restore_state(&applied)?;
        Ok(())
    }

    /// Notes that an offered policy is in force, on trial; `back_to` is its entry of the history if it was before.
    pub(super) fn on_trial(
        &mut self,
        offer: Offer,
        cuts_before: Vec<Threat>,
        back_to: Option<u64>,
    ) {
        let now = Timestamp::now();
        self.memory.try_out(Remembered::new(&offer, now), back_to);
        self.behind = Some(Behind {
            policy: std::mem::replace(&mut self.policy, offer.policy),
            source: std::mem::replace(&mut self.source, offer.source),
            applied: std::mem::replace(&mut self.applied, now),
            clock_offset: self.chores.clock_offset,
            cuts: cuts_before,
        });
    }

    /// Why a change has to wait, if a policy is on trial.
    pub(super) fn busy_with_trial(&self) -> Option<String> {
        let trial = self.datapath.trial()?;
        Some(format!(
            "generation {} ({}) is on trial for another {} s: `palisade confirm` or `palisade \
             rollback` first",
            trial.generation,
            self.source,
            trial.remaining.as_secs()
        ))
    }

    /// Why a small change to the policy file is refused: it would put the rest of a policy in force
    /// that was given back.
    pub(super) fn edits_what_was_given_back(
        &self,
        offer: &Offer,
        orders: &Orders,
    ) -> Option<String> {
        let given = self.memory.given_back.as_ref()?;
        if !orders.tentative || orders.force || !offer.own || !given.policy.own {
            return None;
        }
        Some(format!(
            "{} held the policy that was given back ({}), and the change would put all of it in force: \
             mend it, or restore it from {}, and `palisade apply` first",
            offer.source,
            given.why,
            self.memory.in_force_file().display()
        ))
    }

    fn no_trial(&self) -> String {
        let latest = self.memory.given_back.as_ref();
        match latest {
            Some(given) => format!(
                "no policy is on trial; generation {} was given back: {}",
                given.generation, given.why
            ),
            None => "no policy is on trial".to_owned(),
        }
    }

    pub(super) fn trial_status(&self) -> Option<TrialStatus> {
        let trial = self.datapath.trial()?;
        let remaining = SignedDuration::try_from(trial.remaining).unwrap_or(SignedDuration::MAX);
        let deadline = Timestamp::now().checked_add(remaining);
        Some(TrialStatus {
            generation: trial.generation,
            previous_generation: trial.previous,
            deadline: deadline.unwrap_or(Timestamp::MAX),
            // A second begun counts: a trial that goes on never shows 0.
            remaining_seconds: (trial.remaining.as_millis() as u64).div_ceil(1000),
        })
    }

    pub(super) fn given_back_status(&self) -> Option<GivenBackStatus> {
        let given = self.memory.given_back.as_ref()?;
        Some(GivenBackStatus {
            source: given.policy.source.clone(),
            generation: given.generation,
            reason: given.why.clone(),
            time: given.when,
            text: self.memory.given_back_file(),
            in_force_text: self.memory.in_force_file(),
        })
    }
}
