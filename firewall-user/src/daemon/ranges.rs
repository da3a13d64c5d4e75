//! What was learned of usual traffic, and a sample of ordinary packets, kept in the state: a restart must not cost
//! the weeks that it took.

mod pieces;

use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::detect::signature::{KeptOrdinary, Watch};
use crate::detect::{Detector, KeptRanges, Time};
use crate::state::Store;

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

/// Where it is kept. There is much of it where there are many services, so it is read and written by threads of
/// its own: the fence does not wait for it.
#[derive(Debug)]
pub struct RangeFile {
    store: Store,
    saved: Instant,
    reader: Option<JoinHandle<Option<Kept>>>,
    /// Making a text of it takes longer than a tick may.
    writer: Option<JoinHandle<()>>,
}

impl RangeFile {
    /// Begins to read what was kept.
    pub fn begin(store: Store) -> Self {
        let reading = store.clone();
        let reader = Builder::new()
            .name("ranges".to_owned())
            .spawn(move || pieces::read(&reading));
        let reader = reader.inspect_err(|error| {
            warn!("what was learned of usual traffic is not read, no thread: {error}");
        });
        Self {
            store,
            saved: Instant::now(),
            reader: reader.ok(),
            writer: None,
        }
    }

    /// Has the detector and the watch take up what was kept, once; `false` while it is still being read. What makes no
    /// sense is put aside: they then learn anew.
    pub fn take_up(&mut self, detector: &mut Detector, watch: &mut Watch) -> bool {
        let reading = self.reader.take_if(|reader| reader.is_finished());
        if let Some(reader) = reading {
            self.finish(reader, detector, watch);
        }
        self.reader.is_none()
    }

    fn finish(&self, reader: JoinHandle<Option<Kept>>, detector: &mut Detector, watch: &mut Watch) {
        match reader.join() {
            Ok(None) => {}
            Ok(Some(kept)) => {
                if let Err(why) = kept.take_up(detector, watch) {
                    pieces::put_aside(&self.store, &why);
                }
            }
            Err(_) => warn!("what was learned of usual traffic is not read: its thread panicked"),
        }
    }

    /// Has it kept now and then, beside the ticks.
    pub fn save_if_due(&mut self, detector: &Detector, watch: &Watch, now: Time) {
        let writing = self
            .writer
            .as_ref()
            .is_some_and(|writer| !writer.is_finished());
        if self.reader.is_some() || writing || self.saved.elapsed() < SAVE {
            return;
        }
        self.saved = Instant::now();
        let (store, kept) = (self.store.clone(), Kept::of(detector, watch, now));
        let writer = Builder::new().name("ranges".to_owned());
        match writer.spawn(move || pieces::write(&store, &kept)) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => warn!("what was learned of usual traffic is not kept: {error}"),
        }
    }

    /// Has it kept before the daemon stops.
    pub fn save(&mut self, detector: &Detector, watch: &Watch, now: Time) {
        if self.reader.is_some() {
            // Nothing was learned since, and what is kept stands.
            return;
        }
        if let Some(writer) = self.writer.take() {
            // It panicked: what it wrote up to then stands.
            let _ = writer.join();
        }
        self.saved = Instant::now();
        pieces::write(&self.store, &Kept::of(detector, watch, now));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::detect::signature::Limits;
    use crate::detect::{Config, HostCounts, Snapshot};
    use crate::state::{Health, Kind};

    fn open(folder: &Path) -> Store {
        Store::open(folder, Health::default()).unwrap()
    }

    /// Reads what is kept to its end.
    fn load(store: Store, detector: &mut Detector) -> RangeFile {
        let mut file = RangeFile::begin(store);
        let reader = file.reader.take().unwrap();
        file.finish(reader, detector, &mut watch());
        file
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
        let mut file = load(open(folder.path()), &mut before);
        live(&mut before, 0);
        file.save(&before, &watch(), 0);
        file.store.close();
        let mut after = Detector::new(Config::default());
        load(open(folder.path()), &mut after);
        assert!(expected(&after).is_empty());
        live(&mut before, 3_600);
        live(&mut after, 3_600);
        assert_eq!(expected(&after), expected(&before));
    }

    #[test]
    fn what_is_still_being_read_when_the_daemon_stops_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut before = Detector::new(Config::default());
        let mut file = load(store.clone(), &mut before);
        live(&mut before, 0);
        file.save(&before, &watch(), 0);
        let kept = store.get(Kind::Part, pieces::PART).unwrap();
        let mut early = RangeFile::begin(store.clone());
        early.save(&Detector::new(Config::default()), &watch(), 0);
        assert_eq!(store.get(Kind::Part, pieces::PART).unwrap(), kept);
        let mut after = Detector::new(Config::default());
        load(store, &mut after);
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
            store.put(Kind::Part, pieces::PART, text.as_bytes().to_vec());
            let mut detector = Detector::new(Config::default());
            load(store.clone(), &mut detector);
            let aside = store.get(Kind::Part, "ranges.not-understood").unwrap();
            assert_eq!(aside, text.as_bytes());
            assert!(store.get(Kind::Part, pieces::PART).is_none());
        }
    }
}
