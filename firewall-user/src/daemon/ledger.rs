//! What each rule matched, since when it has stood, and when it was hit last.
//!
//! The kernel counts a rule by its name, whatever its mode. Here the counts are told apart by the mode that was
//! in force when they grew, with the times of the first and the latest packet, and kept in the state
//! of the daemon: they outlive it, a fence that was taken down, and a restart of the host.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::datapath::RuleHits;
use crate::policy::{Changes, Mode, Policy};
use crate::state::{Kind, Store};

const PART: &str = "rules";
const VERSION: u32 = 1;
/// How often the counts are kept while they grow. A daemon that is killed loses nothing: the kernel's
/// counters stay, and the next start takes in what they grew by.
const SAVE: Duration = Duration::from_secs(60);

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

/// What a rule matched while it was observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    #[serde(flatten)]
    pub count: Count,
    /// When the first and the latest packet were noticed, which is within seconds of their coming.
    pub first: Option<Timestamp>,
    pub latest: Option<Timestamp>,
}

/// Since when a rule has stood, and when it was hit last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Since when a rule of this name has been in force without a break; for one that is older than this record, since
    /// that was begun.
    pub since: Option<Timestamp>,
    /// When it was changed last.
    pub changed: Option<Timestamp>,
    /// When its latest packet was noticed, which is within seconds of its coming.
    pub last_hit: Option<Timestamp>,
}

/// One rule's line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Line {
    /// Whether it was observed when the kernel's counter was read last.
    observing: bool,
    /// That reading.
    reading: Count,
    /// What counters that are gone had come to.
    before: Count,
    observed: Observed,
    /// What was over its limit: the counter, and counters that are gone.
    #[serde(default)]
    limited: Count,
    #[serde(default)]
    limited_before: Count,
    #[serde(flatten)]
    standing: Standing,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    version: u32,
    rules: BTreeMap<String, Line>,
}

/// The lines of all rules.
#[derive(Debug)]
pub struct Ledger {
    store: Store,
    lines: BTreeMap<String, Line>,
    changed: bool,
    saved: Instant,
}

impl Ledger {
    /// Reads what is kept.
    pub fn load(store: Store) -> Self {
        let lines = match store.part::<Document>(PART) {
            Some(document) if document.version == VERSION => document.rules,
            Some(document) => {
                let text = store.get(Kind::Part, PART).unwrap_or_default();
                store.not_understood(PART, text, &format!("version {}", document.version));
                BTreeMap::new()
            }
            None => BTreeMap::new(),
        };
        Self {
            store,
            lines,
            changed: false,
            saved: Instant::now(),
        }
    }

    /// Notes which rules stand now. `returned`: they are those that stood before a trial.
    pub fn stand(&mut self, policy: &Policy, changes: &Changes, returned: bool, now: Timestamp) {
        let observing = observing(policy);
        for rule in &policy.rules {
            let line = self.lines.entry(rule.name.clone());
            // What its counter came to before it was known here belongs to the mode that it has.
            let line = line.or_insert_with(|| Line {
                observing: observing.get(rule.name.as_str()).copied().unwrap_or(false),
                ..Line::default()
            });
            let standing = &mut line.standing;
            let added = changes.rules_added.contains(&rule.name) && !returned;
            if added || standing.since.is_none() {
                standing.since = Some(now);
                standing.changed = None;
            } else if changes.rules_changed.contains(&rule.name) {
                standing.changed = Some(now);
            }
        }
        self.changed = true;
    }

    /// Since when a rule has stood, and when it was hit last.
    pub fn standing(&self, rule: &str) -> Standing {
        self.lines
            .get(rule)
            .map_or_else(Standing::default, |line| line.standing)
    }

    /// Takes in what the kernel's counters grew by, and which rules `policy` observes from now on.
    pub fn take_in(&mut self, hits: &[RuleHits], policy: &Policy, now: Timestamp) {
        let observing = observing(policy);
        for hit in hits {
            let observing = observing.get(hit.rule.as_str()).copied().unwrap_or(false);
            let reading = Count {
                packets: hit.counter.packets,
                bytes: hit.counter.bytes,
            };
            let limited = Count {
                packets: hit.limited.packets,
                bytes: hit.limited.bytes,
            };
            match self.lines.get_mut(&hit.rule) {
                Some(line) => {
                    self.changed |= line.take_in(reading, observing, now);
                    line.take_in_limited(limited);
                }
                None if observing || reading.packets > 0 => {
                    self.changed = true;
                    let mut line = Line {
                        observing,
                        ..Line::default()
                    };
                    line.take_in(reading, observing, now);
                    line.take_in_limited(limited);
                    self.lines.insert(hit.rule.clone(), line);
                }
                None => {}
            }
        }
    }

