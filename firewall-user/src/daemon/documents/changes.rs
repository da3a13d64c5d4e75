//! What puts a policy in force or takes it away, and what came of it, as the control socket shows it.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ChangedList, TrialStatus};
use crate::guard::Threat;
use crate::policy::Changes;

/// Longest trial.
pub const LONGEST_TRIAL_SECONDS: u64 = 7 * 86_400;

/// `POST /v1/apply`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// A whole policy; its files are relative to the daemon's own policy file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What `text` is called: the file that it was read from, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<PathBuf>,
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
    /// The generation that is gone, or behind the trial.
    pub from_generation: u64,
    /// The generation in force now.
    pub generation: u64,
    pub source: String,
    /// The file in which the text of the policy that is gone is kept; of one on trial, once it is confirmed.
    pub text: PathBuf,
    /// The interfaces that are protected now.
    pub attached: Vec<String>,
    /// The entry of the history that was gone back to, if one was named, and what differs from the policy that is gone.
    #[serde(default)]
    pub entry: Option<u64>,
    #[serde(default)]
    pub changes: Changes,
    /// Lists of its sets that are not as they were then: they were taken as they are now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lists_changed: Vec<ChangedList>,
    /// Set if that entry is in force on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialStatus>,
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
