//! The heaviest of many, in constant memory: counters that a newcomer takes over from the lightest, with its
//! count (Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements in
//! data streams", 2005). What makes up more than a `CAPACITY`th of all is never missed; a count may be too high by
//! what was taken over.

/// Counters.
const CAPACITY: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Heavy<K> {
    /// Few enough to be looked through; apart from their counts, of which the least is found many at a time.
    keys: Vec<K>,
    counts: Vec<u64>,
}

impl<K> Default for Heavy<K> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            counts: Vec::new(),
        }
    }
}

impl<K: Copy + Ord> Heavy<K> {
    pub fn add(&mut self, key: K, weight: u64) {
        let place = self.keys.iter().position(|known| *known == key);
        if let Some(place) = place {
            self.counts[place] = self.counts[place].saturating_add(weight);
        } else if self.keys.len() < CAPACITY {
            self.keys.push(key);
            self.counts.push(weight);
        } else if let Some(lightest) = self.lightest() {
            self.keys[lightest] = key;
            self.counts[lightest] = self.counts[lightest].saturating_add(weight);
        }
    }

    /// Where the lightest is, of equals the one with the least key.
    fn lightest(&self) -> Option<usize> {
        let least = self
            .counts
            .iter()
            .fold(u64::MAX, |least, count| least.min(*count));
        let places = 0..self.counts.len();
        places
            .filter(|place| self.counts[*place] == least)
            .min_by_key(|place| self.keys[*place])
    }

    /// The `most` heaviest, the heaviest first.
    pub fn top(&self, most: usize) -> Vec<(K, u64)> {
        let keys = self.keys.iter().copied();
        let mut all: Vec<(K, u64)> = keys.zip(self.counts.iter().copied()).collect();
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