    /// Packets and bytes of a rule in all, given what its counter says now.
    pub fn total(&self, rule: &str, reading: Count) -> Count {
        match self.lines.get(rule) {
            // The counter began anew, and that was not taken in yet.
            Some(line) if reading.packets < line.reading.packets => {
                line.before.plus(line.reading).plus(reading)
            }
            Some(line) => line.before.plus(reading),
            None => reading,
        }
    }

    /// What was over a rule's limit in all, given what its counter says now.
    pub fn limited(&self, rule: &str, reading: Count) -> Count {
        let mut line = self.lines.get(rule).cloned().unwrap_or_default();
        line.take_in_limited(reading);
        line.limited_before.plus(line.limited)
    }

    /// What a rule matched while it was observed, given what its counter says now; `None` if nothing.
    pub fn observed(&self, rule: &str, reading: Count, now: Timestamp) -> Option<Observed> {
        let mut line = self.lines.get(rule)?.clone();
        line.take_in(reading, line.observing, now);
        (line.observed.count.packets > 0).then_some(line.observed)
    }

    /// Has the counts kept now and then.
    pub fn save_if_due(&mut self) {
        if self.changed && self.saved.elapsed() >= SAVE {
            self.save();
        }
    }

    /// Has the counts kept.
    pub fn save(&mut self) {
        self.saved = Instant::now();
        self.changed = false;
        let document = Document {
            version: VERSION,
            rules: self.lines.clone(),
        };
        self.store.put_json(Kind::Part, PART, &document);
    }
}

impl Line {
    /// Whether there was anything new.
    fn take_in(&mut self, reading: Count, observing: bool, now: Timestamp) -> bool {
        let grown = if reading.packets < self.reading.packets {
            // The counter began anew.
            self.before = self.before.plus(self.reading);
            reading
        } else {
            reading.minus(self.reading)
        };
        if self.observing && grown.packets > 0 {
            self.observed.count = self.observed.count.plus(grown);
            self.observed.first.get_or_insert(now);
            self.observed.latest = Some(now);
        }
        if grown.packets > 0 {
            self.standing.last_hit = Some(now);
        }
        let news = grown.packets > 0 || self.observing != observing;
        self.reading = reading;
        self.observing = observing;
        news
    }

    fn take_in_limited(&mut self, reading: Count) {
        if reading.packets < self.limited.packets {
            self.limited_before = self.limited_before.plus(self.limited);
        }
        self.limited = reading;
    }
}

