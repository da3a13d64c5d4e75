//! The engine's clock in a replay: the capture's time, but never running backwards.

use crate::detect::Time;

/// A packet this much older than one before it was merely written out of order.
const REORDERED: Time = 1_000_000_000;

/// Turns the capture's times into the times that the engine judges by.
///
/// Both are the same until the capture jumps back, as one made of several recordings does. From
/// there on the engine's clock runs on at the capture's pace, so that bans, expiry and the
/// timeouts of connections go on working.
#[derive(Clone, Debug, Default)]
pub struct ReplayClock {
    /// What is added to the capture's time.
    ahead: Time,
    latest: Time,
    started: bool,
}

impl ReplayClock {
    /// The engine's time for a packet of capture time `capture`.
    pub fn advance(&mut self, capture: Time) -> Time {
        if !self.started {
            self.started = true;
            self.latest = capture;
        }
        let now = capture.saturating_add(self.ahead);
        if now >= self.latest {
            self.latest = now;
        } else if self.latest - now > REORDERED {
            // At most `latest`, so nothing overflows.
            self.ahead = self.latest - capture.min(self.latest);
        }
        self.latest
    }

    /// What the engine's clock shows at a time of the capture that is not later than the latest.
    pub fn to_engine(&self, capture: Time) -> Time {
        capture.saturating_add(self.ahead).min(self.latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Time = 1_000_000_000;

    #[test]
    fn it_is_the_captures_time_while_that_goes_forward() {
        let mut clock = ReplayClock::default();
        for time in [5, 5, 7, 1_700_000_000 * SECOND] {
            assert_eq!(clock.advance(time), time);
            assert_eq!(clock.to_engine(time), time);
        }
    }

    #[test]
    fn a_packet_out_of_order_waits_for_nobody() {
        let mut clock = ReplayClock::default();
        clock.advance(10 * SECOND);
        assert_eq!(clock.advance(10 * SECOND - 5), 10 * SECOND);
        assert_eq!(clock.advance(10 * SECOND + 5), 10 * SECOND + 5);
    }

    #[test]
    fn after_a_jump_back_it_runs_on_at_the_captures_pace() {
        let mut clock = ReplayClock::default();
        clock.advance(100 * SECOND);
        assert_eq!(clock.advance(20 * SECOND), 100 * SECOND);
        assert_eq!(clock.advance(23 * SECOND), 103 * SECOND);
        assert_eq!(clock.to_engine(22 * SECOND), 102 * SECOND);
    }

    proptest! {
        #[test]
        fn it_never_goes_back(times in prop::collection::vec(any::<u64>(), 0..20)) {
            let mut clock = ReplayClock::default();
            let mut before = 0;
            for time in times {
                let now = clock.advance(time);
                prop_assert!(now >= before);
                before = now;
            }
        }
    }
}
