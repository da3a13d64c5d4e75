//! What two policies decide differently, found by calculating with the rules instead of trying packets.
//!
//! A packet belongs to the first rule that matches it. Where two lists of rules decide differently, at
//! least one of the two deciding rules is not common to both lists: if both were, each list would have
//! them in the same order, and the earlier one would decide in both. So only pairs with a rule that was
//! added, removed, changed or moved are looked at. Where such a pair decides is a product of sets, less
//! what the rules before it in their lists take; it is reported if a packet is found that lies there
//! ([`region::uncovered`]).
//!
//! Compared is what rules and defaults decide. What comes before the rules (link, malformed, bans,
//! connections) is not: a packet of a connection follows its opening, an ICMP error and a reply what they
//! answer. Rules that count or observe decide nothing.

mod align;
mod example;
mod field;
mod narrow;
mod region;
mod rules;
mod space;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashSet;
use std::fmt;

use firewall_common::Verdict;
use jiff::Timestamp;

use super::limit::Limit;
use super::{Action, DefaultAction, Direction, Mode, Policy, Rule};
use field::Context;
use narrow::narrowed;
use region::{Region, uncovered};
use space::Space;

pub use example::Example;
pub use rules::{RuleChange, SetChange, rule_changes, set_changes};

/// Changes that are found before the comparison ends.
pub const MOST_CHANGES: usize = 10_000;
/// Comparisons of regions for one change, and for all together: some ten seconds.
const BUDGET: u64 = 4_000_000;
const WHOLE_BUDGET: u64 = 400_000_000;
/// Names of earlier rules that are kept for one change.
const EXCEPTIONS: usize = 50;

/// What two policies decide differently.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub changes: Vec<Change>,
    /// Whether all changes were found: with [`MOST_CHANGES`] of them, or when the search took too long,
    /// there may be more.
    pub complete: bool,
}

/// Packets on which the policies differ: those that one rule decides in the old policy and another in the
/// new one.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub direction: Direction,
    /// `None`: both.
    pub family: Option<Family>,
    pub old: Decision,
    pub new: Decision,
    /// What the packets have in common, by the keys of the language; empty for all packets.
    pub packets: Vec<(&'static str, Vec<String>)>,
    /// Rules that decide about some of these packets earlier, in either policy; the first of them.
    pub except: Vec<String>,
    /// How many such rules there are.
    pub exceptions: usize,
    /// One of the packets; `None` when no search was long enough to find one, nor to know that there
    /// is none.
    pub example: Option<Example>,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Who decides about a packet, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// `None`: the default.
    pub rule: Option<String>,
    pub outcome: Outcome,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// The limit that it passes under.
    pub limit: Option<Limit>,
}

/// Compares what two policies decide from `now` on.
pub fn compare(old: &Policy, new: &Policy, now: Timestamp) -> Difference {
    let mut difference = Difference {
        changes: Vec::new(),
        complete: true,
    };
    let mut budget = WHOLE_BUDGET;
    for direction in [Direction::Inbound, Direction::Outbound] {
        let mut first_family = None;
        for family in [Family::V4, Family::V6] {
            let mut changes = Vec::new();
            let both = Both::new(old, new, direction, family, now);
            difference.complete &= both.compare(&mut changes, &mut budget);
            match first_family.take() {
                None => first_family = Some(changes),
                Some(of_v4) => difference.changes.extend(joined(of_v4, changes)),
            }
        }
    }
    if difference.changes.len() > MOST_CHANGES {
        difference.changes.truncate(MOST_CHANGES);
        difference.complete = false;
    }
    difference
}

/// Changes that are the same in both families become one.
fn joined(mut of_v4: Vec<Change>, of_v6: Vec<Change>) -> Vec<Change> {
    let mut rest = Vec::new();
    for change in of_v6 {
        let same = of_v4.iter_mut().find(|other| {
            other.family == Some(Family::V4)
                && other.old == change.old
                && other.new == change.new
                && other.packets == change.packets
                && other.example.is_some() == change.example.is_some()
        });
        match same {
            Some(same) => {
                same.family = None;
                let more = change.except.into_iter();
                let more: Vec<String> = more.filter(|name| !same.except.contains(name)).collect();
                same.except.extend(more);
                same.except.truncate(EXCEPTIONS);
                same.exceptions = same
                    .exceptions
                    .max(change.exceptions)
                    .max(same.except.len());
            }
            None => rest.push(change),
        }
    }
    of_v4.extend(rest);
    of_v4
}

