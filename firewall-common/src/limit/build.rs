//! A limit from its terms, in exact arithmetic.

use core::fmt;

use super::{Limit, Per, TICK_SHIFT, Unit};

/// A limit as people state it: `rate` units every `seconds`, up to `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    pub rate: u64,
    pub seconds: u32,
    pub burst: u64,
}

/// Why terms cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Nothing would ever pass.
    NoRate,
    NoBurst,
    /// More per second than can be told apart.
    TooFast,
    /// Fewer bytes than one per second.
    TooSlow,
    /// An empty bucket would take longer than [`LONGEST`] to be full.
    TooDeep,
}

/// Highest rate of packets, connections and requests per second, and of bytes (400 Gbit/s).
const FASTEST: u64 = 100_000_000;
const FASTEST_BYTES: u64 = 50_000_000_000;
/// Seconds that an empty bucket may take to be full: 30 days.
const LONGEST: u64 = 30 * 86_400;
const SECOND: u128 = 1_000_000_000 << TICK_SHIFT;

impl Limit {
    /// The limit with these terms.
    pub fn new(terms: Terms, unit: Unit, per: Per) -> Result<Self, Unfit> {
        let Terms {
            rate,
            seconds,
            burst,
        } = terms;
        let per_second = rate / u64::from(seconds.max(1));
        if rate == 0 || seconds == 0 {
            return Err(Unfit::NoRate);
        }
        if burst == 0 {
            return Err(Unfit::NoBurst);
        }
        let fastest = if unit == Unit::Bytes {
            FASTEST_BYTES
        } else {
            FASTEST
        };
        if per_second > fastest {
            return Err(Unfit::TooFast);
        }
        if unit == Unit::Bytes && per_second == 0 {
            return Err(Unfit::TooSlow);
        }
        let period = SECOND * u128::from(seconds);
        let rate = u128::from(rate);
        let depth = (u128::from(burst) * period).div_ceil(rate);
        if depth > SECOND * u128::from(LONGEST) {
            return Err(Unfit::TooDeep);
        }
        // As many fractional bits as leave room for the largest frame.
        let mut shift = 32;
        while ((period << shift) / rate + 1) * u128::from(unit.most()) > u128::from(u64::MAX) {
            shift -= 1;
        }
        // Within 30 days' ticks, all of them fit; the factor is rounded to the nearest.
        let factor = ((period << shift) + rate / 2) / rate;
        let mut limit = Self {
            factor: factor as u64,
            shift,
            depth: depth as u64,
            ceiling: 0,
            unit,
            per,
        };
        if unit != Unit::Bytes {
            // So that exactly `burst` fit in, however a unit is rounded.
            limit.depth = limit.cost(1) * burst;
        }
        limit.ceiling = limit.depth.max(limit.cost(unit.most()));
        Ok(limit)
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoRate => "lets nothing through",
            Self::NoBurst => "has a burst of nothing",
            Self::TooFast => "is faster than can be measured",
            Self::TooSlow => "is slower than one byte a second",
            Self::TooDeep => "takes more than 30 days to gather its burst",
        })
    }
}

impl core::error::Error for Unfit {}
