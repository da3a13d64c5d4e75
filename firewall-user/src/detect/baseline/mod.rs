//! The learned baseline of a series: takes (time, value), gives how strange the value is and what was expected.
//!
//! It knows nothing of what the numbers mean, so it serves packets per minute and a month exported from a metrics store alike.
//! It learns online, with constant memory and one setting for all series, and never looks ahead. `docs/detection.md` describes
//! the method and names its sources.

mod novelty;
mod season;
mod signals;
mod tail;

use serde::{Deserialize, Serialize};

use self::novelty::Novelty;
use self::season::Season;
use self::signals::Signals;
use super::Time;

/// The form in which a baseline is kept. Another one is not understood.
const VERSION: u32 = 1;

const NANOSECONDS: f64 = 1e9;
/// Values beyond this count as this: their squares must stay finite.
const LARGEST: f64 = 1e100;
const DAY: f64 = 86_400.0;
const HOUR: f64 = 3_600.0;
/// Rows before the score is more than 0.
const WARM_UP_ROWS: u64 = 100;
/// Rows that teach the level before any aspect is judged by its past.
const FIRST_ROWS: u64 = 20;
/// Until the day's profile is there, deviations say little: at the end of each of these days, what was learned of them
/// fades.
const FADING_DAYS: f64 = 2.0;
const FADE: f64 = 0.1;
/// A part of the day that was hardly seen teaches at least this much of a row.
const LEAST_SHARE: f64 = 0.1;
/// A level that is left to one side for this long, by this many scales on the mean, is taken for the new one.
const ADOPT_AFTER: f64 = 24.0 * HOUR;
const ASTRAY: f64 = 2.0;
/// The expected range leaves out one row in a thousand on either side.
const RANGE_RARITY: f64 = 3.0;
/// Rarity is meant for rows of this interval in seconds; others count by this share as often as they come, on
/// the logarithmic scale, as neighbouring rows resemble each other.
const RARE_PER: f64 = 300.0;
const PER_TIME: f64 = 0.7;
/// Share of the newest row in the mean interval, at least.
const INTERVAL_RATE: f64 = 0.01;
/// Rarity of which the score is one half.
const HALF: f64 = 1.5;

/// What was expected of a value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    pub low: f64,
    pub middle: f64,
    pub high: f64,
}

/// What a baseline says of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// How strange the value is and new: 0 ordinary, 1 never seen; 0 during the warm-up.
    pub score: f64,
    /// What was expected before the value was known.
    pub expected: Expected,
    /// How far the value is from the middle, in mean absolute deviations at this time of the day.
    pub deviation: f64,
}

/// The learned baseline of one series.
///
/// Serialises to be kept across restarts; reading one back checks that it can be calculated with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "State", into = "State")]
pub struct Baseline {
    state: State,
}

/// What is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    version: u32,
    rows: u64,
    begun: Time,
    latest: Time,
    /// When the level was last held, and what has been off since then.
    held: Time,
    astray_rows: f64,
    astray_sum: f64,
    /// Mean seconds between rows.
    interval: f64,
    /// The least value so far: a count is not expected to be negative.
    least: f64,
    season: Season,
    signals: Signals,
    novelty: Novelty,
}

/// Why a kept baseline cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    #[error("a baseline of version {0} is not understood; version {VERSION} is")]
    Version(u32),
    #[error("a baseline holds numbers that cannot be calculated with")]
    Numbers,
}

impl Default for Baseline {
    fn default() -> Self {
        Self {
            state: State {
                version: VERSION,
                rows: 0,
                begun: 0,
                latest: 0,
                held: 0,
                astray_rows: 0.0,
                astray_sum: 0.0,
                interval: RARE_PER,
                least: 0.0,
                season: Season::default(),
                signals: Signals::default(),
                novelty: Novelty::default(),
            },
        }
    }
}

impl TryFrom<State> for Baseline {
    type Error = Damaged;

    fn try_from(state: State) -> Result<Self, Damaged> {
        if state.version != VERSION {
            return Err(Damaged::Version(state.version));
        }
        let sound = [
            state.interval,
            state.least,
            state.astray_rows,
            state.astray_sum,
        ]
        .iter()
        .all(|number| number.is_finite())
            && state.season.is_sound()
            && state.signals.is_sound()
            && state.novelty.is_sound();
        if sound {
            Ok(Self { state })
        } else {
            Err(Damaged::Numbers)
        }
    }
}

