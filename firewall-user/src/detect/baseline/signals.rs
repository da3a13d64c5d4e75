//! What may be out of the ordinary about a value: its height, its suddenness, how long it lasts, how restless
//! the series is. Each aspect is measured in scales and judged by its own history, upwards and downwards apart.
//!
//! A consensus counts: power means of the parts' rarities, so that what is strange in several respects stands out from what
//! is strange in one (score combination of an ensemble: Aggarwal, Sathe, Outlier Ensembles, 2017).

use serde::{Deserialize, Serialize};

use super::season::Usual;
use super::tail::Tail;

/// Aspects, of which each has two sides.
const ASPECTS: usize = 6;
/// How much each says, in the order of [`Signals::measure`].
const WEIGHTS: [f64; ASPECTS] = [1.0, 1.0, 1.0, 1.2, 1.2, 1.0];
/// Share of the newest row in the short mean, the long mean, and the restlessness.
const SHORT: f64 = 0.4;
const LONG: f64 = 0.03;
const RESTLESSNESS: f64 = 0.03;
/// Means of deviations do not go beyond this many scales: one spike must not echo in them.
const MEAN_LIMIT: f64 = 8.0;
/// A step between two rows counts at most this many scales as restlessness.
const STEP_LIMIT: f64 = 6.0;
/// What keeps a quotient finite.
const TINY: f64 = 1e-9;
/// The past fades over so many seconds, but by no more than this share in a row.
const MEMORY: f64 = 20.0 * 86_400.0;
const FASTEST: f64 = 0.001;

/// The learned aspects of one series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Signals {
    short: f64,
    long: f64,
    restlessness: f64,
    tails: Vec<Tail>,
    /// How far up and down the series reaches, attacks apart.
    reach: [Tail; 2],
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            short: 0.0,
            long: 0.0,
            restlessness: 1.0,
            tails: vec![Tail::default(); 2 * ASPECTS],
            reach: [Tail::default(), Tail::default()],
        }
    }
}

/// A value in all its aspects, each upwards and downwards.
pub(super) type Aspects = [f64; 2 * ASPECTS];

impl Signals {
    /// Whether it can be calculated with: what was read from a file may be anything.
    pub fn is_sound(&self) -> bool {
        let numbers = [self.short, self.long, self.restlessness];
        self.tails.len() == 2 * ASPECTS
            && numbers.iter().all(|number| number.is_finite())
            && self.tails.iter().chain(&self.reach).all(Tail::is_sound)
    }

    /// The mean deviation of the last hours, in scales.
    pub fn lasting(&self) -> f64 {
        self.long
    }

    /// How far `rarity` reaches below and above what is usual, in scales.
    pub fn reach(&self, rarity: f64) -> (f64, f64) {
        let [up, down] = &self.reach;
        (down.value_at(rarity), up.value_at(rarity))
    }

    /// Measures a value and takes it into the means.
    pub fn measure(&mut self, value: f64, usual: &Usual) -> Aspects {
        let error = value - usual.middle;
        let deviation = error / (usual.scale + usual.floor + TINY);
        let step = deviation - self.short;
        let short = self.short + SHORT * step;
        let long = self.long + LONG * (deviation - self.long);
        self.restlessness += RESTLESSNESS * (step.abs().min(STEP_LIMIT) - self.restlessness);
        let aspects = [
            deviation,
            step,
            2.0 * short,
            4.0 * long,
            error / (usual.overall_scale + usual.floor + TINY),
        ];
        self.short = short.clamp(-MEAN_LIMIT, MEAN_LIMIT);
        self.long = long.clamp(-MEAN_LIMIT, MEAN_LIMIT);
        let mut sides = [0.0; 2 * ASPECTS];
        for (index, aspect) in aspects.into_iter().enumerate() {
            sides[2 * index] = aspect.max(0.0);
            sides[2 * index + 1] = (-aspect).max(0.0);
        }
        // Restless, and at rest: a series that has stopped to move is strange too.
        sides[2 * ASPECTS - 2] = 4.0 * self.restlessness;
        sides[2 * ASPECTS - 1] = (4.0 / (self.restlessness + 0.1) - 2.0).max(0.0);
        sides
    }

    /// How rare all aspects are together, in powers of ten; 0 is ordinary.
    pub fn rarity(&self, aspects: &Aspects) -> f64 {
        let (mut sum, mut weights) = (0.0, 0.0);
        for (aspect, weight) in WEIGHTS.into_iter().enumerate() {
            let side = |side: usize| self.tails[side].rarity(aspects[side]);
            let rarity = side(2 * aspect).max(side(2 * aspect + 1));
            sum += (rarity * weight).sqrt();
            weights += weight.sqrt();
        }
        (sum / weights).powi(2)
    }

    /// Learns how usual the aspects are.
    pub fn learn(&mut self, aspects: &Aspects, share: f64, elapsed: f64) {
        let forget = (elapsed / MEMORY).min(FASTEST);
        for (tail, aspect) in self.tails.iter_mut().zip(aspects) {
            tail.learn(*aspect, share, forget);
        }
        for (tail, aspect) in self.reach.iter_mut().zip(aspects) {
            tail.learn_warily(*aspect, share, forget);
        }
    }

    /// Lets what was learned so far count only a share of what it did.
    pub fn fade(&mut self, share: f64) {
        for tail in self.tails.iter_mut().chain(&mut self.reach) {
            tail.fade(share);
        }
    }
}
