//! Which prefix lengths are banned: the short list that the decision goes through instead of
//! trying every length there is.

use std::collections::BTreeMap;

use firewall_common::layout::{BAN_LENGTH_WORDS, BAN_LENGTHS, BanKey};
use thiserror::Error;

/// How many bans there are of each length.
#[derive(Clone, Debug, Default)]
pub struct BanLengths {
    counts: [BTreeMap<u8, u64>; 2],
}

/// There is no room for one more prefix length.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "{BAN_LENGTHS} different prefix lengths are banned already; ban a prefix of one of those lengths"
)]
pub struct TooManyLengths;

impl BanLengths {
    /// Notes one more ban.
    pub fn add(&mut self, key: &BanKey) -> Result<(), TooManyLengths> {
        let (family, length) = place(key);
        let counts = &mut self.counts[family];
        if !counts.contains_key(&length) && counts.len() >= BAN_LENGTHS as usize {
            return Err(TooManyLengths);
        }
        *counts.entry(length).or_default() += 1;
        Ok(())
    }

    /// Notes one ban less.
    pub fn remove(&mut self, key: &BanKey) {
        let (family, length) = place(key);
        if let Some(count) = self.counts[family].get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.counts[family].remove(&length);
            }
        }
    }

    /// How many bans there are.
    pub fn total(&self) -> u64 {
        self.counts.iter().flat_map(BTreeMap::values).sum()
    }

    /// The list as the decision reads it.
    pub fn words(&self) -> [u64; BAN_LENGTH_WORDS as usize] {
        let mut words = [0; BAN_LENGTH_WORDS as usize];
        for (family, counts) in self.counts.iter().enumerate() {
            for (index, length) in counts.keys().rev().enumerate() {
                let word = family * words.len() / 2 + index / 8;
                words[word] |= u64::from(*length) << (index % 8 * 8);
            }
        }
        words
    }
}

/// Family and length as written.
fn place(key: &BanKey) -> (usize, u8) {
    if key.address.is_v4() && key.length >= 96 {
        (0, (key.length - 96) as u8)
    } else {
        (1, key.length as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ban_key;

    fn key(prefix: &str) -> BanKey {
        ban_key(prefix.parse().unwrap())
    }

    #[test]
    fn the_longest_length_of_each_family_comes_first() {
        let mut lengths = BanLengths::default();
        for prefix in [
            "198.51.100.0/24",
            "203.0.113.7/32",
            "2001:db8::/32",
            "2001:db8::1/128",
        ] {
            lengths.add(&key(prefix)).unwrap();
        }
        assert_eq!(
            lengths.words(),
            [32 | 24 << 8, 0, 0, 0, 128 | 32 << 8, 0, 0, 0]
        );
        lengths.remove(&key("203.0.113.7/32"));
        assert_eq!(lengths.words()[0], 24);
        assert_eq!(lengths.total(), 3);
    }

    #[test]
    fn a_thirty_third_length_is_refused() {
        let mut lengths = BanLengths::default();
        for length in 1..=32 {
            lengths.add(&key(&format!("::/{length}"))).unwrap();
        }
        assert_eq!(lengths.add(&key("::/33")), Err(TooManyLengths));
        assert_eq!(lengths.add(&key("::/32")), Ok(()));
    }
}
