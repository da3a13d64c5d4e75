//! What each rule matched while it was only observed: what it would have done.
//!
//! The kernel counts a rule by its name, whatever its mode. Here the counts are told apart by the mode that was
//! in force when they grew, with the times of the first and the latest packet, and kept in the state
//! folder: they outlive the daemon, a fence that was taken down, and a restart of the host.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use crate::datapath::RuleHits;
use crate::policy::{Mode, Policy};

const FILE: &str = "rules.json";
const VERSION: u32 = 1;
/// How often the file is written while counts grow. A daemon that is killed loses nothing: the kernel's
/// counters stay, and the next start takes in what they grew by.
const SAVE: Duration = Duration::from_secs(60);

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

/// What a rule matched while it was observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    #[serde(flatten)]
    pub count: Count,
    /// When the first and the latest packet were noticed, which is within seconds of their coming.
    pub first: Option<Timestamp>,
    pub latest: Option<Timestamp>,
}

/// One rule's line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Line {
    /// Whether it was observed when the kernel's counter was read last.
    observing: bool,
    /// That reading.
    reading: Count,
    /// What counters that are gone had come to.
    before: Count,
    observed: Observed,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    version: u32,
    rules: BTreeMap<String, Line>,
}

/// The lines of all rules, and their file.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    lines: BTreeMap<String, Line>,
    changed: bool,
    saved: Instant,
}

impl Ledger {
    /// Reads the ledger of a state folder. One that makes no sense is set aside: the counts start anew.
    pub fn load(state_dir: &Path) -> anyhow::Result<Self> {
        let path = state_dir.join(FILE);
        let lines = match fs::read(&path) {
            Ok(text) => match serde_json::from_slice::<Document>(&text) {
                Ok(document) if document.version == VERSION => document.rules,
                _ => {
                    let aside = path.with_extension("json.corrupt");
                    fs::rename(&path, &aside)
                        .with_context(|| format!("{} cannot be set aside", path.display()))?;
                    error!(
                        file = %path.display(), set_aside = %aside.display(),
                        "the counts of observed rules cannot be read; they start anew"
                    );
                    BTreeMap::new()
                }
            },
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", path.display()));
            }
        };
        Ok(Self {
            path,
            lines,
            changed: false,
            saved: Instant::now(),
        })
    }

    /// Takes in what the kernel's counters grew by, and which rules `policy` observes from now on.
    pub fn take_in(&mut self, hits: &[RuleHits], policy: &Policy, now: Timestamp) {
        let observing = observing(policy);
        for hit in hits {
            let observing = observing.get(hit.rule.as_str()).copied().unwrap_or(false);
            let reading = Count {
                packets: hit.counter.packets,
                bytes: hit.counter.bytes,
            };
            match self.lines.get_mut(&hit.rule) {
                Some(line) => self.changed |= line.take_in(reading, observing, now),
                None if observing || reading.packets > 0 => {
                    self.changed = true;
                    let mut line = Line {
                        observing,
                        ..Line::default()
                    };
                    line.take_in(reading, observing, now);
                    self.lines.insert(hit.rule.clone(), line);
                }
                None => {}
            }
        }
    }

    /// Packets and bytes of a rule in all, given what its counter says now.
    pub fn total(&self, rule: &str, reading: Count) -> Count {
        match self.lines.get(rule) {
            // The counter began anew, and that was not taken in yet.
            Some(line) if reading.packets < line.reading.packets => {
                line.before.plus(line.reading).plus(reading)
            }
            Some(line) => line.before.plus(reading),
            None => reading,
        }
    }

    /// What a rule matched while it was observed, given what its counter says now; `None` if nothing.
    pub fn observed(&self, rule: &str, reading: Count, now: Timestamp) -> Option<Observed> {
        let mut line = self.lines.get(rule)?.clone();
        line.take_in(reading, line.observing, now);
        (line.observed.count.packets > 0).then_some(line.observed)
    }

    /// Writes the file now and then.
    pub fn save_if_due(&mut self) {
        if self.changed && self.saved.elapsed() >= SAVE {
            self.save();
        }
    }

    /// Writes the file. That it cannot be written is no reason to stop.
    pub fn save(&mut self) {
        self.saved = Instant::now();
        match self.write() {
            Ok(()) => self.changed = false,
            Err(error) => warn!(
                file = %self.path.display(),
                "the counts of observed rules cannot be kept: {error:#}"
            ),
        }
    }

    fn write(&self) -> anyhow::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".rules-")
            .tempfile_in(folder)?;
        let document = Document {
            version: VERSION,
            rules: self.lines.clone(),
        };
        serde_json::to_writer(&mut file, &document)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(())
    }
}

