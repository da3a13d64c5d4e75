//! How long the daemon's own work takes: the latest few hundred rounds, so that a slow one is seen and a
//! slow start is forgotten.

use std::collections::VecDeque;
use std::time::Duration;

/// Rounds that are remembered: a minute of them.
const REMEMBERED: usize = 240;

/// The durations of the latest rounds.
#[derive(Clone, Debug, Default)]
pub struct Stopwatch {
    latest: VecDeque<Duration>,
}

impl Stopwatch {
    /// The shares of rounds for which [`Self::quantiles`] tells how long they took at most.
    pub const SHARES: [f64; 3] = [0.5, 0.99, 1.0];

    pub fn note(&mut self, took: Duration) {
        if self.latest.len() == REMEMBERED {
            self.latest.pop_front();
        }
        self.latest.push_back(took);
    }

    /// Seconds that the shares of [`Self::SHARES`] took at most; zeros before the first round.
    pub fn quantiles(&self) -> [f64; 3] {
        let mut sorted: Vec<Duration> = self.latest.iter().copied().collect();
        sorted.sort_unstable();
        Self::SHARES.map(|share| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            let found = sorted.get(rank.saturating_sub(1));
            found.map_or(0.0, Duration::as_secs_f64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_latest_rounds_only() {
        let mut stopwatch = Stopwatch::default();
        assert_eq!(stopwatch.quantiles(), [0.0; 3]);
        stopwatch.note(Duration::from_secs(100));
        for milliseconds in 1..=240 {
            stopwatch.note(Duration::from_millis(milliseconds));
        }
        assert_eq!(stopwatch.quantiles(), [0.120, 0.238, 0.240]);
    }
}
