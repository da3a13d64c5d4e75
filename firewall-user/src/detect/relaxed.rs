//! Fixed thresholds give way where they are reached every day: a network that always has its share of broken packets, a
//! backup that always sends more than others. A threshold is only ever raised, to twice the peak that all but one of the
//! last seven days reached.
//!
//! So it takes a week to be sure: an attack of days must not pass for what is usual.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{AlertKind, Time};

const DAY: Time = 86_400_000_000_000;
/// Days that are looked at, and how many of them may have been quieter.
const DAYS: usize = 7;
const QUIETER: usize = 1;
/// How many times the usual peak.
const ABOVE: f64 = 2.0;

/// What a threshold is held against: the rate behind a kind of alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rate {
    pub kind: AlertKind,
    pub of: Whose,
}

/// Whose rate: the host's, or that of its busiest source or prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    Host,
    Source,
    Prefix,
}

/// The usual peaks of the rates that came near their thresholds at some time.
#[derive(Clone, Debug, Default)]
pub(super) struct Relaxed {
    peaks: BTreeMap<Rate, Peaks>,
}

/// The peaks of the last whole days, and of the day under way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Peaks {
    days: VecDeque<f64>,
    day: Time,
    highest: f64,
    /// What nearly every whole day reached.
    #[serde(skip)]
    usual: Option<f64>,
}

impl Rate {
    /// Whether it is a rate per second: numbers of ports and hosts are not a matter of what is usual.
    pub fn is_learned(self) -> bool {
        matches!(
            self.kind,
            AlertKind::SynFlood
                | AlertKind::UdpFlood
                | AlertKind::IcmpFlood
                | AlertKind::RequestFlood
                | AlertKind::Amplification
                | AlertKind::Reflection
                | AlertKind::Malformed
        ) || (self.kind == AlertKind::TrafficSpike && self.of != Whose::Host)
    }
}

impl Relaxed {
    /// Takes the highest rates of a tick. Gives the thresholds that are to be raised.
    pub fn hear(
        &mut self,
        now: Time,
        heard: &BTreeMap<Rate, f64>,
    ) -> impl Iterator<Item = (Rate, f64)> {
        for (rate, observed) in heard.iter().filter(|(rate, _)| rate.is_learned()) {
            let peaks = self.peaks.entry(*rate).or_default();
            peaks.begin(now);
            peaks.highest = peaks.highest.max(*observed);
        }
        self.peaks.iter_mut().filter_map(move |(rate, peaks)| {
            peaks.begin(now);
            Some((*rate, peaks.usual? * ABOVE))
        })
    }

    /// What is to be kept across restarts.
    pub fn kept(&self) -> Vec<(Rate, Peaks)> {
        let peaks = self.peaks.iter();
        peaks.map(|(rate, peaks)| (*rate, peaks.clone())).collect()
    }

    pub fn restore(&mut self, kept: Vec<(Rate, Peaks)>) {
        self.peaks = kept.into_iter().collect();
        for peaks in self.peaks.values_mut() {
            peaks.usual = peaks.nearly_always();
        }
    }
}

impl Peaks {
    /// Closes the day if it is over. A clock that is set back begins a new one.
    fn begin(&mut self, now: Time) {
        let day = now / DAY;
        if day == self.day {
            return;
        }
        if self.day != 0 {
            self.days.push_back(std::mem::take(&mut self.highest));
            if self.days.len() > DAYS {
                self.days.pop_front();
            }
            self.usual = self.nearly_always();
        }
        self.day = day;
    }

    /// The peak that nearly every day reached, worked out once a day; nothing before a week has passed.
    fn nearly_always(&self) -> Option<f64> {
        if self.days.len() < DAYS {
            return None;
        }
        let mut days: Vec<f64> = self.days.iter().copied().collect();
        days.sort_by(f64::total_cmp);
        days.get(QUIETER).copied().filter(|peak| peak.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Time = 60_000_000_000;
    const RATE: Rate = Rate {
        kind: AlertKind::Malformed,
        of: Whose::Host,
    };

    /// Lets minutes go by with this rate; gives the threshold at last.
    fn threshold(minutes: u64, rate: impl Fn(u64) -> f64) -> Option<f64> {
        let mut relaxed = Relaxed::default();
        let mut threshold = None;
        for minute in 0..minutes {
            let heard = BTreeMap::from([(RATE, rate(minute))]);
            let now = DAY * 20_000 + minute * MINUTE;
            threshold = relaxed.hear(now, &heard).next().map(|(_, raised)| raised);
        }
        threshold
    }

    #[test]
    fn what_is_reached_every_day_raises_the_threshold_after_a_week() {
        let daily = |minute: u64| if minute % 1_440 < 60 { 400.0 } else { 300.0 };
        assert_eq!(threshold(6 * 1_440, daily), None);
        assert_eq!(threshold(8 * 1_440, daily), Some(800.0));
    }

    #[test]
    fn an_attack_of_days_does_not() {
        let attack = |minute: u64| {
            if (1_440..4 * 1_440).contains(&minute) {
                50_000.0
            } else {
                0.5
            }
        };
        for days in 7..14 {
            let threshold = threshold(days * 1_440 + 1, attack);
            assert!(
                threshold.is_none_or(|threshold| threshold < 10.0),
                "{threshold:?}"
            );
        }
    }

    #[test]
    fn a_clock_that_jumps_does_no_harm() {
        let mut relaxed = Relaxed::default();
        let heard = BTreeMap::from([(RATE, 9.0)]);
        for now in [0, Time::MAX, 1, DAY, 5, Time::MAX / 2] {
            assert_eq!(relaxed.hear(now, &heard).count(), 0);
        }
    }
}
