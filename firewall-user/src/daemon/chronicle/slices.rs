//! Slices of the traffic of incidents: a capture for each, as far as the sample holds its packets.
//! Bounded for each and in all; the oldest go first.

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use serde::Deserialize;

use crate::detect::Frame;
use crate::replay::capture::{CaptureWriter, FILE_HEADER, FRAME_HEADER};

/// The folder under the state folder.
pub(super) const FOLDER: &str = "incidents";

/// `[evidence]` of the host settings: what is kept of the traffic of incidents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvidenceSettings {
    /// Most bytes of one incident's capture; 0 keeps none.
    pub incident_bytes: u64,
    /// Most bytes of all captures together.
    pub total_bytes: u64,
}

impl Default for EvidenceSettings {
    fn default() -> Self {
        Self {
            incident_bytes: 1 << 20,
            total_bytes: 256 << 20,
        }
    }
}

/// The captures.
#[derive(Debug)]
pub(super) struct Slices {
    folder: PathBuf,
    settings: EvidenceSettings,
    /// What all captures have come to; unknown before they were looked at.
    total: Option<u64>,
}

/// The capture of an incident.
pub(super) fn path(folder: &Path, incident: u64) -> PathBuf {
    folder.join(format!("{incident}.pcap"))
}

impl Slices {
    /// Nothing is done yet: a disk that is full when the daemon starts may not be later.
    pub fn open(folder: &Path, settings: EvidenceSettings) -> Self {
        Self {
            folder: folder.to_owned(),
            settings,
            total: None,
        }
    }

    /// Adds packets to an incident's capture, until that is full.
    pub fn add(&mut self, incident: u64, frames: &[Frame]) -> anyhow::Result<()> {
        if self.settings.incident_bytes == 0 {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("the folder {} cannot be made", self.folder.display()))?;
        let path = path(&self.folder, incident);
        self.append(&path, frames)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        if self
            .total
            .is_none_or(|total| total > self.settings.total_bytes)
        {
            self.make_room(incident)?;
        }
        Ok(())
    }

    fn append(&mut self, path: &Path, frames: &[Frame]) -> anyhow::Result<()> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let before = file.metadata()?.len();
        let mut length = before;
        let mut writer = if before == 0 {
            length += FILE_HEADER;
            CaptureWriter::new(BufWriter::new(&file))?
        } else {
            CaptureWriter::append(BufWriter::new(&file))
        };
        for frame in frames {
            let size = FRAME_HEADER + frame.bytes.len() as u64;
            if length + size > self.settings.incident_bytes {
                break;
            }
            length += size;
            writer.write_cut(frame.time, &frame.bytes, frame.length)?;
        }
        let wrote = writer.finish().and_then(|mut rest| rest.flush());
        if let Err(error) = wrote {
            // A record cut short would spoil what comes behind it.
            file.set_len(before)?;
            return Err(error.into());
        }
        self.total = self.total.map(|total| total + length - before);
        Ok(())
    }

    /// Removes the oldest captures until the others fit; never the one that is being written.
    fn make_room(&mut self, writing: u64) -> anyhow::Result<()> {
        let mut captures: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
        let listed = fs::read_dir(&self.folder)
            .with_context(|| format!("{} cannot be read", self.folder.display()))?;
        for entry in listed {
            let entry = entry?;
            let path = entry.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "pcap")
            {
                let about = entry.metadata()?;
                captures.push((about.modified()?, path, about.len()));
            }
        }
        captures.sort();
        let mut total: u64 = captures.iter().map(|(_, _, length)| length).sum();
        let kept = path(&self.folder, writing);
        for (_, path, length) in captures {
            if total <= self.settings.total_bytes {
                break;
            }
            if path != kept {
                fs::remove_file(&path)
                    .with_context(|| format!("{} cannot be removed", path.display()))?;
                total -= length;
            }
        }
        self.total = Some(total);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::capture::CaptureReader;

    fn frame(second: u64, bytes: usize, length: u32) -> Frame {
        Frame {
            time: second * 1_000_000_000 + 7,
            bytes: vec![second as u8; bytes].into(),
            length,
        }
    }

    fn slices(folder: &Path, incident_bytes: u64, total_bytes: u64) -> Slices {
        let settings = EvidenceSettings {
            incident_bytes,
            total_bytes,
        };
        Slices::open(folder, settings)
    }

    #[test]
    fn a_capture_grows_and_tells_how_long_its_packets_were() {
        let folder = tempfile::tempdir().unwrap();
        let mut slices = slices(folder.path(), 1 << 20, 1 << 20);
        slices.add(5, &[frame(1, 60, 60)]).unwrap();
        slices.add(5, &[frame(2, 160, 1514)]).unwrap();
        let file = fs::File::open(path(folder.path(), 5)).unwrap();
        let mut reader = CaptureReader::new(file).unwrap();
        let mut bytes = Vec::new();
        let mut seen = Vec::new();
        while let Some(record) = reader.next(&mut bytes).unwrap() {
            seen.push((record.time, bytes.len(), record.original));
        }
        assert_eq!(seen, [(1_000_000_007, 60, 60), (2_000_000_007, 160, 1514)]);
    }

    #[test]
    fn no_capture_is_larger_than_its_cap() {
        let folder = tempfile::tempdir().unwrap();
        let mut slices = slices(folder.path(), 1_000, 1 << 20);
        for second in 0..50 {
            slices.add(5, &[frame(second, 160, 160)]).unwrap();
        }
        let length = fs::metadata(path(folder.path(), 5)).unwrap().len();
        assert!((700..=1_000).contains(&length), "{length}");
    }

    #[test]
    fn the_oldest_captures_go_first_and_the_one_in_hand_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut slices = slices(folder.path(), 1_000, 2_000);
        for incident in 1..=5 {
            for second in 0..10 {
                slices.add(incident, &[frame(second, 160, 160)]).unwrap();
            }
            let old = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(incident);
            let file = fs::File::options()
                .append(true)
                .open(path(folder.path(), incident))
                .unwrap();
            file.set_modified(old).unwrap();
        }
        let left: Vec<u64> = (1..=5)
            .filter(|incident| path(folder.path(), *incident).exists())
            .collect();
        assert_eq!(left, [4, 5]);
        // What an earlier daemon left counts, too.
        drop(slices);
        let mut slices = self::slices(folder.path(), 1_000, 1_000);
        slices.add(5, &[frame(9, 160, 160)]).unwrap();
        assert!(!path(folder.path(), 4).exists());
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let mut slices = slices(folder.path(), 0, 1 << 20);
        slices.add(5, &[frame(1, 60, 60)]).unwrap();
        assert!(!path(folder.path(), 5).exists());
    }
}
