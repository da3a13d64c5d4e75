//! What was learned as rows of the state: pieces of one text, and a row that says how many there are. SQLite reads
//! every row whole that it passes in search of another, so one row of tens of megabytes would hold up all others.

use serde::{Deserialize, Serialize};

use super::Kept;
use crate::state::{Kind, Store};

/// The row that says how many pieces there are. Earlier versions kept the whole text there.
pub(super) const PART: &str = "ranges";
const LARGEST: usize = 64 << 10;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    pieces: usize,
}

/// What is kept, if it makes sense; otherwise it is put aside.
pub(super) fn read(store: &Store) -> Option<Kept> {
    let whole = text(store)?;
    match serde_json::from_slice(&whole) {
        Ok(kept) => Some(kept),
        Err(error) => {
            set_aside(store, whole, &error.to_string());
            None
        }
    }
}

/// Keeps it, all or nothing of it.
pub(super) fn write(store: &Store, kept: &Kept) {
    let text = match serde_json::to_vec(kept) {
        Ok(text) => text,
        Err(error) => {
            tracing::error!("what was learned of usual traffic is not kept: {error}");
            return;
        }
    };
    let before = head(store).pieces;
    let pieces: Vec<&[u8]> = text.chunks(LARGEST).collect();
    let head = Head {
        pieces: pieces.len(),
    };
    // Plain numbers.
    let head = serde_json::to_vec(&head).unwrap_or_default();
    let gone = (pieces.len()..before).map(|number| row(number, None));
    let kept = pieces.iter().enumerate();
    let kept = kept.map(|(number, piece)| row(number, Some(piece.to_vec())));
    let head = (Kind::Part, PART.to_owned(), Some(head));
    store.change(gone.chain(kept).chain([head]));
}

/// Puts away what is kept and not understood.
pub(super) fn put_aside(store: &Store, why: &str) {
    let whole = text(store).unwrap_or_default();
    set_aside(store, whole, why);
}

fn set_aside(store: &Store, whole: Vec<u8>, why: &str) {
    let pieces = head(store).pieces;
    store.not_understood(PART, whole, why);
    store.change((0..pieces).map(|number| row(number, None)));
}

/// The whole text. Where a piece is missing the file was damaged, which the store has told; the others go, too.
fn text(store: &Store) -> Option<Vec<u8>> {
    let row = store.get(Kind::Part, PART)?;
    let Ok(head) = serde_json::from_slice::<Head>(&row) else {
        return Some(row);
    };
    let pieces = (0..head.pieces).map(|number| store.get(Kind::Part, &name(number)));
    let whole: Option<Vec<Vec<u8>>> = pieces.collect();
    if whole.is_none() {
        tracing::warn!("of what was learned of usual traffic a part is lost: it begins anew");
        let gone = (0..head.pieces).map(|number| self::row(number, None));
        let head = (Kind::Part, PART.to_owned(), None);
        store.change(gone.chain([head]));
    }
    Some(whole?.concat())
}

fn head(store: &Store) -> Head {
    let row = store.get(Kind::Part, PART).unwrap_or_default();
    serde_json::from_slice(&row).unwrap_or_default()
}

fn row(number: usize, piece: Option<Vec<u8>>) -> (Kind, String, Option<Vec<u8>>) {
    (Kind::Part, name(number), piece)
}

fn name(number: usize) -> String {
    format!("{PART}.{number:04}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use firewall_common::layout::{Counter, Uses};

    use super::*;
    use crate::detect::signature::{Limits, Watch};
    use crate::detect::{Config, Detector, HostCounts, ServiceCounts, Snapshot};
    use crate::state::Health;

    /// What was learned of so many services.
    fn learned(services: u32) -> Kept {
        let mut detector = Detector::new(Config::default());
        for second in 0..180 {
            let hits = Counter {
                packets: second * 10,
                bytes: 0,
            };
            let service = |number: u32| {
                let name = format!("service-{number}");
                ServiceCounts::new(&name, 40 + number, hits, Uses::default())
            };
            detector.tick(&Snapshot {
                time: (1_800_000_000 + second) * 1_000_000_000,
                host: HostCounts {
                    packets: second * 10,
                    ..HostCounts::default()
                },
                services: (0..services).map(service).collect(),
                ..Snapshot::default()
            });
        }
        Kept::of(&detector, &Watch::new(Limits { collateral: 0.01 }), 0)
    }

    fn names(store: &Store) -> BTreeSet<String> {
        let rows = store.load(Kind::Part).into_iter();
        rows.map(|(name, _)| name).collect()
    }

    #[test]
    fn much_is_kept_in_pieces_and_less_of_it_leaves_none_behind() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Health::default()).unwrap();
        let text = |kept: &Kept| serde_json::to_string(kept).unwrap();
        for services in [20, 1] {
            let kept = learned(services);
            write(&store, &kept);
            store.flush();
            assert_eq!(text(&read(&store).unwrap()), text(&kept));
            let pieces = text(&kept).len().div_ceil(LARGEST);
            assert_eq!(names(&store).len(), pieces + 1);
            assert!(services == 1 || pieces > 3, "{pieces}");
        }
    }

    #[test]
    fn the_whole_text_of_an_earlier_version_is_read_and_of_one_with_a_piece_missing_nothing_stays()
    {
        let folder = tempfile::tempdir().unwrap();
        let health = Health::default();
        let store = Store::open(folder.path(), health.clone()).unwrap();
        let kept = learned(20);
        store.put_json(Kind::Part, PART, &kept);
        assert!(read(&store).is_some());
        write(&store, &kept);
        store.change([row(1, None)]);
        assert!(read(&store).is_none());
        assert_eq!(health.report().damaged, 0);
        assert_eq!(names(&store), BTreeSet::new());
    }
}
