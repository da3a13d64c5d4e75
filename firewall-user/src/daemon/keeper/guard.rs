//! The lockout guard at work: what an offered policy would cut of what this host lives by.

use tracing::{error, warn};

use super::Keeper;
use crate::daemon::failure::Failure;
use crate::daemon::reload::Orders;
use crate::datapath::{Prepared, clock};
use crate::guard::{self, Lifelines, Session, Threat};
use crate::policy::{Compiled, Policy};
use crate::settings::Settings;

/// What the guard has to say of a policy.
#[derive(Debug, Default)]
pub(super) struct Advice {
    /// What it cuts, and the policy before does not.
    pub(super) cuts: Vec<Threat>,
    /// What else there is to know.
    pub(super) notes: Vec<String>,
}

impl Keeper {
    /// Looks at a policy before it is in force. The compiled policy is given back.
    pub(super) fn examine(
        &self,
        policy: &Policy,
        prepared: Prepared,
        session: Option<Session>,
    ) -> anyhow::Result<(Advice, Prepared)> {
        let lifelines = lifelines(&self.settings, session);
        let Prepared { compiled, took } = prepared;
        let (threats, compiled) = guard::examine(policy, compiled, &lifelines, clock::monotonic());
        // Asked only when it matters: the policy in force has to be compiled for that. Where no
        // fence stands nothing is cut.
        let before = if threats.is_empty() || self.attached() == 0 {
            Vec::new()
        } else {
            let compiled = self.datapath.prepare(&self.policy)?.compiled;
            guard::examine(&self.policy, compiled, &lifelines, clock::monotonic()).0
        };
        let (cuts, known) = guard::newly(threats, &before);
        let mut notes = lifelines.unknown;
        notes.extend(known.iter().map(|threat| format!("as before, {threat}")));
        Ok((Advice { cuts, notes }, Prepared { compiled, took }))
    }

    /// Refuses a policy that cuts something, unless that is wanted.
    pub(super) fn insist(&self, advice: &Advice, orders: &Orders) -> Result<(), Failure> {
        for note in &advice.notes {
            warn!("{note}");
        }
        if advice.cuts.is_empty() {
            return Ok(());
        }
        if orders.force {
            for threat in &advice.cuts {
                warn!("forced: {threat}");
            }
            return Ok(());
        }
        let refusal = format!(
            "{}\n--force puts it in force all the same",
            refusal(&advice.cuts)
        );
        error!("the policy in force stays: {refusal}");
        Err(Failure::Refused(refusal))
    }
}

/// What a policy cuts, in words.
pub(super) fn refusal(cuts: &[Threat]) -> String {
    let list: Vec<String> = cuts.iter().map(|threat| format!("\n  {threat}")).collect();
    format!("it would cut what this host lives by:{}", list.concat())
}

/// What the host lives by, as far as it passes the interfaces of the settings.
pub(super) fn lifelines(settings: &Settings, session: Option<Session>) -> Lifelines {
    let interfaces = settings.interfaces.iter();
    let protected: Vec<String> = interfaces.map(|interface| interface.name.clone()).collect();
    Lifelines::of_this_host(&protected, &settings.resolv_conf, session)
}

/// What a policy would cut, before there is a fence to ask. The compiled policy is given back.
pub(super) fn before_a_fence(
    lifelines: &Lifelines,
    policy: &Policy,
    compiled: Compiled,
) -> (Vec<Threat>, Compiled) {
    guard::examine(policy, compiled, lifelines, clock::monotonic())
}
