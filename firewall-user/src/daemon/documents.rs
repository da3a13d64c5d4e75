//! What goes over the control socket: the documents that `--json` prints, with stable names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod signatures;

pub use super::ledger::{Count, Observed};
use crate::detect::{Alert, Incident};
use crate::guard::Threat;
use crate::policy::Changes;
use crate::respond::{BanDuration, BanRecord, CookieOrder, PastBan};
pub use signatures::{SignatureDocument, SignatureQuery, Signatures};

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub revision: String,
    pub pid: u32,
    pub started: Timestamp,
    pub settings: PathBuf,
    pub policy: PolicyStatus,
    pub interfaces: Vec<InterfaceStatus>,
    pub totals: Vec<TotalDocument>,
    pub bans: BanCounts,
    /// Temporary rules against floods.
    #[serde(default)]
    pub signatures: Vec<SignatureDocument>,
    pub alerts_active: usize,
    #[serde(default)]
    pub incidents_active: usize,
    pub sources_tracked: usize,
    pub maps: Vec<MapDocument>,
    pub health: HealthDocument,
    pub syn_cookies: CookieReport,
}

/// How SYN cookies stand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CookieReport {
    /// `respond.syn_cookies`.
    pub setting: String,
    /// Alerts lead to cookies.
    pub automatic: bool,
    /// Why this kernel can send none.
    pub unavailable: Option<String>,
    /// Why none are sent although they are asked for.
    pub problem: Option<String>,
    pub armed: Vec<ArmedDocument>,
    pub orders: BTreeMap<String, CookieOrder>,
    pub sent: u64,
    pub accepted: u64,
    pub rejected: u64,
    /// Bytes of the SYNs that were answered, and of the answers.
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

/// A service whose SYNs are answered with cookies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArmedDocument {
    pub service: String,
    pub ports: Vec<String>,
    /// `ordered`, `alert`, or `held` after one.
    pub why: String,
}

/// An order about SYN cookies.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CookieRequest {
    pub order: CookieCommand,
    /// All that let TCP connections in, if it is not said.
    #[serde(default)]
    pub service: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum CookieCommand {
    On,
    Off,
    Auto,
}

/// The policy in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// The file that a reload reads.
    pub file: PathBuf,
    /// Where the policy in force came from, if from elsewhere.
    pub source: String,
    /// Whether the latest policy that was offered was taken.
    pub valid: bool,
    /// Why not.
    pub error: Option<String>,
    pub generation: u64,
    pub applied: Timestamp,
    pub mode: String,
    pub rules: usize,
    pub sets: usize,
    /// Names of the rules that are only observed.
    #[serde(default)]
    pub observed: Vec<String>,
    /// Set while the policy in force is on trial.
    #[serde(default)]
    pub trial: Option<TrialStatus>,
    /// The latest policy that was in force and was not to stay, until another one is.
    #[serde(default)]
    pub given_back: Option<GivenBackStatus>,
    /// What the policy in force cut of what the host lives by when it was put in force.
    #[serde(default)]
    pub cuts: Vec<Threat>,
}

/// A policy that goes away again unless it is confirmed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialStatus {
    pub generation: u64,
    /// The generation that is back in force otherwise.
    pub previous_generation: u64,
    pub deadline: Timestamp,
    pub remaining_seconds: u64,
}

