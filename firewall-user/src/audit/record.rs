//! One line of the audit log.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Of the process at the other end of the control socket, by the kernel's word.
    pub uid: Option<u32>,
    pub pid: Option<i32>,
    /// The name of the program that it was then.
    pub program: Option<String>,
    /// The role under which it was let.
    pub role: Option<String>,
}

/// By which way it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// The control socket.
    Socket,
    /// SIGHUP, or the start of the daemon.
    Signal,
    /// A command that did it by itself, as no daemon ran.
    Command,
    /// The daemon by itself: an automatic ban, a trial that was given back.
    Daemon,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "result", content = "error")]
pub enum Outcome {
    Done,
    /// With the words that whoever asked was told.
    Refused(String),
}

/// What was asked for, before it has a place in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub who: Author,
    pub from: Channel,
    /// `policy.apply`, `policy.confirm`, `policy.rollback`, `fence.detach`, `ban.add`, `ban.remove` and others.
    pub action: String,
    /// What it was about: a prefix, a policy's source, an interface.
    pub target: Option<String>,
    /// Why, in the words of whoever asked.
    pub reason: Option<String>,
    pub outcome: Outcome,
    /// What differs now.
    pub detail: Value,
}

/// A line as it is written, all but its own hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    /// 1 for the first line, and one more for each.
    pub sequence: u64,
    pub time: Timestamp,
    #[serde(flatten)]
    pub entry: Entry,
    /// The hash of the line before; zeros for the first.
    pub previous: String,
}
