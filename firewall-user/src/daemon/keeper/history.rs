//! The record of the policies that were in force, kept true by whatever puts one in force.

use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::warn;

use super::{Keeper, log_applied};
use crate::audit::{Entry, Outcome};
use crate::daemon::documents::{HistoryDocument, HistoryList, RollbackReport, changes};
use crate::daemon::failure::Failure;
use crate::daemon::history::{By, Content, How, Trial, changed_lists, text_of};
use crate::daemon::memory::{Remembered, went_back};
use crate::daemon::offer::Offer;
use crate::daemon::reload::Orders;
use crate::policy::{Changes, Policy};

impl Keeper {
    /// Notes that the policy in force, or on trial, is another one.
    pub(super) fn enter_history(&mut self, how: How, by: By, changes: Changes) {
        self.ledger
            .stand(&self.policy, &changes, how == How::Return, Timestamp::now());
        let on_trial = self.memory.trial.is_some();
        let Some(remembered) = self.memory.current() else {
            return;
        };
        let content = content(&self.policy, remembered);
        let generation = self.datapath.generation();
        if let Some(entry) = self.history.enter(&content, generation, how, by, changes) {
            entry.trial = on_trial.then_some(Trial::Pending);
            self.history.keep_latest();
        }
    }

    /// Notes what the daemon started with, if that is not what was in force last. A trial may have ended meanwhile.
    pub(super) fn enter_start(&mut self) {
        let now = Timestamp::now();
        if self.memory.trial.is_none()
            && let Some(given_back) = self.memory.given_back.clone()
        {
            self.history_gives_back(&given_back.why);
        }
        let remembered = self.memory.current();
        let known = remembered.map(|remembered| content(&self.policy, remembered));
        if known.is_none_or(|content| self.history.holds(&content)) {
            self.ledger
                .stand(&self.policy, &Changes::default(), true, now);
            return;
        }
        let last = self.history.latest().cloned();
        let before = last.and_then(|last| {
            let text = text_of(&self.store, &last)?;
            Policy::parse(&text, &last.source, &last.base).ok()
        });
        let differs = match &before {
            Some((before, _)) => Changes::between(before, &self.policy),
            None => Changes::default(),
        };
        let by = By::daemon(Some("the daemon started with it".to_owned()));
        self.note_deed(
            &by,
            "policy.apply",
            Some(self.source.clone()),
            changes(&differs),
        );
        self.enter_history(How::Start, by, differs);
    }

    /// Notes that a trial was given back.
    pub(super) fn history_gives_back(&mut self, why: &str) {
        let by = By::daemon(Some(why.to_owned()));
        let pending = self.history.latest().cloned();
        let generation = self.datapath.generation();
        self.history.give_back(why, by.clone(), generation);
        if let Some(entry) = pending.filter(|entry| entry.trial == Some(Trial::Pending)) {
            self.ledger.stand(
                &self.policy,
                &entry.changes.turned(),
                true,
                Timestamp::now(),
            );
            let detail = json!({ "from": entry.generation, "generation": generation });
            self.note_deed(&by, "policy.give_back", Some(entry.source), detail);
        }
    }

    /// Writes down what the daemon did by itself, off this thread.
    pub(super) fn note_deed(&self, by: &By, action: &str, target: Option<String>, detail: Value) {
        let entry = Entry {
            who: by.who.clone(),
            from: by.from,
            action: action.to_owned(),
            target,
            reason: by.reason.clone(),
            outcome: Outcome::Done,
            detail,
        };
        let audit = self.audit.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || audit.append(entry))),
            Err(_) => audit.append(entry),
        }
    }

    /// `GET /v1/history`.
    pub fn history(&self) -> HistoryList {
        HistoryList {
            entries: self.history.entries().rev().cloned().collect(),
        }
    }

    /// `GET /v1/history/{number}`.
    pub fn history_entry(&self, number: u64) -> Result<HistoryDocument, Failure> {
        let Some(entry) = self.history.get(number).cloned() else {
            let kept = self.history.entries().next().zip(self.history.latest());
            return Err(Failure::NotFound(match kept {
                Some((first, last)) => format!(
                    "the history has no entry {number}: it goes from {} to {}",
                    first.number, last.number
                ),
                None => "the history is empty".to_owned(),
            }));
        };
        match text_of(&self.store, &entry) {
            Some(text) => Ok(HistoryDocument { entry, text }),
            None => Err(Failure::NotFound(format!(
                "the text of entry {number} of the history was lost with a damaged file"
            ))),
        }
    }

    /// Puts the policy of an entry of the history in force, or on trial. Checked and guarded as any other.
    pub fn roll_back_to(
        &mut self,
        number: u64,
        offer: Offer,
        orders: &Orders,
    ) -> Result<RollbackReport, Failure> {
        self.look_after_trial()?;
        if let Some(why) = self.busy_with_trial() {
            return Err(Failure::Refused(why));
        }
        let from_generation = self.datapath.generation();
        let differs = Changes::between(&self.policy, &offer.policy);
        let entry = self.history.get(number);
        let lists_changed =
            entry.map_or_else(Vec::new, |entry| changed_lists(&entry.lists, &offer.policy));
        let prepared = self.datapath.prepare(&offer.policy);
        let prepared = prepared.map_err(|error| Failure::Refused(format!("{error:#}")))?;
        let (advice, prepared) = self.examine(&offer.policy, prepared, orders.session)?;
        self.insist(&advice, orders)?;
        let applied = match orders.confirm {
            None => self.datapath.apply_prepared(&offer.policy, prepared),
            Some(duration) => self
                .datapath
                .apply_on_trial(&offer.policy, prepared, duration),
        };
        let applied = applied.map_err(|error| error.context("the policy in force stays"))?;
        let cuts_before = std::mem::replace(&mut self.cuts, advice.cuts);
        self.pulse.attached(self.attached());
        log_applied(&applied, &offer);
        if orders.confirm.is_some() {
            warn!(entry = number, "an earlier policy is on trial");
            self.on_trial(offer, cuts_before, Some(number));
        } else {
            warn!(entry = number, "rolled back to an earlier policy");
            self.gone_back(offer, number, from_generation);
        }
        self.compiled_now();
        self.enter_history(How::Rollback, orders.by.clone(), differs.clone());
        self.history.note_target(number);
        self.warden.protect(self.policy.never_block.clone())?;
        self.restore_state(&applied)?;
        Ok(RollbackReport {
            from_generation,
            generation: self.datapath.generation(),
            source: self.source.clone(),
            text: self.memory.given_back_file(),
            attached: self.attached_names(),
            entry: Some(number),
            changes: differs,
            lists_changed,
            trial: self.trial_status(),
        })
    }

    /// Takes in that the policy of an entry is in force for good.
    fn gone_back(&mut self, offer: Offer, number: u64, from_generation: u64) {
        let why = went_back(number);
        let own = self
            .memory
            .in_force
            .as_ref()
            .is_some_and(|policy| policy.own);
        let target = Remembered::new(&offer, Timestamp::now());
        self.memory.go_back_to(target, from_generation, &why);
        self.policy_error =
            own.then(|| format!("generation {from_generation} was given back: {why}"));
        self.policy = offer.policy;
        self.source = offer.source;
        self.applied = Timestamp::now();
    }
}

fn content<'a>(policy: &'a Policy, remembered: &'a Remembered) -> Content<'a> {
    Content {
        policy,
        text: &remembered.text,
        source: &remembered.source,
        base: &remembered.base,
        own: remembered.own,
    }
}
