//! One bucket: what a packet does to it.

use super::{Limit, ticks};

/// What came of taking something out of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was there; the bucket will be full again at this time.
    Within(u64),
    /// It was not. Nothing changes.
    Over,
    /// It was not, and the bucket was further behind than it can be: from now on it is empty, and
    /// will be full again at this time.
    OverAnew(u64),
}

/// Clocks of different CPUs may differ by this many ticks without meaning anything (1 ms).
const CLOCK_SLACK: u64 = ticks(1_000_000);

impl Limit {
    /// Takes `cost` ticks' worth out of the bucket that will be full at `full`.
    ///
    /// What is larger than the whole bucket waits until the bucket is full and leaves a debt, so
    /// that it passes at the right rate, and not never.
    #[inline(always)]
    pub fn take(&self, full: u64, now: u64, cost: u64) -> Taken {
        let owed = owed(full, now);
        if owed > self.ceiling.wrapping_add(CLOCK_SLACK) {
            return Taken::OverAnew(now.wrapping_add(self.depth));
        }
        let wanted = if cost < self.depth { cost } else { self.depth };
        if owed + wanted > self.depth {
            return Taken::Over;
        }
        Taken::Within(now.wrapping_add(owed).wrapping_add(cost))
    }

    /// Ticks that an empty bucket takes to be full.
    pub const fn depth(&self) -> u64 {
        self.depth
    }
}

/// How far a bucket is from full.
#[inline(always)]
pub(super) const fn owed(full: u64, now: u64) -> u64 {
    let ahead = full.wrapping_sub(now);
    if ahead as i64 > 0 { ahead } else { 0 }
}
