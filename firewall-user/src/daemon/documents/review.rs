//! `GET /v1/report`: a review of the policy in force and of what was done in a period.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BanCounts, BanDocument, HistoryEntry, Standing};
use crate::audit::{Fault, Record};
use crate::detect::Incident;

/// The query: a period that ends now.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportQuery {
    pub since: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub version: String,
    pub host: String,
    pub since: Timestamp,
    pub until: Timestamp,
    pub policy: ReviewedPolicy,
    /// In the order in which they are tried.
    pub rules: Vec<ReviewedRule>,
    /// What a reviewer has to look at, over all rules.
    pub findings: Findings,
    /// Policies that were put in force in the period, the oldest first.
    pub changes: Vec<HistoryEntry>,
    /// Since when the history of policies is kept; the period may begin before that.
    pub history_since: Option<Timestamp>,
    /// What else was done in the period, by people and by Palisade itself: the latest of it.
    pub actions: Vec<Record>,
    /// How many there were.
    pub action_count: usize,
    /// What was asked for in the period and refused: the latest of it.
    pub refused: Vec<Record>,
    pub refused_count: usize,
    pub bans: ReviewedBans,
    pub incidents: Vec<Incident>,
    pub audit: ReviewedAudit,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReviewedPolicy {
    pub source: String,
    pub generation: u64,
    /// The entry of the history that it is.
    pub entry: Option<u64>,
    /// Of its text.
    pub sha256: Option<String>,
    pub applied: Timestamp,
    pub mode: String,
    pub inbound: String,
    pub outbound: String,
    /// Whether the daemon's own policy file is what is in force.
    pub valid: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReviewedRule {
    pub name: String,
    pub action: String,
    pub direction: String,
    pub mode: String,
    pub matches: String,
    pub owner: Option<String>,
    pub reason: Option<String>,
    #[serde(flatten)]
    pub standing: Standing,
    pub expires: Option<Timestamp>,
    pub packets: u64,
    pub bytes: u64,
    /// What there is to look at.
    pub findings: Vec<Finding>,
}

/// What a reviewer has to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Nothing matched it in the period, in all of which it stood.
    Unused,
    NoOwner,
    NoReason,
    Expired,
    /// It expires within 90 days.
    ExpiresSoon,
    /// It only counts what it would do.
    Observed,
}

/// Names of rules by what there is to look at.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    pub unused: Vec<String>,
    pub no_owner: Vec<String>,
    pub no_reason: Vec<String>,
    pub expired: Vec<String>,
    pub expires_soon: Vec<String>,
    pub observed: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReviewedBans {
    pub in_force: BanCounts,
    /// Those that people set and that have no end.
    pub without_end: Vec<BanDocument>,
    /// Set by people and by Palisade in the period, as far as the audit log has them.
    pub set: usize,
    pub lifted: usize,
}

/// Whether the record of changes can be trusted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReviewedAudit {
    pub lines: usize,
    pub whole: bool,
    pub faults: Vec<Fault>,
    pub first: Option<Timestamp>,
}