/// One direction and family of both policies.
struct Both<'p> {
    space: Space,
    /// The packets that there are.
    kinds: Vec<Region>,
    old: List<'p>,
    new: List<'p>,
}

/// The deciding rules of one policy, as far as any packet matches them.
struct List<'p> {
    entries: Vec<Entry<'p>>,
    default: Outcome,
}

struct Entry<'p> {
    rule: &'p Rule,
    outcome: Outcome,
    region: Region,
    /// The other list has the same rule, in the same order with all others that are common.
    common: bool,
}

/// A rule by its place in its list; `None` is the default, which stands behind them.
type Place = Option<usize>;

impl<'p> Both<'p> {
    fn new(
        old: &'p Policy,
        new: &'p Policy,
        direction: Direction,
        family: Family,
        now: Timestamp,
    ) -> Self {
        let deciding = |policy: &'p Policy| -> Vec<(&'p Policy, &'p Rule)> {
            let decides = |rule: &&Rule| {
                rule.direction == direction
                    && rule.action != Action::Count
                    && rule.mode == Mode::Enforce
                    && rule.expires.is_none_or(|end| now < end)
            };
            let rules = policy.rules.iter().filter(decides);
            rules.map(|rule| (policy, rule)).collect()
        };
        let (of_old, of_new) = (deciding(old), deciding(new));
        let rules = [of_old.as_slice(), of_new.as_slice()].concat();
        let context = Context {
            direction,
            v6: family == Family::V6,
            interfaces: distinct(rules.iter().flat_map(|(_, rule)| rule.interfaces.clone())),
            payloads: distinct(rules.iter().flat_map(|(_, rule)| rule.payloads.clone())),
            ends: {
                let mut ends = distinct(rules.iter().filter_map(|(_, rule)| rule.expires));
                ends.sort_unstable();
                ends
            },
            now,
        };
        let (space, mut regions, kinds) = Space::new(context, &rules);
        let regions_of_new = regions.split_off(of_old.len());
        let mut old = List::new(old, direction, of_old, regions);
        let mut new = List::new(new, direction, of_new, regions_of_new);
        let (in_old, in_new) = align::common(&old.signatures(), &new.signatures());
        old.mark(&in_old);
        new.mark(&in_new);
        Self {
            space,
            kinds,
            old,
            new,
        }
    }

    /// Finds the changes; whether all were.
    fn compare(&self, changes: &mut Vec<Change>, budget: &mut u64) -> bool {
        let everything = self.space.everything();
        for (place, entry) in self.new.entries.iter().enumerate() {
            if !entry.common && !self.against_old(place, entry, changes, budget) {
                return false;
            }
        }
        for (place, entry) in self.old.entries.iter().enumerate() {
            if !entry.common && !self.against_new(place, entry, changes, budget) {
                return false;
            }
        }
        if self.old.default != self.new.default {
            return self.pair(None, None, everything, changes, budget);
        }
        true
    }

    /// A rule of the new policy that is not common, against all that may have decided before.
    fn against_old(
        &self,
        place: usize,
        entry: &Entry<'_>,
        changes: &mut Vec<Change>,
        budget: &mut u64,
    ) -> bool {
        for (other, old) in self.old.entries.iter().enumerate() {
            if old.outcome != entry.outcome
                && let Some(region) = old.region.meet(&entry.region)
                && !self.pair(Some(other), Some(place), region, changes, budget)
            {
                return false;
            }
            if entry.region.is_within(&old.region) {
                return true;
            }
        }
        self.old.default == entry.outcome
            || self.pair(None, Some(place), entry.region.clone(), changes, budget)
    }

    /// A rule of the old policy that is not common, against what is common in the new one: the rest was
    /// looked at from the other side.
    fn against_new(
        &self,
        place: usize,
        entry: &Entry<'_>,
        changes: &mut Vec<Change>,
        budget: &mut u64,
    ) -> bool {
        for (other, new) in self.new.entries.iter().enumerate() {
            if new.common
                && new.outcome != entry.outcome
                && let Some(region) = new.region.meet(&entry.region)
                && !self.pair(Some(place), Some(other), region, changes, budget)
            {
                return false;
            }
            if entry.region.is_within(&new.region) {
                return true;
            }
        }
        self.new.default == entry.outcome
            || self.pair(Some(place), None, entry.region.clone(), changes, budget)
    }

    /// Reports the packets of `region` that both rules of a pair decide about, if there are any; whether
    /// the comparison should go on.
    fn pair(
        &self,
        old: Place,
        new: Place,
        region: Region,
        changes: &mut Vec<Change>,
        budget: &mut u64,
    ) -> bool {
        let before: Vec<&Entry<'_>> = [self.old.before(old), self.new.before(new)]
            .into_iter()
            .flatten()
            .filter(|entry| entry.region.meets(&region))
            .collect();
        let regions: Vec<&Region> = before.iter().map(|entry| &entry.region).collect();
        let mut left = BUDGET.min(*budget);
        let allowed = left;
        let mut given_up = false;
        let mut found = None;
        for kind in &self.kinds {
            let Some(there) = kind.meet(&region) else {
                continue;
            };
            match uncovered(there, &regions, &mut left) {
                Ok(None) => {}
                Ok(Some(part)) => {
                    found = Some(part);
                    break;
                }
                Err(region::Exhausted) => given_up = true,
            }
        }
        *budget -= allowed - left;
        if found.is_none() && !given_up {
            return true;
        }
        let region = narrowed(&self.space, region, &regions);
        let mut names: Vec<&str> = Vec::new();
        let mut known: HashSet<&str> = HashSet::new();
        for entry in &before {
            if entry.region.meets(&region) && known.insert(&entry.rule.name) {
                names.push(&entry.rule.name);
            }
        }
        changes.push(Change {
            direction: self.space.context.direction,
            family: Some(if self.space.context.v6 {
                Family::V6
            } else {
                Family::V4
            }),
            old: self.old.decision(old),
            new: self.new.decision(new),
            packets: words::packets(&self.space, &region),
            exceptions: names.len(),
            except: names
                .into_iter()
                .take(EXCEPTIONS)
                .map(str::to_owned)
                .collect(),
            example: found.map(|part| Example::of(&self.space, &part)),
        });
        changes.len() <= MOST_CHANGES && *budget > 0
    }
}

