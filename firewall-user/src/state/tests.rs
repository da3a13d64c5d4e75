//! What is written is read, whatever happens to the file in between.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{FILE, Health, Kind, Store, number};

fn open(folder: &Path) -> Store {
    Store::open(folder, Health::default()).expect("a store")
}

/// The value that every test gives a row, so that one that was damaged shows.
fn value(key: u64) -> Vec<u8> {
    format!(
        "{{\"number\":{key},\"rest\":\"{}\"}}",
        "x".repeat(key as usize % 90)
    )
    .into_bytes()
}

/// A folder with a store of so many rows; `checkpointed` are in the file itself, the others still in its log.
fn filled(checkpointed: u64, logged: u64) -> TempDir {
    let made = tempfile::tempdir().expect("a folder");
    let store = open(made.path());
    for key in 0..checkpointed {
        store.put(Kind::Alert, &number(key), value(key));
    }
    store.close();
    let store = open(made.path());
    for key in checkpointed..checkpointed + logged {
        store.put(Kind::Alert, &number(key), value(key));
        // One transaction each, and committed.
        store.flush();
    }
    // As a daemon leaves it that is killed.
    let killed = tempfile::tempdir().expect("a folder");
    for name in names(made.path()) {
        fs::copy(made.path().join(&name), killed.path().join(&name)).expect("copied");
    }
    killed
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder).expect("listed");
    let names = listed.map(|entry| entry.expect("an entry").file_name().into());
    names.collect()
}

/// How many rows are read, each as it was written; and that the store can be written afterwards and says so.
fn read_back(folder: &Path) -> usize {
    let store = open(folder);
    let rows = store.load(Kind::Alert);
    for (key, text) in &rows {
        assert_eq!(*text, value(key.parse().expect("a number")));
    }
    store.put(Kind::Alert, &number(1_000_000), value(1_000_000));
    store.close();
    let report = store.health().report();
    assert!(report.healthy, "{report:?}");
    let after = open(folder);
    assert_eq!(after.load(Kind::Alert).len(), rows.len() + 1);
    assert!(after.health().report().set_aside.is_empty());
    rows.len()
}

#[test]
fn what_was_kept_is_there_for_the_next_daemon_also_if_this_one_was_killed() {
    let folder = filled(50, 20);
    assert!(folder.path().join("state.db-wal").exists());
    let about = fs::metadata(folder.path().join(FILE)).expect("a file");
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    assert_eq!(read_back(folder.path()), 70);
}

