//! What a list of rules and a tail give: the first rule, or a chain of rules of which only the last
//! decides.
//!
//! Many lists hold different rules under the same conditions: a shop's port on each of its hosts. Such
//! lists share one row of results, which are then positions in the list.

use std::collections::HashMap;

use firewall_common::image::{PAGE, list, outcome, result};

use super::cross::{Bits, PlaneBuilder, Sink, WHOLE};
use super::lists::Rules;
use super::tail::Tails;
use super::values::Conditions;

/// What a rule that matches does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Decides,
    /// It counts and goes on, or may have expired.
    Passes,
}

/// Conditions of at most this number are compared with each other to leave out rules that others
/// hide.
const COMPARED: usize = 2_048;
/// Lists of which each has a row of its own, with rules and not positions in it: at most so many cells.
const UNSHARED: usize = 1 << 15;
/// Pages of all rows together: 16 MiB of places.
const MAX_PAGES: usize = 1 << 22;

/// The lists of a group.
pub(super) struct Group<'a> {
    conditions: &'a Conditions,
    tails: &'a Tails,
    kinds: &'a [Kind],
    outcomes: &'a [u32],
    /// Different lists, without the rules that an earlier one hides.
    lists: Vec<Vec<u32>>,
    /// The list of each outcome.
    of_outcome: Vec<u32>,
}

/// Where the lists were put.
pub(super) struct Placed {
    /// The list of each outcome, as a cell says it (`firewall_common::image::list`).
    pub(super) lists: Vec<u64>,
    pub(super) named: bool,
    pub(super) paged: bool,
    pub(super) chains: u32,
}

/// Why the results do not fit.
#[derive(Debug)]
pub(super) enum Excess {
    /// Too many; these lists are the longest.
    Cells(Vec<Vec<u32>>),
    /// One packet may match so many rules without a decision.
    Chain(Vec<u32>),
}

impl<'a> Group<'a> {
    pub(super) fn new(rules: &Rules<'a>, outcomes: &[Vec<u32>]) -> Self {
        let mut group = Self {
            conditions: rules.conditions,
            tails: rules.tails,
            kinds: rules.kinds,
            outcomes: rules.outcomes,
            lists: Vec::new(),
            of_outcome: Vec::with_capacity(outcomes.len()),
        };
        let hiding = Hiding::new(group.conditions);
        let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
        for outcome in outcomes {
            let kept = group.kept(outcome, &hiding);
            let number = match known.get(&kept) {
                Some(&number) => number,
                None => {
                    let number = group.lists.len() as u32;
                    group.lists.push(kept.clone());
                    known.insert(kept, number);
                    number
                }
            };
            group.of_outcome.push(number);
        }
        group
    }

    /// The rules that some packet may reach.
    fn kept(&self, rules: &[u32], hiding: &Hiding) -> Vec<u32> {
        let mut hidden = vec![0_u64; hiding.words];
        let mut kept = Vec::new();
        for &rule in rules {
            let condition = self.conditions.of_rule[rule as usize] as usize;
            if hidden[condition / 64] >> (condition % 64) & 1 != 0 {
                continue;
            }
            kept.push(rule);
            if self.kinds[rule as usize] == Kind::Decides {
                hiding.add(condition, &mut hidden);
            }
        }
        kept
    }

