//! Who sends, as the control socket shows it.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::BanDocument;

/// `GET /v1/sources`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourcesQuery {
    #[serde(default)]
    pub by: SourceOrder,
    #[serde(default = "default_source_limit")]
    pub limit: usize,
    /// Sums of IPv4 /24s and IPv6 /48s instead.
    #[serde(default)]
    pub prefixes: bool,
}

fn default_source_limit() -> usize {
    20
}

/// What `top` sorts by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum SourceOrder {
    #[default]
    Packets,
    Bytes,
    Syns,
    Requests,
}

impl SourceOrder {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Bytes => "bytes",
            Self::Syns => "syns",
            Self::Requests => "requests",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sources {
    pub by: SourceOrder,
    /// How many sources are known in all.
    pub tracked: usize,
    pub sources: Vec<SourceDocument>,
    /// What was asked for instead of sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<PrefixDocument>,
}

/// One source; rates are averages over about ten seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceDocument {
    /// An IPv4 address, or the first address of an IPv6 /64.
    pub source: IpAddr,
    pub packets_per_second: f64,
    pub bytes_per_second: f64,
    pub syns_per_second: f64,
    pub requests_per_second: f64,
    /// Since the source entered the table.
    pub packets: u64,
    pub bytes: u64,
    pub syns: u64,
    pub requests: u64,
    pub drops: u64,
    pub failed: u64,
    pub last_seen: Timestamp,
    /// The ban or limit in force that covers it, in the answer to `/v1/sources`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ban: Option<Box<BanDocument>>,
}

/// The sources of an IPv4 /24 or an IPv6 /48, summed up: those that sent something lately.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrefixDocument {
    pub prefix: IpNet,
    pub sources: usize,
    pub packets_per_second: f64,
    pub bytes_per_second: f64,
    pub syns_per_second: f64,
    pub requests_per_second: f64,
    pub packets: u64,
    pub bytes: u64,
    pub syns: u64,
    pub requests: u64,
    pub drops: u64,
    pub failed: u64,
    pub last_seen: Timestamp,
}
