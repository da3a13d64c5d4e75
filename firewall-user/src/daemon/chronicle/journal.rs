//! The journal of alerts and incidents: a line of JSON for each change, after one with the version of
//! the format. Written anew with the latest of each when it has grown long, and at start. A line that a crash cut
//! short is left out; a file that makes no sense is set aside.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use crate::daemon::{alerts, incidents};
use crate::detect::{Alert, AlertState, Incident, Time};

const FILE: &str = "alerts.journal";
const VERSION: u32 = 1;
/// A journal longer than this, and than twice what it was when it was new, is written anew.
const LONG: u64 = 16 << 20;

/// What earlier daemons told, the oldest first. Nothing of it fires any more: whether it still does is
/// for the detector to say anew.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    pub alerts: Vec<Alert>,
    pub incidents: Vec<Incident>,
}

/// The file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    /// What it was when it was new.
    new_length: u64,
}

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
}

/// Any other line.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Alert(Alert),
    Incident(Incident),
}

/// A line to be written.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Written<'a> {
    Alert(&'a Alert),
    Incident(&'a Incident),
}

impl Journal {
    /// Reads the journal of a state folder, and begins it anew with what is in it.
    pub fn open(state_dir: &Path) -> anyhow::Result<(Self, Told)> {
        let path = state_dir.join(FILE);
        let told = match read(&path) {
            Ok(Read::Told(latest)) => latest.told(),
            Ok(Read::Senseless(why)) => {
                let aside = path.with_extension("journal.corrupt");
                error!(
                    file = %path.display(), set_aside = %aside.display(), why,
                    "the journal of alerts cannot be read; it begins anew"
                );
                fs::rename(&path, &aside)
                    .with_context(|| format!("setting {} aside", path.display()))?;
                Told::default()
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Told::default(),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", path.display()));
            }
        };
        let (file, length) = write_anew(&path, &told)?;
        let journal = Self {
            path,
            file,
            length,
            new_length: length,
        };
        Ok((journal, told))
    }

    pub fn alert(&mut self, alert: &Alert) -> anyhow::Result<()> {
        self.append(&Written::Alert(alert))
    }

    pub fn incident(&mut self, incident: &Incident) -> anyhow::Result<()> {
        self.append(&Written::Incident(incident))
    }

    fn append(&mut self, line: &Written<'_>) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if let Err(error) = self.file.write_all(&text) {
            // Half a line must not stand before the next one.
            self.file.set_len(self.length)?;
            return Err(error)
                .with_context(|| format!("{} cannot be written", self.path.display()));
        }
        self.length += text.len() as u64;
        if self.length > LONG.max(2 * self.new_length) {
            self.shorten()?;
        }
        Ok(())
    }

    /// Leaves the latest of each, and of those only as many as a daemon remembers.
    fn shorten(&mut self) -> anyhow::Result<()> {
        let Read::Told(latest) = read(&self.path)? else {
            anyhow::bail!("{} was changed by somebody else", self.path.display());
        };
        let (file, length) = write_anew(
            &self.path,
            &Told {
                alerts: latest.alerts.into_values().collect(),
                incidents: latest.incidents.into_values().collect(),
            }
            .trimmed(),
        )?;
        self.file = file;
        self.length = length;
        self.new_length = length;
        Ok(())
    }
}

/// The latest of each, by number, and when the latest of all was written.
#[derive(Default)]
struct Latest {
    alerts: BTreeMap<u64, Alert>,
    incidents: BTreeMap<u64, Incident>,
    time: Time,
}

enum Read {
    Told(Latest),
    Senseless(String),
}

fn read(path: &Path) -> std::io::Result<Read> {
    let mut lines = BufReader::new(File::open(path)?).split(b'\n');
    let header = lines.next().transpose()?.unwrap_or_default();
    match serde_json::from_slice::<Header>(&header) {
        Ok(Header { version: VERSION }) => {}
        Ok(Header { version }) => {
            return Ok(Read::Senseless(format!("version {version} is unknown")));
        }
        Err(error) => return Ok(Read::Senseless(error.to_string())),
    }
    let mut latest = Latest::default();
    let mut senseless = 0_u64;
    for line in lines {
        match serde_json::from_slice(&line?) {
            Ok(Line::Alert(alert)) => {
                latest.see(alert.detected.max(alert.ended.unwrap_or(0)));
                latest.alerts.insert(alert.id, alert);
            }
            Ok(Line::Incident(incident)) => {
                latest.see(incident.detected.max(incident.ended.unwrap_or(0)));
                latest.incidents.insert(incident.id, incident);
            }
            Err(_) => senseless += 1,
        }
    }
    if senseless > 0 {
        warn!(file = %path.display(), lines = senseless, "lines of the journal of alerts make no sense and are left out");
    }
    Ok(Read::Told(latest))
}

impl Latest {
    fn see(&mut self, time: Time) {
        self.time = self.time.max(time);
    }

