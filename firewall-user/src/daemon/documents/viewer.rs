//! What the page shows besides the documents of the verbs: traffic as it went, and what the policy in force lets in.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `GET /v1/traffic`: what was judged, by direction and verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Traffic {
    /// Seconds between two points.
    pub interval_seconds: f64,
    /// The oldest first; the latest half hour at most, and of that what this daemon saw.
    pub points: Vec<TrafficPoint>,
}

/// Means over the interval before `time`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrafficPoint {
    /// Unix seconds.
    pub time: f64,
    pub inbound: VerdictRates,
    pub outbound: VerdictRates,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VerdictRates {
    pub pass: RateDocument,
    pub drop: RateDocument,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RateDocument {
    pub packets_per_second: f64,
    pub bytes_per_second: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficQuery {
    /// Only points after this, in Unix seconds.
    #[serde(default)]
    pub since: f64,
}

/// `GET /v1/policy/rules`: the policy in force in the language's words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyReport {
    pub generation: u64,
    /// What becomes of packets that no rule decides about.
    pub inbound: String,
    pub outbound: String,
    /// `observe` if nothing is dropped at all.
    pub mode: String,
    pub rules: Vec<PolicyRule>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyRule {
    pub rule: String,
    pub action: String,
    pub direction: String,
    pub mode: String,
    /// Its conditions on one line, the limit among them.
    pub matches: String,
    /// Whether it asks nothing of the sender's address.
    pub from_anybody: bool,
    pub owner: Option<String>,
    pub reason: Option<String>,
    pub expires: Option<Timestamp>,
}
