//! Rules and what they counted, as the control socket shows it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::daemon::ledger::{Count, Observed, Standing};

/// `GET /v1/rules`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rules {
    pub generation: u64,
    pub rules: Vec<RuleDocument>,
}

/// `GET /v1/policy`: the text of the policy in force, or on trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyDocument {
    pub generation: u64,
    /// The file it was read from, or what else it came from.
    pub source: String,
    pub text: String,
    /// The daemon's own policy file, which may say something else by now.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The folder against which it names its files.
    pub base: PathBuf,
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
    /// Since when it has stood, when it was changed, and when it was hit last.
    #[serde(flatten)]
    pub standing: Standing,
}
