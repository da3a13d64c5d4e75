//! A review of the policy in force, as rules of the card industry and others ask for every half year.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::Keeper;
use crate::audit::{Outcome, Record, Verified};
use crate::daemon::documents::{
    Finding, Findings, Report, ReviewedAudit, ReviewedBans, ReviewedPolicy, ReviewedRule,
    RuleDocument,
};
use crate::daemon::failure::Failure;
use crate::export;
use crate::policy::describe::summary;
use crate::policy::{DefaultAction, Mode, Rule};

/// A rule that ends sooner than this is worth a look.
const SOON: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Lines of the audit log that a report holds of each sort.
const MOST_LINES: usize = 1_000;

impl Keeper {
    /// `GET /v1/report`.
    pub fn review(&self, since: Timestamp, audit: Verified) -> Result<Report, Failure> {
        let until = Timestamp::now();
        let hits = self.rules()?.rules;
        let hits: HashMap<String, RuleDocument> = hits
            .into_iter()
            .map(|hit| (hit.rule.clone(), hit))
            .collect();
        let rules: Vec<ReviewedRule> = self
            .policy
            .rules
            .iter()
            .map(|rule| self.review_rule(rule, hits.get(&rule.name), since, until))
            .collect();
        let entries: Vec<_> = self.history.entries().cloned().collect();
        let latest = entries.last();
        let of_period = |record: &&Record| (since..=until).contains(&record.time);
        let (done, refused): (Vec<&Record>, Vec<&Record>) = audit
            .records
            .iter()
            .filter(of_period)
            .partition(|record| record.entry.outcome == Outcome::Done);
        let action = |name: &'static str| {
            let records = done.iter();
            records.filter(|record| record.entry.action == name).count()
        };
        let (set, lifted) = (action("ban.add"), action("ban.remove"));
        // What put a policy in force stands in the history, with what it changed.
        let mut others = done;
        others.retain(|record| !record.entry.action.starts_with("policy."));
        Ok(Report {
            version: export::VERSION.to_owned(),
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            since,
            until,
            policy: ReviewedPolicy {
                source: self.source.clone(),
                generation: self.datapath.generation(),
                entry: latest.map(|entry| entry.number),
                sha256: latest.map(|entry| entry.sha256.clone()),
                applied: self.applied,
                mode: self.policy.defaults.mode.name().to_owned(),
                inbound: default_name(self.policy.defaults.inbound),
                outbound: default_name(self.policy.defaults.outbound),
                valid: self.policy_error.is_none(),
            },
            findings: Findings::of(&rules),
            rules,
            history_since: entries.first().map(|entry| entry.time),
            changes: entries
                .into_iter()
                .filter(|entry| entry.time >= since)
                .collect(),
            action_count: others.len(),
            actions: latest_of(&others),
            refused_count: refused.len(),
            refused: latest_of(&refused),
            bans: ReviewedBans {
                in_force: self.warden.counts(),
                without_end: self.warden.without_end(),
                set,
                lifted,
            },
            incidents: self.incidents_since(since),
            audit: ReviewedAudit {
                lines: audit.records.len(),
                whole: audit.is_whole(),
                first: audit.records.first().map(|record| record.time),
                faults: audit.faults,
            },
        })
    }

    fn review_rule(
        &self,
        rule: &Rule,
        hits: Option<&RuleDocument>,
        since: Timestamp,
        until: Timestamp,
    ) -> ReviewedRule {
        let standing = self.ledger.standing(&rule.name);
        let observed = rule.mode == Mode::Observe || self.policy.defaults.mode == Mode::Observe;
        let stood = standing.since.is_some_and(|begun| begun <= since);
        let hit = standing.last_hit.is_some_and(|hit| hit >= since);
        let expired = rule.expires.is_some_and(|end| end <= until);
        let soon = rule
            .expires
            .is_some_and(|end| end.duration_since(until) < SOON);
        let found = [
            (stood && !hit, Finding::Unused),
            (rule.owner.is_none(), Finding::NoOwner),
            (rule.reason.is_none(), Finding::NoReason),
            (expired, Finding::Expired),
            (soon && !expired, Finding::ExpiresSoon),
            (observed, Finding::Observed),
        ];
        ReviewedRule {
            name: rule.name.clone(),
            action: rule.action.name().to_owned(),
            direction: rule.direction.name().to_owned(),
            mode: if observed { "observe" } else { "enforce" }.to_owned(),
            matches: summary(&self.policy, rule),
            owner: rule.owner.clone(),
            reason: rule.reason.clone(),
            standing,
            expires: rule.expires,
            packets: hits.map_or(0, |hits| hits.packets),
            bytes: hits.map_or(0, |hits| hits.bytes),
            findings: found
                .into_iter()
                .filter_map(|(found, finding)| found.then_some(finding))
                .collect(),
        }
    }

    /// Incidents that lasted in the period, the oldest first.
    fn incidents_since(&self, since: Timestamp) -> Vec<crate::detect::Incident> {
        let since = u64::try_from(since.as_nanosecond()).unwrap_or(0);
        let mut incidents = self.incidents.all();
        incidents.retain(|incident| incident.ended.is_none_or(|ended| ended >= since));
        incidents.sort_by_key(|incident| incident.started);
        incidents
    }
}

impl Findings {
    fn of(rules: &[ReviewedRule]) -> Self {
        let with = |finding: Finding| {
            let rules = rules.iter();
            rules
                .filter(|rule| rule.findings.contains(&finding))
                .map(|rule| rule.name.clone())
                .collect()
        };
        Self {
            unused: with(Finding::Unused),
            no_owner: with(Finding::NoOwner),
            no_reason: with(Finding::NoReason),
            expired: with(Finding::Expired),
            expires_soon: with(Finding::ExpiresSoon),
            observed: with(Finding::Observed),
        }
    }
}

fn latest_of(records: &[&Record]) -> Vec<Record> {
    let skipped = records.len().saturating_sub(MOST_LINES);
    let records = records.iter().skip(skipped);
    records.map(|record| (*record).clone()).collect()
}

fn default_name(action: DefaultAction) -> String {
    match action {
        DefaultAction::Accept => "accept".to_owned(),
        DefaultAction::Drop => "drop".to_owned(),
    }
}