/// A policy that went away again: not confirmed in time, or rolled back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GivenBackStatus {
    pub source: String,
    pub generation: u64,
    pub reason: String,
    pub time: Timestamp,
    /// The file in which its text is kept.
    pub text: PathBuf,
    /// The file with the text of the policy that is in force instead.
    pub in_force_text: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InterfaceStatus {
    pub name: String,
    pub index: u32,
    pub mode: String,
    pub fallback: Option<String>,
    pub egress: String,
    pub taken_over: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TotalDocument {
    pub interface: String,
    pub direction: String,
    pub verdict: String,
    pub reason: String,
    pub packets: u64,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct BanCounts {
    pub manual: usize,
    pub automatic: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MapDocument {
    pub map: String,
    pub entries: u64,
    pub capacity: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct HealthDocument {
    pub events_throttled: u64,
    pub events_lost: u64,
    pub connections_refused: u64,
    pub sources_contended: u64,
}

/// `POST /v1/apply`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// A whole policy; its files are relative to the daemon's own policy file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A policy file, absolute. With neither, the daemon's own file is read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Check and compile, but change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Put it on trial: the policy before is back after so many seconds unless it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_seconds: Option<u64>,
    /// Put it in force even if it cuts what the host lives by.
    #[serde(default)]
    pub force: bool,
    /// The asker puts the daemon's own file back if it is refused.
    #[serde(default)]
    pub tentative: bool,
    /// The asker's own ssh session: the value of SSH_CONNECTION.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_connection: Option<String>,
}

/// Longest trial.
pub const LONGEST_TRIAL_SECONDS: u64 = 7 * 86_400;

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApplyReport {
    pub dry_run: bool,
    pub source: String,
    /// The generation in force now.
    pub generation: u64,
    pub rules: usize,
    pub sets: usize,
    pub warnings: Vec<String>,
    pub compile_seconds: f64,
    pub load_seconds: f64,
    pub swap_seconds: f64,
    /// Bans that ended because the new policy protects their source.
    pub bans_lifted: Vec<IpNet>,
    /// Set if it is in force on trial.
    #[serde(default)]
    pub trial: Option<TrialStatus>,
    /// What it cuts of what the host lives by, and the policy before did not.
    #[serde(default)]
    pub cuts: Vec<Threat>,
    /// What it cuts and the policy before did, too; and what the guard could not find out.
    #[serde(default)]
    pub guard_notes: Vec<String>,
    /// What differs from the policy before, by name.
    #[serde(default)]
    pub changes: Changes,
}

/// What differs between two policies, for the audit log.
pub fn changes(changes: &Changes) -> Value {
    serde_json::to_value(changes).unwrap_or_default()
}

/// `POST /v1/confirm`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfirmReport {
    /// The generation that stays.
    pub generation: u64,
    pub source: String,
}

/// `POST /v1/rollback`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RollbackReport {
    /// The generation that is gone.
    pub from_generation: u64,
    /// The generation in force now.
    pub generation: u64,
    pub source: String,
    /// The file in which the text of the policy that is gone is kept.
    pub text: PathBuf,
    /// The interfaces that are protected now.
    pub attached: Vec<String>,
}

/// `POST /v1/detach`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetachRequest {
    /// One interface; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DetachReport {
    /// The interfaces that are open now.
    pub detached: Vec<String>,
    /// The interfaces that are still protected.
    pub attached: Vec<String>,
}

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

/// `GET /v1/bans`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bans {
    pub bans: Vec<BanDocument>,
}

/// One ban in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// `GET /v1/rules`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rules {
    pub generation: u64,
    pub rules: Vec<RuleDocument>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RuleDocument {
    pub rule: String,
    /// Part of every policy: what the link needs.
    pub built_in: bool,
    pub mode: String,
    /// In all, whatever the mode.
    pub packets: u64,
    pub bytes: u64,
    /// What it matched while it was only observed; null if nothing.
    #[serde(default)]
    pub observed: Option<Observed>,
    /// What was over the rule's limit, dropped or only counted; of rules that have one.
    #[serde(default)]
    pub limited: Option<Count>,
}

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

/// The query of `GET /v1/connection`: a packet's addresses and ports as this host sees them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionQuery {
    pub local: IpAddr,
    pub remote: IpAddr,
    pub protocol: u8,
    /// 0 where the protocol has no ports; the identifier of an echo.
    #[serde(default)]
    pub local_port: u16,
    #[serde(default)]
    pub remote_port: u16,
}

/// `GET /v1/connection`: the entry of the connection table, if there is one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionReport {
    pub connection: Option<ConnectionDocument>,
}

/// One entry of the connection table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionDocument {
    /// Seconds since its latest packet, kept to a second.
    pub idle_seconds: f64,
    /// Packets were seen both ways.
    pub answered: bool,
    /// A FIN or RST was seen.
    pub closing: bool,
    /// The rule that admitted it.
    pub rule: Option<String>,
}

/// `GET /v1/events`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Events {
    /// The latest first.
    pub events: Vec<EventDocument>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    #[serde(default = "default_event_limit")]
    pub limit: usize,
}

fn default_event_limit() -> usize {
    100
}

/// A sampled packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventDocument {
    pub time: Timestamp,
    pub interface: String,
    pub direction: String,
    pub verdict: String,
    pub reason: String,
    pub rule: Option<String>,
    pub protocol: u8,
    pub source: IpAddr,
    pub source_port: u16,
    pub destination: IpAddr,
    pub destination_port: u16,
    pub tcp_flags: u8,
    pub icmp_type: u8,
    pub length: u32,
    /// `pass`, `drop`, `contact`, `control`, `query` or `log`.
    pub class: String,
    /// How many packets of its class it speaks for, itself among them.
    pub packets: u64,
}

/// Every answer that is not a success.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorDocument {
    pub error: String,
}
