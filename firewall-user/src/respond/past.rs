//! What was done about sources before: bans and limits that are over, and offences. Kept in one file
//! in the state folder, so that a repeat offender is known as one after a restart.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::error;

use super::{BanRecord, Offender, Offenders};

const FILE: &str = "offenders.json";
const VERSION: u32 = 1;
/// Bans that are over and remembered.
const KEEP: usize = 4_096;

/// A ban or limit that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastBan {
    #[serde(flatten)]
    pub ban: BanRecord,
    pub ended: Timestamp,
    /// It did not end by itself.
    pub lifted: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Past {
    pub offenders: Offenders,
    bans: VecDeque<PastBan>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    offenders: Vec<Offender>,
    bans: Vec<PastBan>,
}

impl Past {
    /// Reads what is remembered in a state folder. A file that makes no sense is set aside.
    pub fn load(state_dir: &Path) -> anyhow::Result<Self> {
        let path = path(state_dir);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", path.display()));
            }
        };
        let why = match serde_json::from_slice::<Document>(&text) {
            Ok(document) if document.version == VERSION => {
                return Ok(Self {
                    offenders: document.offenders.into_iter().collect(),
                    bans: document.bans.into(),
                });
            }
            Ok(document) => format!("version {} is unknown", document.version),
            Err(error) => error.to_string(),
        };
        let aside = path.with_extension("json.corrupt");
        error!(
            file = %path.display(), set_aside = %aside.display(), why,
            "who misbehaved before cannot be read; everybody starts anew"
        );
        fs::rename(&path, &aside).with_context(|| format!("setting {} aside", path.display()))?;
        Ok(Self::default())
    }

    /// Writes it so that a crash at any moment leaves the old file or the new one.
    pub fn save(document: &[u8], state_dir: &Path) -> anyhow::Result<()> {
        let path = path(state_dir);
        let write = || -> anyhow::Result<()> {
            let mut file = tempfile::Builder::new()
                .prefix(".offenders-")
                .tempfile_in(state_dir)?;
            let mut writer = BufWriter::new(&mut file);
            writer.write_all(document)?;
            writer.flush()?;
            drop(writer);
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().with_context(|| format!("{} cannot be written", path.display()))
    }

    /// The file's text.
    pub fn document(&self) -> anyhow::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(&Document {
            version: VERSION,
            offenders: self.offenders.iter().copied().collect(),
            bans: self.bans.iter().cloned().collect(),
        })?;
        text.push(b'\n');
        Ok(text)
    }

    /// Notes a ban or limit that is over.
    pub fn note(&mut self, ban: BanRecord, now: Timestamp, lifted: bool) {
        self.bans.push_back(PastBan {
            ended: ban
                .expires
                .filter(|end| !lifted && *end <= now)
                .unwrap_or(now),
            ban,
            lifted,
        });
        while self.bans.len() > KEEP {
            self.bans.pop_front();
        }
    }

    /// Those that covered a prefix or a part of it, the latest first.
    pub fn about(&self, prefix: &IpNet) -> Vec<PastBan> {
        let touches =
            |past: &&PastBan| past.ban.prefix.contains(prefix) || prefix.contains(&past.ban.prefix);
        self.bans.iter().rev().filter(touches).cloned().collect()
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::BanDuration;
    use crate::respond::book::tests::record;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn save(past: &Past, folder: &Path) {
        Past::save(&past.document().unwrap(), folder).unwrap();
    }

    #[test]
    fn offences_and_bans_that_are_over_outlive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut past = Past::load(folder.path()).unwrap();
        let never = BanDuration(None);
        past.offenders
            .note(net("203.0.113.7/32"), at(0), Some(at(600)), never);
        past.note(record("203.0.113.7/32", Some(600)), at(601), false);
        past.note(record("2001:db8:7::/48", None), at(700), true);
        save(&past, folder.path());
        let past = Past::load(folder.path()).unwrap();
        assert_eq!(
            past.offenders
                .offences(&net("203.0.113.7/32"), at(999), never),
            1
        );
        let about = past.about(&net("203.0.113.7/32"));
        assert_eq!(
            (about.len(), about[0].ended, about[0].lifted),
            (1, at(600), false)
        );
        let about = past.about(&net("2001:db8:7:7::/64"));
        assert_eq!(
            (about.len(), about[0].ended, about[0].lifted),
            (1, at(700), true)
        );
    }

    #[test]
    fn a_file_that_makes_no_sense_is_set_aside() {
        for text in [
            "",
            "{\"version\":1,\"offen",
            "{\"version\":7,\"offenders\":[],\"bans\":[]}",
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(path(folder.path()), text).unwrap();
            assert_eq!(Past::load(folder.path()).unwrap().bans.len(), 0);
            let aside = folder.path().join("offenders.json.corrupt");
            assert_eq!(fs::read_to_string(aside).unwrap(), text);
        }
    }

    #[test]
    fn what_is_remembered_of_bans_is_bounded() {
        let mut past = Past::default();
        for second in 0..KEEP as i64 + 10 {
            past.note(record("203.0.113.7/32", Some(second)), at(second), false);
        }
        let about = past.about(&net("203.0.113.7/32"));
        assert_eq!((about.len(), about[0].ended), (KEEP, at(KEEP as i64 + 9)));
    }
}
