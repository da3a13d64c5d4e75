//! What share of a population a sample speaks for, and how far that can be trusted.

use serde::{Deserialize, Serialize};

/// The one-sided 95 % quantile of the normal distribution.
const Z: f64 = 1.645;

/// A share estimated from a weighted sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// As the sample has it.
    pub share: f64,
    /// With 95 % confidence it is no more.
    pub at_most: f64,
    /// And no less.
    pub at_least: f64,
    /// The size of an unweighted sample that tells as much.
    pub sample: f64,
}

impl Share {
    /// Of a sample with these sums of weights and of their squares, `hit` of the weight. The interval
    /// is Wilson's ("Probable inference, the law of succession, and statistical inference", 1927),
    /// which stays honest where nothing or everything was hit; a sample of unequal weights is
    /// as good as (sum of weights)² / (sum of squares) equal ones (Kish, "Survey Sampling", 1965).
    pub fn of(hit: f64, total: f64, squares: f64) -> Self {
        if total <= 0.0 {
            return Self {
                share: 0.0,
                at_most: 1.0,
                at_least: 0.0,
                sample: 0.0,
            };
        }
        let sample = total * total / squares;
        let share = (hit / total).clamp(0.0, 1.0);
        let square = Z * Z;
        let centre = share + square / (2.0 * sample);
        let spread = Z * ((share * (1.0 - share) + square / (4.0 * sample)) / sample).sqrt();
        let scale = 1.0 + square / sample;
        Self {
            share,
            at_most: ((centre + spread) / scale).min(1.0),
            at_least: ((centre - spread) / scale).max(0.0),
            sample,
        }
    }
}

/// What a condition tells about whether a packet belongs to the flood, in bits, when as many do as do
/// not: `attack` and `ordinary` are the shares of either that meet it.
pub fn information(attack: f64, ordinary: f64) -> f64 {
    let entropy = |share: f64| {
        let term = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
        term(share) + term(1.0 - share)
    };
    entropy((attack + ordinary) / 2.0) - (entropy(attack) + entropy(ordinary)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_sample_does_not_promise_nothing() {
        let few = Share::of(0.0, 20.0, 20.0);
        assert_eq!(few.share, 0.0);
        assert!(few.at_most > 0.1, "{few:?}");
        let many = Share::of(0.0, 1_000.0, 1_000.0);
        assert!(many.at_most < 0.003, "{many:?}");
        assert_eq!(Share::of(0.0, 0.0, 0.0).at_most, 1.0);
    }

    #[test]
    fn a_few_heavy_packets_count_as_a_small_sample() {
        let heavy = Share::of(0.0, 1_000.0, 10.0 * 100.0 * 100.0);
        assert_eq!(heavy.sample, 10.0);
    }

    #[test]
    fn the_interval_covers_the_share() {
        for (hit, total) in [(1.0, 10.0), (5.0, 10.0), (10.0, 10.0), (30.0, 3_000.0)] {
            let share = Share::of(hit, total, total);
            assert!(share.at_least <= share.share && share.share <= share.at_most);
        }
    }

    #[test]
    fn what_all_of_one_and_none_of_the_other_have_tells_one_bit() {
        assert_eq!(information(1.0, 0.0), 1.0);
        assert_eq!(information(0.3, 0.3), 0.0);
        assert!(information(0.9, 0.1) > information(0.9, 0.3));
    }
}
