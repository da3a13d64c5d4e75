//! Switches automatic answers off when they get out of hand: too many in a minute, or too many of the
//! sources that are ordinarily there.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::RespondSettings;

/// For how long answers stay off.
const OFF: SignedDuration = SignedDuration::from_mins(10);
/// Over how long answers are counted, and ordinary sources that they hit.
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// So many ordinary sources may be hit however few there are.
const FEW: usize = 1;

/// Counts answers.
#[derive(Debug, Default)]
pub struct Breaker {
    /// When each was given, and how many ordinary sources it hit.
    given: VecDeque<(Timestamp, usize)>,
    off: Option<Off>,
}

/// Why answers are off, and until when.
#[derive(Clone, Debug, PartialEq)]
pub struct Off {
    pub until: Timestamp,
    pub why: String,
    /// What would have been, and the cap.
    pub wanted: f64,
    pub cap: f64,
    pub unit: &'static str,
}

/// An answer that is about to be given.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Ordinary sources that it hits, and that there are.
    pub ordinary: usize,
    pub of: usize,
}

impl Breaker {
    /// Lets an answer through and counts it; or says why answers are off.
    pub fn admit(
        &mut self,
        settings: &RespondSettings,
        wanted: Wanted,
        now: Timestamp,
    ) -> Result<(), Off> {
        if let Some(off) = self.off(now) {
            return Err(off.clone());
        }
        // A clock that was set back would keep answers for ever.
        self.given
            .retain(|(when, _)| *when <= now && now.duration_since(*when) < HOUR);
        let this_minute = self.given.iter().rev();
        let this_minute = this_minute
            .take_while(|(when, _)| now.duration_since(*when) < MINUTE)
            .count();
        if this_minute >= settings.bans_per_minute as usize {
            let cap = settings.bans_per_minute;
            return Err(self.trip(Off {
                until: now.saturating_add(OFF).unwrap_or(Timestamp::MAX),
                why: format!("more than {cap} new bans and limits within a minute"),
                wanted: this_minute as f64 + 1.0,
                cap: cap.into(),
                unit: "bans/min",
            }));
        }
        let hit = self.given.iter().map(|(_, hit)| hit).sum::<usize>() + wanted.ordinary;
        let allowed = (settings.ordinary_share * wanted.of as f64) as usize;
        if wanted.ordinary > 0 && hit > allowed.max(FEW) {
            return Err(self.trip(Off {
                until: now.saturating_add(OFF).unwrap_or(Timestamp::MAX),
                why: format!(
                    "{hit} of the {} ordinary sources would be hit within an hour, more than {} %",
                    wanted.of,
                    settings.ordinary_share * 100.0
                ),
                wanted: hit as f64,
                cap: allowed.max(FEW) as f64,
                unit: "ordinary sources",
            }));
        }
        self.given.push_back((now, wanted.ordinary));
        Ok(())
    }

    /// Why answers are off at `now`, if they are.
    pub fn off(&self, now: Timestamp) -> Option<&Off> {
        self.off
            .as_ref()
            .filter(|off| now < off.until && off.until.duration_since(now) <= OFF)
    }

    fn trip(&mut self, off: Off) -> Off {
        self.off = Some(off.clone());
        off
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> RespondSettings {
        RespondSettings {
            bans_per_minute: 3,
            ordinary_share: 0.02,
            ..RespondSettings::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    const STRANGER: Wanted = Wanted {
        ordinary: 0,
        of: 1_000,
    };
    const VISITOR: Wanted = Wanted {
        ordinary: 1,
        of: 1_000,
    };

    #[test]
    fn answers_beyond_the_cap_of_a_minute_are_off_for_a_while() {
        let (settings, mut breaker) = (settings(), Breaker::default());
        for second in 0..3 {
            assert_eq!(breaker.admit(&settings, STRANGER, at(second)), Ok(()));
        }
        let off = breaker.admit(&settings, STRANGER, at(59)).unwrap_err();
        assert_eq!((off.wanted, off.cap), (4.0, 3.0));
        assert!(
            breaker.admit(&settings, STRANGER, at(300)).is_err(),
            "stays off"
        );
        assert!(breaker.off(at(300)).is_some());
        assert_eq!(breaker.admit(&settings, STRANGER, at(59 + 600)), Ok(()));
        assert_eq!(breaker.off(at(59 + 600)), None);
    }

    #[test]
    fn answers_in_good_time_are_not_held_back() {
        let (settings, mut breaker) = (settings(), Breaker::default());
        for round in 0..100 {
            assert_eq!(breaker.admit(&settings, STRANGER, at(round * 25)), Ok(()));
        }
    }

    #[test]
    fn no_more_than_the_allowed_share_of_ordinary_sources_is_hit_in_an_hour() {
        let (settings, mut breaker) = (settings(), Breaker::default());
        for round in 0..20 {
            assert_eq!(breaker.admit(&settings, VISITOR, at(round * 100)), Ok(()));
        }
        assert_eq!(breaker.admit(&settings, STRANGER, at(2_100)), Ok(()));
        let off = breaker.admit(&settings, VISITOR, at(2_200)).unwrap_err();
        assert!(off.why.contains("21 of the 1000"), "{}", off.why);
        // An hour later it starts anew.
        assert_eq!(breaker.admit(&settings, VISITOR, at(2_200 + 3_600)), Ok(()));
    }

    #[test]
    fn a_prefix_full_of_visitors_is_not_hit() {
        let (settings, mut breaker) = (settings(), Breaker::default());
        let crowd = Wanted {
            ordinary: 30,
            of: 1_000,
        };
        assert!(breaker.admit(&settings, crowd, at(0)).is_err());
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_keep_answers_off() {
        let (settings, mut breaker) = (settings(), Breaker::default());
        for _ in 0..4 {
            let _ = breaker.admit(&settings, STRANGER, at(100_000));
        }
        assert_eq!(breaker.admit(&settings, STRANGER, at(0)), Ok(()));
    }
}
