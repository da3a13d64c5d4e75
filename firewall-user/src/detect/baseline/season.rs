//! What is usual at a time of the day and of the week.
//!
//! A slow level, a profile over the day and a correction for each hour of the week are learned by robust
//! exponential smoothing: an error counts at most [`CLIP`] scales (Gelper, Fried, Croux: Robust forecasting with exponential and
//! Holt-Winters smoothing, Journal of Forecasting 2010), so that a spike or an attack moves them little.

use serde::{Deserialize, Serialize};

const DAY: f64 = 86_400.0;
const HOUR: f64 = 3_600.0;
/// Parts of the day with a value of their own.
const DAY_BINS: usize = 48;
const WEEK_BINS: usize = 168;
/// An error counts at most this many scales.
const CLIP: f64 = 3.0;
/// Shares of an error that are learned per day.
const LEVEL_PER_DAY: f64 = 0.288;
const SEASON_PER_DAY: f64 = 0.27;
const SCALE_PER_DAY: f64 = 0.12;
/// Of all the rows, and at least.
const SPREAD_RATE: f64 = 0.001;
const WEEK_RATE: f64 = 0.02;
/// The day's profile comes first; else the week would take a part of it.
const WEEK_AFTER: f64 = 3.0 * DAY;
/// A correction for an hour of the week is believed by half after so many rows.
const WEEK_DOUBT: f64 = 20.0;
/// What the whole series' scale is worth against a bin's own, in rows.
const SCALE_PRIOR: f64 = 6.0;
/// No scale is below this share of the series' standard deviation.
const SCALE_FLOOR: f64 = 0.045;
/// From this age on, what is off by more than [`CLIP`] scales counts the less the further it is off.
const DOUBT_AFTER: f64 = 4.0 * DAY;
/// Rows that are taken as they come.
const FIRST_ROWS: f64 = 20.0;
/// Rows until the spread is known well enough to tell outliers.
const SPREAD_ROWS: f64 = 300.0;
/// A square beyond this many variances counts as so many; of the variance of a series that was constant until
/// now, at least this share counts.
const SPREAD_CLIP: f64 = 50.0;
const SPREAD_LEAST: f64 = 0.01;

/// What is usual at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual {
    pub middle: f64,
    /// A mean absolute deviation at this time of the day.
    pub scale: f64,
    /// The same for all times of the day.
    pub overall_scale: f64,
    /// The part of both that does not shrink.
    pub floor: f64,
    /// Rows that this part of the day has taught.
    pub visits: f64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct DayBin {
    offset: f64,
    visits: f64,
    scale: f64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct WeekBin {
    offset: f64,
    visits: f64,
}

/// The learned seasons of one series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Season {
    rows: f64,
    level: f64,
    day: Vec<DayBin>,
    week: Vec<WeekBin>,
    scale: f64,
    /// Standard deviation around the level.
    spread: f64,
}

impl Default for Season {
    fn default() -> Self {
        Self {
            rows: 0.0,
            level: 0.0,
            day: vec![DayBin::default(); DAY_BINS],
            week: vec![WeekBin::default(); WEEK_BINS],
            scale: 0.0,
            spread: 0.0,
        }
    }
}

impl Season {
    /// Whether it can be calculated with: what was read from a file may be anything.
    pub fn is_sound(&self) -> bool {
        let numbers = [self.rows, self.level, self.scale, self.spread];
        let of_day = |bin: &DayBin| [bin.offset, bin.visits, bin.scale];
        let of_week = |bin: &WeekBin| [bin.offset, bin.visits];
        self.day.len() == DAY_BINS
            && self.week.len() == WEEK_BINS
            && numbers
                .into_iter()
                .chain(self.day.iter().flat_map(of_day))
                .chain(self.week.iter().flat_map(of_week))
                .all(f64::is_finite)
    }

    /// What is usual at `time`, in seconds since the Unix epoch; of an empty series, `value` is.
    pub fn at(&self, time: f64, value: f64) -> Usual {
        let (day, week) = (&self.day[day_bin(time)], &self.week[week_bin(time)]);
        let level = if self.rows == 0.0 { value } else { self.level };
        let daily = day.offset * day.visits / (day.visits + 1.0);
        let weekly = week.offset * week.visits / (week.visits + WEEK_DOUBT);
        let prior = self.scale * SCALE_PRIOR;
        Usual {
            middle: level + daily + weekly,
            scale: (day.scale * day.visits + prior) / (day.visits + SCALE_PRIOR),
            overall_scale: self.scale,
            floor: SCALE_FLOOR * self.spread,
            visits: day.visits,
        }
    }