impl Count {
    fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
        }
    }

    /// What is more than in `other`.
    pub fn minus(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(other.packets),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// Which rules only observe, of their own or because the whole policy does.
fn observing(policy: &Policy) -> HashMap<&str, bool> {
    let all = policy.defaults.mode == Mode::Observe;
    policy
        .rules
        .iter()
        .map(|rule| (rule.name.as_str(), all || rule.mode == Mode::Observe))
        .collect()
}

#[cfg(test)]
mod tests {
    use firewall_common::layout::Counter;

    use std::path::Path;

    use super::*;
    use crate::state::Health;

    fn store(folder: &Path) -> Store {
        Store::open(folder, Health::default()).unwrap()
    }

    fn policy(mode: &str) -> Policy {
        let text = format!(
            "version = 1\n[[rule]]\nname = \"r\"\naction = \"drop\"\nmode = \"{mode}\"\nport = 80\nprotocol = \"tcp\"\n"
        );
        Policy::parse(&text, "p", Path::new("")).unwrap().0
    }

    fn hits(packets: u64) -> Vec<RuleHits> {
        vec![RuleHits {
            rule: "r".to_owned(),
            counter: Counter {
                packets,
                bytes: packets * 60,
            },
            limited: Counter::default(),
        }]
    }

    fn count(packets: u64) -> Count {
        Count {
            packets,
            bytes: packets * 60,
        }
    }

    fn observed(ledger: &Ledger, reading: u64) -> Count {
        ledger.observed("r", count(reading), at(30)).unwrap().count
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn packets_count_for_the_mode_in_which_they_came() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::load(store(folder.path()));
        ledger.take_in(&hits(0), &policy("observe"), at(1));
        ledger.take_in(&hits(7), &policy("observe"), at(2));
        // Promoted: what came up to here was observed, what comes after is not.
        ledger.take_in(&hits(9), &policy("enforce"), at(3));
        ledger.take_in(&hits(20), &policy("enforce"), at(4));
        let observed = ledger.observed("r", count(21), at(5)).unwrap();
        assert_eq!(observed.count, count(9));
        assert_eq!(
            (observed.first, observed.latest),
            (Some(at(2)), Some(at(3)))
        );
        assert_eq!(ledger.total("r", count(20)), count(20));
    }

    #[test]
    fn what_was_counted_before_anything_was_kept_belongs_to_the_mode_of_now() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::load(store(folder.path()));
        ledger.stand(&policy("observe"), &Changes::default(), true, at(1));
        ledger.take_in(&hits(7), &policy("observe"), at(1));
        assert_eq!(observed(&ledger, 7), count(7));
    }

    #[test]
    fn counts_outlive_the_daemon_and_counters_that_begin_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = store(folder.path());
        let open = |kept: &mut Store| {
            kept.close();
            *kept = store(folder.path());
            kept.clone()
        };
        let mut ledger = Ledger::load(open(&mut kept));
        ledger.take_in(&hits(0), &policy("observe"), at(1));
        ledger.take_in(&hits(7), &policy("observe"), at(2));
        ledger.save();
        // The next daemon finds the counter grown on.
        let mut ledger = Ledger::load(open(&mut kept));
        ledger.take_in(&hits(10), &policy("observe"), at(9));
        assert_eq!(observed(&ledger, 11), count(11));
        ledger.save();
        // The host was restarted: the counter began at 0.
        let mut ledger = Ledger::load(open(&mut kept));
        assert_eq!(ledger.total("r", count(4)), count(14));
        ledger.take_in(&hits(4), &policy("observe"), at(20));
        assert_eq!(observed(&ledger, 5), count(15));
        assert_eq!(ledger.total("r", count(6)), count(16));
    }

    #[test]
    fn a_ledger_that_makes_no_sense_begins_anew_and_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        for (text, why) in [("{", "EOF"), ("{\"version\":99,\"rules\":{}}", "99")] {
            let store = store(folder.path());
            store.put(Kind::Part, PART, text.as_bytes().to_vec());
            let ledger = Ledger::load(store.clone());
            assert!(ledger.observed("r", count(0), at(1)).is_none());
            let aside = store.get(Kind::Part, "rules.not-understood").unwrap();
            assert_eq!(aside, text.as_bytes());
            let told = store.health().report().set_aside;
            assert!(told[0].contains(why), "{told:?}");
            store.close();
        }
    }

    #[test]
    fn how_long_a_rule_stands_and_when_it_was_hit_outlive_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let kept = store(folder.path());
        let mut ledger = Ledger::load(kept.clone());
        let added = Changes {
            rules_added: vec!["r".to_owned()],
            ..Changes::default()
        };
        let changed = Changes {
            rules_changed: vec!["r".to_owned()],
            ..Changes::default()
        };
        ledger.stand(&policy("enforce"), &added, false, at(1));
        ledger.take_in(&hits(0), &policy("enforce"), at(2));
        assert_eq!(ledger.standing("r").last_hit, None);
        ledger.take_in(&hits(7), &policy("enforce"), at(3));
        ledger.take_in(&hits(7), &policy("enforce"), at(4));
        ledger.stand(&policy("observe"), &changed, false, at(5));
        ledger.save();
        kept.close();
        let mut ledger = Ledger::load(store(folder.path()));
        let standing = Standing {
            since: Some(at(1)),
            changed: Some(at(5)),
            last_hit: Some(at(3)),
        };
        assert_eq!(ledger.standing("r"), standing);
        // A trial without it was given back: it never went.
        ledger.stand(&policy("observe"), &added, true, at(6));
        assert_eq!(ledger.standing("r"), standing);
        ledger.stand(&policy("observe"), &added, false, at(7));
        assert_eq!(ledger.standing("r").since, Some(at(7)));
    }
}
