//! How the daemon, its fence and its kernel tables stand, as the control socket shows it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SignatureDocument;
use crate::guard::Threat;
use crate::respond::CookieOrder;
use crate::sandbox::Confinement;
use crate::state::HealthReport;

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
    /// Those that get their fence once they have a device.
    #[serde(default)]
    pub waiting: Vec<WaitingStatus>,
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
    /// Whether what should outlive the daemon is on the disk.
    #[serde(default)]
    pub state: HealthReport,
    pub syn_cookies: CookieReport,
    /// What the daemon has taken from its own process.
    #[serde(default)]
    pub confinement: Confinement,
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

/// An interface of the settings that cannot be fenced yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WaitingStatus {
    pub name: String,
    /// Why the device that is there cannot be fenced; `None` if there is none.
    pub why: Option<String>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum CookieCommand {
    On,
    Off,
    Auto,
}
