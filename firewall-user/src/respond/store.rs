//! Bans as rows of the state: one for each, so that one more among a million costs what one among ten does.

use ipnet::IpNet;
use tracing::warn;

use super::{BanBook, BanRecord};
use crate::state::{Kind, Store};

/// What happens to the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Ban(BanRecord),
    Lift(IpNet),
}

/// Reads the bans. A row that makes no sense is left out.
pub fn load_bans(store: &Store) -> BanBook {
    let mut book = BanBook::default();
    for (key, text) in store.load(Kind::Ban) {
        match serde_json::from_slice::<BanRecord>(&text) {
            Ok(record)
                if record.prefix == record.prefix.trunc() && record.prefix.to_string() == key =>
            {
                book.insert(record);
            }
            Ok(record) => {
                warn!(key, prefix = %record.prefix, "a ban that is no prefix is left out");
            }
            Err(error) => warn!(key, "a ban that cannot be read is left out: {error}"),
        }
    }
    book
}

/// Has changes kept.
pub fn keep_bans(store: &Store, changes: impl IntoIterator<Item = Change>) {
    store.change(changes.into_iter().filter_map(|change| match change {
        Change::Ban(record) => {
            let text = serde_json::to_vec(&record);
            let text = text.inspect_err(|error| warn!("a ban is not kept: {error}"));
            Some((Kind::Ban, record.prefix.to_string(), Some(text.ok()?)))
        }
        Change::Lift(prefix) => Some((Kind::Ban, prefix.to_string(), None)),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::book::tests::record;
    use crate::state::Health;

    #[test]
    fn bans_read_back_as_they_were_kept_and_what_makes_no_sense_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Store::open(folder.path(), Health::default()).expect("a store");
        let mut forever = record("2001:db8:bad::/48", None);
        forever.origin = crate::respond::Origin::Automatic;
        forever.kind = Some("port_scan".to_owned());
        let timed = record("203.0.113.7/32", Some(1_000_000));
        let lifted = record("198.51.100.0/24", None);
        let store = open();
        keep_bans(
            &store,
            [&forever, &timed, &lifted].map(|record| Change::Ban(record.clone())),
        );
        keep_bans(&store, [Change::Lift(lifted.prefix)]);
        store.put(Kind::Ban, "192.0.2.1/32", b"{\"prefix\":".to_vec());
        let wrong = serde_json::to_vec(&timed).expect("JSON");
        store.put(Kind::Ban, "192.0.2.2/32", wrong);
        store.close();
        let expected: BanBook = [forever, timed].into_iter().collect();
        assert_eq!(load_bans(&open()), expected);
    }
}
