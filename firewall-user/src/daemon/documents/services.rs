//! Services and what is expected of them, as the control socket shows them.

use serde::{Deserialize, Serialize};

/// Stands for the host as a whole among services: no rule may be called so.
pub const WHOLE_HOST: &str = "*";

/// `GET /v1/services`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Services {
    /// The rules that let something in, in the order of the policy.
    pub services: Vec<ServiceDocument>,
    /// What was learned of services and, as `*`, of the host. Empty in the first minutes.
    pub ranges: Vec<RangeDocument>,
}

/// The use of a service. Cumulative, established packets of its connections among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceDocument {
    pub service: String,
    pub packets: u64,
    pub bytes: u64,
    pub connections: u64,
    pub requests: u64,
}

/// A rate in the last whole minute, per second, beside what was expected of that minute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RangeDocument {
    pub service: String,
    /// `packets`, `bytes`, `connections`, `requests` or `new_sources`.
    pub measure: String,
    pub observed: f64,
    pub expected_low: f64,
    pub expected: f64,
    pub expected_high: f64,
    /// Less than a day was seen: a departure means nothing yet.
    #[serde(default)]
    pub learning: bool,
}