    /// Puts rows, lists and chains.
    pub(super) fn place(&self, sink: &mut Sink) -> Result<Placed, Excess> {
        let tails = self.tails.classes.len();
        let named = self.lists.len() * tails > UNSHARED;
        // Row of each list, and the list that stands for each row.
        let (row_of, shapes) = if named {
            self.shapes()
        } else {
            let all: Vec<u32> = (0..self.lists.len() as u32).collect();
            (all.clone(), all)
        };
        // Rows begin with a word of their own.
        let paged = shapes.len() * tails.next_multiple_of(4) > WHOLE;
        let width = tails.next_multiple_of(if paged { 128 } else { 4 });
        if shapes.len() * (width / PAGE as usize) > MAX_PAGES {
            let mut longest = self.lists.clone();
            longest.sort_by_key(|list| std::cmp::Reverse(list.len()));
            longest.truncate(1_000);
            return Err(Excess::Cells(longest));
        }
        let mut plane = PlaneBuilder::new(shapes.len(), width);
        let mut rows = Rows::new(self, named, width);
        let mut everywhere = Vec::with_capacity(shapes.len());
        for &list in &shapes {
            rows.row(&self.lists[list as usize])?;
            everywhere.push(rows.everywhere(tails));
            plane.sparse_row(&rows.cells, &rows.pages, result::NONE);
        }
        let bits = if named || rows.chained {
            Bits::Narrow
        } else {
            Bits::Wide
        };
        let plane = plane.place(sink, bits, |cell| match bits {
            Bits::Wide => u64::from(self.outcome(cell)),
            _ => u64::from(cell),
        });
        let row_words = if plane.paged {
            plane.width / 2
        } else {
            plane.width / bits.cells_of_word()
        };
        let mut lists = Vec::with_capacity(self.lists.len());
        for (number, rules) in self.lists.iter().enumerate() {
            let row = row_of[number];
            let place = plane.table + row * row_words;
            let same = everywhere[row as usize].filter(|_| !rows.chained);
            let (row, upper) = match same {
                Some(result::NONE) => (list::NO_ROW, outcome::NONE),
                Some(found) if named => (list::NO_ROW, self.outcome(rules[found as usize])),
                Some(rule) => (list::NO_ROW, self.outcome(rule)),
                None if !named => (place, 0),
                None if rows.chained => {
                    let names = sink.place();
                    sink.narrow(rules.iter().copied());
                    (place, names)
                }
                None if rules.len() == 1 => (place | list::SINGLE, self.outcome(rules[0])),
                None => {
                    let names = sink.place();
                    sink.wide(rules.iter().map(|&rule| self.outcome(rule)));
                    (place, names)
                }
            };
            lists.push(u64::from(upper) << 32 | u64::from(row));
        }
        let chains = sink.place();
        sink.words.extend(rows.chains.words);
        Ok(Placed {
            lists: self
                .of_outcome
                .iter()
                .map(|&list| lists[list as usize])
                .collect(),
            named,
            paged: plane.paged,
            chains,
        })
    }

    /// A result as the tables name it.
    fn outcome(&self, rule: u32) -> u32 {
        if rule == result::NONE {
            outcome::NONE
        } else {
            self.outcomes[rule as usize]
        }
    }

    /// The different shapes: the row of each list, and a list of each row.
    fn shapes(&self) -> (Vec<u32>, Vec<u32>) {
        let mut known: HashMap<Vec<(u32, Kind)>, u32> = HashMap::new();
        let mut shapes = Vec::new();
        let rows = self.lists.iter().enumerate().map(|(number, list)| {
            let shape = list
                .iter()
                .map(|&rule| {
                    (
                        self.conditions.of_rule[rule as usize],
                        self.kinds[rule as usize],
                    )
                })
                .collect();
            *known.entry(shape).or_insert_with(|| {
                shapes.push(number as u32);
                shapes.len() as u32 - 1
            })
        });
        (rows.collect(), shapes)
    }
}

/// Which conditions are hidden behind which: a bit matrix.
struct Hiding {
    words: usize,
    rows: Vec<u64>,
}

impl Hiding {
    fn new(conditions: &Conditions) -> Self {
        let count = conditions.len();
        let words = count.div_ceil(64);
        let mut rows = vec![0; if count <= COMPARED { words * count } else { 0 }];
        if !rows.is_empty() {
            for wide in 0..count {
                for narrow in 0..count {
                    if conditions.covers(wide as u32, narrow as u32) {
                        rows[wide * words + narrow / 64] |= 1 << (narrow % 64);
                    }
                }
            }
        }
        Self { words, rows }
    }

    /// Adds what a condition hides: at least itself.
    fn add(&self, condition: usize, hidden: &mut [u64]) {
        if self.rows.is_empty() {
            hidden[condition / 64] |= 1 << (condition % 64);
            return;
        }
        let row = &self.rows[condition * self.words..][..self.words];
        for (word, bits) in hidden.iter_mut().zip(row) {
            *word |= bits;
        }
    }
}

/// Makes rows of results.
struct Rows<'a> {
    group: &'a Group<'a>,
    /// Whether results are positions in the list.
    named: bool,
    /// Whether results are chains.
    chained: bool,
    /// Per condition: the tails that meet it, a bit each.
    met: Vec<Vec<u64>>,
    undecided: Vec<u64>,
    /// The row in hand, and which of its pages hold a result.
    cells: Vec<u32>,
    pages: Vec<bool>,
    chains: Chains,
}

