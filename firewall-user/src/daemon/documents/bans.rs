//! Bans, as the control socket shows it.

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::respond::{BanDuration, BanRecord};

/// `POST /v1/bans`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BanRequest {
    /// An address or a prefix.
    pub prefix: String,
    #[serde(rename = "for", default = "default_ban_duration")]
    pub duration: BanDuration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How long a ban lasts when nobody says.
pub fn default_ban_duration() -> BanDuration {
    BanDuration(Some(std::time::Duration::from_secs(3600)))
}

/// The query of `GET /v1/bans`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BansQuery {
    /// Most that are listed; all without it.
    pub limit: Option<usize>,
}

/// `GET /v1/bans`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bans {
    pub bans: Vec<BanDocument>,
}

/// One ban in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BanDocument {
    pub prefix: IpNet,
    /// `ban`, or `limit`: a trickle of packets is let through.
    #[serde(default = "ban_name")]
    pub measure: String,
    pub origin: String,
    pub kind: Option<String>,
    pub reason: Option<String>,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
    /// Seconds that are left; null is without end.
    pub remaining_seconds: Option<u64>,
}

fn ban_name() -> String {
    "ban".to_owned()
}

impl BanDocument {
    pub fn new(record: &BanRecord, now: Timestamp) -> Self {
        Self {
            prefix: record.prefix,
            measure: record.measure.name().to_owned(),
            origin: record.origin.name().to_owned(),
            kind: record.kind.clone(),
            reason: record.reason.clone(),
            created: record.created,
            expires: record.expires,
            // A second begun counts: a ban that is in force never shows 0.
            remaining_seconds: record.expires.map(|expires| {
                let left = expires.duration_since(now);
                u64::try_from(left.as_millis().max(0))
                    .unwrap_or(u64::MAX)
                    .div_ceil(1000)
            }),
        }
    }
}

/// `DELETE /v1/bans`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnbanQuery {
    pub prefix: String,
}