#[test]
fn the_latest_value_counts_and_what_is_removed_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    store.put(Kind::Ban, "one", b"1".to_vec());
    store.change([
        (Kind::Ban, "one".to_owned(), Some(b"2".to_vec())),
        (Kind::Ban, "two".to_owned(), Some(b"3".to_vec())),
    ]);
    // Whether it is written yet or not.
    assert_eq!(store.get(Kind::Ban, "one"), Some(b"2".to_vec()));
    store.change([(Kind::Ban, "two".to_owned(), None)]);
    let left = vec![("one".to_owned(), b"2".to_vec())];
    assert_eq!(store.load(Kind::Ban), left);
    store.close();
    assert_eq!(open(folder.path()).load(Kind::Ban), left);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A power failure leaves the log at any length: what was committed before that stands.
    #[test]
    fn a_log_that_was_cut_anywhere_leaves_the_rows_before_the_cut(cut in 0.0..1.0_f64) {
        let folder = filled(30, 10);
        let log = folder.path().join("state.db-wal");
        let length = fs::metadata(&log).expect("a log").len();
        let cut = (length as f64 * cut) as u64;
        fs::File::options().write(true).open(&log).expect("opened").set_len(cut).expect("cut");
        let rows = read_back(folder.path());
        prop_assert!((30..=40).contains(&rows), "{rows} of 40");
    }

    /// The file is cut: it is set aside, what it still holds goes on, and nothing else is made up.
    #[test]
    fn a_file_that_was_cut_anywhere_is_set_aside_and_the_store_works(cut in 0.0..1.0_f64) {
        let folder = filled(400, 0);
        let path = folder.path().join(FILE);
        let length = fs::metadata(&path).expect("a file").len();
        let cut = (length as f64 * cut) as u64;
        fs::File::options().write(true).open(&path).expect("opened").set_len(cut).expect("cut");
        let store = open(folder.path());
        let rows = store.load(Kind::Alert).len();
        store.close();
        let told = store.health().report();
        // Cut to nothing it is a new file.
        prop_assert_eq!(told.damaged, u64::from(cut > 0), "{:?} after {} of {}", told, cut, length);
        prop_assert_eq!(read_back(folder.path()), rows);
    }

    /// Bytes change anywhere: each row that is read is one that was written.
    #[test]
    fn no_damaged_row_is_ever_read(
        places in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 1..40),
        burst in 1_usize..300,
    ) {
        let folder = filled(300, 5);
        for name in [FILE, "state.db-wal"] {
            let path = folder.path().join(name);
            let mut bytes = fs::read(&path).expect("read");
            for (place, byte) in &places {
                let from = (bytes.len() as f64 * place) as usize;
                for spoilt in bytes.iter_mut().skip(from).take(burst) {
                    *spoilt = spoilt.wrapping_add(byte | 1);
                }
            }
            fs::write(&path, bytes).expect("written");
        }
        let store = open(folder.path());
        let read = |store: &Store| -> Vec<String> {
            let rows = store.load(Kind::Alert).into_iter();
            rows.map(|(key, text)| {
                assert_eq!(text, value(key.parse().expect("a number")));
                key
            })
            .collect()
        };
        let before = read(&store);
        store.put(Kind::Alert, &number(1_000_000), value(1_000_000));
        store.close();
        prop_assert!(store.health().report().healthy, "{:?}", store.health().report());
        let after = read(&open(folder.path()));
        prop_assert!(after.contains(&number(1_000_000)));
        prop_assert!(before.iter().all(|key| after.contains(key)));
    }
}

#[test]
fn a_file_that_is_no_store_is_set_aside_under_a_new_name_each_time_and_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    for number in 1..=2 {
        let nonsense = format!("{number} is not a database{}", " at all".repeat(2_000));
        fs::write(folder.path().join(FILE), &nonsense).expect("written");
        let store = open(folder.path());
        assert_eq!(store.load(Kind::Ban).len(), 0);
        store.put(Kind::Ban, "one", b"1".to_vec());
        store.close();
        let report = store.health().report();
        assert_eq!((report.damaged, report.healthy), (1, true), "{report:?}");
        let aside = folder.path().join(format!("state.db.damaged-{number}"));
        assert_eq!(fs::read_to_string(aside).expect("kept"), nonsense);
    }
}

#[test]
fn a_store_of_a_later_version_is_kept_for_it_and_named() {
    let folder = filled(3, 0);
    let path = folder.path().join(FILE);
    let later = rusqlite::Connection::open(&path).expect("opened");
    later
        .pragma_update(None, "user_version", 7)
        .expect("written");
    drop(later);
    let store = open(folder.path());
    assert_eq!(store.load(Kind::Alert).len(), 0);
    let told = store.health().report().set_aside;
    assert!(
        told[0].contains("format 7") && told[0].contains("state.db.newer-1"),
        "{told:?}"
    );
    assert!(folder.path().join("state.db.newer-1").exists());
}

/// Version 1 of the format, in words of its own: what was written by it has to be read whatever becomes of the rest.
const FIRST: &str = "CREATE TABLE ban (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE alert (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE incident (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE history (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE text (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE part (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    PRAGMA application_id = 1346456659;
    PRAGMA user_version = 1;
    INSERT INTO ban VALUES ('203.0.113.7/32', CAST('{\"prefix\":\"203.0.113.7/32\"}' AS BLOB), -296143046261145425);
    INSERT INTO alert VALUES ('00000000000000000007', CAST('{\"id\":7}' AS BLOB), -174338038236480397);
    INSERT INTO part VALUES ('rules', CAST('{\"version\":1,\"rules\":{}}' AS BLOB), 1);";

