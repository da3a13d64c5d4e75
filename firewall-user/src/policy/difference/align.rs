//! Which rules two lists have in common, in the same order.

use std::collections::HashMap;
use std::hash::Hash;

/// For each element of both lists, whether it is one of a long common subsequence. Elements that occur
/// once in each list and keep their order are all found (patience difference); with repetitions
/// the subsequence may be shorter than the longest.
pub(super) fn common<T: Eq + Hash>(old: &[T], new: &[T]) -> (Vec<bool>, Vec<bool>) {
    let mut places: HashMap<&T, Vec<usize>> = HashMap::new();
    for (index, element) in new.iter().enumerate() {
        places.entry(element).or_default().push(index);
    }
    // The first of a kind goes with the first of the same kind, and so on.
    let mut used: HashMap<&T, usize> = HashMap::new();
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (index, element) in old.iter().enumerate() {
        let times = used.entry(element).or_default();
        if let Some(place) = places.get(element).and_then(|places| places.get(*times)) {
            pairs.push((index, *place));
            *times += 1;
        }
    }
    let (mut in_old, mut in_new) = (vec![false; old.len()], vec![false; new.len()]);
    for index in longest_ascending(&pairs) {
        in_old[pairs[index].0] = true;
        in_new[pairs[index].1] = true;
    }
    (in_old, in_new)
}

/// Indices of a longest run of pairs whose second parts ascend (Schensted 1961).
fn longest_ascending(pairs: &[(usize, usize)]) -> Vec<usize> {
    // By length less one: the pair with the least second part that ends a run so long.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (index, (_, second)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|end| pairs[*end].1 < *second);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        if length == ends.len() {
            ends.push(index);
        } else {
            ends[length] = index;
        }
    }
    let mut run: Vec<usize> =
        std::iter::successors(ends.last().copied(), |last| before[*last]).collect();
    run.reverse();
    run
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept<'t>(list: &'t [u8], common: &[bool]) -> Vec<&'t u8> {
        let kept = list.iter().zip(common).filter(|(_, common)| **common);
        kept.map(|(element, _)| element).collect()
    }

    #[test]
    fn what_stays_in_order_is_common_and_what_moved_is_not() {
        let (old, new) = ([1, 2, 3, 4, 5], [1, 5, 2, 3, 6, 4]);
        let (in_old, in_new) = common(&old, &new);
        assert_eq!(kept(&old, &in_old), [&1, &2, &3, &4]);
        assert_eq!(kept(&new, &in_new), [&1, &2, &3, &4]);
    }

    proptest! {
        #[test]
        fn the_common_elements_are_the_same_in_both(
            old in prop::collection::vec(0..9_u8, 0..20),
            new in prop::collection::vec(0..9_u8, 0..20),
        ) {
            let (in_old, in_new) = common(&old, &new);
            prop_assert_eq!(kept(&old, &in_old), kept(&new, &in_new));
        }
    }
}
