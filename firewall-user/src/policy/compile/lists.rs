//! The lists of rules that a source and a destination can meet, and what a list and a tail give.
//!
//! Rules of which one side accepts nearly everything multiply the lists of all others. Where that takes
//! much memory, rules are parted into groups by which side is wide, each with its own lists.

use std::collections::HashMap;

use firewall_common::image::{self, PLANE_CONSTANTS, constant};

use super::addresses::{Class, Side};
use super::cross::{Bits, Budget, Columns, Sink, cross};
use super::results::{Excess, Group as Results, Kind};
use super::tail::{Tails, most_frequent};
use super::values::Conditions;

/// What the lists are made of.
pub(super) struct Rules<'a> {
    pub(super) source: &'a Side,
    pub(super) destination: &'a Side,
    pub(super) conditions: &'a Conditions,
    pub(super) tails: &'a Tails,
    /// Per rule.
    pub(super) kinds: &'a [Kind],
    /// Per rule: whether it drops.
    pub(super) drops: &'a [bool],
    /// Per rule (`firewall_common::image::outcome`).
    pub(super) outcomes: &'a [u32],
}

/// The lists of all groups, with constants that hold for the image they were made for.
pub(super) struct Lists {
    pub(super) words: Vec<u64>,
    pub(super) groups: usize,
    pub(super) source_classes: u32,
    pub(super) destination_classes: u32,
    /// The constants of each group.
    pub(super) constants: Vec<u32>,
}

/// Why no way of parting the rules fits.
#[derive(Debug)]
pub(super) enum TooLarge {
    /// These rules overlap with most others.
    Lists { rules: Vec<u32> },
    /// More rules than a chain holds may match one packet without deciding.
    Chain { rules: Vec<u32> },
}

/// How rules are parted.
#[derive(Clone, Copy, Debug)]
enum Parting {
    Together,
    /// By whether the destination is wide.
    ByDestination,
    BySource,
    ByBoth,
}

/// Lists of at most so many words are taken as they are. More groups would be smaller, but a packet reads
/// some lines of each.
const SMALL: usize = 1_536 << 10;
/// Groups tell the classes of the sides apart themselves, without a word for each that says which they are
/// within the group, where the pairs of classes are at most so many: one read less before a list is known, and
/// 128 KiB of places of pages for each group. More would miss the caches where the words do not.
const DIRECT: usize = 1 << 21;
/// Lists that take more are given up.
const MAX_WORDS: usize = 7 << 20;
const BUDGET: Budget = Budget {
    cells: 1 << 27,
    outcomes: 1 << 18,
    members: 1 << 21,
};

