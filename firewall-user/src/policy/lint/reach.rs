//! Rules that earlier ones keep from ever matching: one alone, or several together.
//!
//! Of the packets of a rule, those of each earlier rule that decides are taken away; if nothing is left, it
//! is never reached. Most rules show at once that something is: a packet at the edge of the rule that no
//! earlier one matches.

use jiff::Timestamp;

use super::coverage::Coverage;
use super::region::{FIELDS, Region, Regions};
use super::values::Values;
use crate::policy::model::{Action, Direction, Mode, Policy, Rule};

/// Steps of all searches together, some tenths of a second.
const STEPS: usize = 6_000_000;
/// Steps of one search.
const STEPS_EACH: usize = 60_000;
/// Packets at the edges of a rule that are tried first.
const TRIED: u64 = 12;

/// A rule that is never reached.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreached {
    pub rule: usize,
    /// The rules that decide before it; in file order.
    pub by: Vec<usize>,
    /// The one before it matches the same packets and does the same.
    pub repeats: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Reach {
    pub unreached: Vec<Unreached>,
    /// Rules of which it is not known.
    pub unknown: usize,
}

/// Looks for rules that are never reached among those that are `usable`.
pub(super) fn reach(
    policy: &Policy,
    coverage: &[Coverage],
    protected: &Coverage,
    usable: &[bool],
    now: Timestamp,
) -> Reach {
    let mut regions = Regions::new(policy, coverage, protected, now);
    let mut spaces = Vec::new();
    for direction in [Direction::Inbound, Direction::Outbound] {
        for v6 in [false, true] {
            spaces.push(Space::new(policy, direction, v6, usable, &mut regions));
        }
    }
    let mut search = Search {
        left: STEPS,
        found: Vec::new(),
    };
    let mut outcome = Reach::default();
    for (index, rule) in policy
        .rules
        .iter()
        .enumerate()
        .filter(|(at, _)| usable[*at])
    {
        let mut by: Vec<usize> = Vec::new();
        let mut state = State::Empty;
        for space in spaces
            .iter()
            .filter(|space| space.direction == rule.direction)
        {
            state = state.with(space.state(rule, index, &mut search));
            by.append(&mut search.found);
        }
        match state {
            State::Covered => {
                by.sort_unstable();
                by.dedup();
                outcome.unreached.push(Unreached {
                    rule: index,
                    repeats: matches!(by[..], [one] if repeats(&policy.rules[one], rule, one, index, &spaces)),
                    by,
                });
            }
            State::Unknown => outcome.unknown += 1,
            State::Empty | State::Reached => {}
        }
    }
    outcome
}

fn repeats(one: &Rule, other: &Rule, at: usize, other_at: usize, spaces: &[Space]) -> bool {
    one.action == other.action
        && one.mode == other.mode
        && one.limit == other.limit
        && spaces
            .iter()
            .all(|space| space.regions[at] == space.regions[other_at])
}

/// What is known of a rule in a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has no packets here.
    Empty,
    Covered,
    Unknown,
    Reached,
}

impl State {
    /// What is known in both spaces together.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Reached, _) | (_, Self::Reached) => Self::Reached,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Covered, _) | (_, Self::Covered) => Self::Covered,
            (Self::Empty, Self::Empty) => Self::Empty,
        }
    }
}

/// The packets of one direction and family, and the rules' boxes in it.
struct Space {
    direction: Direction,
    last: [u128; FIELDS],
    /// By rule; `None` where it has no packets, or none are known of.
    regions: Vec<Option<Region>>,
    /// Whether a box is only a part of what the rule matches.
    partial: Vec<bool>,
    /// Whether a rule decides about what it matches.
    decides: Vec<bool>,
    /// The lowest and highest value of each field, by rule, as ranks among all such.
    hulls: [Vec<(u32, u32)>; FIELDS],
}

impl Space {
    fn new(
        policy: &Policy,
        direction: Direction,
        v6: bool,
        usable: &[bool],
        regions: &mut Regions<'_>,
    ) -> Self {
        let last = regions.last(v6);
        let mut space = Self {
            direction,
            last,
            regions: Vec::new(),
            partial: Vec::new(),
            decides: Vec::new(),
            hulls: [const { Vec::new() }; FIELDS],
        };
        for (rule, usable) in policy.rules.iter().zip(usable) {
            let here = rule.direction == direction && *usable;
            let known = here.then(|| regions.of(rule, v6));
            let whole = known.as_ref().is_none_or(|known| known.whole);
            let region = known.map(|known| known.what);
            let region = region.filter(|region| !region.iter().any(Values::is_none));
            let decides = rule.action != Action::Count && rule.mode == Mode::Enforce;
            space.decides.push(region.is_some() && whole && decides);
            space.partial.push(!whole);
            space.regions.push(region);
        }
        for (field, hulls) in space.hulls.iter_mut().enumerate() {
            *hulls = ranks(&space.regions, field, last[field]);
        }
        space
    }

