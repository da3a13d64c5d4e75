//! The bans that are meant to be in force: a pure book, driven by the wall clock so that what is
//! left of a ban is right after a reboot, where the kernel's own clock starts anew.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who asked for a ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A person or a script.
    Manual,
    /// A detector; the alert kind is in [`BanRecord::kind`].
    Automatic,
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BanRecord {
    /// In its shortest form: no bits beyond the prefix length.
    pub prefix: IpNet,
    pub origin: Origin,
    /// Kind of the alert that led to an automatic ban.
    pub kind: Option<String>,
    pub reason: Option<String>,
    pub created: Timestamp,
    /// `None` is without end.
    pub expires: Option<Timestamp>,
}

/// Every ban by its prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BanBook {
    records: BTreeMap<IpNet, BanRecord>,
}

impl BanRecord {
    /// What is left at `now`: `None` if it is over, `Some(None)` if it never ends.
    pub fn remaining(&self, now: Timestamp) -> Option<Option<Duration>> {
        match self.expires {
            None => Some(None),
            Some(expires) => {
                let left = expires.duration_since(now);
                Duration::try_from(left)
                    .ok()
                    .filter(|left| !left.is_zero())
                    .map(Some)
            }
        }
    }
}

impl Origin {
    /// The name people see, also the metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Automatic => "automatic",
        }
    }
}

impl BanBook {
    /// Enters a ban, replacing one of the same prefix.
    pub fn insert(&mut self, record: BanRecord) {
        self.records.insert(record.prefix, record);
    }

    /// Strikes a ban out.
    pub fn remove(&mut self, prefix: &IpNet) -> Option<BanRecord> {
        self.records.remove(prefix)
    }

    pub fn get(&self, prefix: &IpNet) -> Option<&BanRecord> {
        self.records.get(prefix)
    }

    /// Takes out the bans that are over at `now`.
    pub fn expire(&mut self, now: Timestamp) -> Vec<BanRecord> {
        self.remove_where(|record| record.remaining(now).is_none())
    }

    /// Takes out the bans for which `condition` holds.
    pub fn remove_where(&mut self, condition: impl Fn(&BanRecord) -> bool) -> Vec<BanRecord> {
        let prefixes: Vec<IpNet> = self
            .records
            .values()
            .filter(|record| condition(record))
            .map(|record| record.prefix)
            .collect();
        prefixes
            .iter()
            .filter_map(|prefix| self.records.remove(prefix))
            .collect()
    }

    /// The narrowest other ban that covers all of `prefix`.
    pub fn covering(&self, prefix: &IpNet) -> Option<&BanRecord> {
        self.records
            .values()
            .filter(|record| record.prefix != *prefix && record.prefix.contains(prefix))
            .max_by_key(|record| record.prefix.prefix_len())
    }

    /// Every ban, by prefix.
    pub fn iter(&self) -> impl Iterator<Item = &BanRecord> {
        self.records.values()
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many bans `origin` asked for.
    pub fn count(&self, origin: Origin) -> usize {
        self.iter().filter(|record| record.origin == origin).count()
    }
}

impl FromIterator<BanRecord> for BanBook {
    fn from_iter<I: IntoIterator<Item = BanRecord>>(records: I) -> Self {
        let mut book = Self::default();
        for record in records {
            book.insert(record);
        }
        book
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(prefix: &str, expires: Option<i64>) -> BanRecord {
        BanRecord {
            prefix: prefix.parse().expect("a prefix"),
            origin: Origin::Manual,
            kind: None,
            reason: Some("test".to_owned()),
            created: at(0),
            expires: expires.map(at),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn what_is_left_of_a_ban_is_told_by_the_wall_clock() {
        let ban = record("203.0.113.7/32", Some(100));
        assert_eq!(
            ban.remaining(at(40)),
            Some(Some(Duration::from_secs(60))),
            "sixty seconds later"
        );
        assert_eq!(ban.remaining(at(100)), None, "it ends at its end");
        assert_eq!(ban.remaining(at(101)), None, "and stays over");
        assert_eq!(record("::1/128", None).remaining(at(101)), Some(None));
    }

    #[test]
    fn bans_that_are_over_leave_the_book_and_others_stay() {
        let mut book: BanBook = [
            record("203.0.113.7/32", Some(10)),
            record("203.0.113.8/32", Some(20)),
            record("2001:db8::/64", None),
        ]
        .into_iter()
        .collect();
        let over = book.expire(at(10));
        assert_eq!(over.len(), 1);
        assert_eq!(over[0].prefix.to_string(), "203.0.113.7/32");
        assert_eq!(book.len(), 2);
    }

    #[test]
    fn the_narrowest_wider_ban_is_found() {
        let book: BanBook = [
            record("203.0.0.0/16", None),
            record("203.0.113.0/24", None),
            record("203.0.113.7/32", None),
        ]
        .into_iter()
        .collect();
        let address = "203.0.113.7/32".parse().expect("a prefix");
        let covering = book.covering(&address).expect("it is covered");
        assert_eq!(covering.prefix.to_string(), "203.0.113.0/24");
    }
}
