//! How rare a signal's value is, learned from the signal itself.
//!
//! A histogram with logarithmic bins that forgets exponentially (as in DDSketch: Masson, Rim, Lee, VLDB 2019)
//! gives a high quantile; beyond it the tail is taken for a power law whose exponent is estimated by the mean
//! logarithmic excess (Hill, Annals of Statistics 1975). Peaks over a threshold judge streams so in Siffer
//! et al., KDD 2017. A prior keeps a short history from claiming to know the tail.

use serde::{Deserialize, Serialize};

const BINS: usize = 44;
/// The lowest bin's upper edge and a bin's width, as natural logarithms: bins reach from 0.22 to 140.
const LOWEST: f64 = -1.5;
const WIDTH: f64 = 0.15;
/// What lies above this share of the values is the tail.
const QUANTILE: f64 = 0.985;
/// The tail begins no lower: what deviates by less than a scale and a half is not strange, however constant a series is.
const LEAST_THRESHOLD: f64 = 1.6;
/// Before anything is known.
const FIRST_THRESHOLD: f64 = 3.0;
/// Rows that the prior for the quantile is worth.
const PRIOR_ROWS: f64 = 100.0;
/// The mean logarithmic excess of the prior, the exceedances that it is worth, and the least that is believed.
const PRIOR_EXCESS: f64 = 0.1;
const PRIOR_EXCEEDANCES: f64 = 6.0;
const LEAST_EXCESS: f64 = 0.24;
/// Rarer values are not told from one another; as a power of ten.
const RAREST: f64 = 12.0;
/// What is rarer is doubted: it counts as if it were not, and only this much.
const UNHEARD_OF: f64 = 4.0;
const DOUBTED: f64 = 0.03;
/// The quantile moves slowly: it is worked out once in so many rows.
const UPDATE_EVERY: u32 = 8;
/// Weights grow instead of all bins shrinking; beyond this all are scaled back.
const HEAVIEST: f64 = 1e6;

/// The learned distribution of one signal, which is at least 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Tail {
    bins: Vec<f64>,
    total: f64,
    /// What one row counts now.
    weight: f64,
    threshold: f64,
    excess: f64,
    since_update: u32,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            bins: vec![0.0; BINS],
            total: 0.0,
            weight: 1.0,
            threshold: FIRST_THRESHOLD,
            excess: PRIOR_EXCESS,
            since_update: 0,
        }
    }
}

impl Tail {
    /// Whether it can be calculated with: what was read from a file may be anything.
    pub fn is_sound(&self) -> bool {
        self.bins.len() == BINS
            && self.bins.iter().all(|bin| bin.is_finite() && *bin >= 0.0)
            && self.total.is_finite()
            && (1.0..=HEAVIEST * 2.0).contains(&self.weight)
            && self.threshold.is_finite()
            && self.threshold > 0.0
            && self.excess.is_finite()
            && self.excess > 0.0
    }

    /// How rare `value` is: the negative decimal logarithm of its probability, 0 below the tail.
    pub fn rarity(&self, value: f64) -> f64 {
        if value <= self.threshold {
            return 0.0;
        }
        let excess = (value / self.threshold).ln();
        (tail_rarity() + excess / self.excess * std::f64::consts::LOG10_E).min(RAREST)
    }

    /// The value that is exceeded with probability 10^-`rarity`.
    pub fn value_at(&self, rarity: f64) -> f64 {
        let beyond = (rarity - tail_rarity()).max(0.0);
        self.threshold * (beyond * std::f64::consts::LN_10 * self.excess).exp()
    }

    /// Learns a value; `forget` is the share of the past that fades meanwhile, `share` how much the row counts.
    pub fn learn(&mut self, value: f64, share: f64, forget: f64) {
        self.weight *= 1.0 + forget;
        let bin = ((value.max(f64::MIN_POSITIVE).ln() - LOWEST) / WIDTH).ceil();
        // Saturates below 0; a value beyond the last bin is counted there.
        let bin = (bin as usize).min(BINS - 1);
        self.bins[bin] += self.weight * share;
        self.total += self.weight * share;
        if self.weight > HEAVIEST {
            let weight = std::mem::replace(&mut self.weight, 1.0);
            self.fade(1.0 / weight);
        }
        self.since_update += 1;
        if self.since_update >= UPDATE_EVERY {
            self.since_update = 0;
            self.update();
        }
    }

    /// Learns a value, but little of one that is unheard of: an attack stays out of the range.
    pub fn learn_warily(&mut self, value: f64, share: f64, forget: f64) {
        let limit = self.value_at(UNHEARD_OF);
        if value > limit {
            self.learn(limit, share * DOUBTED, forget);
        } else {
            self.learn(value, share, forget);
        }
    }

    /// Lets the past count only a share of what it did.
    pub fn fade(&mut self, share: f64) {
        for bin in &mut self.bins {
            *bin *= share;
        }
        self.total *= share;
    }

    fn update(&mut self) {
        let allowed = (1.0 - QUANTILE) * (self.total + PRIOR_ROWS * self.weight);
        let floor = ((LEAST_THRESHOLD.ln() - LOWEST) / WIDTH).ceil() as usize;
        let (mut above, mut logarithms) = (0.0, 0.0);
        let mut edge = BINS - 1;
        while edge > floor + 1 && above + self.bins[edge] <= allowed {
            above += self.bins[edge];
            logarithms += self.bins[edge] * (LOWEST + (edge as f64 - 0.5) * WIDTH);
            edge -= 1;
        }
        let threshold = LOWEST + edge as f64 * WIDTH;
        let exceedances = above / self.weight;
        let mean = if above > 0.0 {
            logarithms / above - threshold
        } else {
            0.0
        };
        let known = exceedances + PRIOR_EXCEEDANCES;
        let excess = (exceedances * mean + PRIOR_EXCEEDANCES * PRIOR_EXCESS) / known;
        self.excess = excess.max(LEAST_EXCESS);
        self.threshold = threshold.exp();
    }
}

/// The rarity at which the tail begins.
fn tail_rarity() -> f64 {
    -(1.0 - QUANTILE).log10()
}
