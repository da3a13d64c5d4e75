//! One count of a service or of the host: its usual rate by the minute, its usual bursts, and whether it departs from them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::limits::Limits;
use super::measure::Measure;
use crate::detect::Time;
use crate::detect::baseline::{Baseline, Expected, Judgement};

const SECOND: Time = 1_000_000_000;
const MINUTE: Time = 60 * SECOND;
/// The length of the spans by which rates are learned, where no other is set.
pub const DEFAULT_SPAN: Time = MINUTE;
/// Over how long a burst is measured.
const BURST: Time = 2 * SECOND;
/// After a gap in the counts of this length, the minute under way says nothing.
const GAP: Time = 2 * MINUTE;
const DAY: f64 = 86_400.0;
/// Warm-up: it only observes. Rises are known after a day, losses after two, and what should
/// have come and did not when every day of the week was seen twice.
pub(super) const RISES_AFTER: f64 = DAY;
pub(super) const LOSSES_AFTER: f64 = 2.0 * DAY;
pub(super) const ABSENCES_AFTER: f64 = 14.0 * DAY;
/// Minutes that are remembered, and how many of the latest may belong to the departure itself.
const REMEMBERED: usize = 30;
const LATEST: usize = 5;
/// A departure ends at this share of what began it, or of what is usual.
const RELEASE: f64 = 0.5;
/// A rate that never came is below this share of the usual, and as unusual as this in mean absolute deviations: where
/// quiet hours are usual, none is a loss.
const ABSENT: f64 = 0.1;
const LOSS_DEVIATION: f64 = -3.0;
/// The profile of the day has parts of this length.
const PART_OF_DAY: Time = 30 * MINUTE;

/// A rate outside of what was learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Departure {
    pub side: Side,
    pub observed: f64,
    /// What is usual now; for a burst, among bursts.
    pub expected: Expected,
    pub started: Time,
}

/// Above or below what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Above,
    Below,
}

/// The learned rates of one count, and where it stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Series {
    /// By the minute.
    rates: Baseline,
    /// The highest burst of each minute.
    bursts: Baseline,
    #[serde(skip)]
    minute: Count,
    #[serde(skip)]
    burst: Count,
    /// The highest burst of the minute under way.
    #[serde(skip)]
    highest: f64,
    /// Rate and highest burst of the last minutes, oldest first.
    #[serde(skip)]
    recent: VecDeque<(f64, f64)>,
    /// What makes a burst remarkable, and what is usual among them; worked out once a minute.
    #[serde(skip)]
    burst_limit: Option<(f64, Expected)>,
    #[serde(skip)]
    high: Streak,
    #[serde(skip)]
    low: Streak,
    #[serde(skip)]
    state: State,
    #[serde(skip)]
    latest: Option<(f64, Expected)>,
}

/// What came since a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    since: Option<Time>,
    count: f64,
}

/// Minutes in a row that are off.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    since: Time,
    minutes: u32,
    missing: f64,
    /// Whether the rate was far above this in all of the last half hour: where quiet minutes are usual, none is a loss.
    broke_off: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Usual,
    /// Until the rate is below `release`.
    Above {
        departure: Departure,
        release: f64,
    },
    Below(Departure),
}

impl Count {
    /// Adds what came between `from` and `now`; gives the rate if the span is over.
    fn add(&mut self, from: Time, now: Time, count: f64, span: Time) -> Option<f64> {
        let since = *self.since.get_or_insert(from);
        self.count += count;
        let elapsed = now.saturating_sub(since);
        if elapsed < span {
            return None;
        }
        let rate = self.count / seconds(elapsed);
        *self = Self {
            since: Some(now),
            count: 0.0,
        };
        Some(rate)
    }

    /// The least that the rate over the span will be.
    fn at_least(&self, now: Time, span: Time) -> f64 {
        let elapsed = self.since.map_or(0, |since| now.saturating_sub(since));
        self.count / seconds(elapsed.max(span))
    }
}

impl Series {
    /// Takes what was counted between `from` and `now`. Gives where it stands.
    pub fn add(
        &mut self,
        (from, now): (Time, Time),
        count: f64,
        measure: Measure,
        limits: &Limits,
    ) -> Option<Departure> {
        if now.saturating_sub(from) > GAP {
            self.forget_lately();
            return None;
        }
        let burst = self.burst.add(from, now, count, BURST);
        let burst = burst.unwrap_or_else(|| self.burst.at_least(now, BURST));
        self.highest = self.highest.max(burst);
        let minute = self.minute.add(from, now, count, limits.span);
        self.judge_burst(now, burst);
        if let Some(rate) = minute {
            let highest = std::mem::take(&mut self.highest);
            self.close_minute(now, rate, highest, measure, limits);
        }
        match self.state {
            State::Usual => None,
            State::Above { departure, .. } | State::Below(departure) => Some(departure),
        }
    }

    /// Counts that were lost or set back say nothing of the minutes around them.
    pub fn forget_lately(&mut self) {
        // In place: what was learned is large, and a recording with long pauses comes here all the time.
        let Self {
            rates: _,
            bursts: _,
            minute,
            burst,
            highest,
            recent,
            burst_limit,
            high,
            low,
            state,
            latest,
        } = self;
        (*minute, *burst) = (Count::default(), Count::default());
        (*high, *low) = (Streak::default(), Streak::default());
        (*highest, *burst_limit, *latest) = (0.0, None, None);
        *state = State::default();
        recent.clear();
    }

    /// The rate of the last whole minute, and what was expected of it.
    pub fn latest(&self) -> Option<(f64, Expected)> {
        self.latest
    }

