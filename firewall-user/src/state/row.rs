//! Rows: what is kept under which kind and key.

use sha2::{Digest, Sha256};

/// What a row is about. The names stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A ban or limit in force, by its prefix.
    Ban,
    /// An alert, by its number.
    Alert,
    /// An incident, by its number.
    Incident,
    /// A policy that was put in force, by its number in the history.
    History,
    /// The text of a policy, by its SHA-256.
    Text,
    /// A part of the daemon that is kept as a whole, by its name.
    Part,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::Ban,
        Self::Alert,
        Self::Incident,
        Self::History,
        Self::Text,
        Self::Part,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Alert => "alert",
            Self::Incident => "incident",
            Self::History => "history",
            Self::Text => "text",
            Self::Part => "part",
        }
    }
}

/// Where a row is found.
pub(super) type Key = (Kind, String);

/// A row as it was read.
pub(super) type Row = (Key, Vec<u8>);

/// A number as a key: in the order of the numbers.
pub fn number(number: u64) -> String {
    format!("{number:020}")
}

/// What tells a row that was damaged: the first eight bytes of the SHA-256 of all that it says.
pub(super) fn checksum(kind: Kind, key: &str, value: &[u8]) -> i64 {
    let mut hasher = Sha256::new();
    for part in [kind.name().as_bytes(), key.as_bytes(), value] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let digest = hasher.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_le_bytes(first)
}
