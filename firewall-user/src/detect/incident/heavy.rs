//! The heaviest of many, in constant memory: counters that a newcomer takes over from the lightest, with its
//! count (Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements in
//! data streams", 2005). What makes up more than a `CAPACITY`th of all is never missed; a count may be too high by
//! what was taken over.

/// Counters.
const CAPACITY: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Heavy<K> {
    /// Few enough to be looked through.
    counts: Vec<(K, u64)>,
}

impl<K> Default for Heavy<K> {
    fn default() -> Self {
        Self { counts: Vec::new() }
    }
}

impl<K: Copy + Ord> Heavy<K> {
    pub fn add(&mut self, key: K, weight: u64) {
        if let Some((_, count)) = self.counts.iter_mut().find(|(known, _)| *known == key) {
            *count = count.saturating_add(weight);
            return;
        }
        if self.counts.len() < CAPACITY {
            self.counts.push((key, weight));
            return;
        }
        let lightest = self
            .counts
            .iter_mut()
            .min_by_key(|(key, count)| (*count, *key));
        if let Some(lightest) = lightest {
            *lightest = (key, lightest.1.saturating_add(weight));
        }
    }

    /// The `most` heaviest, the heaviest first.
    pub fn top(&self, most: usize) -> Vec<(K, u64)> {
        let mut all = self.counts.clone();
        all.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
        all.truncate(most);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heavy_are_found_among_ten_thousand_that_come_once() {
        let mut heavy = Heavy::default();
        for n in 0..10_000_u32 {
            heavy.add(1_000_000 + n, 1);
            if n % 4 == 0 {
                heavy.add(7, 3);
            }
            if n % 10 == 0 {
                heavy.add(8, 4);
            }
        }
        let top = heavy.top(2);
        assert_eq!(top.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [7, 8]);
        // Too high by at most an even share of everything.
        assert!((7_500..=7_500 + 21_500 / 64).contains(&top[0].1), "{top:?}");
        assert!(heavy.counts.len() <= CAPACITY);
    }
}
