//! The log's files: lines are added and forced to the disk, one at a time.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use jiff::Timestamp;
use serde_json::Value;
use tracing::{error, info};

use super::chain::{self, Head, Verified};
use super::{Author, Channel, Entry, Outcome, Record};
use crate::state::Health;

const FILE: &str = "audit.log";
const HEAD: &str = "audit.head";

/// The log of one state folder.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    head_path: PathBuf,
    state: Mutex<State>,
    health: Health,
}

#[derive(Debug)]
struct State {
    file: File,
    head: Head,
    /// The end that is noted beside the log is not this one.
    head_due: bool,
    /// Lines that the disk did not take, with the times of what they tell.
    waiting: VecDeque<(Timestamp, Entry)>,
}

/// Lines that wait in memory; what comes on top is told in the log of the system only.
const WAITING: usize = 10_000;
/// What faults of the log are told under.
const WHAT: &str = "the audit log";

impl AuditLog {
    /// Opens the log of a state folder. A last line that was only written in part, as when the power
    /// failed, is set aside; what else is wrong stays as it is, and is told by [`Self::verify`].
    pub fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let path = state_dir.join(FILE);
        let at = || path.display().to_string();
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .with_context(at)?;
        let mut text = String::new();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(at)?;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let torn = bytes.split_off(whole);
        text.push_str(&String::from_utf8_lossy(&bytes));
        if !torn.is_empty() {
            set_aside(&path, &torn)?;
            file.set_len(whole as u64).with_context(at)?;
            file.seek(SeekFrom::End(0)).with_context(at)?;
        }
        let last = text.lines().rev().find_map(|line| chain::read(line).ok());
        let head = last.map_or_else(Head::default, |(_, head)| head);
        let log = Self {
            head_path: state_dir.join(HEAD),
            path: path.clone(),
            state: Mutex::new(State {
                file,
                head,
                head_due: false,
                waiting: VecDeque::new(),
            }),
            health: Health::default(),
        };
        if !torn.is_empty() {
            log.append(Entry {
                who: Author::default(),
                from: Channel::Daemon,
                action: "audit.mend".to_owned(),
                target: None,
                reason: Some("the last line was written only in part".to_owned()),
                outcome: Outcome::Done,
                detail: Value::from(format!("{} bytes set aside", torn.len())),
            });
        }
        Ok(log)
    }

    /// Has faults told there.
    pub fn telling(self, health: Health) -> Self {
        Self { health, ..self }
    }

    /// Adds a line and waits until the disk has it. One that the disk does not take waits in memory: what was done has
    /// been done.
    pub fn append(&self, entry: Entry) {
        let mut state = self.lock();
        if state.waiting.len() >= WAITING {
            error!(
                action = entry.action,
                target = entry.target,
                uid = entry.who.uid,
                "the audit log has no line of this: too many wait already"
            );
            return;
        }
        state.waiting.push_back((Timestamp::now(), entry));
        self.write_waiting(&mut state);
    }

    /// Tries again what the disk did not take.
    pub fn retry(&self) {
        let mut state = self.lock();
        if state.head_due || !state.waiting.is_empty() {
            self.write_waiting(&mut state);
        }
    }

    /// Whether something waits.
    pub fn waits(&self) -> bool {
        let state = self.lock();
        state.head_due || !state.waiting.is_empty()
    }

    fn write_waiting(&self, state: &mut State) {
        while let Some((time, entry)) = state.waiting.front().cloned() {
            if let Err(why) = self.write(state, time, &entry) {
                error!(
                    action = entry.action,
                    target = entry.target,
                    uid = entry.who.uid,
                    "the audit log has no line of this yet: {why:#}"
                );
                self.health.fails(WHAT, &format!("{why:#}"));
                return;
            }
            state.waiting.pop_front();
        }
        match self.note_head(&state.head) {
            Ok(()) => {
                state.head_due = false;
                self.health.works(WHAT);
            }
            Err(why) => self.health.fails(WHAT, &format!("{why:#}")),
        }
    }

    /// Writes one line.
    fn write(&self, state: &mut State, time: Timestamp, entry: &Entry) -> anyhow::Result<()> {
        let record = Record {
            version: chain::VERSION,
            sequence: state.head.sequence + 1,
            time,
            entry: entry.clone(),
            previous: state.head.hash.clone(),
        };
        let (line, head) = chain::line(&record)?;
        let before = state.file.metadata()?.len();
        let wrote = state
            .file
            .write_all(line.as_bytes())
            .and_then(|()| state.file.sync_data());
        if let Err(error) = wrote {
            // Half a line would make the next one unreadable too.
            state.file.set_len(before)?;
            return Err(error).with_context(|| self.path.display().to_string());
        }
        info!(
            sequence = head.sequence,
            hash = head.hash,
            action = entry.action,
            "audited"
        );
        state.head = head;
        state.head_due = true;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each line is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_head(&self, head: &Head) -> anyhow::Result<()> {
        let at = || self.head_path.display().to_string();
        let folder = self.head_path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).with_context(at)?;
        serde_json::to_writer(&mut file, head)?;
        file.as_file().sync_data().with_context(at)?;
        file.persist(&self.head_path).with_context(at)?;
        Ok(())
    }

    /// Reads the log and checks it.
    pub fn verify(&self) -> anyhow::Result<Verified> {
        // No line is added meanwhile.
        let _state = self.lock();
        Self::verify_files(&self.path, Some(&self.head_path))
    }

    /// Reads a log and checks it. `head` is where its end was noted, if it was.
    pub fn verify_files(path: &Path, head: Option<&Path>) -> anyhow::Result<Verified> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let end = match head.map(fs::read_to_string) {
            Some(Ok(end)) => Some(end),
            Some(Err(error)) if error.kind() == ErrorKind::NotFound && bytes.is_empty() => None,
            Some(Err(error)) if error.kind() == ErrorKind::NotFound => Some(String::new()),
            Some(Err(error)) => return Err(error).context("the end of the audit log"),
            None => None,
        };
        Ok(chain::verify(
            &String::from_utf8_lossy(&bytes),
            end.as_deref(),
        ))
    }
}

