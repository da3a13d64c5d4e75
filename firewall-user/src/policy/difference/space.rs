//! The packets of one direction and family, cut into classes that no rule of either policy tells apart.

use std::collections::HashMap;

use super::super::{Policy, Rule};
use super::field::{Context, Field, Range, merged};
use super::region::{Classes, Region};

/// The classes of each field.
#[derive(Debug)]
pub(super) struct Space {
    pub context: Context,
    fields: Vec<Cut>,
}

/// One field.
#[derive(Debug)]
struct Cut {
    /// Where each stretch begins, ascending, and its class; the first begins at 0.
    stretches: Vec<(u128, usize)>,
    classes: usize,
    highest: u128,
}

/// Accepted ranges of each field.
type Accepted = Vec<Option<Vec<Range>>>;

impl Space {
    /// The space, and in it the regions of some rules and those of all packets that there are. A rule
    /// that no packet matches has none.
    pub fn new(
        context: Context,
        rules: &[(&Policy, &Rule)],
    ) -> (Self, Vec<Option<Region>>, Vec<Region>) {
        let mut accepted: Vec<Accepted> = rules
            .iter()
            .map(|(policy, rule)| {
                let ranges = |field: &Field| context.accepted(policy, rule, *field).map(merged);
                Field::ALL.iter().map(ranges).collect()
            })
            .collect();
        let kinds = context.kinds();
        accepted.extend(kinds.into_iter().map(|kind| {
            let ranges = |field: &Field| {
                let named = kind.iter().find(|(named, _)| named == field)?;
                Some(merged(named.1.clone()))
            };
            Field::ALL.iter().map(ranges).collect::<Accepted>()
        }));
        let fields: Vec<Cut> = Field::ALL
            .iter()
            .enumerate()
            .map(|(index, field)| {
                let lists = accepted.iter().filter_map(|rule| rule[index].as_deref());
                Cut::new(lists, context.highest(*field))
            })
            .collect();
        let space = Self { context, fields };
        let mut regions: Vec<Option<Region>> = accepted
            .iter()
            .map(|accepted| space.region(accepted))
            .collect();
        let kinds = regions.split_off(rules.len());
        let kinds = kinds.into_iter().flatten().map(|kind| space.filled(kind));
        let kinds = kinds.collect();
        (space, regions, kinds)
    }

    fn region(&self, accepted: &Accepted) -> Option<Region> {
        let mut fields = Vec::with_capacity(self.fields.len());
        for (cut, accepted) in self.fields.iter().zip(accepted) {
            fields.push(match accepted {
                None => None,
                Some(ranges) => {
                    let classes = cut.within(ranges);
                    match classes.count() {
                        0 => return None,
                        count if count == cut.classes => None,
                        _ => Some(classes),
                    }
                }
            });
        }
        Some(Region { fields })
    }

    /// A region of all packets.
    pub fn everything(&self) -> Region {
        Region {
            fields: vec![None; self.fields.len()],
        }
    }

    /// The same region with every set there.
    fn filled(&self, mut region: Region) -> Region {
        for (set, cut) in region.fields.iter_mut().zip(&self.fields) {
            set.get_or_insert_with(|| Classes::all(cut.classes));
        }
        region
    }

    /// The values in some classes of a field, as ascending ranges.
    pub fn ranges(&self, field: Field, classes: &Classes) -> Vec<Range> {
        let cut = &self.fields[field as usize];
        let ends = cut.stretches.iter().skip(1).map(|next| next.0 - 1);
        let stretches = cut.stretches.iter().zip(ends.chain([cut.highest]));
        let within = stretches.filter(|((_, class), _)| classes.contains(*class));
        merged(within.map(|((low, _), high)| (*low, high)).collect())
    }
}

impl Cut {
    fn new<'r>(lists: impl Iterator<Item = &'r [Range]>, highest: u128) -> Self {
        // Rules often ask for the same.
        let mut known: HashMap<&[Range], usize> = HashMap::new();
        let mut edges: Vec<(u128, usize, bool)> = Vec::new();
        for ranges in lists {
            let next = known.len();
            if *known.entry(ranges).or_insert(next) != next {
                continue;
            }
            for &(low, high) in ranges {
                edges.push((low, next, true));
                if high < highest {
                    edges.push((high + 1, next, false));
                }
            }
        }
        edges.sort_unstable();
        let mut cut = Self {
            stretches: Vec::new(),
            classes: 0,
            highest,
        };
        let mut seen: HashMap<Vec<usize>, usize> = HashMap::new();
        let mut holding: std::collections::BTreeSet<usize> = std::collections::BTreeSet::new();
        let mut edges = edges.into_iter().peekable();
        let mut at = 0;
        loop {
            while let Some((_, list, begins)) = edges.next_if(|edge| edge.0 == at) {
                if begins {
                    holding.insert(list);
                } else {
                    holding.remove(&list);
                }
            }
            let next = seen.len();
            let class = *seen
                .entry(holding.iter().copied().collect())
                .or_insert(next);
            if cut.stretches.last().is_none_or(|last| last.1 != class) {
                cut.stretches.push((at, class));
            }
            match edges.peek() {
                Some(edge) => at = edge.0,
                None => break,
            }
        }
        cut.classes = seen.len();
        cut
    }

    /// The classes within ranges, each of which begins a stretch, as they were among those that cut.
    fn within(&self, ranges: &[Range]) -> Classes {
        let mut classes = Classes::none(self.classes);
        for &(low, high) in ranges {
            let first = self.stretches.partition_point(|stretch| stretch.0 < low);
            let inside = self.stretches[first..].iter();
            for (_, class) in inside.take_while(|stretch| stretch.0 <= high) {
                classes.insert(*class);
            }
        }
        classes
    }
}