impl<'p> List<'p> {
    fn new(
        policy: &Policy,
        direction: Direction,
        rules: Vec<(&'p Policy, &'p Rule)>,
        regions: Vec<Option<Region>>,
    ) -> Self {
        let observes = policy.defaults.mode == Mode::Observe;
        let verdict = |drops: bool| {
            if drops && !observes {
                Verdict::Drop
            } else {
                Verdict::Pass
            }
        };
        let default = match direction {
            Direction::Inbound => policy.defaults.inbound,
            Direction::Outbound => policy.defaults.outbound,
        };
        let entries = rules.into_iter().zip(regions);
        Self {
            default: Outcome {
                verdict: verdict(default == DefaultAction::Drop),
                limit: None,
            },
            entries: entries
                .filter_map(|((_, rule), region)| {
                    Some(Entry {
                        rule,
                        outcome: Outcome {
                            verdict: verdict(rule.action == Action::Drop),
                            limit: rule.limit.filter(|_| !observes),
                        },
                        region: region?,
                        common: false,
                    })
                })
                .collect(),
        }
    }

    /// What makes rules the same: whom they match, and what becomes of it.
    fn signatures(&self) -> Vec<(&Region, String)> {
        let entries = self.entries.iter();
        entries
            .map(|entry| (&entry.region, format!("{:?}", entry.outcome)))
            .collect()
    }

    fn mark(&mut self, common: &[bool]) {
        for (entry, common) in self.entries.iter_mut().zip(common) {
            entry.common = *common;
        }
    }

    /// The rules before a place.
    fn before(&self, place: Place) -> &[Entry<'p>] {
        &self.entries[..place.unwrap_or(self.entries.len())]
    }

    fn decision(&self, place: Place) -> Decision {
        match place {
            Some(index) => Decision {
                rule: Some(self.entries[index].rule.name.clone()),
                outcome: self.entries[index].outcome,
            },
            None => Decision {
                rule: None,
                outcome: self.default,
            },
        }
    }
}

fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

impl Family {
    /// The name people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            Some(limit) => write!(formatter, "{} within {limit}", self.verdict.name()),
            None => formatter.write_str(self.verdict.name()),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(formatter, "{} by rule {rule}", self.outcome),
            None => write!(formatter, "{} by default", self.outcome),
        }
    }
}
