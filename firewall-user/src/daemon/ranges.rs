//! What was learned of usual traffic, and a sample of ordinary packets, kept in the state: a restart must not cost
//! the weeks that it took.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::detect::signature::{KeptOrdinary, Watch};
use crate::detect::{Detector, KeptRanges, Time};
use crate::state::{Kind, Store};

const PART: &str = "ranges";
/// How often it is kept. What was learned since then is lost with a daemon that is killed.
const SAVE: Duration = Duration::from_secs(300);

/// What is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    ranges: KeptRanges,
    /// Which packets are ordinary, for signatures.
    #[serde(default)]
    ordinary: KeptOrdinary,
}

impl Kept {
    fn of(detector: &Detector, watch: &Watch, now: Time) -> Self {
        Self {
            ranges: detector.kept_ranges(),
            ordinary: watch.kept(now),
        }
    }

    fn take_up(self, detector: &mut Detector, watch: &mut Watch) -> Result<(), String> {
        detector.restore_ranges(self.ranges)?;
        watch.restore(self.ordinary);
        Ok(())
    }
}

/// Where it is kept.
#[derive(Debug)]
pub struct RangeFile {
    store: Store,
    saved: Instant,
    /// Making a text of it takes longer than a tick may.
    writer: Option<JoinHandle<()>>,
}

impl RangeFile {
    /// Has the detector and the watch take up what was kept. What makes no sense is put aside: they then learn
    /// anew.
    pub fn load(store: Store, detector: &mut Detector, watch: &mut Watch) -> Self {
        if let Some(kept) = store.part::<Kept>(PART)
            && let Err(why) = kept.take_up(detector, watch)
        {
            let text = store.get(Kind::Part, PART).unwrap_or_default();
            store.not_understood(PART, text, &why);
        }
        Self {
            store,
            saved: Instant::now(),
            writer: None,
        }
    }

    /// Has it kept now and then, beside the ticks.
    pub fn save_if_due(&mut self, detector: &Detector, watch: &Watch, now: Time) {
        let writing = self
            .writer
            .as_ref()
            .is_some_and(|writer| !writer.is_finished());
        if writing || self.saved.elapsed() < SAVE {
            return;
        }
        self.saved = Instant::now();
        let (store, kept) = (self.store.clone(), Kept::of(detector, watch, now));
        let writer = std::thread::Builder::new().name("ranges".to_owned());
        match writer.spawn(move || {
            store.put_json(Kind::Part, PART, &kept);
        }) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => warn!("what was learned of usual traffic is not kept: {error}"),
        }
    }

    /// Has it kept before the daemon stops.
    pub fn save(&mut self, detector: &Detector, watch: &Watch, now: Time) {
        if let Some(writer) = self.writer.take() {
            // It panicked: what was kept before stands.
            let _ = writer.join();
        }
        self.saved = Instant::now();
        self.store
            .put_json(Kind::Part, PART, &Kept::of(detector, watch, now));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::detect::signature::Limits;
    use crate::detect::{Config, HostCounts, Snapshot};
    use crate::state::Health;

    fn open(folder: &Path) -> Store {
        Store::open(folder, Health::default()).unwrap()
    }

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

    fn watch() -> Watch {
        Watch::new(Limits { collateral: 0.01 })
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
        let mut file = RangeFile::load(open(folder.path()), &mut before, &mut watch());
        live(&mut before, 0);
        file.save(&before, &watch(), 0);
        file.store.close();
        let mut after = Detector::new(Config::default());
        RangeFile::load(open(folder.path()), &mut after, &mut watch());
        assert!(expected(&after).is_empty());
        live(&mut before, 3_600);
        live(&mut after, 3_600);
        assert_eq!(expected(&after), expected(&before));
    }

    #[test]
    fn what_makes_no_sense_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        for text in [
            "{\"learned\": ",
            "{\"learned\": {\"version\": 99, \"owners\": []}, \"peaks\": []}",
        ] {
            store.put(Kind::Part, PART, text.as_bytes().to_vec());
            let mut detector = Detector::new(Config::default());
            RangeFile::load(store.clone(), &mut detector, &mut watch());
            let aside = store.get(Kind::Part, "ranges.not-understood").unwrap();
            assert_eq!(aside, text.as_bytes());
            assert!(store.get(Kind::Part, PART).is_none());
        }
    }
}
