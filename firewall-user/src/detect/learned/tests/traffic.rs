//! A month of a shop's traffic, made up: days and weeks, noise that is never quite independent, sales, holidays and outages.

use super::super::Counts;
use crate::detect::Time;

pub const SECOND: Time = 1_000_000_000;
pub const MINUTE: u64 = 60;
pub const HOUR: u64 = 3_600;
pub const DAY: u64 = 86_400;
/// A Thursday, 00:00.
pub const START: u64 = 1_799_971_200;
/// How often counts are read here, in seconds.
pub const TICK: u64 = 20;

/// Random numbers, the same ones for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to 1.
    pub fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Of mean 0 and variance 1, nearly Gaussian.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// A count with this mean.
    pub fn poisson(&mut self, mean: f64) -> f64 {
        if mean > 50.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0);
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.uniform(), 0.0);
        while product > limit {
            product *= self.uniform();
            count += 1.0;
        }
        count
    }
}

/// Something that happens to the traffic.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Seconds after [`START`].
    pub from: u64,
    pub to: u64,
    /// What the traffic is multiplied with at the height of it.
    pub factor: f64,
    /// Over how many seconds it grows and fades.
    pub ramp: u64,
}

impl Event {
    fn factor_at(&self, second: u64) -> f64 {
        if second < self.from || second >= self.to {
            return 1.0;
        }
        let from_edge = (second - self.from).min(self.to - 1 - second);
        let share = if self.ramp == 0 {
            1.0
        } else {
            (from_edge as f64 / self.ramp as f64).min(1.0)
        };
        // Growth is by a factor in each minute, as news spreads.
        self.factor.powf(share)
    }
}

/// The traffic of one service.
pub struct Service {
    dice: Dice,
    /// Connections per second at the busiest hour of a weekday.
    busiest: f64,
    weekend: f64,
    /// Of the weather, the market, the neighbours: wanders around 0.
    mood: f64,
}

impl Service {
    pub fn new(seed: u64, busiest: f64, weekend: f64) -> Self {
        Self {
            dice: Dice::new(seed),
            busiest,
            weekend,
            mood: 0.0,
        }
    }

    /// What comes in the [`TICK`] after `second`.
    pub fn tick(&mut self, second: u64, events: &[Event]) -> Counts {
        let hour = (second % DAY) as f64 / HOUR as f64;
        let weekday = (second / DAY) % 7;
        // Days 2 and 3 after a Thursday are the weekend.
        let week = if (2..4).contains(&weekday) {
            self.weekend
        } else {
            1.0
        };
        let evening = (-(hour - 20.0).powi(2) / 8.0).exp();
        let noon = (-(hour - 12.5).powi(2) / 18.0).exp();
        let day = 0.06 + 0.7 * noon + 0.6 * evening;
        self.mood += -self.mood / 180.0 + 0.012 * self.dice.normal();
        let happens: f64 = events.iter().map(|event| event.factor_at(second)).product();
        let mean = self.busiest * day * week * self.mood.exp() * happens * TICK as f64;
        // Visitors come in groups: variance is above that of independent ones.
        let crowd = (0.25 * self.dice.normal()).exp();
        let connections = self.dice.poisson(mean * crowd);
        let requests = self.dice.poisson(connections * 3.0);
        let packets = self.dice.poisson(requests * 12.0);
        let sources = self.dice.poisson(connections * 0.4);
        let size = 700.0 * (0.2 * self.dice.normal()).exp();
        [packets, packets * size, connections, requests, sources].map(Some)
    }
}