impl From<Baseline> for State {
    fn from(baseline: Baseline) -> Self {
        baseline.state
    }
}

impl Baseline {
    /// Takes the next value; one that is no number is passed over.
    ///
    /// A time before the last one counts as right after it, so a clock that is set back does no harm.
    pub fn observe(&mut self, time: Time, value: f64) -> Judgement {
        let seconds = time as f64 / NANOSECONDS;
        let expected = self.expected(time, value);
        if !value.is_finite() {
            return Judgement {
                score: 0.0,
                expected,
                deviation: 0.0,
            };
        }
        let value = value.clamp(-LARGEST, LARGEST);
        let state = &mut self.state;
        if state.rows == 0 {
            state.begun = time;
            state.held = time;
            state.latest = time;
            state.least = value;
        }
        let elapsed = (time.saturating_sub(state.latest) as f64 / NANOSECONDS).max(1.0);
        let before = age(state.begun, state.latest);
        state.latest = time;
        state.rows += 1;
        state.least = state.least.min(value);
        let age = age(state.begun, time);
        let usual = state.season.at(seconds, value);
        let aspects = state.signals.measure(value, &usual);
        let rate = INTERVAL_RATE.max(1.0 / state.rows as f64);
        state.interval += rate * (elapsed.min(DAY) - state.interval);
        let rarity = per_time(state.signals.rarity(&aspects), state.interval);
        if (age / DAY).floor() > (before / DAY).floor() && age < (FADING_DAYS + 1.0) * DAY {
            state.signals.fade(FADE);
        }
        if state.rows >= FIRST_ROWS {
            let share = if usual.visits > 0.0 { 1.0 } else { LEAST_SHARE };
            state.signals.learn(&aspects, share, elapsed);
        }
        state.season.learn(seconds, elapsed, age, value, &usual);
        self.adopt(time, value - usual.middle);
        let new = self.state.novelty.judge(rarity, elapsed);
        Judgement {
            score: if self.is_warm() {
                new / (new + HALF)
            } else {
                0.0
            },
            expected,
            deviation: (value - usual.middle) / (usual.scale + usual.floor + f64::MIN_POSITIVE),
        }
    }

    /// What is expected at `time`; `otherwise` where nothing is known yet.
    pub fn expected(&self, time: Time, otherwise: f64) -> Expected {
        let state = &self.state;
        let usual = state.season.at(time as f64 / NANOSECONDS, otherwise);
        let (below, above) = state.signals.reach(RANGE_RARITY);
        let scale = usual.scale + usual.floor;
        let low = usual.middle - below * scale;
        let low = if state.least >= 0.0 {
            low.max(0.0)
        } else {
            low
        };
        let high = usual.middle + above * scale;
        Expected {
            low,
            middle: usual.middle.clamp(low, high.max(low)),
            high: high.max(low),
        }
    }

    /// Whether the warm-up of 100 rows is over.
    pub fn is_warm(&self) -> bool {
        self.state.rows > WARM_UP_ROWS
    }

    /// Over how many seconds it has learned.
    pub fn age(&self) -> f64 {
        age(self.state.begun, self.state.latest)
    }

    /// Moves the level when it has been left for long. Attacks and sales end before that.
    fn adopt(&mut self, time: Time, error: f64) {
        let state = &mut self.state;
        if state.signals.lasting().abs() < ASTRAY || time < state.held {
            state.held = time;
            (state.astray_rows, state.astray_sum) = (0.0, 0.0);
            return;
        }
        state.astray_rows += 1.0;
        state.astray_sum += error;
        if age(state.held, time) > ADOPT_AFTER {
            state.season.shift(state.astray_sum / state.astray_rows);
            state.held = time;
            (state.astray_rows, state.astray_sum) = (0.0, 0.0);
        }
    }
}

/// The rarity among the rows of a given time instead of among rows: who looks every second sees more rare rows a day
/// than who looks every hour, and is not to be alarmed more often.
fn per_time(rarity: f64, interval: f64) -> f64 {
    let relief = PER_TIME * (interval.max(1.0) / RARE_PER).log10();
    // What is ordinary stays so.
    (rarity + relief * rarity / (rarity + 0.5)).max(0.0)
}

/// Seconds between two moments; none when the clock was set back.
fn age(from: Time, to: Time) -> f64 {
    to.saturating_sub(from) as f64 / NANOSECONDS
}

#[cfg(test)]
mod tests;
