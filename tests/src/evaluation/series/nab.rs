//! The scoring rules of the Numenta Anomaly Benchmark, standard profile: A. Lavin, S. Ahmad, Evaluating real-time anomaly
//! detection algorithms, ICMLA 2015, and the rules as its published scorer applies them.
//!
//! Each labelled window earns for its earliest detection, by a sigmoid over the position in the window; a window
//! without one costs 1; a detection outside of all windows costs up to 0.11, less soon after a window. The first
//! 15 % of the rows, at most 750, are not scored. One threshold serves all series: the best one, for every detector.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// What a detection outside of windows and a missed window cost; a detection earns up to 1.
const FALSE_POSITIVE: f64 = 0.11;
const FALSE_NEGATIVE: f64 = 1.0;
/// The rows that a detector may learn from unscored.
const PROBATION: f64 = 0.15;
const PROBATION_OF_AT_MOST: f64 = 5_000.0;

/// A row of a series that counts.
#[derive(Clone, Debug)]
pub struct Point {
    pub score: f64,
    /// What a detection here is worth.
    worth: f64,
    /// The window it lies in.
    window: Option<Window>,
}

/// A window: the series' number and its own in the series.
type Window = (usize, usize);

/// What came of one threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// The sum of all that was earned and lost.
    pub raw: f64,
    pub windows: usize,
    pub found: usize,
    pub false_alarms: usize,
}

impl Tally {
    /// From 0, what a detector that says nothing gets, to 100, a perfect one.
    pub fn normalised(&self) -> f64 {
        let windows = self.windows as f64;
        100.0 * (self.raw + windows * FALSE_NEGATIVE) / (windows * (1.0 + FALSE_NEGATIVE))
    }
}

/// The scored rows of series number `series`. Windows are of row numbers.
pub fn points(series: usize, scores: &[f64], windows: &[RangeInclusive<usize>]) -> Vec<Point> {
    let rows = scores.len() as f64;
    let probation = (PROBATION * rows)
        .floor()
        .min(PROBATION * PROBATION_OF_AT_MOST) as usize;
    let place = |row: usize| {
        let inside = windows.iter().position(|window| window.contains(&row));
        let before = windows.iter().rev().find(|window| *window.end() < row);
        match (inside, before) {
            (Some(index), _) => (within(row, &windows[index]), Some((series, index))),
            (None, Some(window)) => (FALSE_POSITIVE * after(row, window), None),
            (None, None) => (-FALSE_POSITIVE, None),
        }
    };
    let scored = scores.iter().enumerate().skip(probation);
    scored
        .map(|(row, score)| {
            let (worth, window) = place(row);
            Point {
                score: *score,
                worth,
                window,
            }
        })
        .collect()
}

/// What `threshold` earns on these rows.
pub fn tally(points: &[Point], threshold: f64) -> Tally {
    let mut tally = Tally::default();
    let mut windows: BTreeMap<Window, f64> = BTreeMap::new();
    for point in points {
        let detected = point.score >= threshold;
        match point.window {
            Some(window) => {
                let best = windows.entry(window).or_insert(-FALSE_NEGATIVE);
                if detected {
                    *best = best.max(point.worth);
                }
            }
            None if detected => {
                tally.raw += point.worth;
                tally.false_alarms += 1;
            }
            None => {}
        }
    }
    tally.raw += windows.values().sum::<f64>();
    tally.windows = windows.len();
    tally.found = windows
        .values()
        .filter(|worth| **worth > -FALSE_NEGATIVE)
        .count();
    tally
}

/// The threshold that earns most; above 1 if it is best to say nothing.
pub fn best_threshold(points: &[Point]) -> f64 {
    let mut order: Vec<&Point> = points.iter().collect();
    order.sort_by(|one, other| other.score.total_cmp(&one.score));
    let mut windows: BTreeMap<Window, f64> = BTreeMap::new();
    let (mut raw, mut best) = (0.0, (1.1, 0.0));
    for (index, point) in order.iter().enumerate() {
        raw += match point.window {
            Some(window) => {
                let before = windows.entry(window).or_insert(-FALSE_NEGATIVE);
                let gained = (point.worth - *before).max(0.0);
                *before += gained;
                gained
            }
            None => point.worth,
        };
        // Rows of the same score are detected together.
        let next = order.get(index + 1);
        if raw > best.1 && next.is_none_or(|next| next.score != point.score) {
            best = (point.score, raw);
        }
    }
    best.0
}

/// What a detection in a window earns: the earlier, the more.
fn within(row: usize, window: &RangeInclusive<usize>) -> f64 {
    let width = (window.end() - window.start() + 1) as f64;
    let position = -((window.end() - row + 1) as f64) / width;
    sigmoid(position) / sigmoid(-1.0)
}

/// What one after a window costs: at first less.
fn after(row: usize, window: &RangeInclusive<usize>) -> f64 {
    let width = (window.end() - window.start()).max(1) as f64;
    let position = (row - window.end()) as f64 / width;
    if position > 3.0 {
        -1.0
    } else {
        sigmoid(position)
    }
}

/// From 1 to -1, through 0 at a window's end.
fn sigmoid(position: f64) -> f64 {
    2.0 / (1.0 + (5.0 * position).exp()) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 rows with detections at some, and one window in the middle.
    fn scored(detections: &[usize]) -> Tally {
        let mut scores = vec![0.0; 1_000];
        for row in detections {
            scores[*row] = 1.0;
        }
        let window = 500..=599;
        tally(&points(0, &scores, &[window]), 0.5)
    }

    #[test]
    fn silence_scores_nothing_and_the_first_row_of_the_window_all() {
        assert_eq!(scored(&[]).normalised(), 0.0);
        assert!((scored(&[500]).normalised() - 100.0).abs() < 1e-9);
        assert_eq!(scored(&[500, 510, 590]), scored(&[500]));
    }

    #[test]
    fn early_detections_earn_more_than_late_ones() {
        let at = |row| scored(&[row]).raw;
        assert!(at(510) > at(550) && at(550) > at(590) && at(590) > 0.0);
        // 2 / (1 + e^-2.5) - 1 = 0.8483 in the middle, of at most 0.9866.
        assert!((at(550) - 0.8483 / 0.9866).abs() < 1e-3);
    }

    #[test]
    fn false_alarms_cost_less_soon_after_a_window_and_none_in_probation() {
        let cost = |row| scored(&[]).raw - scored(&[row]).raw;
        assert_eq!(cost(100), 0.0);
        assert!((cost(300) - 0.11).abs() < 1e-9);
        assert!(cost(605) < 0.03);
        assert!((cost(990) - 0.11).abs() < 1e-6);
    }

    #[test]
    fn the_best_threshold_weighs_windows_against_false_alarms() {
        let mut scores = vec![0.0; 1_000];
        scores[300] = 0.9;
        scores[520] = 0.8;
        scores[700..800].fill(0.3);
        let points = points(0, &scores, &[500..=599]);
        assert_eq!(best_threshold(&points), 0.8);
        assert_eq!(tally(&points, 0.8).false_alarms, 1);
    }
}