impl Line {
    /// Whether there was anything new.
    fn take_in(&mut self, reading: Count, observing: bool, now: Timestamp) -> bool {
        let grown = if reading.packets < self.reading.packets {
            // The counter began anew.
            self.before = self.before.plus(self.reading);
            reading
        } else {
            reading.minus(self.reading)
        };
        if self.observing && grown.packets > 0 {
            self.observed.count = self.observed.count.plus(grown);
            self.observed.first.get_or_insert(now);
            self.observed.latest = Some(now);
        }
        let news = grown.packets > 0 || self.observing != observing;
        self.reading = reading;
        self.observing = observing;
        news
    }
}

impl Count {
    fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
        }
    }

    /// What is more than in `other`.
    pub fn minus(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(other.packets),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// Which rules only observe, of their own or because the whole policy does.
fn observing(policy: &Policy) -> HashMap<&str, bool> {
    let all = policy.defaults.mode == Mode::Observe;
    policy
        .rules
        .iter()
        .map(|rule| (rule.name.as_str(), all || rule.mode == Mode::Observe))
        .collect()
}

#[cfg(test)]
mod tests {
    use firewall_common::layout::Counter;

    use super::*;

    fn policy(mode: &str) -> Policy {
        let text = format!(
            "version = 1\n[[rule]]\nname = \"r\"\naction = \"drop\"\nmode = \"{mode}\"\nport = 80\nprotocol = \"tcp\"\n"
        );
        Policy::parse(&text, "p", Path::new("")).unwrap().0
    }

    fn hits(packets: u64) -> Vec<RuleHits> {
        vec![RuleHits {
            rule: "r".to_owned(),
            counter: Counter {
                packets,
                bytes: packets * 60,
            },
            limited: Counter::default(),
        }]
    }

    fn count(packets: u64) -> Count {
        Count {
            packets,
            bytes: packets * 60,
        }
    }

    fn observed(ledger: &Ledger, reading: u64) -> Count {
        ledger.observed("r", count(reading), at(30)).unwrap().count
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn packets_count_for_the_mode_in_which_they_came() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::load(folder.path()).unwrap();
        ledger.take_in(&hits(0), &policy("observe"), at(1));
        ledger.take_in(&hits(7), &policy("observe"), at(2));
        // Promoted: what came up to here was observed, what comes after is not.
        ledger.take_in(&hits(9), &policy("enforce"), at(3));
        ledger.take_in(&hits(20), &policy("enforce"), at(4));
        let observed = ledger.observed("r", count(21), at(5)).unwrap();
        assert_eq!(observed.count, count(9));
        assert_eq!(
            (observed.first, observed.latest),
            (Some(at(2)), Some(at(3)))
        );
        assert_eq!(ledger.total("r", count(20)), count(20));
    }

    #[test]
    fn counts_outlive_the_daemon_and_counters_that_begin_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::load(folder.path()).unwrap();
        ledger.take_in(&hits(0), &policy("observe"), at(1));
        ledger.take_in(&hits(7), &policy("observe"), at(2));
        ledger.save();
        // The next daemon finds the counter grown on.
        let mut ledger = Ledger::load(folder.path()).unwrap();
        ledger.take_in(&hits(10), &policy("observe"), at(9));
        assert_eq!(observed(&ledger, 11), count(11));
        ledger.save();
        // The host was restarted: the counter began at 0.
        let mut ledger = Ledger::load(folder.path()).unwrap();
        assert_eq!(ledger.total("r", count(4)), count(14));
        ledger.take_in(&hits(4), &policy("observe"), at(20));
        assert_eq!(observed(&ledger, 5), count(15));
        assert_eq!(ledger.total("r", count(6)), count(16));
    }

    #[test]
    fn a_ledger_that_makes_no_sense_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{").unwrap();
        let ledger = Ledger::load(folder.path()).unwrap();
        assert!(ledger.observed("r", count(0), at(1)).is_none());
        assert!(folder.path().join("rules.json.corrupt").exists());
    }
}