    /// The highest burst that is usual now; nothing during the warm-up.
    pub fn usual_burst(&self) -> Option<f64> {
        self.burst_limit.map(|(_, expected)| expected.high)
    }

    fn judge_burst(&mut self, now: Time, rate: f64) {
        if let State::Above { departure, .. } = &mut self.state {
            // Its end is a matter of minutes, as attacks pause for seconds.
            departure.observed = departure.observed.max(rate);
            return;
        }
        let Some((limit, expected)) = self.burst_limit else {
            return;
        };
        if rate >= limit {
            let departure = Departure {
                side: Side::Above,
                observed: rate,
                expected,
                started: self.burst.since.unwrap_or(now).min(now),
            };
            self.state = State::Above {
                departure,
                release: limit * RELEASE,
            };
        }
    }

    /// What a burst of the next minute must reach to be remarkable, and what is usual; nothing during the warm-up.
    fn next_burst_limit(
        &self,
        now: Time,
        measure: Measure,
        limits: &Limits,
    ) -> Option<(f64, Expected)> {
        if self.bursts.age() < RISES_AFTER {
            return None;
        }
        let expected = self.bursts.expected(now, 0.0);
        let lately = self.before_latest(|(_, burst)| *burst);
        let limit = (expected.high * limits.above)
            .max(lately * limits.jump)
            .max(measure.least_burst());
        Some((limit, expected))
    }

    fn close_minute(
        &mut self,
        now: Time,
        rate: f64,
        highest: f64,
        measure: Measure,
        limits: &Limits,
    ) {
        let age = self.rates.age();
        let judgement = self.rates.observe(now, rate);
        self.bursts.observe(now, highest);
        self.latest = Some((rate, judgement.expected));
        let start = now.saturating_sub(limits.span);
        self.follow_high(start, rate, &judgement, measure, limits);
        self.follow_low(start, rate, &judgement, limits);
        match self.state {
            State::Above { release, .. } => {
                if rate.max(highest) < release {
                    self.state = State::Usual;
                }
            }
            State::Below(_) => {
                if self.low.minutes == 0 {
                    self.state = State::Usual;
                }
            }
            State::Usual => {
                if age >= RISES_AFTER && self.high.minutes >= limits.spans_above {
                    self.state = State::Above {
                        departure: departure(Side::Above, rate, &judgement, self.high.since),
                        release: rate * RELEASE,
                    };
                } else if self.is_lost(age, measure, limits) {
                    let lost = departure(Side::Below, rate, &judgement, self.low.since);
                    self.state = State::Below(lost);
                }
            }
        }
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((rate, highest));
        self.burst_limit = self.next_burst_limit(now, measure, limits);
    }

    /// Counts minutes that are too high, and were not lately.
    fn follow_high(
        &mut self,
        start: Time,
        rate: f64,
        judgement: &Judgement,
        measure: Measure,
        limits: &Limits,
    ) {
        let lately = self.before_latest(|(rate, _)| *rate);
        let limit = (judgement.expected.high * limits.above)
            .max(lately * limits.jump)
            .max(measure.least_rate());
        if rate < limit {
            self.high = Streak::default();
            return;
        }
        if self.high.minutes == 0 {
            self.high.since = start;
        }
        self.high.minutes += 1;
    }

    /// Counts minutes that are too low.
    fn follow_low(&mut self, start: Time, rate: f64, judgement: &Judgement, limits: &Limits) {
        let Expected { low, middle, .. } = judgement.expected;
        // Who closes within this half hour has nothing to lose.
        let later = self.rates.expected(start.saturating_add(PART_OF_DAY), 0.0);
        let middle = middle.min(later.middle);
        let lost = matches!(self.state, State::Below(_));
        if self.low.minutes == 0 {
            let lowest = self.recent.iter().map(|(rate, _)| *rate).reduce(f64::min);
            let known = self.recent.len() >= LATEST;
            self.low = Streak {
                since: start,
                broke_off: known && lowest.is_some_and(|lowest| rate < limits.below * lowest),
                ..Streak::default()
            };
        }
        let absent = rate < ABSENT * middle && rate <= low && judgement.deviation <= LOSS_DEVIATION;
        let off = match (lost, self.low.broke_off) {
            (true, _) => rate < RELEASE * middle,
            (false, true) => rate < limits.below * middle,
            (false, false) => absent,
        };
        if off {
            self.low.minutes += 1;
            self.low.missing += (middle - rate) * seconds(limits.span);
        } else {
            self.low = Streak::default();
        }
    }

    fn is_lost(&self, age: f64, measure: Measure, limits: &Limits) -> bool {
        let Some(least) = measure.least_missing() else {
            return false;
        };
        let (minutes, warm_up) = if self.low.broke_off {
            (limits.spans_below, LOSSES_AFTER)
        } else {
            (limits.spans_absent, ABSENCES_AFTER)
        };
        age >= warm_up && self.low.minutes >= minutes && self.low.missing >= least
    }

    /// The highest of the last half hour without its last minutes.
    fn before_latest(&self, what: impl Fn(&(f64, f64)) -> f64) -> f64 {
        let before = self.recent.iter().rev().skip(LATEST);
        before.map(what).fold(0.0, f64::max)
    }
}

fn departure(side: Side, observed: f64, judgement: &Judgement, started: Time) -> Departure {
    Departure {
        side,
        observed,
        expected: judgement.expected,
        started,
    }
}

fn seconds(span: Time) -> f64 {
    span as f64 / SECOND as f64
}
