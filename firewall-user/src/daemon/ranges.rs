//! What was learned of usual traffic, kept in a file of the state folder: a restart must not cost the weeks that it took.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use tracing::{error, warn};

use crate::detect::{Detector, KeptRanges};

const FILE: &str = "ranges.json";
/// How often the file is written. What was learned since then is lost with a daemon that is killed.
const SAVE: Duration = Duration::from_secs(300);

/// The file.
#[derive(Debug)]
pub struct RangeFile {
    path: PathBuf,
    saved: Instant,
    /// Writing takes longer than a tick may.
    writer: Option<JoinHandle<()>>,
}

impl RangeFile {
    /// Has the detector take up what was kept. A file that makes no sense is set aside: the detector then learns
    /// anew.
    pub fn load(state_dir: &Path, detector: &mut Detector) -> anyhow::Result<Self> {
        let path = state_dir.join(FILE);
        let file = Self {
            path: path.clone(),
            saved: Instant::now(),
            writer: None,
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(file),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", path.display()));
            }
        };
        let kept = serde_json::from_slice(&text).map_err(|error| error.to_string());
        if let Err(why) = kept.and_then(|kept| detector.restore_ranges(kept)) {
            let aside = path.with_extension("json.corrupt");
            fs::rename(&path, &aside)
                .with_context(|| format!("{} cannot be set aside", path.display()))?;
            error!(
                file = %path.display(), set_aside = %aside.display(), why,
                "what was learned of usual traffic cannot be read; it is learned anew"
            );
        }
        Ok(file)
    }

    /// Writes the file now and then, beside the ticks.
    pub fn save_if_due(&mut self, detector: &Detector) {
        let writing = self
            .writer
            .as_ref()
            .is_some_and(|writer| !writer.is_finished());
        if writing || self.saved.elapsed() < SAVE {
            return;
        }
        self.saved = Instant::now();
        let (path, kept) = (self.path.clone(), detector.kept_ranges());
        let writer = std::thread::Builder::new().name("ranges".to_owned());
        match writer.spawn(move || write(&path, &kept)) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => warn!("what was learned of usual traffic is not kept: {error}"),
        }
    }

    /// Writes the file before the daemon stops.
    pub fn save(&mut self, detector: &Detector) {
        if let Some(writer) = self.writer.take() {
            // It has said itself what went wrong.
            let _ = writer.join();
        }
        self.saved = Instant::now();
        write(&self.path, &detector.kept_ranges());
    }
}

/// Writes the file, whole or not at all. That it cannot be written is no reason to stop.
fn write(path: &Path, kept: &KeptRanges) {
    let write = || -> anyhow::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        let bytes = serde_json::to_vec(kept)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    if let Err(error) = write() {
        warn!(
            file = %path.display(),
            "what was learned of usual traffic cannot be kept: {error:#}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::{Config, HostCounts, Snapshot};

    const SECOND: u64 = 1_000_000_000;

    /// Lets an hour go by for a host that gets ten packets a second.
    fn live(detector: &mut Detector, from: u64) {
        for second in 0..3_600 {
            detector.tick(&Snapshot {
                time: (1_800_000_000 + from + second) * SECOND,
                host: HostCounts {
                    packets: (from + second) * 10,
                    ..HostCounts::default()
                },
                ..Snapshot::default()
            });
        }
    }

    fn expected(detector: &Detector) -> Vec<String> {
        let readings = detector.readings();
        readings
            .map(|(_, reading)| format!("{:.3?}", reading.expected))
            .collect()
    }

    #[test]
    fn what_was_learned_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut before = Detector::new(Config::default());
        let mut file = RangeFile::load(folder.path(), &mut before).unwrap();
        live(&mut before, 0);
        file.save(&before);
        let mut after = Detector::new(Config::default());
        RangeFile::load(folder.path(), &mut after).unwrap();
        assert!(expected(&after).is_empty());
        live(&mut before, 3_600);
        live(&mut after, 3_600);
        assert_eq!(expected(&after), expected(&before));
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        for text in [
            "{\"learned\": ",
            "{\"learned\": {\"version\": 99, \"owners\": []}, \"peaks\": []}",
        ] {
            fs::write(folder.path().join(FILE), text).unwrap();
            let mut detector = Detector::new(Config::default());
            RangeFile::load(folder.path(), &mut detector).unwrap();
            assert!(folder.path().join("ranges.json.corrupt").exists());
            assert!(!folder.path().join(FILE).exists());
        }
    }
}
