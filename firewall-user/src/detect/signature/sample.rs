//! Samples of bounded size from streams without end.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Specimen;
use crate::detect::Time;

/// A sample of at most so many packets, from which the share of any kind of packets can be estimated
/// without bias: priority sampling (N. Duffield, C. Lund, M. Thorup, "Priority sampling for estimation of
/// arbitrary subset sums", Journal of the ACM 54, 2007). With a half-life, what is older counts for
/// less (G. Cormode and others, "Forward decay", ICDE 2009).
#[derive(Clone, Debug)]
pub struct Reservoir {
    size: usize,
    /// Per nanosecond, of the logarithm of weights.
    growth: f64,
    kept: BinaryHeap<Kept>,
    /// Those of `kept`, by their place: a heap moves its entries about.
    specimens: Vec<Specimen>,
    /// The highest priority that was let go, as a logarithm.
    threshold: f64,
    random: u64,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Logarithms, so that years of growth fit.
    priority: f64,
    weight: f64,
    /// In [`Reservoir::specimens`].
    place: u32,
}

impl Reservoir {
    /// A sample of everything alike.
    pub fn new(size: usize) -> Self {
        Self::build(size, 0.0)
    }

    /// A sample in which what is older by `half_life` counts half.
    pub fn fading(size: usize, half_life: Time) -> Self {
        Self::build(size, std::f64::consts::LN_2 / half_life as f64)
    }

    fn build(size: usize, growth: f64) -> Self {
        Self {
            size,
            growth,
            kept: BinaryHeap::new(),
            specimens: Vec::new(),
            threshold: f64::NEG_INFINITY,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    pub fn add(&mut self, specimen: Specimen) {
        if specimen.weight <= 0.0 {
            return;
        }
        let weight = specimen.weight.ln() + self.growth * specimen.time as f64;
        let priority = weight - self.uniform().ln();
        let mut kept = Kept {
            priority,
            weight,
            place: self.specimens.len() as u32,
        };
        if self.kept.len() < self.size {
            self.specimens.push(specimen);
            self.kept.push(kept);
            return;
        }
        let Some(mut least) = self.kept.peek_mut() else {
            return;
        };
        self.threshold = self.threshold.max(least.priority.min(priority));
        if priority > least.priority {
            kept.place = least.place;
            self.specimens[kept.place as usize] = specimen;
            *least = kept;
        }
    }

    /// What the packets kept stand for that `wanted` picks, while nothing fades.
    pub fn weight(&self, wanted: impl Fn(&Specimen) -> bool) -> f64 {
        let picked = self
            .kept
            .iter()
            .filter(|kept| wanted(&self.specimens[kept.place as usize]));
        picked
            .map(|kept| kept.weight.max(self.threshold).exp())
            .sum()
    }

    /// The sample as of `now`, each with the weight that it stands for.
    pub fn specimens(&self, now: Time) -> Vec<Specimen> {
        let faded = self.growth * now as f64;
        let kept = self.kept.iter().map(|kept| Specimen {
            weight: (kept.weight.max(self.threshold) - faded).exp(),
            ..self.specimens[kept.place as usize]
        });
        kept.collect()
    }

    pub fn len(&self) -> usize {
        self.kept.len()
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// A number above 0 and up to 1 (Marsaglia's xorshift): the same stream gives the same sample.
    fn uniform(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

// The heap gives its greatest first; the lowest priority is to go first.
impl Ord for Kept {
    fn cmp(&self, other: &Self) -> Ordering {
        other.priority.total_cmp(&self.priority)
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Kept {}

#[cfg(test)]
mod tests {
    use firewall_common::packet::Packet;
    use firewall_common::signature::Number;

    use super::*;

    fn specimen(time: Time, weight: f64, ttl: u8) -> Specimen {
        let packet = Packet {
            ttl,
            ..Packet::default()
        };
        Specimen::new(time, weight, &packet, &[])
    }

    fn share(sample: &[Specimen], ttl: u32) -> f64 {
        let total: f64 = sample.iter().map(|specimen| specimen.weight).sum();
        let with = sample
            .iter()
            .filter(|specimen| specimen.number(Number::Ttl) == ttl);
        with.map(|specimen| specimen.weight).sum::<f64>() / total
    }

    #[test]
    fn what_fits_is_kept_with_its_weight() {
        let mut reservoir = Reservoir::new(8);
        for weight in 1..=5 {
            reservoir.add(specimen(0, f64::from(weight), 1));
        }
        let total: f64 = reservoir.specimens(0).iter().map(|s| s.weight).sum();
        assert!((total - 15.0).abs() < 1e-9);
    }

    #[test]
    fn shares_survive_the_sampling_of_unequal_weights() {
        let mut reservoir = Reservoir::new(500);
        for number in 0..50_000_u32 {
            let heavy = number % 10 == 0;
            reservoir.add(specimen(
                0,
                if heavy { 9.0 } else { 1.0 },
                if heavy { 1 } else { 2 },
            ));
        }
        assert_eq!(reservoir.len(), 500);
        let sample = reservoir.specimens(0);
        let total: f64 = sample.iter().map(|specimen| specimen.weight).sum();
        assert!((total / 90_000.0 - 1.0).abs() < 0.1, "{total}");
        assert!((share(&sample, 1) - 0.5).abs() < 0.07);
    }

    #[test]
    fn what_is_older_by_a_half_life_counts_half() {
        const HOUR: Time = 3_600_000_000_000;
        let start = 500_000 * HOUR;
        let mut reservoir = Reservoir::fading(1_000, HOUR);
        for number in 0..100_000_u64 {
            let later = number >= 50_000;
            let time = start + if later { HOUR } else { 0 };
            reservoir.add(specimen(time, 1.0, if later { 1 } else { 2 }));
        }
        let sample = reservoir.specimens(start + HOUR);
        assert!((share(&sample, 1) - 2.0 / 3.0).abs() < 0.06);
    }
}