#[test]
fn a_store_of_the_first_version_is_read_and_written_on_by_this_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(FILE);
    let first = rusqlite::Connection::open(&path).expect("opened");
    first.execute_batch(FIRST).expect("written");
    drop(first);
    let store = open(folder.path());
    let ban = store.get(Kind::Ban, "203.0.113.7/32");
    assert_eq!(ban.as_deref(), Some(&br#"{"prefix":"203.0.113.7/32"}"#[..]));
    assert_eq!(
        store.get(Kind::Alert, &number(7)).as_deref(),
        Some(&br#"{"id":7}"#[..])
    );
    // Its checksum is wrong.
    assert_eq!(store.get(Kind::Part, "rules"), None);
    store.put(Kind::Text, "abc", b"version = 1".to_vec());
    store.close();
    assert!(
        store
            .health()
            .report()
            .set_aside
            .iter()
            .all(|told| !told.contains("later version"))
    );
    let again = open(folder.path());
    assert_eq!(again.load(Kind::Ban).len(), 1);
    assert_eq!(
        again.get(Kind::Text, "abc").as_deref(),
        Some(&b"version = 1"[..])
    );
}

#[test]
fn a_folder_that_cannot_be_written_is_told_and_written_when_it_can_be() {
    let folder = tempfile::tempdir().expect("a folder");
    // A folder where the file should be: nothing can be opened, for root neither.
    let path = folder.path().join(FILE);
    fs::create_dir(&path).expect("made");
    let store = open(folder.path());
    store.put(Kind::Ban, "one", b"1".to_vec());
    assert_eq!(store.get(Kind::Ban, "one"), Some(b"1".to_vec()));
    // Whoever waits is not held up by a disk that takes nothing.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let begun = std::time::Instant::now();
    runtime.block_on(store.settle());
    assert!(begun.elapsed() < std::time::Duration::from_secs(4));
    let report = store.health().report();
    assert!(!report.healthy && report.errors > 0, "{report:?}");
    fs::remove_dir(&path).expect("removed");
    store.close();
    assert!(store.health().report().healthy);
    assert_eq!(open(folder.path()).load(Kind::Ban).len(), 1);
}

#[test]
fn what_an_earlier_version_kept_in_files_is_taken_over_once_and_the_files_go_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    let ban = |prefix: &str| {
        format!(
            "{{\"prefix\":\"{prefix}\",\"origin\":\"manual\",\"measure\":\"ban\",\"kind\":null,\"reason\":null,\
             \"created\":\"2026-01-01T00:00:00Z\",\"expires\":null}}"
        )
    };
    put(
        "bans.json",
        &format!(
            "{{\"version\":1,\"bans\":[{},{}]}}",
            ban("203.0.113.7/32"),
            ban("2001:db8::/32")
        ),
    );
    put(
        "bans.journal",
        &format!(
            "{{\"ban\":{}}}\n{{\"lift\":\"203.0.113.7/32\"}}\n{{\"lift\":\"2001",
            ban("198.51.100.0/24")
        ),
    );
    put(
        "alerts.journal",
        "{\"version\":1}\n{\"alert\":{\"id\":7,\"why\":\"first\"}}\n{\"alert\":{\"id\":7,\"why\":\"then\"}}\n{\"inc",
    );
    put("rules.json", "{\"version\":1,\"rules\":{}}");
    put("policies.json", "{\"version\": 1, ");
    let store = open(folder.path());
    let check = |store: &Store| {
        let keys =
            |kind| -> Vec<String> { store.load(kind).into_iter().map(|(key, _)| key).collect() };
        assert_eq!(keys(Kind::Ban), ["198.51.100.0/24", "2001:db8::/32"]);
        assert_eq!(keys(Kind::Alert), [number(7)]);
        assert_eq!(keys(Kind::Part), ["rules"]);
        let alert = store.get(Kind::Alert, &number(7)).expect("kept");
        assert_eq!(
            String::from_utf8_lossy(&alert),
            "{\"id\":7,\"why\":\"then\"}"
        );
    };
    check(&store);
    store.close();
    let told = store.health().report().set_aside;
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("policies.json"), "{told:?}");
    let mut left = names(folder.path());
    left.sort();
    assert_eq!(left, [Path::new("before-state.db"), Path::new(FILE)]);
    assert_eq!(names(&folder.path().join("before-state.db")).len(), 5);
    check(&open(folder.path()));
}
