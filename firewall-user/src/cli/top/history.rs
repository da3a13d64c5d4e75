//! Packets by verdict over the last minutes.

use std::collections::VecDeque;

use crate::daemon::documents::TotalDocument;

/// Seconds that a point of the series stands for.
pub const STEP: f64 = 3.0;
/// Points that are kept: ten minutes.
const KEPT: usize = 200;

/// Two series of rates, by the verdict.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub passed: Series,
    pub dropped: Series,
}

impl History {
    /// Takes in the totals as they are `at` so many seconds.
    pub fn add(&mut self, at: f64, totals: &[TotalDocument]) {
        let sum = |verdict: &str| {
            let totals = totals.iter().filter(|total| total.verdict == verdict);
            totals.map(|total| total.packets).sum()
        };
        self.passed.add(at, sum("pass"));
        self.dropped.add(at, sum("drop"));
    }
}

/// A growing count as a series of rates.
#[derive(Clone, Debug, Default)]
pub struct Series {
    latest: Option<(f64, u64)>,
    /// Per second, between the latest two counts.
    pub now: f64,
    /// Packets of each step, the latest last.
    steps: VecDeque<f64>,
    /// Which step the last of them is.
    step: u64,
}

impl Series {
    fn add(&mut self, at: f64, count: u64) {
        let step = (at / STEP).max(0.0) as u64;
        if let Some((before, earlier)) = self.latest {
            // Fewer than before: counted anew since.
            let more = count.checked_sub(earlier).unwrap_or(count) as f64;
            if at > before {
                self.now = more / (at - before);
            }
            // Steps in which nobody looked share what came meanwhile.
            let passed = step.saturating_sub(self.step).min(KEPT as u64);
            let share = more / passed.max(1) as f64;
            for _ in 0..passed {
                self.steps.push_back(share);
            }
            if passed == 0 {
                match self.steps.back_mut() {
                    Some(last) => *last += more,
                    None => self.steps.push_back(more),
                }
            }
            while self.steps.len() > KEPT {
                self.steps.pop_front();
            }
        }
        self.step = step;
        self.latest = Some((at, count));
    }

    /// The latest `most` points as rates per second, the latest last. The step under way is none yet.
    pub fn points(&self, most: usize) -> Vec<u64> {
        let whole = self.steps.len().saturating_sub(1);
        let skipped = whole.saturating_sub(most);
        let points = self.steps.iter().take(whole).skip(skipped);
        points
            .map(|packets| (packets / STEP).round() as u64)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_count_is_a_level_series_and_a_pause_leaves_no_spike() {
        let mut series = Series::default();
        for second in 0..12 {
            series.add(
                f64::from(second),
                u64::try_from(second).expect("small") * 50,
            );
        }
        assert_eq!(series.now, 50.0);
        assert_eq!(series.points(9)[1..], [50, 50]);
        // Nobody looked for half a minute.
        series.add(42.0, 42 * 50);
        let points = series.points(99);
        assert!(points.iter().all(|point| *point <= 60), "{points:?}");
        assert_eq!(series.now, 50.0);
    }

    #[test]
    fn a_count_that_began_anew_is_no_huge_number() {
        let mut series = Series::default();
        series.add(0.0, 1_000_000);
        series.add(1.0, 30);
        assert_eq!(series.now, 30.0);
    }

    #[test]
    fn the_series_is_bounded() {
        let mut series = Series::default();
        for second in 0..10_000_u32 {
            series.add(f64::from(second), 0);
        }
        assert_eq!(series.points(usize::MAX).len(), KEPT - 1);
        assert_eq!(series.points(7).len(), 7);
    }
}
