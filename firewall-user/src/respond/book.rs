//! The bans that are meant to be in force: a pure book, driven by the wall clock so that what is
//! left of a ban is right after a reboot, where the kernel's own clock starts anew.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
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

/// What is done to a source; the later, the stronger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// A trickle of its packets is let through.
    Limit,
    /// Nothing of it is let through.
    #[default]
    Ban,
}

/// One ban, or limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BanRecord {
    /// In its shortest form: no bits beyond the prefix length.
    pub prefix: IpNet,
    pub origin: Origin,
    #[serde(default)]
    pub measure: Measure,
    /// Kind of the alert that led to an automatic ban.
    pub kind: Option<String>,
    pub reason: Option<String>,
    pub created: Timestamp,
    /// `None` is without end.
    pub expires: Option<Timestamp>,
}

/// Every ban by its prefix. What is asked often costs the same whether there are ten or a million.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BanBook {
    records: BTreeMap<IpNet, BanRecord>,
    /// Those that end, by when.
    ends: BTreeSet<(Timestamp, IpNet)>,
    automatic: usize,
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

impl Measure {
    /// The name people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Ban => "ban",
        }
    }
}

impl BanBook {
    /// Enters a ban, replacing one of the same prefix.
    pub fn insert(&mut self, record: BanRecord) {
        self.remove(&record.prefix);
        self.ends
            .extend(record.expires.map(|end| (end, record.prefix)));
        self.automatic += usize::from(record.origin == Origin::Automatic);
        self.records.insert(record.prefix, record);
    }

    /// Strikes a ban out.
    pub fn remove(&mut self, prefix: &IpNet) -> Option<BanRecord> {
        let record = self.records.remove(prefix)?;
        if let Some(end) = record.expires {
            self.ends.remove(&(end, *prefix));
        }
        self.automatic -= usize::from(record.origin == Origin::Automatic);
        Some(record)
    }

    pub fn get(&self, prefix: &IpNet) -> Option<&BanRecord> {
        self.records.get(prefix)
    }

    /// Takes out the bans that are over at `now`.
    pub fn expire(&mut self, now: Timestamp) -> Vec<BanRecord> {
        let over: Vec<IpNet> = self
            .ends
            .iter()
            .take_while(|(end, _)| *end <= now)
            .map(|(_, prefix)| *prefix)
            .collect();
        self.take_out(&over)
    }

    /// Takes out the bans of `prefix` and of what lies in it.
    pub fn remove_within(&mut self, prefix: &IpNet) -> Vec<BanRecord> {
        let within: Vec<IpNet> = self.within(prefix).map(|record| record.prefix).collect();
        self.take_out(&within)
    }

    /// The bans of `prefix` and of what lies in it.
    pub fn within(&self, prefix: &IpNet) -> impl Iterator<Item = &BanRecord> {
        // Prefixes are in the order of their addresses.
        let first = match prefix {
            IpNet::V4(v4) => IpNet::new(v4.network().into(), 0),
            IpNet::V6(v6) => IpNet::new(v6.network().into(), 0),
        };
        // A length of 0 fits either family.
        let first = first.unwrap_or(*prefix);
        let prefix = *prefix;
        self.records
            .range(first..)
            .take_while(move |(other, _)| prefix.contains(&other.addr()))
            .filter(move |(other, _)| prefix.contains(*other))
            .map(|(_, record)| record)
    }

    fn take_out(&mut self, prefixes: &[IpNet]) -> Vec<BanRecord> {
        prefixes
            .iter()
            .filter_map(|prefix| self.remove(prefix))
            .collect()
    }

    /// The narrowest other ban that covers all of `prefix`.
    pub fn covering(&self, prefix: &IpNet) -> Option<&BanRecord> {
        let mut wider = prefix.trunc();
        while let Some(next) = wider.supernet() {
            wider = next;
            if let Some(record) = self.records.get(&wider) {
                return Some(record);
            }
        }
        None
    }

    /// Every ban behind `last` in the order of prefixes; all, without one.
    pub fn after(&self, last: Option<IpNet>) -> impl Iterator<Item = &BanRecord> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.records
            .range((from, Bound::Unbounded))
            .map(|(_, record)| record)
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
        match origin {
            Origin::Automatic => self.automatic,
            Origin::Manual => self.records.len() - self.automatic,
        }
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
            measure: Measure::Ban,
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
    fn a_ban_that_is_replaced_ends_and_counts_as_the_new_one_does() {
        let mut book = BanBook::default();
        book.insert(record("203.0.113.7/32", Some(10)));
        let mut longer = record("203.0.113.7/32", Some(20));
        longer.origin = Origin::Automatic;
        book.insert(longer);
        assert_eq!((book.len(), book.count(Origin::Automatic)), (1, 1));
        assert!(book.expire(at(10)).is_empty());
        assert_eq!(book.expire(at(20)).len(), 1);
        assert_eq!(book, BanBook::default());
    }

    #[test]
    fn what_lies_within_a_prefix_is_taken_out_and_nothing_beside_or_around_it() {
        let texts = [
            "203.0.112.0/23",
            "203.0.112.255/32",
            "203.0.113.0/24",
            "203.0.113.0/25",
            "203.0.113.255/32",
            "203.0.114.0/32",
            "2001:db8::/32",
        ];
        let book: BanBook = texts.iter().map(|text| record(text, Some(9))).collect();
        for (prefix, gone) in [
            ("203.0.113.0/24", &texts[2..5]),
            ("203.0.112.0/23", &texts[..5]),
            ("2001:db8::/32", &texts[6..]),
            ("198.51.100.0/24", &[]),
        ] {
            let mut left = book.clone();
            let out = left.remove_within(&prefix.parse().expect("a prefix"));
            let names: Vec<_> = out.iter().map(|ban| ban.prefix.to_string()).collect();
            assert_eq!(names, gone);
            assert_eq!(left.len() + gone.len(), texts.len());
            assert_eq!(
                left.expire(at(9)).len(),
                left.len() + texts.len() - gone.len()
            );
        }
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
