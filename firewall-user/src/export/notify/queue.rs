//! What waits for a peer, in the order in which it happened: a file each, so that neither a daemon that is
//! killed nor a torn write loses more than one, and bounded, so that a peer that is gone for good fills no disk.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::notice::Notice;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    pub entries: usize,
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            entries: 1000,
            bytes: 16 << 20,
        }
    }
}

/// Notices that wait, the oldest first.
#[derive(Debug)]
pub struct Queue {
    folder: PathBuf,
    bounds: Bounds,
    waiting: VecDeque<Entry>,
    bytes: u64,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    bytes: u64,
    notice: Notice,
}

/// What came of a push.
#[derive(Debug)]
pub struct Pushed {
    /// Older ones that had to go.
    pub dropped: u64,
    /// Why it waits in memory only.
    pub unwritten: Option<io::Error>,
}

impl Queue {
    /// Takes up what an earlier daemon left in `folder`. Files that cannot be read are removed and counted.
    pub fn open(folder: &Path, bounds: Bounds) -> io::Result<(Self, u64)> {
        fs::create_dir_all(folder)?;
        let mut numbers = Vec::new();
        for file in fs::read_dir(folder)? {
            let path = file?.path();
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            match (number, path.extension().and_then(|end| end.to_str())) {
                (Some(number), Some("notice")) => numbers.push(number),
                // Half of a file that was being written.
                (Some(_), Some("new")) => fs::remove_file(&path)?,
                _ => {}
            }
        }
        numbers.sort_unstable();
        let mut queue = Self::in_memory(folder, bounds);
        queue.next = numbers.last().map_or(0, |last| last + 1);
        let mut lost = 0;
        for number in numbers {
            let read = fs::read(queue.path(number))
                .ok()
                .and_then(|text| Some((text.len() as u64, serde_json::from_slice(&text).ok()?)));
            match read {
                Some((bytes, notice)) => queue.hold(number, bytes, notice),
                None => {
                    lost += 1;
                    fs::remove_file(queue.path(number))?;
                }
            }
        }
        lost += queue.trim();
        Ok((queue, lost))
    }

    /// One that starts with nothing, where the folder cannot be used.
    pub fn in_memory(folder: &Path, bounds: Bounds) -> Self {
        Self {
            folder: folder.to_owned(),
            bounds,
            waiting: VecDeque::new(),
            bytes: 0,
            next: 0,
        }
    }

    /// Adds one at the end.
    pub fn push(&mut self, notice: Notice) -> Pushed {
        let number = self.next;
        self.next += 1;
        let text = serde_json::to_vec(&notice).unwrap_or_default();
        let unwritten = self.write(number, &text).err();
        self.hold(number, text.len() as u64, notice);
        Pushed {
            dropped: self.trim(),
            unwritten,
        }
    }

    /// The oldest.
    pub fn front(&self) -> Option<&Notice> {
        self.waiting.front().map(|entry| &entry.notice)
    }

    /// Takes the oldest away, if it still is the one with this key.
    pub fn pop(&mut self, key: &str) {
        if self.front().is_some_and(|front| front.key == key) {
            self.remove_front();
        }
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    fn hold(&mut self, number: u64, bytes: u64, notice: Notice) {
        self.bytes += bytes;
        self.waiting.push_back(Entry {
            number,
            bytes,
            notice,
        });
    }

    fn trim(&mut self) -> u64 {
        let mut dropped = 0;
        while self.waiting.len() > self.bounds.entries
            || (self.bytes > self.bounds.bytes && self.waiting.len() > 1)
        {
            self.remove_front();
            dropped += 1;
        }
        dropped
    }

    fn remove_front(&mut self) {
        if let Some(entry) = self.waiting.pop_front() {
            self.bytes -= entry.bytes;
            // It may never have been written; one that stays is told once more after a restart, with its key.
            let _ = fs::remove_file(self.path(entry.number));
        }
    }

    fn write(&self, number: u64, text: &[u8]) -> io::Result<()> {
        let path = self.path(number);
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(text)?;
        file.sync_data()?;
        fs::rename(&new, &path)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:012}.notice"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::notice::{Event, sample};
    use super::*;
    use crate::detect::{AlertKind, Severity};

    fn notice(id: u64) -> Notice {
        let mut alert = sample(AlertKind::PortScan, Severity::Warning);
        alert.id = id;
        Notice::new(Event::Fired, "edge1", 7, alert)
    }

    fn ids(queue: &Queue) -> Vec<u64> {
        let waiting = queue.waiting.iter();
        waiting.map(|entry| entry.notice.alert.id).collect()
    }

    #[test]
    fn what_waits_outlives_the_daemon_in_its_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut queue, _) = Queue::open(folder.path(), Bounds::default()).expect("opened");
        for id in 1..=12 {
            assert!(queue.push(notice(id)).unwritten.is_none());
        }
        let first = queue.front().expect("one waits").key.clone();
        queue.pop("another key");
        queue.pop(&first);
        let (mut again, lost) = Queue::open(folder.path(), Bounds::default()).expect("opened");
        assert_eq!((ids(&again), lost), ((2..=12).collect(), 0));
        again.push(notice(13));
        assert_eq!(ids(&again).last(), Some(&13));
    }

    #[test]
    fn the_oldest_go_when_too_many_or_too_much_waits() {
        let folder = tempfile::tempdir().expect("a folder");
        let few = Bounds {
            entries: 3,
            bytes: 1 << 20,
        };
        let (mut queue, _) = Queue::open(folder.path(), few).expect("opened");
        let dropped: u64 = (1..=5).map(|id| queue.push(notice(id)).dropped).sum();
        assert_eq!((dropped, ids(&queue)), (2, vec![3, 4, 5]));
        let small = Bounds {
            entries: 100,
            bytes: 1,
        };
        let (queue, lost) = Queue::open(folder.path(), small).expect("opened");
        assert_eq!((lost, ids(&queue)), (2, vec![5]));
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 1);
    }

    #[test]
    fn a_damaged_file_costs_itself_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut queue, _) = Queue::open(folder.path(), Bounds::default()).expect("opened");
        for id in 1..=3 {
            queue.push(notice(id));
        }
        fs::write(folder.path().join("000000000001.notice"), "{\"vers").expect("written");
        fs::write(folder.path().join("000000000009.new"), "{").expect("written");
        let (queue, lost) = Queue::open(folder.path(), Bounds::default()).expect("opened");
        assert_eq!((ids(&queue), lost), (vec![1, 3], 1));
    }

    #[test]
    fn a_disk_that_takes_nothing_leaves_it_in_memory_and_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut queue, _) = Queue::open(folder.path(), Bounds::default()).expect("opened");
        fs::remove_dir(folder.path()).expect("removed");
        assert!(queue.push(notice(1)).unwritten.is_some());
        assert_eq!(ids(&queue), [1]);
    }
}
