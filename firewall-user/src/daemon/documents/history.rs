//! The history of policies, and going back in it.

use serde::{Deserialize, Serialize};

use crate::audit::{Author, Channel};

pub use crate::daemon::history::{
    By, ChangedList, Entry as HistoryEntry, How, ListDigest, Trial, changed_lists,
};

/// `GET /v1/history`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistoryList {
    /// The latest first: it is in force, or on trial.
    pub entries: Vec<HistoryEntry>,
}

/// `GET /v1/history/{number}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistoryDocument {
    #[serde(flatten)]
    pub entry: HistoryEntry,
    pub text: String,
}

/// `POST /v1/rollback`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The entry of the history whose policy is put in force; the one before, or from before the trial, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// On trial: goes back by itself unless it is confirmed within so many seconds. Only with `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_seconds: Option<u64>,
    /// Even if it cuts what the host lives by. Without `to` nothing is asked.
    #[serde(default)]
    pub force: bool,
    /// The asker's own ssh session: the value of SSH_CONNECTION.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_connection: Option<String>,
}

/// Whoever did something, for people.
pub fn actor(who: &Author, from: Channel) -> String {
    match (who.uid, &who.program) {
        (Some(uid), Some(program)) => format!("{uid} ({program})"),
        (Some(uid), None) => uid.to_string(),
        (None, Some(program)) => program.clone(),
        (None, None) => match from {
            Channel::Socket => "unknown".to_owned(),
            Channel::Signal => "signal".to_owned(),
            Channel::Command => "command".to_owned(),
            Channel::Daemon => "palisade".to_owned(),
        },
    }
}