    /// Learns a value, `elapsed` seconds after the last and `age` seconds after the first.
    pub fn learn(&mut self, time: f64, elapsed: f64, age: f64, value: f64, usual: &Usual) {
        if self.rows == 0.0 {
            self.level = value;
        }
        self.rows += 1.0;
        let limit = CLIP * (usual.scale + usual.floor);
        let error = value - usual.middle;
        let error = if self.rows < FIRST_ROWS {
            error
        } else if age > DOUBT_AFTER && error.abs() > limit {
            // The further off, the less it counts.
            limit * (limit / error.abs()).sqrt() * error.signum()
        } else {
            error.clamp(-limit, limit)
        };
        let first = 1.0 / self.rows;
        self.level += first.max((LEVEL_PER_DAY * elapsed / DAY).min(0.01)) * error;
        // What one visit to a part of the day may teach, when several visits share a day's worth.
        let visit = (elapsed * DAY_BINS as f64 / DAY).min(1.0);
        let bin = &mut self.day[day_bin(time)];
        bin.visits += 1.0;
        bin.offset += (1.0 / (bin.visits + 1.0)).max(SEASON_PER_DAY * visit) * error;
        bin.scale += (1.0 / bin.visits).max(SCALE_PER_DAY * visit) * (error.abs() - bin.scale);
        if age > WEEK_AFTER {
            let bin = &mut self.week[week_bin(time)];
            bin.visits += 1.0;
            bin.offset += (1.0 / (bin.visits + 1.0)).max(WEEK_RATE) * error;
        }
        let rate = first.max(SPREAD_RATE);
        self.scale += rate * (error.abs() - self.scale);
        self.learn_spread(value, rate);
    }

    /// The whole series has moved by `shift`.
    pub fn shift(&mut self, shift: f64) {
        self.level += shift;
    }

    fn learn_spread(&mut self, value: f64, rate: f64) {
        let variance = self.spread * self.spread;
        let square = (value - self.level).powi(2);
        let limit = if self.rows < SPREAD_ROWS {
            f64::MAX
        } else {
            (SPREAD_CLIP * variance).max(SPREAD_LEAST * square)
        };
        self.spread = (variance + rate * (square.min(limit) - variance)).sqrt();
    }
}

fn day_bin(time: f64) -> usize {
    let part = time.rem_euclid(DAY) / DAY * DAY_BINS as f64;
    (part as usize).min(DAY_BINS - 1)
}

/// The hour of the week, beginning with a Thursday as the Unix epoch does.
fn week_bin(time: f64) -> usize {
    let hour = (time / HOUR).floor().rem_euclid(WEEK_BINS as f64);
    (hour as usize).min(WEEK_BINS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: f64 = 300.0;

    /// A season that has seen `days` of `value`.
    fn taught(days: f64, value: impl Fn(f64) -> f64) -> Season {
        let mut season = Season::default();
        let mut time = 0.0;
        while time < days * DAY {
            let usual = season.at(time, value(time));
            season.learn(time, STEP, time, value(time), &usual);
            time += STEP;
        }
        season
    }

    fn by_day(time: f64) -> f64 {
        100.0 + 50.0 * (time / DAY * std::f64::consts::TAU).sin()
    }

    #[test]
    fn the_time_of_the_day_is_learned_within_days() {
        let season = taught(4.0, by_day);
        for hour in 0..24 {
            let time = 4.0 * DAY + f64::from(hour) * HOUR;
            let error = season.at(time, 0.0).middle - by_day(time);
            assert!(error.abs() < 10.0, "hour {hour}: off by {error}");
        }
    }

    #[test]
    fn the_day_of_the_week_is_learned_within_weeks() {
        let weekend = |time: f64| (time / DAY) as u64 % 7 >= 5;
        let value = |time: f64| by_day(time) * if weekend(time) { 0.3 } else { 1.0 };
        let season = taught(42.0, value);
        let noon = 42.0 * DAY + 6.0 * HOUR;
        let weekday = season.at(noon, 0.0).middle;
        let weekend = season.at(noon + 5.0 * DAY, 0.0).middle;
        assert!(weekday > 1.5 * weekend, "{weekday} against {weekend}");
    }

    #[test]
    fn an_hour_of_attack_teaches_little() {
        let mut season = taught(14.0, by_day);
        let before = season.at(14.5 * DAY, 0.0).middle;
        for step in 0..12 {
            let time = 14.5 * DAY + f64::from(step) * STEP;
            let usual = season.at(time, 0.0);
            season.learn(time, STEP, time, 100_000.0, &usual);
        }
        let after = season.at(14.5 * DAY, 0.0).middle;
        assert!((after - before).abs() < 15.0, "{before} became {after}");
    }
}
