//! What only the page asks for.

use super::Keeper;
use crate::daemon::documents::{PolicyReport, PolicyRule};
use crate::daemon::failure::Failure;
use crate::daemon::surface::Grounds;
use crate::daemon::traffic::Counts;
use crate::policy::describe::summary;
use crate::policy::{DefaultAction, Mode};

impl Keeper {
    /// The policy in force.
    pub fn policy_report(&self) -> PolicyReport {
        let policy = &self.policy;
        let default = |action| match action {
            DefaultAction::Accept => "accept".to_owned(),
            DefaultAction::Drop => "drop".to_owned(),
        };
        let rules = policy.rules.iter().map(|rule| PolicyRule {
            rule: rule.name.clone(),
            action: rule.action.name().to_owned(),
            direction: rule.direction.name().to_owned(),
            mode: match policy.defaults.mode {
                Mode::Observe => Mode::Observe.name().to_owned(),
                Mode::Enforce => rule.mode.name().to_owned(),
            },
            matches: summary(policy, rule),
            from_anybody: rule.from.sets.is_empty() && rule.from.prefixes.is_empty(),
            owner: rule.owner.clone(),
            reason: rule.reason.clone(),
            expires: rule.expires,
        });
        PolicyReport {
            generation: self.datapath.generation(),
            inbound: default(policy.defaults.inbound),
            outbound: default(policy.defaults.outbound),
            mode: policy.defaults.mode.name().to_owned(),
            rules: rules.collect(),
        }
    }

    /// The number of the policy in force.
    pub fn generation(&self) -> u64 {
        self.datapath.generation()
    }

    /// What a look at the host's surface needs.
    pub fn grounds(&self) -> Result<Grounds, Failure> {
        let watched = jiff::Timestamp::now().duration_since(self.started);
        let attachments = self.datapath.attachments().iter();
        Ok(Grounds {
            generation: self.datapath.generation(),
            policy: self.policy.clone(),
            interfaces: attachments.map(|one| one.interface.clone()).collect(),
            rules: self
                .rules()?
                .rules
                .into_iter()
                .map(|rule| (rule.rule, rule.packets))
                .collect(),
            watched_seconds: u64::try_from(watched.as_secs()).unwrap_or(0),
        })
    }

    /// What was judged since the fence was put up.
    pub fn traffic(&self) -> anyhow::Result<Counts> {
        let mut counts = Counts::default();
        for total in self.datapath.totals()? {
            counts.add(total.direction, total.verdict, total.counter);
        }
        Ok(counts)
    }
}
