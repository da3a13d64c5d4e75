//! Alerts and incidents, and all that is known about a source, as the control socket shows it.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::BanDocument;
use super::EventDocument;
use super::SourceDocument;
use crate::detect::{Alert, Incident};
use crate::respond::PastBan;

/// `GET /v1/alerts`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Alerts {
    /// Those that fire, then the latest that ended.
    pub alerts: Vec<Alert>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertsQuery {
    /// `1` keeps the answer open: a line for each change from now on.
    #[serde(default)]
    pub follow: u8,
}

/// `GET /v1/alerts/{id}`: an alert, or an incident by its number, with all that is known about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AlertReport {
    /// Null if only the incident is remembered.
    pub alert: Option<Alert>,
    pub incident: Option<Incident>,
    /// The capture of the incident's packets, as far as they were sampled.
    pub slice: Option<SliceDocument>,
}

/// A capture on the daemon's host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SliceDocument {
    pub path: PathBuf,
    pub bytes: u64,
}

/// `GET /v1/incidents`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IncidentList {
    /// Those that last, then the latest that ended.
    pub incidents: Vec<Incident>,
}

/// The query of `GET /v1/why`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhyQuery {
    pub address: IpAddr,
}

/// `GET /v1/why`: all that is known and was done about a source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WhyReport {
    pub address: IpAddr,
    /// The prefix under which it is accounted and answered: an IPv4 address, an IPv6 /64.
    pub source: IpNet,
    /// Counts and rates; null if it is not accounted now.
    pub counts: Option<SourceDocument>,
    /// Since when it had connections, and when one was seen last; null if none was.
    pub connections: Option<SpanDocument>,
    /// Sets of the policy in force that the address is in.
    pub sets: Vec<String>,
    /// What of `protect.never_block` covers the source.
    pub protected_by: Option<IpNet>,
    /// What its latest sampled packets met, the most frequent first.
    pub outcomes: Vec<OutcomeDocument>,
    /// The latest of them that was judged by more than what the link needs.
    pub latest: Option<EventDocument>,
    /// Bans and limits in force that cover it.
    pub bans: Vec<BanDocument>,
    /// Those that are over, the latest first.
    pub past_bans: Vec<PastBan>,
    /// Offences that are not forgotten.
    pub offences: u32,
    /// Alerts about it, the latest first.
    pub alerts: Vec<Alert>,
    /// Incidents that it is part of.
    pub incidents: Vec<Incident>,
}

/// From when to when.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SpanDocument {
    pub first: Timestamp,
    pub latest: Timestamp,
}

/// Sampled packets that met the same end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeDocument {
    pub direction: String,
    pub verdict: String,
    pub reason: String,
    pub rule: Option<String>,
    /// An estimate: each sampled packet speaks for several.
    pub packets: u64,
}
