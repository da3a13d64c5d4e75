//! What goes over the control socket: the documents that `--json` prints, with stable names.

use serde::{Deserialize, Serialize};

mod alerts;
mod bans;
mod changes;
mod history;
mod notify;
mod packets;
mod review;
mod rules;
mod services;
mod signatures;
mod sources;
mod status;
mod viewer;
mod watch;

pub use super::ledger::{Count, Observed, Standing};
pub use alerts::*;
pub use bans::*;
pub use changes::*;
pub use history::{
    By, ChangedList, HistoryDocument, HistoryEntry, HistoryList, How, ListDigest, RollbackRequest,
    Trial, actor, changed_lists,
};
pub use notify::*;
pub use packets::*;
pub use review::{
    Finding, Findings, Report, ReportQuery, ReviewedAudit, ReviewedBans, ReviewedPolicy,
    ReviewedRule,
};
pub use rules::*;
pub use services::*;
pub use signatures::{SignatureDocument, SignatureQuery, Signatures};
pub use sources::*;
pub use status::*;
pub use viewer::*;
pub use watch::*;

/// Every answer that is not a success.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorDocument {
    pub error: String,
}