/// Keeps a torn line beside the log.
fn set_aside(path: &Path, torn: &[u8]) -> anyhow::Result<()> {
    let aside = path.with_extension("log.torn");
    error!(
        file = %path.display(), set_aside = %aside.display(), bytes = torn.len(),
        "the last line of the audit log was written only in part and was set aside"
    );
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&aside)?;
    file.write_all(torn)?;
    file.write_all(b"\n")
        .with_context(|| aside.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(action: &str) -> Entry {
        Entry {
            who: Author {
                uid: Some(0),
                pid: Some(7),
                program: Some("palisade".to_owned()),
                role: Some("admin".to_owned()),
            },
            from: Channel::Socket,
            action: action.to_owned(),
            target: Some("203.0.113.7/32".to_owned()),
            reason: Some("a \"reason\"\nof two lines".to_owned()),
            outcome: Outcome::Done,
            detail: Value::Null,
        }
    }

    fn three(folder: &Path) -> AuditLog {
        let log = AuditLog::open(folder).expect("opened");
        for action in ["ban.add", "ban.remove", "policy.apply"] {
            log.append(entry(action));
        }
        log
    }

    fn faults(log: &AuditLog) -> Vec<usize> {
        let verified = log.verify().expect("read");
        verified.faults.iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn lines_are_found_whole_also_by_the_next_daemon_that_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(three(folder.path()));
        let log = AuditLog::open(folder.path()).expect("opened again");
        log.append(entry("fence.detach"));
        let verified = log.verify().expect("read");
        assert!(verified.is_whole(), "{:?}", verified.faults);
        let told: Vec<_> = verified
            .records
            .iter()
            .map(|record| (record.sequence, record.entry.action.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (1, "ban.add"),
                (2, "ban.remove"),
                (3, "policy.apply"),
                (4, "fence.detach")
            ]
        );
    }

    #[test]
    fn what_was_changed_taken_out_put_in_or_cut_off_shows_with_its_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = three(folder.path());
        let path = folder.path().join(FILE);
        let text = fs::read_to_string(&path).expect("read");
        let lines: Vec<&str> = text.lines().collect();
        let put = |lines: &[&str]| fs::write(&path, lines.join("\n") + "\n").expect("written");
        let changed = lines[1].replace("ban.remove", "ban.regard");
        put(&[lines[0], &changed, lines[2]]);
        assert!(faults(&log).contains(&2));
        put(&[lines[0], lines[2]]);
        assert_eq!(faults(&log), [2]);
        put(&[lines[0], lines[1], lines[1], lines[2]]);
        assert!(faults(&log).contains(&3));
        put(&[lines[0], lines[1]]);
        assert_eq!(faults(&log), [2]);
        put(&[lines[0], "nonsense", lines[1], lines[2]]);
        assert_eq!(faults(&log), [2]);
        put(&lines);
        assert_eq!(faults(&log), Vec::<usize>::new());
    }

    #[test]
    fn a_line_written_in_part_is_set_aside_and_the_log_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(three(folder.path()));
        let path = folder.path().join(FILE);
        let text = fs::read_to_string(&path).expect("read");
        fs::write(&path, &text[..text.len() - 20]).expect("written");
        let log = AuditLog::open(folder.path()).expect("opened");
        log.append(entry("ban.add"));
        let verified = log.verify().expect("read");
        assert!(verified.is_whole(), "{:?}", verified.faults);
        let actions: Vec<_> = verified
            .records
            .iter()
            .map(|record| record.entry.action.as_str())
            .collect();
        assert_eq!(actions, ["ban.add", "ban.remove", "audit.mend", "ban.add"]);
        let aside = fs::read_to_string(path.with_extension("log.torn")).expect("kept");
        assert!(aside.contains("policy.apply"), "{aside}");
    }

    #[test]
    fn lines_that_the_disk_does_not_take_wait_and_are_written_with_their_times() {
        let folder = tempfile::tempdir().expect("a folder");
        let health = Health::default();
        let log = three(folder.path()).telling(health.clone());
        // A handle that takes no writes, as a full disk.
        let whole = {
            let read_only = File::open(folder.path().join(FILE)).expect("opened");
            std::mem::replace(&mut log.lock().file, read_only)
        };
        log.append(entry("ban.add"));
        let done = Timestamp::now();
        log.append(entry("ban.remove"));
        assert!(log.waits() && !health.report().healthy);
        assert_eq!(log.verify().expect("read").records.len(), 3);
        log.lock().file = whole;
        log.retry();
        assert!(!log.waits() && health.report().healthy);
        let verified = log.verify().expect("read");
        assert!(verified.is_whole(), "{:?}", verified.faults);
        assert_eq!(verified.records.len(), 5);
        assert!(verified.records[3].time <= done);
    }

    #[test]
    fn a_log_without_its_noted_end_is_not_taken_for_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = three(folder.path());
        fs::remove_file(folder.path().join(HEAD)).expect("removed");
        assert_eq!(faults(&log), [3]);
    }
}
