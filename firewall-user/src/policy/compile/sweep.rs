//! Cuts the values of a field into stretches over which the same conditions hold.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// An inclusive range of values that a condition accepts.
pub(super) type Range<T> = (T, T);

/// A stretch of values, from `start` to the next stretch, over which one class of conditions holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch<T> {
    pub(super) start: T,
    /// Index into [`Swept::classes`].
    pub(super) class: usize,
}

/// The outcome of a sweep.
#[derive(Debug)]
pub(super) struct Swept<T> {
    /// In ascending order, the first at the lowest value.
    pub(super) stretches: Vec<Stretch<T>>,
    /// The conditions that hold in each class, ascending.
    pub(super) classes: Vec<Vec<u32>>,
}

/// A value that can be counted up.
pub(super) trait Value: Copy + Ord {
    const LOWEST: Self;
    fn next(self) -> Option<Self>;
}

macro_rules! value {
    ($($type:ty),*) => {$(
        impl Value for $type {
            const LOWEST: Self = 0;
            fn next(self) -> Option<Self> { self.checked_add(1) }
        }
    )*};
}
value!(u32, u128);

/// Sweeps over the conditions' ranges. The ranges of one condition may overlap.
pub(super) fn sweep<T: Value>(conditions: &[Vec<Range<T>>]) -> Swept<T> {
    let mut edges: Vec<(T, u32, bool)> = Vec::new();
    for (condition, ranges) in conditions.iter().enumerate() {
        let ranges = merged(ranges);
        edges.reserve(2 * ranges.len());
        for (first, last) in ranges {
            edges.push((first, condition as u32, true));
            if let Some(end) = last.next() {
                edges.push((end, condition as u32, false));
            }
        }
    }
    // Each condition's edges are in order already: the stable sort finds that and merges.
    edges.sort_by_key(|edge| edge.0);
    let mut active = Active::default();
    // The classes are told apart by a sum of a random-looking word per condition, so that a class
    // met before costs no comparison of sets.
    let mut known: HashMap<u128, usize, BuildHasherDefault<Sum>> = HashMap::default();
    let mut swept = Swept {
        stretches: Vec::with_capacity(edges.len() + 1),
        classes: Vec::new(),
    };
    let mut at = T::LOWEST;
    let mut index = 0;
    loop {
        while let Some(&(start, condition, begins)) = edges.get(index)
            && start == at
        {
            active.change(condition, begins);
            index += 1;
        }
        let class = *known.entry(active.sum).or_insert_with(|| {
            swept.classes.push(active.sorted());
            swept.classes.len() - 1
        });
        if swept
            .stretches
            .last()
            .is_none_or(|last| last.class != class)
        {
            swept.stretches.push(Stretch { start: at, class });
        }
        match edges.get(index) {
            Some(edge) => at = edge.0,
            None => return swept,
        }
    }
}

/// The conditions that hold, in no order, and where each stands.
#[derive(Default)]
struct Active {
    conditions: Vec<u32>,
    places: Vec<u32>,
    sum: u128,
}

impl Active {
    fn change(&mut self, condition: u32, begins: bool) {
        let slot = condition as usize;
        if begins {
            self.places.resize(self.places.len().max(slot + 1), 0);
            self.places[slot] = self.conditions.len() as u32;
            self.conditions.push(condition);
            self.sum = self.sum.wrapping_add(label(condition));
        } else {
            let place = self.places[slot] as usize;
            self.conditions.swap_remove(place);
            if let Some(&moved) = self.conditions.get(place) {
                self.places[moved as usize] = place as u32;
            }
            self.sum = self.sum.wrapping_sub(label(condition));
        }
    }

    fn sorted(&self) -> Vec<u32> {
        let mut sorted = self.conditions.clone();
        sorted.sort_unstable();
        sorted
    }
}

/// A sum of labels is as good as a hash of it.
#[derive(Default)]
struct Sum(u64);

impl Hasher for Sum {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, sum: u128) {
        self.0 = sum as u64 ^ (sum >> 64) as u64;
    }
}

/// Ranges without overlap, ascending.
pub(super) fn merged<T: Value>(ranges: &[Range<T>]) -> Vec<Range<T>> {
    let mut sorted = ranges.to_vec();
    if !sorted.is_sorted() {
        sorted.sort_unstable();
    }
    let mut merged: Vec<Range<T>> = Vec::with_capacity(sorted.len());
    for (first, last) in sorted {
        match merged.last_mut() {
            Some(previous) if previous.1.next().is_none_or(|end| first <= end) => {
                previous.1 = previous.1.max(last);
            }
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// A word per condition whose sums over different sets differ but for a chance of 2^-128.
pub(super) fn label(condition: u32) -> u128 {
    let mix = |word: u64| {
        let word = (word ^ word >> 31).wrapping_mul(0x7fb5_d329_728e_a185);
        let word = (word ^ word >> 27).wrapping_mul(0x81da_def4_bc2d_d44d);
        word ^ word >> 33
    };
    let seed = u64::from(condition) + 1;
    u128::from(mix(seed)) << 64 | u128::from(mix(seed ^ 0x5851_f42d_4c95_7f2d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_begin_at_the_lowest_value_and_name_what_holds() {
        let swept = sweep::<u32>(&[vec![(10, 19)], vec![(15, 30), (16, 18)]]);
        let named: Vec<(u32, Vec<u32>)> = swept
            .stretches
            .iter()
            .map(|s| (s.start, swept.classes[s.class].clone()))
            .collect();
        assert_eq!(
            named,
            [
                (0, vec![]),
                (10, vec![0]),
                (15, vec![0, 1]),
                (20, vec![1]),
                (31, vec![]),
            ]
        );
    }

    #[test]
    fn a_range_up_to_the_highest_value_has_no_end() {
        let swept = sweep::<u32>(&[vec![(u32::MAX, u32::MAX)]]);
        assert_eq!(swept.stretches.len(), 2);
        assert_eq!(swept.classes[swept.stretches[1].class], [0]);
    }

    #[test]
    fn adjacent_ranges_of_one_condition_are_one_stretch() {
        let swept = sweep::<u128>(&[vec![(0, 9), (10, 20)]]);
        assert_eq!(swept.stretches.len(), 2);
    }
}