impl Rules<'_> {
    /// The lists in the groups that take the least memory, more groups counting for more.
    pub(super) fn lists(&self, image: &[u64]) -> Result<Lists, TooLarge> {
        let partings = [
            Parting::Together,
            Parting::ByDestination,
            Parting::BySource,
            Parting::ByBoth,
        ];
        let mut best: Option<Lists> = None;
        let mut failure = None;
        for parting in partings {
            match self.part(parting, image) {
                Ok(lists) => {
                    let weight = |lists: &Lists| lists.words.len() * (lists.groups + 1);
                    if best
                        .as_ref()
                        .is_none_or(|best| weight(&lists) < weight(best))
                    {
                        best = Some(lists);
                    }
                }
                Err(failed @ TooLarge::Chain { .. }) => return Err(failed),
                Err(failed) => failure = Some(failed),
            }
            // Both ways of making two groups are looked at before one is taken.
            if let Some(best) = &best
                && best.words.len() <= SMALL
                && !matches!(parting, Parting::ByDestination)
            {
                break;
            }
        }
        match (best, failure) {
            (Some(best), _) => Ok(best),
            (None, Some(failure)) => Err(failure),
            (None, None) => Err(TooLarge::Lists { rules: Vec::new() }),
        }
    }

    fn part(&self, parting: Parting, image: &[u64]) -> Result<Lists, TooLarge> {
        let count = self.kinds.len() as u32;
        let group_of = |rule: u32| {
            let wide = |side: &Side| usize::from(side.wide[rule as usize]);
            match parting {
                Parting::Together => 0,
                Parting::ByDestination => wide(self.destination),
                Parting::BySource => wide(self.source),
                Parting::ByBoth => wide(self.source) * 2 + wide(self.destination),
            }
        };
        let mut groups: Vec<Vec<u32>> = vec![Vec::new(); image::GROUPS];
        for rule in 0..count {
            groups[group_of(rule)].push(rule);
        }
        groups.retain(|group| !group.is_empty());
        let mut sink = Sink::after(image);
        let mut lists = Lists {
            words: Vec::new(),
            groups: groups.len(),
            source_classes: 0,
            destination_classes: 0,
            constants: Vec::new(),
        };
        let pairs = self.source.classes.len() * self.destination.classes.len();
        let direct = groups.len() == 1 || pairs <= DIRECT;
        let mut source_words = vec![0_u64; self.source.classes.len()];
        let mut destination_words = vec![0_u64; self.destination.classes.len()];
        for (number, group) in groups.iter().enumerate() {
            let rows = self.narrowed(self.source, group, direct);
            let columns = self.narrowed(self.destination, group, direct);
            let pack = |words: &mut [u64], of_class: &[u32]| {
                for (word, class) in words.iter_mut().zip(of_class) {
                    *word |= u64::from(*class) << (number * 16);
                }
            };
            pack(&mut source_words, &rows.of_class);
            pack(&mut destination_words, &columns.of_class);
            let constants = self.group(&rows, &columns, &mut sink)?;
            lists.constants.extend(constants);
            if sink.words.len() > MAX_WORDS {
                return Err(TooLarge::Lists {
                    rules: most_frequent(&rows.classes, self.kinds.len()),
                });
            }
        }
        if !direct {
            lists.source_classes = sink.place();
            sink.words.extend(source_words);
            lists.destination_classes = sink.place();
            sink.words.extend(destination_words);
        }
        lists.words = sink.words;
        Ok(lists)
    }

    /// The classes of a side as the rules of a group tell them apart, or all of them.
    fn narrowed(&self, side: &Side, group: &[u32], all: bool) -> Narrowed {
        let mut within = vec![false; self.kinds.len()];
        for &rule in group {
            within[rule as usize] = true;
        }
        let always = side.always.iter().copied();
        let always: Vec<u32> = always.filter(|&rule| within[rule as usize]).collect();
        let any_drops = group.iter().any(|&rule| self.drops[rule as usize]);
        let mut narrowed = Narrowed {
            classes: Vec::new(),
            of_class: Vec::new(),
            always,
        };
        let mut known: HashMap<(Vec<u32>, bool), u32> = HashMap::new();
        let nowhere = [Class::default()];
        let classes = if side.is_any() {
            nowhere.as_slice()
        } else {
            &side.classes
        };
        for class in classes {
            let spared = class.spared && any_drops;
            let applies =
                |rule: &u32| within[*rule as usize] && !(spared && self.drops[*rule as usize]);
            let rules: Vec<u32> = class.rules.iter().copied().filter(applies).collect();
            let mut add = |rules: Vec<u32>| {
                let mut whole = rules;
                whole.extend(narrowed.always.iter().copied().filter(applies));
                whole.sort_unstable();
                narrowed.classes.push(whole);
                narrowed.classes.len() as u32 - 1
            };
            let number = if all {
                add(rules)
            } else {
                match known.get(&(rules.clone(), spared)) {
                    Some(&number) => number,
                    None => {
                        let number = add(rules.clone());
                        known.insert((rules, spared), number);
                        number
                    }
                }
            };
            narrowed.of_class.push(number);
        }
        narrowed
    }

    fn group(
        &self,
        rows: &Narrowed,
        columns: &Narrowed,
        sink: &mut Sink,
    ) -> Result<[u32; constant::group::COUNT], TooLarge> {
        // A side without classes has one: the class of every address.
        let runs = Columns::new(columns.classes.iter().map(Vec::as_slice), self.kinds.len());
        let crossed = cross(rows.classes.iter(), &runs, BUDGET);
        let (outcomes, plane) = crossed.map_err(|over| TooLarge::Lists {
            rules: most_frequent(
                if over.outcomes.is_empty() {
                    &rows.classes
                } else {
                    &over.outcomes
                },
                self.kinds.len(),
            ),
        })?;
        let results = Results::new(self, &outcomes);
        let placed = results.place(sink).map_err(|excess| match excess {
            Excess::Cells(lists) => TooLarge::Lists {
                rules: most_frequent(&lists, self.kinds.len()),
            },
            Excess::Chain(rules) => TooLarge::Chain { rules },
        })?;
        let mut constants = [0; constant::group::COUNT];
        if plane.is_single() {
            let list = placed.lists[0];
            constants[constant::group::LIST] = list as u32;
            constants[constant::group::LIST + 1] = (list >> 32) as u32;
        } else {
            let plane = plane.place(sink, Bits::Whole, |outcome| placed.lists[outcome as usize]);
            let first = constant::group::LISTS;
            constants[first..first + PLANE_CONSTANTS].copy_from_slice(&plane.constants());
        }
        constants[constant::group::NAMED] = u32::from(placed.named);
        constants[constant::group::PAGED] = u32::from(placed.paged);
        constants[constant::group::CHAINS] = placed.chains;
        Ok(constants)
    }
}

/// The classes of a side that a group tells apart.
struct Narrowed {
    /// The rules of each, ascending.
    classes: Vec<Vec<u32>>,
    /// Which of them each class of the side is.
    of_class: Vec<u32>,
    always: Vec<u32>,
}
