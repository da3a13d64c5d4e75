//! How lines hang together: each is `{"record":{...},"hash":"..."}`, and the hash is the SHA-256 (FIPS
//! 180-4) of the record's bytes as they stand there, in hexadecimal.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::Record;

/// What stands before the first line.
pub(super) const BEGINNING: &str =
    "0000000000000000000000000000000000000000000000000000000000000000";
pub(super) const VERSION: u32 = 1;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    record: &'a RawValue,
    hash: String,
}

/// The end of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub sequence: u64,
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            sequence: 0,
            hash: BEGINNING.to_owned(),
        }
    }
}

/// A line that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// From 1.
    pub line: usize,
    pub what: String,
}

/// What a log was found to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// Lines that can be read, in their order.
    pub records: Vec<Record>,
    pub faults: Vec<Fault>,
}

impl Verified {
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty()
    }
}

/// A record's line, and its hash.
pub(super) fn line(record: &Record) -> anyhow::Result<(String, Head)> {
    let text = serde_json::to_string(record)?;
    let hash = hash(&text);
    let head = Head {
        sequence: record.sequence,
        hash: hash.clone(),
    };
    Ok((format!("{{\"record\":{text},\"hash\":\"{hash}\"}}\n"), head))
}

fn hash(text: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        hex.push_str(&format!("{byte:02x}"));
    }
    hex
}

/// Reads one line; the record and the hash by which the next one knows it.
pub(super) fn read(line: &str) -> Result<(Record, Head), String> {
    let Line {
        record: raw,
        hash: said,
    } = serde_json::from_str(line).map_err(|error| format!("is no record: {error}"))?;
    let record: Record =
        serde_json::from_str(raw.get()).map_err(|error| format!("is no record: {error}"))?;
    if record.version != VERSION {
        return Err(format!(
            "has version {}, which is unknown here",
            record.version
        ));
    }
    let found = hash(raw.get());
    if found != said {
        return Err("was changed: it does not have the hash that it says".to_owned());
    }
    let head = Head {
        sequence: record.sequence,
        hash: found,
    };
    Ok((record, head))
}

/// Reads a whole log and says which lines do not hold. `end` is the end that was noted beside it.
pub fn verify(text: &str, end: Option<&str>) -> Verified {
    let mut verified = Verified::default();
    let mut head = Head::default();
    for (index, line) in text.lines().enumerate() {
        let mut fault = |what: String| {
            verified.faults.push(Fault {
                line: index + 1,
                what,
            });
        };
        match read(line) {
            Ok((record, next)) => {
                if record.previous != head.hash || record.sequence != head.sequence + 1 {
                    fault(format!(
                        "does not follow the line before: record {} behind record {}; lines were changed, taken \
                         out or put in",
                        record.sequence, head.sequence,
                    ));
                }
                head = next;
                verified.records.push(record);
            }
            Err(what) => fault(what),
        }
    }
    if let Some(end) = end {
        let lines = text.lines().count();
        match serde_json::from_str::<Head>(end) {
            Ok(noted) if noted == head => {}
            Ok(noted) => verified.faults.push(Fault {
                line: lines,
                what: format!(
                    "is not the end that was noted: record {}, but the last one written was {}",
                    head.sequence, noted.sequence
                ),
            }),
            Err(error) => verified.faults.push(Fault {
                line: lines,
                what: format!("the end that was noted cannot be read: {error}"),
            }),
        }
    }
    verified
}