    /// As the next daemon takes it: over.
    fn told(self) -> Told {
        let end = self.time;
        let mut told = Told {
            alerts: self.alerts.into_values().collect(),
            incidents: self.incidents.into_values().collect(),
        };
        for alert in &mut told.alerts {
            if alert.state == AlertState::Firing {
                alert.state = AlertState::Resolved;
                alert.ended = Some(end.max(alert.detected));
            }
        }
        for incident in &mut told.incidents {
            if incident.state == AlertState::Firing {
                incident.state = AlertState::Resolved;
                incident.ended = Some(end.max(incident.detected));
            }
        }
        told.trimmed()
    }
}

impl Told {
    /// Only as many as a daemon remembers.
    fn trimmed(mut self) -> Self {
        let beyond = |length: usize, keep: usize| length.saturating_sub(keep);
        self.alerts.drain(..beyond(self.alerts.len(), alerts::KEEP));
        self.incidents
            .drain(..beyond(self.incidents.len(), incidents::KEEP));
        self
    }
}

/// Writes a whole journal so that a crash at any moment leaves the old one or the new one.
fn write_anew(path: &Path, told: &Told) -> anyhow::Result<(File, u64)> {
    let cannot = || format!("{} cannot be written", path.display());
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".alerts-")
        .tempfile_in(folder)
        .with_context(cannot)?;
    let mut writer = BufWriter::new(&mut file);
    let mut line = |value: &dyn erased::Line| -> anyhow::Result<()> {
        value.write(&mut writer)?;
        Ok(writer.write_all(b"\n")?)
    };
    line(&Header { version: VERSION }).with_context(cannot)?;
    for alert in &told.alerts {
        line(&Written::Alert(alert)).with_context(cannot)?;
    }
    for incident in &told.incidents {
        line(&Written::Incident(incident)).with_context(cannot)?;
    }
    writer.flush().with_context(cannot)?;
    drop(writer);
    file.as_file().sync_all().with_context(cannot)?;
    file.persist(path).with_context(cannot)?;
    let file = OpenOptions::new()
        .append(true)
        .open(path)
        .with_context(cannot)?;
    let length = file.metadata().with_context(cannot)?.len();
    Ok((file, length))
}

/// Anything that a line can be made of.
mod erased {
    use std::io::Write;

    pub trait Line {
        fn write(&self, to: &mut dyn Write) -> serde_json::Result<()>;
    }

    impl<T: serde::Serialize> Line for T {
        fn write(&self, to: &mut dyn Write) -> serde_json::Result<()> {
            serde_json::to_writer(to, self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::alerts::tests::alert;
    use crate::detect::Incidents;

    fn incident(of: &Alert) -> Incident {
        let mut incidents = Incidents::default();
        incidents.take_in(of.detected, of);
        incidents.get(of.id).unwrap().clone()
    }

    #[test]
    fn alerts_and_incidents_outlive_the_daemon_and_fire_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, told) = Journal::open(folder.path()).unwrap();
        assert_eq!(told, Told::default());
        journal.alert(&alert(1, false)).unwrap();
        journal.incident(&incident(&alert(1, false))).unwrap();
        journal.alert(&alert(1, true)).unwrap();
        journal.alert(&alert(2, false)).unwrap();
        drop(journal);
        let (_, told) = Journal::open(folder.path()).unwrap();
        let states: Vec<_> = told
            .alerts
            .iter()
            .map(|alert| (alert.id, alert.state, alert.ended.is_some()))
            .collect();
        let over = AlertState::Resolved;
        assert_eq!(states, [(1, over, true), (2, over, true)]);
        assert_eq!(told.incidents.len(), 1);
        assert_eq!(told.incidents[0].state, over);
        // Written anew at start, it says the same.
        assert_eq!(Journal::open(folder.path()).unwrap().1, told);
    }

    #[test]
    fn a_line_that_a_crash_cut_short_is_left_out_and_the_others_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        journal.alert(&alert(1, true)).unwrap();
        journal
            .file
            .write_all(b"{\"alert\":{\"id\":2,\"ki")
            .unwrap();
        drop(journal);
        let (mut journal, told) = Journal::open(folder.path()).unwrap();
        assert_eq!(told.alerts.len(), 1);
        journal.alert(&alert(3, true)).unwrap();
        drop(journal);
        assert_eq!(Journal::open(folder.path()).unwrap().1.alerts.len(), 2);
    }

    #[test]
    fn a_journal_that_makes_no_sense_is_set_aside_and_kept() {
        for text in ["", "no JSON\n", "{\"version\":99}\n"] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(FILE), text).unwrap();
            let (_, told) = Journal::open(folder.path()).unwrap();
            assert_eq!(told, Told::default());
            let aside = folder.path().join("alerts.journal.corrupt");
            assert_eq!(fs::read_to_string(aside).unwrap(), text);
        }
    }

    #[test]
    fn a_journal_does_not_grow_beyond_what_a_daemon_remembers() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        let mut large = alert(0, true);
        large.why = "x".repeat(20_000);
        for id in 0..2_500 {
            large.id = id;
            journal.alert(&large).unwrap();
        }
        assert!(journal.length < 3 * LONG, "{}", journal.length);
        drop(journal);
        let (_, told) = Journal::open(folder.path()).unwrap();
        assert_eq!(told.alerts.len(), alerts::KEEP);
        assert_eq!(told.alerts.last().unwrap().id, 2_499);
    }
}
