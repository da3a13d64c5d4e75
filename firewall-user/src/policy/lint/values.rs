//! Sets of values of one field, as ascending ranges: what is left of the packets of a rule when those of
//! others are taken away.

use std::sync::Arc;

/// An inclusive range.
pub(super) type Range = (u128, u128);

/// Ascending ranges that do not touch; without any list, all values of the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Values(Option<Arc<[Range]>>);

impl Values {
    /// Every value.
    pub(super) const ALL: Self = Self(None);

    /// The values of some ranges, in any order; all values if they are those from 0 to `last`.
    pub(super) fn of(mut ranges: Vec<Range>, last: u128) -> Self {
        // Most come in long runs that ascend already, which this sort makes use of.
        ranges.sort();
        let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(before) if low <= before.1.saturating_add(1) => before.1 = before.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Self::of_merged(merged.into(), last)
    }

    /// As [`Self::of`], for ranges that ascend and do not touch.
    pub(super) fn of_merged(ranges: Arc<[Range]>, last: u128) -> Self {
        if ranges.first() == Some(&(0, last)) {
            return Self::ALL;
        }
        Self(Some(ranges))
    }

    pub(super) fn is_all(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.as_ref().is_some_and(|ranges| ranges.is_empty())
    }

    /// How many ranges they are.
    pub(super) fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |ranges| ranges.len())
    }

    /// The ranges, with `last` the highest value of the field.
    pub(super) fn ranges(&self, last: u128) -> Arc<[Range]> {
        match &self.0 {
            Some(ranges) => ranges.clone(),
            None => Arc::new([(0, last)]),
        }
    }

    /// The lowest and the highest; `None` if there are none.
    pub(super) fn hull(&self, last: u128) -> Option<Range> {
        match &self.0 {
            None => Some((0, last)),
            Some(ranges) => Some((ranges.first()?.0, ranges.last()?.1)),
        }
    }

    pub(super) fn holds(&self, value: u128) -> bool {
        let Some(ranges) = &self.0 else {
            return true;
        };
        let index = ranges.partition_point(|range| range.1 < value);
        ranges.get(index).is_some_and(|range| range.0 <= value)
    }

    /// Whether any value is in both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let (Some(mine), Some(theirs)) = (&self.0, &other.0) else {
            return !self.is_none() && !other.is_none();
        };
        let (few, many) = if mine.len() <= theirs.len() {
            (mine, theirs)
        } else {
            (theirs, mine)
        };
        few.iter().any(|(low, high)| {
            let index = many.partition_point(|range| range.1 < *low);
            many.get(index).is_some_and(|range| range.0 <= *high)
        })
    }

    /// Whether every value is in `other`.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let Some(theirs) = &other.0 else {
            return true;
        };
        let Some(mine) = &self.0 else {
            return false;
        };
        Arc::ptr_eq(mine, theirs)
            || mine.iter().all(|(low, high)| {
                let index = theirs.partition_point(|range| range.1 < *low);
                theirs
                    .get(index)
                    .is_some_and(|range| range.0 <= *low && *high <= range.1)
            })
    }

    /// The values of both.
    pub(super) fn and(&self, other: &Self) -> Self {
        let (Some(mine), Some(theirs)) = (&self.0, &other.0) else {
            return if self.is_all() {
                other.clone()
            } else {
                self.clone()
            };
        };
        let mut both = Vec::new();
        let (mut a, mut b) = (0, 0);
        while a < mine.len() && b < theirs.len() {
            let common = (mine[a].0.max(theirs[b].0), mine[a].1.min(theirs[b].1));
            if common.0 <= common.1 {
                both.push(common);
            }
            if mine[a].1 < theirs[b].1 {
                a += 1;
            } else {
                b += 1;
            }
        }
        Self(Some(both.into()))
    }

    /// The values that are not in `other`.
    pub(super) fn less(&self, other: &Self, last: u128) -> Self {
        let Some(theirs) = &other.0 else {
            return Self(Some(Arc::new([])));
        };
        let mut rest = Vec::new();
        let mut b = 0;
        for &(low, high) in self.ranges(last).iter() {
            let mut from = Some(low);
            while b < theirs.len() && theirs[b].1 < low {
                b += 1;
            }
            let mut at = b;
            while let (Some(start), Some(&(first, end))) = (from, theirs.get(at)) {
                if first > high {
                    break;
                }
                if first > start {
                    rest.push((start, first - 1));
                }
                from = end.checked_add(1).filter(|next| *next <= high);
                at += 1;
            }
            if let Some(start) = from {
                rest.push((start, high));
            }
        }
        Self::of_merged(rest.into(), last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAST: u128 = 40;

    fn some() -> impl Strategy<Value = Values> {
        prop::collection::vec((0..=LAST, 0..6_u128), 0..6).prop_map(|ranges| {
            let ranges = ranges
                .into_iter()
                .map(|(low, more)| (low, (low + more).min(LAST)));
            Values::of(ranges.collect(), LAST)
        })
    }

    proptest! {
        #[test]
        fn sets_of_ranges_are_what_their_values_say(one in some(), other in some()) {
            let (both, less) = (one.and(&other), one.less(&other, LAST));
            for value in 0..=LAST {
                let (a, b) = (one.holds(value), other.holds(value));
                prop_assert_eq!(both.holds(value), a && b);
                prop_assert_eq!(less.holds(value), a && !b);
            }
            prop_assert_eq!(one.meets(&other), !both.is_none());
            prop_assert_eq!(one.is_within(&other), less.is_none());
            prop_assert_eq!(&both, &other.and(&one));
        }
    }

    #[test]
    fn all_values_less_some_leave_the_rest() {
        let some = Values::of(vec![(3, 5), (9, LAST)], LAST);
        let rest = Values::ALL.less(&some, LAST);
        assert_eq!(rest, Values::of(vec![(0, 2), (6, 8)], LAST));
        assert_eq!(rest.less(&Values::ALL, LAST).size(), 0);
        assert!(Values::of(vec![(0, 5), (6, LAST)], LAST).is_all());
    }
}
