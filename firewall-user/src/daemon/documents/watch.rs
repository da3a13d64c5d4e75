//! The stream of sampled packets, as `palisade watch` gets it: a document a line.

use serde::{Deserialize, Serialize};

use super::EventDocument;

/// The query of `GET /v1/watch`. Lists are separated by commas; what is not named is not asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchQuery {
    /// Also what was let through; dropped packets alone without it.
    pub passed: bool,
    /// Names of reasons.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Names of rules.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// Addresses or prefixes of the sender.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// Addresses or prefixes of the destination.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub to: String,
    /// Ports, of either end.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub port: String,
    /// Names or numbers of protocols.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// Names of interfaces.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface: String,
}

/// One line of the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WatchLine {
    Packet(Box<WatchedPacket>),
    Lost(LostDocument),
}

/// A sampled packet; with its first bytes from `/v1/watch/frames`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WatchedPacket {
    #[serde(flatten)]
    pub event: EventDocument,
    /// The first bytes of the frame, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
}

/// Sampled packets that did not reach the reader since the last line of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostDocument {
    pub by: LostBy,
    /// How many samples; null where only what they stood for was counted.
    pub samples: Option<u64>,
    /// How many packets they stood for.
    pub packets: u64,
}

/// Who lost samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostBy {
    /// The reader of this answer was too slow.
    Reader,
    /// The kernel's ring buffer was full.
    Kernel,
}