impl<'a> Rows<'a> {
    fn new(group: &'a Group<'a>, named: bool, width: usize) -> Self {
        let tails = &group.tails.classes;
        let words = tails.len().div_ceil(64);
        let mut met = vec![Vec::new(); group.conditions.len()];
        for (tail, conditions) in tails.iter().enumerate() {
            for &condition in conditions {
                let bits = &mut met[condition as usize];
                bits.resize(words, 0);
                bits[tail / 64] |= 1 << (tail % 64);
            }
        }
        Self {
            group,
            named,
            chained: group.kinds.contains(&Kind::Passes),
            met,
            undecided: vec![0; words],
            cells: vec![result::NONE; width],
            pages: vec![false; width.div_ceil(PAGE as usize)],
            chains: Chains::default(),
        }
    }

    /// The result of every tail, if all have the same.
    fn everywhere(&self, tails: usize) -> Option<u32> {
        let cells = &self.cells[..tails];
        let first = *cells.first()?;
        cells.iter().all(|&cell| cell == first).then_some(first)
    }

    /// Makes the row of a list: its results by tail.
    fn row(&mut self, list: &[u32]) -> Result<(), Excess> {
        let page = PAGE as usize;
        let nothing = if self.chained { 0 } else { result::NONE };
        for (index, cells) in self.cells.chunks_mut(page).enumerate() {
            if std::mem::take(&mut self.pages[index]) {
                cells.fill(result::NONE);
            }
        }
        self.undecided.fill(u64::MAX);
        for (position, &rule) in list.iter().enumerate() {
            let result = if self.named { position as u32 } else { rule };
            let decides = self.group.kinds[rule as usize] == Kind::Decides;
            let met = &self.met[self.group.conditions.of_rule[rule as usize] as usize];
            for (word, (undecided, met)) in self.undecided.iter_mut().zip(met).enumerate() {
                let mut reached = *undecided & met;
                if reached == 0 {
                    continue;
                }
                if decides {
                    *undecided &= !met;
                }
                // A word of bits is a page of cells.
                let end = self.group.tails.classes.len().min((word + 1) * page);
                let cells = &mut self.cells[word * page..end];
                if !std::mem::replace(&mut self.pages[word], true) {
                    cells.fill(nothing);
                }
                while reached != 0 {
                    let cell = &mut cells[reached.trailing_zeros() as usize];
                    reached &= reached - 1;
                    *cell = if self.chained {
                        self.chains.longer(*cell, result)
                    } else {
                        result
                    };
                }
            }
        }
        if !self.chained {
            return Ok(());
        }
        let pages = self.cells.chunks_mut(page).zip(&self.pages);
        let mut left = self.group.tails.classes.len();
        for (cells, held) in pages {
            let whole = left.min(page);
            left -= whole;
            for cell in &mut cells[..whole] {
                if !held {
                    break;
                }
                *cell = self.chains.place(*cell).map_err(|results| {
                    let rule = |result: &u32| {
                        if self.named {
                            list[*result as usize]
                        } else {
                            *result
                        }
                    };
                    Excess::Chain(results.iter().map(rule).collect())
                })?;
            }
        }
        Ok(())
    }
}

/// Chains of results; each is known by a number, 0 is the empty one.
#[derive(Default)]
struct Chains {
    /// Chain but for its last result, and that.
    links: Vec<(u32, u32)>,
    known: HashMap<(u32, u32), u32>,
    places: HashMap<u32, u32>,
    words: Vec<u64>,
}

impl Chains {
    /// The chain that has one result more.
    fn longer(&mut self, chain: u32, result: u32) -> u32 {
        *self.known.entry((chain, result)).or_insert_with(|| {
            self.links.push((chain, result));
            self.links.len() as u32
        })
    }

    /// The place of a chain among the words; the results of one that is too long or has no place left.
    fn place(&mut self, chain: u32) -> Result<u32, Vec<u32>> {
        if chain == 0 {
            return Ok(result::NONE);
        }
        if let Some(&place) = self.places.get(&chain) {
            return Ok(place);
        }
        let mut results = Vec::new();
        let mut at = chain;
        while at != 0 {
            let (before, result) = self.links[at as usize - 1];
            results.push(result);
            at = before;
        }
        results.reverse();
        let place = self.words.len() as u32;
        if results.len() > firewall_common::image::MAX_CHAIN as usize || place >= result::NONE {
            return Err(results);
        }
        let ended = results.iter().copied().chain([result::NONE]);
        let mut sink = Sink::after(&[]);
        sink.narrow(ended);
        self.words.extend(sink.words);
        self.places.insert(chain, place);
        Ok(place)
    }
}