    fn state(&self, rule: &Rule, index: usize, search: &mut Search) -> State {
        search.found.clear();
        let Some(region) = &self.regions[index] else {
            return if self.partial[index] {
                State::Unknown
            } else {
                State::Empty
            };
        };
        let region = Regions::without_impossible(rule, region);
        let earlier = self.earlier(index, &region);
        if earlier.is_empty() || self.has_free_edge(&region, &earlier, index) {
            return State::Reached;
        }
        let mut left = STEPS_EACH.min(search.left);
        let before = left;
        let covered = self.is_covered(region, &earlier, &mut left, &mut search.found);
        search.left -= before - left;
        match covered {
            Some(true) if self.partial[index] => State::Unknown,
            Some(true) => State::Covered,
            Some(false) => State::Reached,
            None => State::Unknown,
        }
    }

    /// Earlier rules that decide about some of the packets of a box.
    fn earlier(&self, index: usize, region: &Region) -> Vec<usize> {
        let mut earlier: Vec<usize> = (0..index).filter(|rule| self.decides[*rule]).collect();
        for (values, hulls) in region.iter().zip(&self.hulls) {
            if !values.is_all() {
                let (low, high) = hulls[index];
                earlier.retain(|rule| hulls[*rule].0 <= high && low <= hulls[*rule].1);
            }
        }
        earlier.retain(|rule| {
            let theirs = self.regions[*rule].as_ref();
            theirs.is_some_and(|theirs| meets(region, theirs))
        });
        earlier
    }

    /// Whether one of some packets at the edges of the box is matched by none of the earlier rules.
    fn has_free_edge(&self, region: &Region, earlier: &[usize], seed: usize) -> bool {
        let ranges: Vec<_> = (0..FIELDS)
            .map(|field| region[field].ranges(self.last[field]))
            .collect();
        (0..TRIED).any(|turn| {
            let mut point = [0; FIELDS];
            for field in 0..FIELDS {
                let list = &ranges[field];
                let word = mixed((seed as u64) << 16 | turn << 8 | field as u64);
                let chosen = match turn {
                    0 => list[0].0,
                    1 => list[list.len() - 1].1,
                    _ => {
                        let (low, high) = list[(word >> 1) as usize % list.len()];
                        if word & 1 == 0 { low } else { high }
                    }
                };
                point[field] = chosen;
            }
            !earlier.iter().any(|rule| {
                let theirs = self.regions[*rule].as_ref();
                theirs.is_some_and(|theirs| {
                    theirs
                        .iter()
                        .zip(point)
                        .all(|(values, at)| values.holds(at))
                })
            })
        })
    }

    /// Whether the earlier rules leave nothing of the box; `None` if that takes too long. Those that take
    /// part in it are put into `found`.
    fn is_covered(
        &self,
        mut region: Region,
        earlier: &[usize],
        left: &mut usize,
        found: &mut Vec<usize>,
    ) -> Option<bool> {
        let meeting: Vec<(usize, &Region)> = earlier
            .iter()
            .filter_map(|rule| Some((*rule, self.regions[*rule].as_ref()?)))
            .filter(|(_, theirs)| meets(&region, theirs))
            .collect();
        *left = left.checked_sub(1 + earlier.len())?;
        // The one that leaves a rest in the fewest fields splits the box least.
        let sticking_out = |theirs: &Region| {
            (0..FIELDS)
                .filter(|field| !region[*field].is_within(&theirs[*field]))
                .count()
        };
        let Some((first, theirs)) = meeting
            .iter()
            .min_by_key(|(_, theirs)| sticking_out(theirs))
        else {
            return Some(false);
        };
        if !found.contains(first) {
            found.push(*first);
        }
        let others: Vec<usize> = meeting
            .iter()
            .map(|(rule, _)| *rule)
            .filter(|rule| rule != first)
            .collect();
        for field in 0..FIELDS {
            if region[field].is_within(&theirs[field]) {
                continue;
            }
            *left = left.checked_sub((region[field].size() + theirs[field].size()) / 8)?;
            let mut rest = region.clone();
            rest[field] = region[field].less(&theirs[field], self.last[field]);
            if !self.is_covered(rest, &others, left, found)? {
                return Some(false);
            }
            region[field] = region[field].and(&theirs[field]);
        }
        Some(true)
    }
}

/// The search for all rules.
struct Search {
    left: usize,
    found: Vec<usize>,
}

fn meets(one: &Region, other: &Region) -> bool {
    one.iter()
        .zip(other)
        .all(|(mine, theirs)| mine.meets(theirs))
}

/// The lowest and highest value of a field of each box, as ranks: small numbers compare fast.
fn ranks(regions: &[Option<Region>], field: usize, last: u128) -> Vec<(u32, u32)> {
    let hulls: Vec<Option<(u128, u128)>> = regions
        .iter()
        .map(|region| region.as_ref()?[field].hull(last))
        .collect();
    let mut edges: Vec<u128> = hulls
        .iter()
        .flatten()
        .flat_map(|(low, high)| [*low, *high])
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let rank = |edge: u128| edges.partition_point(|known| *known < edge) as u32;
    hulls
        .into_iter()
        .map(|hull| hull.map_or((1, 0), |(low, high)| (rank(low), rank(high))))
        .collect()
}

/// A word that looks random (Steele, Lea and Flood 2014, "SplitMix").
fn mixed(seed: u64) -> u64 {
    let word = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
