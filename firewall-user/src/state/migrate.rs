//! Version 0 of the format was a folder of files, each with a version of its own. They are read once, and moved into a
//! folder beside the store when all that they held is written there.
//!
//! An older palisade that is installed again finds none of them and begins anew; what it then writes is taken over when
//! it is replaced by a newer one.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tracing::{error, info};

use super::Health;
use super::row::{Key, Kind, Row, number};

/// Where the files go.
const ASIDE: &str = "before-state.db";
/// Files that are kept as a whole, and the names of the parts that they became.
const PARTS: [(&str, &str); 6] = [
    ("policies.json", "policies"),
    ("offenders.json", "offenders"),
    ("ranges.json", "ranges"),
    ("rules.json", "rules"),
    ("signatures.json", "signatures"),
    ("syncookies.json", "cookies"),
];

/// What the files held, and which they are.
#[derive(Debug, Default)]
pub(super) struct Imported {
    pub rows: Vec<Row>,
    pub files: Vec<PathBuf>,
}

/// Reads the files that are there. One that makes no sense is told of and goes aside with the others.
pub(super) fn read(state_dir: &Path, health: &Health) -> Imported {
    let mut imported = Imported::default();
    let mut rows: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
    imported.take(state_dir, "bans.json", health, |text| bans(text, &mut rows));
    imported.take(state_dir, "bans.journal", health, |text| {
        ban_journal(text, &mut rows);
        Ok(())
    });
    imported.take(state_dir, "alerts.journal", health, |text| {
        alert_journal(text, &mut rows)
    });
    for (file, part) in PARTS {
        imported.take(state_dir, file, health, |text| {
            // Whether it is right is for its owner to say; that it is no JSON can be told at once.
            serde_json::from_slice::<Value>(text).map_err(|error| error.to_string())?;
            rows.insert((Kind::Part, part.to_owned()), text.to_vec());
            Ok(())
        });
    }
    imported.rows = rows.into_iter().collect();
    if !imported.files.is_empty() {
        info!(
            files = imported.files.len(),
            rows = imported.rows.len(),
            "what an earlier version kept in files of its own goes into the state"
        );
    }
    imported
}

impl Imported {
    fn take(
        &mut self,
        state_dir: &Path,
        name: &str,
        health: &Health,
        parse: impl FnOnce(&[u8]) -> Result<(), String>,
    ) {
        let path = state_dir.join(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => {
                error!(file = %path.display(), "an earlier version's file is left out: {error}");
                return;
            }
        };
        if let Err(why) = parse(&text) {
            health.set_aside(format!(
                "{} makes no sense ({why}) and goes to {ASIDE}: what it held is lost",
                path.display()
            ));
        }
        self.files.push(path);
    }
}

/// `bans.json`: `{"version": 1, "bans": [record, ...]}`.
fn bans(text: &[u8], rows: &mut BTreeMap<Key, Vec<u8>>) -> Result<(), String> {
    let document: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    is_first(&document)?;
    let bans = document["bans"].as_array().ok_or("it has no bans")?;
    for record in bans {
        ban(record, rows);
    }
    Ok(())
}

fn ban(record: &Value, rows: &mut BTreeMap<Key, Vec<u8>>) {
    if let Some(prefix) = record["prefix"].as_str() {
        let text = record.to_string().into_bytes();
        rows.insert((Kind::Ban, prefix.to_owned()), text);
    }
}

/// `bans.journal`: a line for each change since; the last may be cut short.
fn ban_journal(text: &[u8], rows: &mut BTreeMap<Key, Vec<u8>>) {
    for line in text.split(|byte| *byte == b'\n') {
        let Ok(change) = serde_json::from_slice::<Value>(line) else {
            return;
        };
        ban(&change["ban"], rows);
        if let Some(prefix) = change["lift"].as_str() {
            rows.remove(&(Kind::Ban, prefix.to_owned()));
        }
    }
}

/// `alerts.journal`: a line with the version, then one for each change; the latest of each number holds.
fn alert_journal(text: &[u8], rows: &mut BTreeMap<Key, Vec<u8>>) -> Result<(), String> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let header = lines.next().unwrap_or_default();
    let header = serde_json::from_slice(header).map_err(|error| error.to_string())?;
    is_first(&header)?;
    for line in lines {
        let Ok(line) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        for kind in [Kind::Alert, Kind::Incident] {
            let told = &line[kind.name()];
            if let Some(id) = told["id"].as_u64() {
                rows.insert((kind, number(id)), told.to_string().into_bytes());
            }
        }
    }
    Ok(())
}

fn is_first(document: &Value) -> Result<(), String> {
    match document["version"].as_u64() {
        Some(1) => Ok(()),
        Some(other) => Err(format!("version {other} is unknown")),
        None => Err("it has no version".to_owned()),
    }
}

/// Moves files away whose contents are written elsewhere now.
pub(super) fn put_aside(files: &[PathBuf], health: &Health) {
    for file in files {
        if let Err(error) = move_aside(file) {
            health.fails(
                "the folder of files of an earlier version",
                &error.to_string(),
            );
        }
    }
}

fn move_aside(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new(".")).join(ASIDE);
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let name = file.file_name().unwrap_or_default();
    fs::rename(file, folder.join(name))
}
