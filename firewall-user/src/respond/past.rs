//! What was done about sources before: bans and limits that are over, and offences. Kept as a part of the
//! state, so that a repeat offender is known as one after a restart.

use std::collections::VecDeque;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BanRecord, Offender, Offenders};
use crate::state::{Kind, Store};

const PART: &str = "offenders";
const VERSION: u32 = 1;
/// Bans that are over and remembered.
const KEEP: usize = 4_096;

/// A ban or limit that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastBan {
    #[serde(flatten)]
    pub ban: BanRecord,
    pub ended: Timestamp,
    /// It did not end by itself.
    pub lifted: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Past {
    pub offenders: Offenders,
    bans: VecDeque<PastBan>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    offenders: Vec<Offender>,
    bans: Vec<PastBan>,
}

impl Past {
    /// Reads what is remembered.
    pub fn load(store: &Store) -> Self {
        match store.part::<Document>(PART) {
            Some(document) if document.version == VERSION => Self {
                offenders: document.offenders.into_iter().collect(),
                bans: document.bans.into(),
            },
            Some(document) => {
                let text = store.get(Kind::Part, PART).unwrap_or_default();
                store.not_understood(PART, text, &format!("version {}", document.version));
                Self::default()
            }
            None => Self::default(),
        }
    }

    /// Has it kept.
    pub fn save(&self, store: &Store) {
        let document = Document {
            version: VERSION,
            offenders: self.offenders.iter().copied().collect(),
            bans: self.bans.iter().cloned().collect(),
        };
        store.put_json(Kind::Part, PART, &document);
    }

    /// Notes a ban or limit that is over.
    pub fn note(&mut self, ban: BanRecord, now: Timestamp, lifted: bool) {
        self.bans.push_back(PastBan {
            ended: ban
                .expires
                .filter(|end| !lifted && *end <= now)
                .unwrap_or(now),
            ban,
            lifted,
        });
        while self.bans.len() > KEEP {
            self.bans.pop_front();
        }
    }

    /// Those that covered a prefix or a part of it, the latest first.
    pub fn about(&self, prefix: &IpNet) -> Vec<PastBan> {
        let touches =
            |past: &&PastBan| past.ban.prefix.contains(prefix) || prefix.contains(&past.ban.prefix);
        self.bans.iter().rev().filter(touches).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::respond::BanDuration;
    use crate::respond::book::tests::record;
    use crate::state::Health;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn open(folder: &Path) -> Store {
        Store::open(folder, Health::default()).unwrap()
    }

    #[test]
    fn offences_and_bans_that_are_over_outlive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut past = Past::load(&store);
        let never = BanDuration(None);
        past.offenders
            .note(net("203.0.113.7/32"), at(0), Some(at(600)), never);
        past.note(record("203.0.113.7/32", Some(600)), at(601), false);
        past.note(record("2001:db8:7::/48", None), at(700), true);
        past.save(&store);
        store.close();
        let past = Past::load(&open(folder.path()));
        assert_eq!(
            past.offenders
                .offences(&net("203.0.113.7/32"), at(999), never),
            1
        );
        let about = past.about(&net("203.0.113.7/32"));
        assert_eq!(
            (about.len(), about[0].ended, about[0].lifted),
            (1, at(600), false)
        );
        let about = past.about(&net("2001:db8:7:7::/64"));
        assert_eq!(
            (about.len(), about[0].ended, about[0].lifted),
            (1, at(700), true)
        );
    }

    #[test]
    fn what_makes_no_sense_is_kept_for_people() {
        for text in [
            "{\"version\":1,\"offen",
            "{\"version\":7,\"offenders\":[],\"bans\":[]}",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let store = open(folder.path());
            store.put(Kind::Part, PART, text.as_bytes().to_vec());
            assert_eq!(Past::load(&store).bans.len(), 0);
            let aside = store.get(Kind::Part, "offenders.not-understood").unwrap();
            assert_eq!(aside, text.as_bytes());
        }
    }

    #[test]
    fn what_is_remembered_of_bans_is_bounded() {
        let mut past = Past::default();
        for second in 0..KEEP as i64 + 10 {
            past.note(record("203.0.113.7/32", Some(second)), at(second), false);
        }
        let about = past.about(&net("203.0.113.7/32"));
        assert_eq!((about.len(), about[0].ended), (KEEP, at(KEEP as i64 + 9)));
    }
}
