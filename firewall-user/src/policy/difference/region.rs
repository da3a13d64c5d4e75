//! Regions of packets as products of sets of classes, one set per field, and the search for a packet
//! that lies in one region and in none of others.

/// A set of classes of one field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Classes {
    words: Vec<u64>,
}

/// A product of sets: a packet lies in it when each of its fields is in that field's set. `None` is the
/// set of all classes. No set is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Region {
    pub fields: Vec<Option<Classes>>,
}

/// A search that gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Classes {
    pub fn none(count: usize) -> Self {
        Self {
            words: vec![0; count.div_ceil(64)],
        }
    }

    pub fn all(count: usize) -> Self {
        let mut all = Self::none(count);
        (0..count).for_each(|class| all.insert(class));
        all
    }

    pub fn insert(&mut self, class: usize) {
        self.words[class / 64] |= 1 << (class % 64);
    }

    pub fn contains(&self, class: usize) -> bool {
        self.words[class / 64] >> (class % 64) & 1 != 0
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub fn count(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    fn meets(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(a, b)| a & b != 0)
    }

    fn is_within(&self, other: &Self) -> bool {
        self.words
            .iter()
            .zip(&other.words)
            .all(|(a, b)| a & !b == 0)
    }

    /// The classes that are not in the other set.
    pub fn without(&self, other: &Self) -> Self {
        self.merge(other, |a, b| a & !b)
    }

    fn merge(&self, other: &Self, word: impl Fn(u64, u64) -> u64) -> Self {
        let words = self.words.iter().zip(&other.words);
        Self {
            words: words.map(|(a, b)| word(*a, *b)).collect(),
        }
    }
}

impl Region {
    pub fn meets(&self, other: &Self) -> bool {
        self.fields
            .iter()
            .zip(&other.fields)
            .all(|pair| match pair {
                (Some(mine), Some(theirs)) => mine.meets(theirs),
                _ => true,
            })
    }

    /// Whether each packet of this region lies in the other. A set of all classes counts as within
    /// another only if that is `None`, too.
    pub fn is_within(&self, other: &Self) -> bool {
        (0..self.fields.len()).all(|field| self.is_within_in(other, field))
    }

    /// The same for one field.
    pub fn is_within_in(&self, other: &Self, field: usize) -> bool {
        match (&self.fields[field], &other.fields[field]) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(mine), Some(theirs)) => mine.is_within(theirs),
        }
    }

    /// The packets in both.
    pub fn meet(&self, other: &Self) -> Option<Self> {
        let mut fields = Vec::with_capacity(self.fields.len());
        for pair in self.fields.iter().zip(&other.fields) {
            fields.push(match pair {
                (Some(mine), Some(theirs)) => {
                    let common = mine.merge(theirs, |a, b| a & b);
                    if common.is_empty() {
                        return None;
                    }
                    Some(common)
                }
                (one, None) | (None, one) => one.clone(),
            });
        }
        Some(Self { fields })
    }

    /// The packets outside of another region, as regions without overlap, the one that leaves most
    /// classes first. Every set of this region must be there.
    fn without(mut self, other: &Self) -> Vec<Self> {
        let mut pieces = Vec::new();
        for field in 0..self.fields.len() {
            let (Some(mine), Some(theirs)) = (&self.fields[field], &other.fields[field]) else {
                continue;
            };
            let outside = mine.without(theirs);
            if outside.is_empty() {
                continue;
            }
            let inside = mine.merge(theirs, |a, b| a & b);
            let left = outside.count();
            let mut piece = self.clone();
            piece.fields[field] = Some(outside);
            pieces.push((left, piece));
            self.fields[field] = Some(inside);
        }
        pieces.sort_by_key(|(left, _)| std::cmp::Reverse(*left));
        pieces.into_iter().map(|(_, piece)| piece).collect()
    }
}

/// Finds a part of `region` that lies in none of `others`; `None` when they cover it. Every set of
/// `region` must be there. `budget` is counted down by each comparison of two regions.
///
/// Whether a union of products covers a product has no answer that is always quick (Liu and Gouda,
/// "Diverse firewall design", IEEE TPDS 2008, grow with the product of the fields, too). So the search
/// goes on into the largest part first, where a packet is likely to be found, and may give up.
pub(super) fn uncovered(
    region: Region,
    others: &[&Region],
    budget: &mut u64,
) -> Result<Option<Region>, Exhausted> {
    let mut open = vec![(region, others.to_vec())];
    while let Some((region, others)) = open.pop() {
        *budget = budget
            .checked_sub(others.len() as u64 + 1)
            .ok_or(Exhausted)?;
        let live: Vec<&Region> = others
            .into_iter()
            .filter(|other| other.meets(&region))
            .collect();
        if live.iter().any(|other| region.is_within(other)) {
            continue;
        }
        let Some((first, rest)) = live.split_first() else {
            return Ok(Some(region));
        };
        let pieces = region.without(first);
        // The last one pushed is looked at next.
        open.extend(pieces.into_iter().rev().map(|piece| (piece, rest.to_vec())));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COUNTS: [usize; 3] = [3, 70, 2];

    fn set(count: usize) -> impl Strategy<Value = Option<Classes>> {
        prop::option::of(prop::collection::vec(0..count, 1..=count)).prop_map(move |classes| {
            classes.map(|classes| {
                let mut set = Classes::none(count);
                classes.into_iter().for_each(|class| set.insert(class));
                set
            })
        })
    }

    fn region() -> impl Strategy<Value = Region> {
        COUNTS.map(set).prop_map(|fields| Region {
            fields: fields.to_vec(),
        })
    }

    fn whole() -> Region {
        Region {
            fields: COUNTS.map(|count| Some(Classes::all(count))).to_vec(),
        }
    }

    fn holds(region: &Region, point: [usize; 3]) -> bool {
        let mut fields = region.fields.iter().zip(point);
        fields.all(|(set, class)| set.as_ref().is_none_or(|set| set.contains(class)))
    }

    fn points() -> impl Iterator<Item = [usize; 3]> {
        let [a, b, c] = COUNTS;
        (0..a).flat_map(move |x| (0..b).flat_map(move |y| (0..c).map(move |z| [x, y, z])))
    }

    proptest! {
        #[test]
        fn a_part_is_found_exactly_when_some_packet_is_not_covered(
            inside in region(),
            others in prop::collection::vec(region(), 0..8),
        ) {
            let start = whole().meet(&inside).unwrap();
            let refs: Vec<&Region> = others.iter().collect();
            let found = uncovered(start, &refs, &mut 1_000_000).unwrap();
            let free = |point: &[usize; 3]| {
                holds(&inside, *point) && !others.iter().any(|other| holds(other, *point))
            };
            match found {
                None => prop_assert!(!points().any(|point| free(&point))),
                Some(part) => {
                    prop_assert!(points().any(|point| holds(&part, point)));
                    prop_assert!(points().filter(|point| holds(&part, *point)).all(|point| free(&point)));
                }
            }
        }

        #[test]
        fn regions_that_meet_have_a_packet_in_common(one in region(), other in region()) {
            let common = points().any(|point| holds(&one, point) && holds(&other, point));
            prop_assert_eq!(one.meets(&other), common);
            prop_assert_eq!(one.meet(&other).is_some(), common);
        }
    }

    #[test]
    fn a_search_ends_when_its_budget_does() {
        let whole = whole();
        assert_eq!(uncovered(whole.clone(), &[&whole], &mut 1), Err(Exhausted));
    }
}
