//! Signatures of floods in force, as the control socket shows them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::detect::signature::Condition;

/// `GET /v1/signatures`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Signatures {
    pub signatures: Vec<SignatureDocument>,
}

/// `DELETE /v1/signatures?name=NAME`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureQuery {
    pub name: String,
}

/// A temporary rule that drops what fits the signature of a flood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignatureDocument {
    pub name: String,
    /// Number of the alert that it answers.
    pub alert: u64,
    /// All have to be met.
    pub conditions: Vec<Condition>,
    /// The same in one line.
    pub words: String,
    pub since: Timestamp,
    /// The share of the flood that it covers, and of ordinary traffic that it hits: as estimated, and at
    /// most with 95 % confidence.
    pub coverage: f64,
    pub collateral: f64,
    pub collateral_at_most: f64,
    /// What it has dropped.
    pub packets: u64,
    pub bytes: u64,
    /// The same as a rule of the policy.
    pub rule: String,
}
